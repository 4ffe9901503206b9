package dhcp

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/mdlayher/packet"

	"github.com/pilotlight/pilotlight/cluster"
)

// frames sends to clients that have no address yet, which nothing but their
// hardware address reaches (RFC 2131, section 4.1), and keeps one raw socket
// for each interface. It belongs to one goroutine at a time.
type frames struct {
	sockets map[int]*socket
}

type socket struct {
	conn *packet.Conn
	mac  cluster.MAC
	err  error // why there is none
}

const (
	etherTypeIPv4 = 0x0800
	protocolUDP   = 17
)

func (f *frames) send(p outbound) error {
	s, ok := f.sockets[p.iface]
	if !ok {
		ifi, err := net.InterfaceByIndex(p.iface)
		if err != nil {
			return fmt.Errorf("find interface %d: %w", p.iface, err)
		}
		s = openSocket(ifi)
		if f.sockets == nil {
			f.sockets = make(map[int]*socket)
		}
		f.sockets[p.iface] = s
	}
	if s.err != nil {
		return s.err
	}
	if _, err := s.conn.WriteTo(frame(p, s.mac), &packet.Addr{HardwareAddr: p.mac[:]}); err != nil {
		// The interface is gone, or its index is another's now.
		s.conn.Close()
		delete(f.sockets, p.iface)
		return fmt.Errorf("send a frame to %s: %w", p.mac, err)
	}
	return nil
}

func openSocket(ifi *net.Interface) *socket {
	if len(ifi.HardwareAddr) != 6 {
		return &socket{err: fmt.Errorf("interface %s has no Ethernet address", ifi.Name)}
	}
	// Protocol 0 receives nothing, so that the kernel does not queue every
	// packet of the interface for a socket that never reads.
	conn, err := packet.Listen(ifi, packet.Raw, 0, nil)
	if err != nil {
		return &socket{err: fmt.Errorf("open a raw socket on %s: %w", ifi.Name, err)}
	}
	return &socket{conn: conn, mac: cluster.MAC(ifi.HardwareAddr)}
}

func (f *frames) close() {
	for _, s := range f.sockets {
		if s.err == nil {
			s.conn.Close()
		}
	}
	f.sockets = nil
}

// frame wraps p in UDP, IPv4 and Ethernet.
func frame(p outbound, from cluster.MAC) []byte { return frameFrom(p, from, serverPort) }

func frameFrom(p outbound, from cluster.MAC, port uint16) []byte {
	const ether, ip, udp = 14, 20, 8
	b := make([]byte, ether+ip+udp, ether+ip+udp+len(p.data))
	copy(b[0:], p.mac[:])
	copy(b[6:], from[:])
	binary.BigEndian.PutUint16(b[12:], etherTypeIPv4)

	h := b[ether : ether+ip]
	h[0] = 4<<4 | ip/4
	binary.BigEndian.PutUint16(h[2:], uint16(ip+udp+len(p.data)))
	h[6] = 0x40 // do not fragment
	h[8] = 64   // time to live
	h[9] = protocolUDP
	src, dst := p.from.As4(), p.to.Addr().As4()
	copy(h[12:], src[:])
	copy(h[16:], dst[:])
	binary.BigEndian.PutUint16(h[10:], fold(sum(0, h)))

	u := b[ether+ip:]
	binary.BigEndian.PutUint16(u[0:], port)
	binary.BigEndian.PutUint16(u[2:], p.to.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(udp+len(p.data)))
	check := sum(sum(uint32(protocolUDP)+uint32(udp+len(p.data)), h[12:20]), u[:6])
	check16 := fold(sum(check, p.data))
	if check16 == 0 {
		check16 = 0xffff // 0 would mean that there is no checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(u[6:], check16)
	return append(b, p.data...)
}

// sum adds b, as big-endian words, to a one's complement sum.
func sum(acc uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	return acc
}

func fold(acc uint32) uint16 {
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return ^uint16(acc)
}
