//go:build integration

package boot_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What each client fetches has to be the file, also over a network that loses,
// doubles, delays and reorders packets. That network is a relay in this test:
// tc's netem would be the kernel's own, but many kernels come without it.

type tftpClient struct {
	name string
	get  func(server, local string) []string
	says []string // words of its trace
	slow bool     // over a bad network: it asks the server to wait 6 s for each block that is lost
}

var tftpClients = []tftpClient{
	{"tftp-hpa", func(server, local string) []string {
		return []string{"tftp", "-m", "binary", server, "-c", "get", "undionly.kpxe", local}
	}, nil, false},
	{"tftp-hpa, text", func(server, local string) []string { // it undoes what netascii does to a binary
		return []string{"tftp", "-m", "ascii", server, "-c", "get", "undionly.kpxe", local}
	}, nil, false},
	{"atftp, no options", atftp(), nil, false},
	{"atftp, a block a window", atftp("blksize 1428", "tsize 0", "timeout 2"), []string{"blksize: 1428", "tsize: ", "timeout: 2"}, false},
	{"atftp, windows of 4", atftp("blksize 512", "windowsize 4"), []string{"windowsize: 4"}, false},
	{"atftp, windows of 16", atftp("blksize 1428", "windowsize 16"), []string{"windowsize: 16", "blksize: 1428"}, false},
	{"atftp, windows of 64", atftp("blksize 1468", "windowsize 64"), []string{"windowsize: 64", "blksize: 1468"}, false},
	{"curl", curl(), nil, true},
	{"curl, large blocks", curl("--tftp-blksize", "1428"), nil, false},
	{"curl, no options", curl("--tftp-no-options"), nil, false},
}

func atftp(options ...string) func(string, string) []string {
	return func(server, local string) []string {
		args := []string{"atftp", "--trace", "--get", "--remote-file", "undionly.kpxe", "--local-file", local}
		for _, o := range options {
			args = append(args, "--option", o)
		}
		return append(args, server)
	}
}

func curl(options ...string) func(string, string) []string {
	return func(server, local string) []string {
		return append([]string{"curl", "-sS", "-o", local, "tftp://" + server + "/undionly.kpxe"}, options...)
	}
}

func TestIntegrationTFTPClients(t *testing.T) {
	l := newLab(t)
	l.ip("addr add " + hostAddr + "/16 dev c0")
	want, err := os.ReadFile("/usr/lib/ipxe/undionly.kpxe")
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(t *testing.T, c tftpClient, server string, tries int) string {
		t.Helper()
		local := strings.NewReplacer(" ", "-", ",", "", ".", "-").Replace(c.name + server)
		out, err := l.try(l.client, c.get(server, local)...)
		for ; err != nil && tries > 1; tries-- {
			out, err = l.try(l.client, c.get(server, local)...)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got, err := os.ReadFile(filepath.Join(l.dir, local))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came, %d were sent: %v\n%s", len(got), len(want), err, out)
		}
		return out
	}
	for _, c := range tftpClients {
		t.Run(c.name, func(t *testing.T) { contains(t, fetch(t, c, serverAddr, 1), c.says...) })
	}
	t.Run("over a bad network", func(t *testing.T) {
		bad := l.badNetwork("127.0.0.1")
		for _, c := range tftpClients {
			if !c.slow {
				// atftp ends at an OACK that comes twice; firmware and people try again.
				t.Run(c.name, func(t *testing.T) { fetch(t, c, "127.0.0.1", 5) })
			}
		}
		bad.mu.Lock()
		defer bad.mu.Unlock()
		if bad.lost == 0 || bad.late == 0 || bad.doubled == 0 {
			t.Errorf("it was not bad: %d packets lost, %d late, %d doubled", bad.lost, bad.late, bad.doubled)
		}
	})
	t.Run("over a path with a smaller MTU", func(t *testing.T) {
		set := exec.Command("ip", "-n", l.server, "route", "replace", "10.77.0.0/16", "dev", "s0", "src", serverAddr, "mtu", "1200")
		if out, err := set.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		c := tftpClient{name: "atftp, small", get: atftp("blksize 1428", "windowsize 16")}
		contains(t, fetch(t, c, serverAddr, 1), "blksize: "+strconv.Itoa(1200-20-8-4))
	})
}

// badNetwork is a relay between clients and the server's port 69 that treats
// packets badly.
type badNetwork struct {
	mu                  sync.Mutex
	chance              *rand.Rand
	lost, late, doubled int
}

// badNetwork starts one on an address of the clients' namespace.
func (l *lab) badNetwork(address string) *badNetwork {
	l.t.Helper()
	b := &badNetwork{chance: rand.New(rand.NewPCG(1, 2))}
	port := l.listen(address, 69)
	var relay, transfers sync.WaitGroup
	var sockets []*net.UDPConn
	l.t.Cleanup(func() {
		port.Close()
		relay.Wait()
		for _, s := range sockets {
			s.Close()
		}
		transfers.Wait()
	})
	server := &net.UDPAddr{IP: net.ParseIP(serverAddr), Port: 69}
	relay.Go(func() {
		request := make([]byte, 1500)
		for {
			n, client, err := port.ReadFromUDP(request)
			if err != nil {
				return
			}
			near, far := l.listen(address, 0), l.listen(hostAddr, 0)
			sockets = append(sockets, near, far)
			far.WriteToUDP(request[:n], server)
			transfers.Go(func() { b.carry(near, far, client) })
		}
	})
	return b
}

// carry is one transfer: far is to the server, near to the client.
func (b *badNetwork) carry(near, far *net.UDPConn, client *net.UDPAddr) {
	var port *net.UDPAddr // of the server's
	known := make(chan struct{})
	var back sync.WaitGroup
	back.Go(func() {
		<-known
		b.pump(near, func(p []byte, _ *net.UDPAddr) { far.WriteToUDP(p, port) })
	})
	b.pump(far, func(p []byte, from *net.UDPAddr) {
		if port == nil {
			port = from
			close(known)
		}
		near.WriteToUDP(p, client)
	})
	if port == nil {
		close(known)
	}
	back.Wait()
	near.Close()
	far.Close()
}

// pump hands packets on until none has come for a while, or the socket closes.
func (b *badNetwork) pump(from *net.UDPConn, to func([]byte, *net.UDPAddr)) {
	type packet struct {
		data []byte
		from *net.UDPAddr
		at   time.Time
	}
	var late sync.WaitGroup
	inOrder := make(chan packet, 1000)
	late.Go(func() {
		for p := range inOrder {
			time.Sleep(time.Until(p.at))
			to(p.data, p.from)
		}
	})
	defer late.Wait()
	defer close(inOrder)
	for in := make([]byte, 1<<16); ; {
		from.SetReadDeadline(time.Now().Add(30 * time.Second))
		n, sender, err := from.ReadFromUDP(in)
		if err != nil {
			return
		}
		p := packet{bytes.Clone(in[:n]), sender, time.Now().Add(time.Millisecond)}
		switch b.fate() {
		case "lost":
		case "late": // behind others
			late.Go(func() { time.Sleep(3 * time.Millisecond); to(p.data, p.from) })
		case "doubled":
			inOrder <- p
			fallthrough
		default:
			inOrder <- p
		}
	}
}

// fate is what befalls a packet.
func (b *badNetwork) fate() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch x := b.chance.IntN(100); {
	case x < 2:
		b.lost++
		return "lost"
	case x < 4:
		b.late++
		return "late"
	case x < 6:
		b.doubled++
		return "doubled"
	}
	return ""
}

// listen opens a socket in the clients' namespace.
func (l *lab) listen(address string, port int) *net.UDPConn {
	runtime.LockOSThread() // and never unlocked if there is no way back
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		panic(err)
	}
	defer own.Close()
	other, err := os.Open("/run/netns/" + l.client)
	if err != nil {
		panic(err)
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		panic(err)
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(address), Port: port})
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back)
	}
	runtime.UnlockOSThread()
	if err != nil {
		panic(err)
	}
	return conn
}
