//go:build peers

package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPeers runs other TFTP servers and this one in turn, each as a process of
// its own in one network namespace, its clients in another, and prints what they
// do as ratios: medians of those of runs that followed each other, since no other
// figure means much on a machine that does other things beside. It asserts only
// that every transfer came whole. See bench-peers in the Makefile.
//
// A single client has one core and its server another, like two machines: on the
// same one a wake-up costs next to nothing, and which it is would be chance.

const (
	peersServer = "10.78.0.1"
	peersRoot   = "PILOTLIGHT_TFTP_PEERS_ROOT" // makes the test binary a server of this directory
	// peersPatience is how often a client says the same again, each half second.
	peersPatience = 20
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(peersRoot); dir != "" {
		ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
		defer stop()
		conn, err := net.ListenPacket("udp4", ":69")
		if err == nil {
			err = (&Server{Root: os.DirFS(dir)}).Serve(ctx, conn)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// peer is a TFTP server.
type peer struct {
	name    string
	command func(root string) []string
	windows bool // it negotiates windowsize
	forks   bool // a process for each transfer, whose CPU time nobody collects
}

var peers = []peer{
	{"pilotlight", func(string) []string { return []string{os.Args[0]} }, true, false},
	{"dnsmasq", func(root string) []string {
		return []string{"dnsmasq", "-k", "--port=0", "--enable-tftp", "--tftp-root=" + root, "--user=root", "--pid-file=", "--conf-file=/dev/null", "--log-facility=/dev/null"}
	}, false, false},
	{"tftpd-hpa", func(root string) []string { return []string{"in.tftpd", "-L", "-s", "-u", "root", root} }, false, true},
	{"atftpd", func(root string) []string {
		return []string{"atftpd", "--daemon", "--no-fork", "--user", "root", "--group", "root", "--verbose=1", "--maxthread", "200", root}
	}, true, false},
}

// scene is what is measured of the servers that can do it.
type scene struct {
	name            string
	clients, window int
	each            int // how many times each client fetches the file
	file            string
	goals           map[string]goal // by peer
}

// goal is what our rate is meant to be at least, and our CPU time at most, as
// multiples of a peer's; zero is no goal.
type goal struct{ rate, cpu float64 }

func TestPeers(t *testing.T) {
	b := newBench(t)
	for _, s := range []scene{
		{name: "1 client, window 1", clients: 1, window: 1, each: 1, file: "8M", goals: map[string]goal{"dnsmasq": {rate: .95}}},
		{name: "1 client, window 16", clients: 1, window: 16, each: 4, file: "60M", goals: map[string]goal{"atftpd": {rate: 1}}},
		{name: "1 client, window 64", clients: 1, window: 64, each: 4, file: "60M", goals: map[string]goal{"atftpd": {rate: 1.15}}},
		{name: "50 clients, window 1", clients: 50, window: 1, each: 2, file: "1M"},
		{name: "50 clients, window 16", clients: 50, window: 16, each: 8, file: "1M", goals: map[string]goal{"atftpd": {rate: 1.2, cpu: .7}}},
	} {
		t.Run(s.name, func(t *testing.T) {
			b.t = t
			b.compare(s)
		})
	}
}

// compare runs the servers in turn, again and again, and prints ours against
// each of them.
func (b *bench) compare(s scene) {
	var able []peer
	for _, p := range peers {
		if p.windows || s.window == 1 {
			able = append(able, p)
		}
	}
	rates, costs := make(map[string][]float64), make(map[string][]float64)
	for range rounds(b.t) {
		for _, p := range able {
			rate, cost := b.run(p, s)
			rates[p.name], costs[p.name] = append(rates[p.name], rate), append(costs[p.name], cost)
		}
	}
	ours := able[0].name
	for _, p := range able[1:] {
		g := s.goals[p.name]
		ratio := median(ratios(rates[ours], rates[p.name]))
		b.print(s.name+": speed", "MB/s", median(rates[ours]), median(rates[p.name]), p.name, ratio, judge("at least", g.rate, ratio >= g.rate))
		if !p.forks {
			ratio := median(ratios(costs[ours], costs[p.name]))
			b.print(s.name+": CPU", "s/GB", median(costs[ours]), median(costs[p.name]), p.name, ratio, judge("at most", g.cpu, ratio <= g.cpu))
		}
	}
}

// judge says of a goal whether it is met, as the table has it.
func judge(what string, goal float64, met bool) string {
	switch {
	case goal == 0:
		return "none|-"
	case met:
		return fmt.Sprintf("%s %.4g|met", what, goal)
	}
	return fmt.Sprintf("%s %.4g|missed", what, goal)
}

// print adds a line to the table that bench-peers prints at its end.
func (b *bench) print(what, unit string, ours, theirs float64, peer string, ratio float64, judged string) {
	b.t.Helper()
	line := fmt.Sprintf("TFTP %s|%.4g|%.4g %s|%s|%.2f|%s", what, ours, theirs, unit, peer, ratio, judged)
	b.t.Log(line)
	table := os.Getenv("PILOTLIGHT_PEERS_TABLE")
	if table == "" {
		return
	}
	f, err := os.OpenFile(table, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

// rounds is how often each server is run; ROUNDS sets another number.
func rounds(t *testing.T) int {
	text := os.Getenv("ROUNDS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("ROUNDS=%s is no number of rounds", text)
	}
	return n
}

func ratios(a, b []float64) (out []float64) {
	for i := range a {
		out = append(out, a[i]/b[i])
	}
	return out
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return (of[(len(of)-1)/2] + of[len(of)/2]) / 2
}

// bench is two namespaces and the files that are fetched.
type bench struct {
	t              *testing.T
	root           string
	server, client string
	files          map[string][]byte
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this makes network namespaces: run it as root")
	}
	for _, tool := range []string{"ip", "taskset", "dnsmasq", "in.tftpd", "atftpd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: make bench-peers installs it", tool)
		}
	}
	id := strconv.Itoa(os.Getpid())
	b := &bench{t: t, root: t.TempDir(), server: "plpeer-s" + id, client: "plpeer-c" + id, files: make(map[string][]byte)}
	for name, size := range map[string]int{"1M": 1 << 20, "8M": 8 << 20, "60M": 60 << 20} {
		body := make([]byte, size)
		rand.NewChaCha8([32]byte{}).Read(body)
		b.files[name] = body
		if err := os.WriteFile(filepath.Join(b.root, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for dir := b.root; dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755) // tftpd-hpa serves what all may read
		if strings.Count(dir, "/") <= 2 {
			break
		}
	}
	t.Cleanup(func() {
		exec.Command("ip", "netns", "del", b.client).Run()
		exec.Command("ip", "netns", "del", b.server).Run()
	})
	for _, args := range []string{
		"netns add " + b.server, "netns add " + b.client,
		"-n " + b.server + " link add s0 type veth peer name c0 netns " + b.client,
		"-n " + b.server + " addr add " + peersServer + "/24 dev s0", "-n " + b.client + " addr add 10.78.0.2/24 dev c0",
		"-n " + b.server + " link set lo up", "-n " + b.server + " link set s0 up", "-n " + b.client + " link set c0 up",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	return b
}

// run starts a server, has its clients fetch all that they are to, and stops it.
// It returns megabytes a second, and seconds of the server's CPU time a gigabyte.
func (b *bench) run(p peer, s scene) (rate, cost float64) {
	b.t.Helper()
	var said bytes.Buffer
	args := append([]string{"netns", "exec", b.server}, p.command(b.root)...)
	if s.clients == 1 {
		args = append([]string{"netns", "exec", b.server, "taskset", "-c", "0"}, p.command(b.root)...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Env, cmd.Stderr = os.Environ(), &said
	if p.name == "pilotlight" {
		cmd.Env = append(cmd.Env, peersRoot+"="+b.root)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.await()
	start := time.Now()
	var clients sync.WaitGroup
	for range s.clients {
		clients.Go(func() {
			if s.clients == 1 {
				defer pin(1)()
			}
			for range s.each {
				if err := b.fetch(s.file, s.window); err != nil {
					b.t.Errorf("%s of %s: %v", s.file, p.name, err)
				}
			}
		})
	}
	clients.Wait()
	took := time.Since(start)
	cmd.Process.Signal(unix.SIGTERM)
	cmd.Wait()
	if b.t.Failed() {
		b.t.Fatalf("%s, %s: it says\n%s", p.name, s.name, said.String())
	}
	sent := float64(s.clients*s.each*len(b.files[s.file])) / 1e6
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return sent / took.Seconds(), used.Seconds() / (sent + 1) * 1e3
}

// pin keeps the goroutine on one core until the function that it returns is called.
func pin(core int) func() {
	runtime.LockOSThread()
	var before, one unix.CPUSet
	unix.SchedGetaffinity(0, &before)
	one.Set(core)
	unix.SchedSetaffinity(0, &one)
	return func() {
		unix.SchedSetaffinity(0, &before)
		runtime.UnlockOSThread()
	}
}

// await waits until the server is there.
func (b *bench) await() {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := b.fetch("1M", 1)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the server does not answer: %v", err)
		}
	}
}

// fetch gets a file and compares it. It is a client that does not hold a server
// up: one blocking system call a packet.
func (b *bench) fetch(file string, window int) error {
	const block = 1428
	fd, err := b.socket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	server := &unix.SockaddrInet4{Port: 69, Addr: [4]byte(net.ParseIP(peersServer).To4())}
	ask := rrq(file, "octet", "blksize", strconv.Itoa(block))
	if window > 1 {
		ask = rrq(file, "octet", "blksize", strconv.Itoa(block), "windowsize", strconv.Itoa(window))
	}
	in := make([]byte, 2048)
	var n int
	var from unix.Sockaddr
	for try := 0; from == nil; try++ {
		if err := unix.Sendto(fd, ask, 0, server); err != nil {
			return err
		}
		if n, from, err = recvFrom(fd, in); err != nil && (err != unix.EAGAIN || try == peersPatience) {
			return err
		}
	}
	if opcode(in[:n]) != opOack || window > 1 && !bytes.Contains(in[:n], []byte("windowsize\x00"+strconv.Itoa(window)+"\x00")) {
		return fmt.Errorf("the answer is %q", in[:n])
	}
	if err := unix.Connect(fd, from); err != nil {
		return err
	}
	return take(fd, b.files[file], block, window)
}

// take receives a file by the rules of RFC 7440, from its first block on.
func take(fd int, want []byte, block, window int) error {
	in, ack := make([]byte, 2048), []byte{0, opAck, 0, 0}
	acknowledge := func(n int) {
		binary.BigEndian.PutUint16(ack[2:], uint16(n))
		unix.Write(fd, ack)
	}
	acknowledge(0)
	silent := 0
	for got, acked := 0, 0; ; {
		n, _, err := recvFrom(fd, in)
		if err == unix.EAGAIN && silent < peersPatience {
			silent++
			acknowledge(got)
			acked = got
			continue
		}
		if err != nil {
			return fmt.Errorf("after %d blocks: %w", got, err)
		}
		silent = 0
		if opcode(in[:n]) == opOack { // to a request that was repeated
			continue
		}
		if opcode(in[:n]) != opData {
			return fmt.Errorf("after %d blocks: %q", got, in[:n])
		}
		if binary.BigEndian.Uint16(in[2:]) != uint16(got+1) {
			if got > acked { // a gap, told once
				acknowledge(got)
				acked = got
			}
			continue
		}
		if !bytes.HasPrefix(want[got*block:], in[header:n]) {
			return fmt.Errorf("block %d is another", got+1)
		}
		got++
		last := n < header+block
		if last || got-acked == window {
			acknowledge(got)
			acked = got
		}
		if last {
			if whole := (got-1)*block + n - header; whole != len(want) {
				return fmt.Errorf("%d bytes came of %d", whole, len(want))
			}
			return nil
		}
	}
}

// recvFrom waits for a packet through the signals of Go's scheduler.
func recvFrom(fd int, in []byte) (int, unix.Sockaddr, error) {
	for {
		n, from, err := unix.Recvfrom(fd, in, 0)
		if err != unix.EINTR {
			return n, from, err
		}
	}
}

// socket makes a socket in the clients' namespace.
func (b *bench) socket() (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return 0, err
	}
	defer own.Close()
	other, err := os.Open("/run/netns/" + b.client)
	if err != nil {
		return 0, err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return 0, back
	}
	if err != nil {
		return 0, err
	}
	timeout := unix.Timeval{Usec: 500_000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return 0, err
	}
	return fd, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
}
