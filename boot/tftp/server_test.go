package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pin/tftp/v3"
	"golang.org/x/sys/unix"
)

// rom is a client with one socket, by whose rules a test goes itself.
type rom struct {
	*net.UDPConn
	t      testing.TB
	server *net.UDPAddr // port 69 at first, then the transfer's
}

func newROM(t testing.TB, r *rig) *rom {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &rom{conn, t, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(r.addr))}
}

func (c *rom) Write(b []byte) (int, error) { return c.WriteToUDP(b, c.server) }

// Read reads from the transfer's port, whichever answers first.
func (c *rom) Read(b []byte) (int, error) {
	n, from, err := c.ReadFromUDP(b)
	if err == nil {
		c.server = from
	}
	return n, err
}

// hears is the next packet.
func (c *rom) hears() []byte {
	c.t.Helper()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	if err != nil {
		c.t.Fatal(err)
	}
	return b[:n]
}

// get fetches a file as receive does, through faults.
func (c *rom) get(fate fate, how manner, fields ...string) ([]byte, error) {
	r, _ := parseRead(rrq(fields...))
	if _, err := c.Write(rrq(fields...)); err != nil {
		return nil, err
	}
	return receive(&faulty{conn: c, fate: fate}, r.agree(0, usualBlock), how)
}

// awaits waits for the log to say something.
func (r *rig) awaits(t *testing.T, words string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(r.log.String(), words); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q is not in the log:\n%s", words, r.log)
		}
	}
}

// The same over real sockets, with the kernel's help, as in transfer_test.go.
func TestLoopback(t *testing.T) {
	big := random(512*66_000 + 100) // its numbers begin again
	r := start(t, fstest.MapFS{"big": {Data: big}, "small": {Data: big[:20_000]}})
	quick := manner{patience: 200 * time.Millisecond}
	for _, c := range []struct {
		name, file string
		options    []string
		fate       fate
		want       []byte
	}{
		{"no options", "undionly.kpxe", nil, smooth, loader},
		{"one block a window", "undionly.kpxe", []string{"blksize", "1456"}, smooth, loader},
		{"windows", "undionly.kpxe", []string{"blksize", "1456", "windowsize", "16"}, smooth, loader},
		{"windows of more than one system call", "undionly.kpxe", []string{"blksize", "1468", "windowsize", "64"}, smooth, loader},
		{"blocks too small to be cut", "undionly.kpxe", []string{"blksize", "100", "windowsize", "64"}, smooth, loader},
		{"past block 65535", "big", []string{"windowsize", "64"}, smooth, big},
		{"loss", "undionly.kpxe", []string{"blksize", "1456", "windowsize", "8"}, percent(1, 3, 0, 0), loader},
		{"copies", "undionly.kpxe", []string{"blksize", "1456", "windowsize", "8"}, percent(2, 0, 20, 0), loader},
		{"disorder", "undionly.kpxe", []string{"blksize", "1456", "windowsize", "8"}, percent(3, 0, 0, 5), loader},
		{"all of it", "undionly.kpxe", []string{"blksize", "1456", "windowsize", "32"}, percent(4, 1, 5, 5), loader},
		{"all of it, a block a window", "small", []string{"blksize", "1456"}, percent(5, 2, 5, 2), big[:20_000]},
	} {
		got, err := newROM(t, r).get(c.fate, quick, append([]string{c.file, "octet"}, c.options...)...)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes came of %d: %v\n%s", c.name, len(got), len(c.want), err, r.log)
		}
	}
}

// Where the kernel does not cut, and says so only when it is to, blocks go one
// by one. It does not cut without checksums.
func TestUncut(t *testing.T) {
	client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, refuse := range []bool{false, true} {
		s, err := dial(netip.Addr{}, client.LocalAddr().(*net.UDPAddr).AddrPort())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if refuse {
			if err := s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) }); err != nil {
				t.Fatal(err)
			}
		}
		s.segment(1000)
		if s.cut != 1000 {
			t.Fatal("the kernel cannot cut (UDP_SEGMENT)")
		}
		sent := random(2500)
		for range 2 {
			if err := s.WriteBlocks(sent, 1000); err != nil {
				t.Fatal(err)
			}
			client.SetReadDeadline(time.Now().Add(30 * time.Second))
			b := make([]byte, 4000)
			for rest := sent; len(rest) > 0; {
				n, err := client.Read(b)
				if err != nil || n != min(1000, len(rest)) || !bytes.Equal(b[:n], rest[:n]) {
					t.Fatalf("refused %v: %d bytes of %d came: %v", refuse, n, len(rest), err)
				}
				rest = rest[n:]
			}
		}
		if refuse == (s.cut != 0) {
			t.Errorf("refused %v: and then it cuts at %d", refuse, s.cut)
		}
	}
}

// A transfer is one port's of the client: another cannot take it over or end it.
func TestOtherPort(t *testing.T) {
	r := start(t)
	c, other := newROM(t, r), newROM(t, r)
	c.Write(rrq("undionly.kpxe", "octet", "blksize", "1000"))
	if p := c.hears(); opcode(p) != opOack {
		t.Fatalf("got %q", p)
	}
	other.server = c.server
	other.Write([]byte{0, opAck, 0, 0})
	other.Write([]byte{0, opError, 0, 0, 0})
	c.Write([]byte{0, opAck, 0, 0})
	got, err := receive(c, terms{block: 1000, window: 1}, manner{})
	if err != nil || !bytes.Equal(got, loader) {
		t.Errorf("%d bytes came: %v", len(got), err)
	}
}

// A client that starts afresh, from the same port as before, is served at once,
// by another transfer; the old one ends when the client says that it is not its own.
func TestAfresh(t *testing.T) {
	r := start(t)
	c := newROM(t, r)
	first := c.server
	c.Write(rrq("undionly.kpxe", "octet", "tsize", "0"))
	c.hears()
	old := c.server
	c.server = first
	c.Write(rrq("undionly.kpxe", "octet", "blksize", "1428", "windowsize", "4"))
	if p := c.hears(); !bytes.Contains(p, []byte("windowsize")) {
		t.Fatalf("got %q", p)
	}
	c.WriteToUDP([]byte{0, opError, 0, 5, 0}, old)
	c.Write([]byte{0, opAck, 0, 0})
	got, err := receive(c, terms{block: 1428, window: 4}, manner{})
	if err != nil || !bytes.Equal(got, loader) {
		t.Errorf("%d bytes came: %v", len(got), err)
	}
	r.awaits(t, "outcome=probed")
	r.awaits(t, "outcome=sent")
}

// A client whose port is closed is not waited for.
func TestClosedPort(t *testing.T) {
	r := start(t)
	c := newROM(t, r)
	c.Write(rrq("undionly.kpxe", "octet", "tsize", "0"))
	c.hears()
	c.Close()
	r.awaits(t, "outcome=probed")
	if strings.Contains(r.log.String(), "WARN") {
		t.Errorf("a probe is no reason to warn:\n%s", r.log)
	}
}

// What is not a read request is refused by the library, or dropped; a read
// request that asks for what is not served gets an error, and none of it harms.
func TestOddRequests(t *testing.T) {
	r := start(t)
	for _, c := range []struct {
		packet []byte
		code   uint16
		says   string
	}{
		{[]byte("\x00\x02f\x00octet\x00"), 1, "does not support write"},
		{rrq("undionly.kpxe", "mail"), codeIllegal, "only the modes octet and netascii"},
		{rrq("nothing", "octet"), codeNotFound, "file not found"},
	} {
		rom := newROM(t, r)
		rom.Write(c.packet)
		p := rom.hears()
		if opcode(p) != opError || binary.BigEndian.Uint16(p[2:]) != c.code || !strings.Contains(string(p), c.says) {
			t.Errorf("%q is answered with %q", c.packet, p)
		}
	}
	rom := newROM(t, r)
	for _, p := range []string{"", "\x00", "\x00\x01", "\x00\x01f", "\x00\x02", "\x00\x03\x00\x01x", "\x00\x04\x00\x01", "\x00\x05", "\x00\x06", "\xff\xff"} {
		rom.Write([]byte(p))
	}
	rom.Write(rrq("empty", "octet"))
	if p := rom.hears(); !bytes.Equal(p, []byte{0, opData, 0, 1}) {
		t.Errorf("after odd packets comes %q", p)
	}
}

// A broadcast is not answered (RFC 1123, section 4.2.3.5).
func TestBroadcast(t *testing.T) {
	r := &rig{server: &Server{Root: fstest.MapFS{"a": {Data: []byte("a")}, "b": {Data: []byte("b")}}}}
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	port := conn.LocalAddr().(*net.UDPAddr).Port
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(ctx, conn) }()
	defer func() { cancel(); <-done }()
	r.addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)).String()
	if got, err := newROM(t, r).get(smooth, manner{}, "a", "octet"); err != nil || string(got) != "a" { // it serves by now
		t.Fatalf("got %q, %v", got, err)
	}
	c := newROM(t, r)
	if _, err := c.WriteToUDP(rrq("a", "octet"), &net.UDPAddr{IP: net.IPv4(127, 255, 255, 255), Port: port}); err != nil {
		t.Fatal(err)
	}
	c.Write(rrq("b", "octet"))
	if p := c.hears(); !bytes.Equal(p, []byte{0, opData, 0, 1, 'b'}) {
		t.Errorf("got %q", p)
	}
}

// Beyond the limit a request is not answered; a client that asks again later is.
func TestLimit(t *testing.T) {
	r := start(t)
	r.server.running.Store(limit)
	c := newROM(t, r)
	c.Write(rrq("empty", "octet"))
	r.awaits(t, "too many TFTP transfers")
	r.server.running.Store(0)
	c.Write(rrq("arm64-efi/snponly.efi", "octet"))
	if p := c.hears(); !bytes.HasSuffix(p, []byte("arm")) {
		t.Errorf("got %q", p)
	}
}

// Text is sent with the line ends that the RFC wants, in windows as well, and
// through loss, when it has to be made again.
func TestNetascii(t *testing.T) {
	text := strings.Repeat("a line\nand a return \r in one\n", 4000)
	want := strings.NewReplacer("\n", "\r\n", "\r", "\r\x00").Replace(text)
	r := start(t, fstest.MapFS{"menu": {Data: []byte(text)}})
	for _, fate := range []fate{smooth, percent(6, 3, 5, 5)} {
		got, err := newROM(t, r).get(fate, manner{patience: 200 * time.Millisecond}, "menu", "NetASCII", "blksize", "1000", "windowsize", "8")
		if err != nil || string(got) != want {
			t.Errorf("%d bytes came of %d: %v", len(got), len(want), err)
		}
	}
	c, err := tftp.NewClient(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Receive("menu", "netascii")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil || b.String() != text {
		t.Errorf("pin/tftp's client has %d bytes of %d: %v", b.Len(), len(text), err)
	}
}

func TestMetrics(t *testing.T) {
	r := start(t)
	lose := func(toClient bool, n int, _ []byte) fault {
		if toClient && n == 20 { // block 20, of the second window: 20 to 32 are sent again
			return lost
		}
		return none
	}
	if _, err := newROM(t, r).get(lose, manner{}, "undionly.kpxe", "octet", "blksize", "1000", "windowsize", "16"); err != nil {
		t.Fatal(err)
	}
	if _, err := newROM(t, r).get(smooth, manner{}, "nothing", "octet"); err == nil {
		t.Fatal("it is there")
	}
	for counters(t, r)["transfers_total sent"] == 0 && t.Context().Err() == nil { // its last acknowledgement is on its way
		time.Sleep(time.Millisecond)
	}
	r.stop()
	got := counters(t, r)
	delete(got, "transfer_seconds")
	want := map[string]float64{
		"transfers_total sent": 1, "transfers_total refused": 1, "transfers_running": 0, "sent_bytes_total": float64(len(loader)),
		"window_blocks": 16, "windows_total": 14, "retransmitted_blocks_total": 13,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func counters(t *testing.T, r *rig) map[string]float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "pilotlight_tftp_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetHistogram().GetSampleSum()
		}
	}
	return got
}

// BenchmarkLoopback is a file to one client, which is a part of what it measures.
func BenchmarkLoopback(b *testing.B) {
	file := random(8 << 20)
	r := start(b, fstest.MapFS{"file": {Data: file}})
	for _, window := range []string{"1", "16", "64"} {
		b.Run("window="+window, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			for b.Loop() {
				if got, err := newROM(b, r).get(smooth, manner{}, "file", "octet", "blksize", "1468", "windowsize", window); err != nil || len(got) != len(file) {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}

// inOrder is a reader and no more.
type inOrder struct{ r io.Reader }

func (r inOrder) Read(b []byte) (int, error) { return r.r.Read(b) }

func TestBacklog(t *testing.T) {
	file := random(10_000)
	b := &backlog{from: inOrder{bytes.NewReader(file)}, keep: 2000}
	for _, off := range []int{0, 1000, 0, 2000, 1000, 3000, 3000, 1001, 8000, 9000, 9500, 10_000, 8001} {
		p := make([]byte, 1000)
		n, err := b.ReadAt(p, int64(off))
		want := file[off:min(off+1000, len(file))]
		if !bytes.Equal(p[:n], want) || (n < 1000) != (err == io.EOF) {
			t.Errorf("from %d: %d bytes, %v", off, n, err)
		}
		if len(b.kept) > 8000 {
			t.Errorf("it keeps %d bytes", len(b.kept))
		}
	}
}

// A file that has become shorter is not sent as if it had been so.
func TestChanged(t *testing.T) {
	name := t.TempDir() + "/f"
	if err := os.WriteFile(name, random(5000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := sizeOf(f, "octet")
	if err != nil || size != 5000 {
		t.Fatal(size, err)
	}
	s := newSource(f, size, terms{block: 512, window: 4})
	if err := os.Truncate(name, 3000); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadAt(make([]byte, 2048), 2048); !errors.Is(err, errChanged) {
		t.Errorf("got %v", err)
	}
}
