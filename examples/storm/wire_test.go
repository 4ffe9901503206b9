//go:build storm || integration

package storm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	etherHeader = 14
	etherIPv4   = 0x0800
	ipHeader    = 20
	udpHeader   = 8
	protocolUDP = 17
	serverPort  = 67
	clientPort  = 68
)

// wire is the Ethernet on which the machines have no address yet. Each sends and
// hears frames in the name of its own network card.
type wire struct {
	conn    *packet.Conn
	reading sync.WaitGroup
	closing atomic.Bool

	mu    sync.Mutex
	cards map[cluster.MAC]chan *dhcpv4.DHCPv4
	err   error
}

func newWire(on *net.Interface) (*wire, error) {
	filter, err := bpf.Assemble([]bpf.Instruction{ // UDP to port 68: the rest of a boot is a thousand times more
		bpf.LoadAbsolute{Off: 12, Size: 2}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv4, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 23, Size: 1}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolUDP, SkipTrue: 4},
		bpf.LoadMemShift{Off: etherHeader},
		bpf.LoadIndirect{Off: etherHeader + 2, Size: 2}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: clientPort, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, fmt.Errorf("make a filter: %w", err)
	}
	conn, err := packet.Listen(on, packet.Raw, etherIPv4, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open a raw socket on %s: %w", on.Name, err)
	}
	if err := errors.Join(conn.SetPromiscuous(true), setBuffer(conn)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	w := &wire{conn: conn, cards: map[cluster.MAC]chan *dhcpv4.DHCPv4{}}
	w.reading.Go(w.read)
	return w, nil
}

// setBuffer lets a burst of answers wait: what is lost here would count as the
// server's silence.
func setBuffer(conn *packet.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("reach the raw socket: %w", err)
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) })
	return errors.Join(err, set)
}

func (w *wire) close() error {
	w.closing.Store(true)
	err := w.conn.Close()
	w.reading.Wait()
	return errors.Join(err, w.err)
}

// plug returns what a network card hears.
func (w *wire) plug(mac cluster.MAC) <-chan *dhcpv4.DHCPv4 {
	c := make(chan *dhcpv4.DHCPv4, 32)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cards[mac] = c
	return c
}

func (w *wire) read() {
	b := make([]byte, 1<<16)
	for {
		n, _, err := w.conn.ReadFrom(b)
		if err != nil {
			if w.closing.Load() { // the library has no error of its own for that
				return
			}
			w.err = fmt.Errorf("read frames: %w", err)
			return
		}
		w.deliver(b[:n])
	}
}

// deliver hands an answer to the card that it is for: a frame to another card is
// not heard, whatever stands in it.
func (w *wire) deliver(frame []byte) {
	if len(frame) < etherHeader+ipHeader {
		return
	}
	body := etherHeader + int(frame[etherHeader]&15)*4 + udpHeader
	if len(frame) < body {
		return
	}
	p, err := dhcpv4.FromBytes(frame[body:])
	if err != nil || p.OpCode != dhcpv4.OpcodeBootReply || len(p.ClientHWAddr) != 6 {
		return
	}
	mac, to := cluster.MAC(p.ClientHWAddr), cluster.MAC(frame[:6])
	if to != mac && to[0]&1 == 0 {
		return
	}
	w.mu.Lock()
	card := w.cards[mac]
	w.mu.Unlock()
	select {
	case card <- p:
	default: // it is off, or has more than it reads
	}
}

// broadcast sends a DHCP message of a machine that has no address.
func (w *wire) broadcast(mac cluster.MAC, p *dhcpv4.DHCPv4) error {
	body := p.ToBytes()
	f := make([]byte, etherHeader+ipHeader+udpHeader, etherHeader+ipHeader+udpHeader+len(body))
	everyone := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	copy(f, everyone)
	copy(f[6:], mac[:])
	order := binary.BigEndian
	order.PutUint16(f[12:], etherIPv4)
	ip := f[etherHeader:]
	ip[0], ip[8], ip[9] = 0x45, 64, protocolUDP
	order.PutUint16(ip[2:], uint16(ipHeader+udpHeader+len(body)))
	copy(ip[16:], net.IPv4bcast.To4())
	order.PutUint16(ip[10:], checksum(ip[:ipHeader]))
	udp := ip[ipHeader:]
	order.PutUint16(udp[0:], clientPort)
	order.PutUint16(udp[2:], serverPort)
	order.PutUint16(udp[4:], uint16(udpHeader+len(body))) // no checksum: RFC 768 lets it be left out
	_, err := w.conn.WriteTo(append(f, body...), &packet.Addr{HardwareAddr: everyone})
	if err != nil {
		return fmt.Errorf("send a frame: %w", err)
	}
	return nil
}

// checksum is that of an IP header (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
