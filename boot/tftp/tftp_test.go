package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pin/tftp/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

var mac1 = cluster.MAC{0x52, 0x54, 0, 0, 0, 1}

// log is a buffer that many write to.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }
func (l *log) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

type rig struct {
	server *Server
	addr   string
	log    *log
	stop   func()

	metrics *prometheus.Registry
}

var loader = bytes.Repeat([]byte("pilotlight"), 20_000)

func start(t testing.TB, more ...fstest.MapFS) *rig {
	t.Helper()
	root := fstest.MapFS{"undionly.kpxe": {Data: loader}, "arm64-efi/snponly.efi": {Data: []byte("arm")}, "empty": {}}
	for _, files := range more {
		maps.Copy(root, files)
	}
	snap := cluster.NewSnapshot(1, []cluster.Document{&cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{mac1}}})
	r := &rig{log: new(log), metrics: prometheus.NewRegistry()}
	r.server = &Server{
		Root:     root,
		Snapshot: func() *cluster.Snapshot { return snap },
		Owner:    func(netip.Addr) (cluster.Identity, bool) { return cluster.Identity{MAC: mac1}, true },
		Recorder: new(boot.Recorder), Registerer: r.metrics,
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = conn.LocalAddr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(ctx, conn) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

func (r *rig) get(t *testing.T, name string, set ...func(*tftp.Client)) ([]byte, error) {
	t.Helper()
	c, err := tftp.NewClient(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetTimeout(2 * time.Second)
	for _, f := range set {
		f(c)
	}
	w, err := c.Receive(name, "octet")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = w.WriteTo(&b)
	return b.Bytes(), err
}

func TestGet(t *testing.T) {
	r := start(t)
	for _, name := range []string{"undionly.kpxe", "/undionly.kpxe"} {
		for _, size := range []int{512, 1428, 65464} {
			got, err := r.get(t, name, func(c *tftp.Client) { c.SetBlockSize(size); c.RequestTSize(true) })
			if err != nil || !bytes.Equal(got, loader) {
				t.Errorf("%s, blocks of %d: %d bytes, %v", name, size, len(got), err)
			}
		}
	}
	if got, err := r.get(t, "arm64-efi/snponly.efi"); err != nil || string(got) != "arm" {
		t.Errorf("a file in a directory: %q, %v", got, err)
	}
	if got, err := r.get(t, "empty"); err != nil || len(got) != 0 {
		t.Errorf("an empty file: %q, %v", got, err)
	}
	b, ok := r.server.Recorder.Current(mac1)
	if !ok || b.Events[0].Step != cluster.StepLoader || b.Events[0].Detail != "tftp undionly.kpxe" {
		t.Errorf("the timeline is %+v", b)
	}
}

func TestConfined(t *testing.T) {
	r := start(t)
	for _, name := range []string{
		"nothing", "../tftp.go", "/../../etc/passwd", "/etc/passwd", "//undionly.kpxe", "./undionly.kpxe", "a/../undionly.kpxe",
		"", ".", "/", "arm64-efi", `..\tftp.go`, "undionly.kpxe\xff", strings.Repeat("a/", 200),
	} {
		if got, err := r.get(t, name); err == nil || !strings.Contains(err.Error(), "file not found") {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	c, err := tftp.NewClient(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send("undionly.kpxe", "octet"); err == nil || !strings.Contains(err.Error(), "does not support write") {
		t.Errorf("a write: %v", err)
	}
}

// rrq is a read request, and everything that is known of raw ones.
func rrq(fields ...string) []byte {
	return append([]byte{0, 1}, []byte(strings.Join(fields, "\x00")+"\x00")...)
}

// A ROM asks for the size, and ends the transfer when it has it.
func TestProbe(t *testing.T) {
	r := start(t)
	conn, err := net.Dial("udp4", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	local := conn.LocalAddr().(*net.UDPAddr)
	if _, err := conn.Write(rrq("undionly.kpxe", "octet", "tsize", "0", "blksize", "1456", "windowsize", "4")); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	rom, err := net.ListenUDP("udp4", local) // answers come from another port than 69
	if err != nil {
		t.Fatal(err)
	}
	defer rom.Close()
	rom.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 1500)
	n, from, err := rom.ReadFrom(b)
	if err != nil || binary.BigEndian.Uint16(b) != 6 || !bytes.Contains(b[:n], []byte("tsize\x00200000\x00")) ||
		!bytes.Contains(b[:n], []byte("blksize\x001456\x00")) || !bytes.Contains(b[:n], []byte("windowsize\x004\x00")) {
		t.Fatalf("got %q, %v\n%s", b[:n], err, r.log)
	}
	if _, err := rom.WriteTo([]byte{0, 5, 0, 8, 'b', 'y', 'e', 0}, from); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for !strings.Contains(r.log.String(), "only asked for a file's size") {
		if time.Now().After(deadline) {
			t.Fatalf("the log is:\n%s", r.log)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if strings.Contains(r.log.String(), "WARN") {
		t.Errorf("a probe is no reason to warn:\n%s", r.log)
	}
}

// Stopping ends a transfer whose client is slow, and waits for it.
func TestStop(t *testing.T) {
	r := start(t)
	c, err := tftp.NewClient(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Receive("undionly.kpxe", "octet")
	if err != nil {
		t.Fatal(err)
	}
	slow := writerFunc(func(b []byte) (int, error) { time.Sleep(100 * time.Millisecond); return len(b), nil })
	done := make(chan error, 1)
	go func() { _, err := w.WriteTo(slow); done <- err }()
	time.Sleep(250 * time.Millisecond)
	before := time.Now()
	r.stop()
	if took := time.Since(before); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "being stopped") {
		t.Errorf("the client was told %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func FuzzName(f *testing.F) {
	for _, s := range []string{"undionly.kpxe", "/undionly.kpxe", "../x", "a/../../x", "\x00", `\\server\share`, "//", "arm64-efi/snponly.efi"} {
		f.Add(s)
	}
	inside := fstest.MapFS{"in/undionly.kpxe": {Data: loader}, "secret": {Data: []byte("secret")}}
	root, err := fs.Sub(inside, "in")
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{Root: root}
	f.Fuzz(func(t *testing.T, name string) {
		file, err := s.open(t.Context(), request{file: name, mode: "octet"}, netip.Addr{})
		if err != nil {
			return
		}
		defer file.Close()
		if b, err := io.ReadAll(file); err != nil || !bytes.Equal(b, loader) {
			t.Fatalf("%q gave %d other bytes, %v", name, len(b), err)
		}
	})
}
