package dhcp

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/mdlayher/packet"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/pilotlight/pilotlight/cluster"
)

// links asks for addresses by ARP and by ICMP echo, over raw sockets that it
// opens when they are needed first.
type links struct {
	heard func(a netip.Addr, by cluster.MAC, probe bool)

	mu      sync.Mutex
	arp     map[int]*arpSocket
	echo    *icmp.PacketConn
	id, seq uint16
	closed  bool
	readers sync.WaitGroup
}

type arpSocket struct {
	conn *packet.Conn
	mac  cluster.MAC
}

const (
	etherTypeARP = 0x0806
	arpLength    = 28 // for IPv4 on Ethernet (RFC 826)
	arpRequest   = 1
)

// ask implements asker.
func (l *links) ask(p *trial) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	if p.link == 0 {
		return l.ping(p)
	}
	s, err := l.socket(p.link)
	if err != nil {
		return err
	}
	if _, err = s.conn.WriteTo(arpProbe(p.addr, s.mac), &packet.Addr{HardwareAddr: everyone[:]}); err != nil {
		s.conn.Close() // the interface is gone, or its index is another's now
		delete(l.arp, p.link)
		return fmt.Errorf("ask for %s by ARP: %w", p.addr, err)
	}
	return nil
}

// arpProbe asks who has an address, in nobody's name, so that no machine notes
// anything (RFC 5227, section 2.1.1).
func arpProbe(a netip.Addr, from cluster.MAC) []byte {
	const ether = 14
	b := make([]byte, ether+arpLength)
	copy(b[0:], everyone[:])
	copy(b[6:], from[:])
	binary.BigEndian.PutUint16(b[12:], etherTypeARP)
	p := b[ether:]
	binary.BigEndian.PutUint16(p[0:], 1) // Ethernet
	binary.BigEndian.PutUint16(p[2:], etherTypeIPv4)
	p[4], p[5] = 6, 4
	binary.BigEndian.PutUint16(p[6:], arpRequest)
	copy(p[8:], from[:])
	copy(p[24:], a.AsSlice())
	return b
}

// arpUser reads out of a frame which machine uses which address, or is about to:
// that probes for it itself (RFC 5227, section 2.1.1).
func arpUser(b []byte) (a netip.Addr, mac cluster.MAC, probe, ok bool) {
	const ether = 14
	if len(b) < ether+arpLength || binary.BigEndian.Uint16(b[12:]) != etherTypeARP {
		return a, mac, false, false
	}
	p := b[ether:]
	if binary.BigEndian.Uint16(p[0:]) != 1 || binary.BigEndian.Uint16(p[2:]) != etherTypeIPv4 || p[4] != 6 || p[5] != 4 {
		return a, mac, false, false
	}
	a = netip.AddrFrom4([4]byte(p[14:18]))
	if a.IsUnspecified() && binary.BigEndian.Uint16(p[6:]) == arpRequest {
		a, probe = netip.AddrFrom4([4]byte(p[24:28])), true
	}
	return a, cluster.MAC(p[8:14]), probe, !a.IsUnspecified()
}

// socket returns the socket of an interface. mu is held.
func (l *links) socket(index int) (*arpSocket, error) {
	if s, ok := l.arp[index]; ok {
		return s, nil
	}
	ifi, err := net.InterfaceByIndex(index)
	if err != nil {
		return nil, fmt.Errorf("find interface %d: %w", index, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("interface %s has no Ethernet address", ifi.Name)
	}
	conn, err := packet.Listen(ifi, packet.Raw, etherTypeARP, nil)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket on %s: %w", ifi.Name, err)
	}
	s := &arpSocket{conn, cluster.MAC(ifi.HardwareAddr)}
	if l.arp == nil {
		l.arp = make(map[int]*arpSocket)
	}
	l.arp[index] = s
	l.readers.Go(func() {
		b := make([]byte, 128)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				l.mu.Lock()
				if l.arp[index] == s {
					delete(l.arp, index)
				}
				l.mu.Unlock()
				conn.Close()
				return
			}
			if a, mac, probe, ok := arpUser(b[:n]); ok && mac != s.mac {
				l.heard(a, mac, probe)
			}
		}
	})
	return s, nil
}

// ping asks by ICMP echo. mu is held.
func (l *links) ping(p *trial) error {
	if l.echo == nil {
		if err := l.openEcho(); err != nil {
			return err
		}
	}
	l.seq++
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(l.id), Seq: int(l.seq), Data: []byte("pilotlight: is it used?")}}
	b, err := m.Marshal(nil)
	if err != nil {
		return fmt.Errorf("make an ICMP echo: %w", err)
	}
	if _, err := l.echo.WriteTo(b, &net.IPAddr{IP: p.addr.AsSlice()}); err != nil {
		return fmt.Errorf("ask for %s by ICMP: %w", p.addr, err)
	}
	return nil
}

func (l *links) openEcho() error {
	conn, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return fmt.Errorf("open a socket for ICMP: %w", err)
	}
	var only ipv4.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv4.ICMPTypeEchoReply)
	if err := conn.IPv4PacketConn().SetICMPFilter(&only); err != nil {
		conn.Close()
		return fmt.Errorf("set up a socket for ICMP: %w", err)
	}
	var id [2]byte
	rand.Read(id[:])
	l.echo, l.id = conn, binary.BigEndian.Uint16(id[:])
	l.readers.Go(func() {
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				l.mu.Lock()
				l.echo = nil
				l.mu.Unlock()
				conn.Close()
				return
			}
			m, err := icmp.ParseMessage(ipv4.ICMPTypeEcho.Protocol(), b[:n])
			if err != nil {
				continue
			}
			echo, ok := m.Body.(*icmp.Echo)
			ip, isIP := from.(*net.IPAddr)
			if !ok || !isIP || echo.ID != int(l.id) {
				continue
			}
			if a, ok := netip.AddrFromSlice(ip.IP.To4()); ok {
				l.heard(a, cluster.MAC{}, false)
			}
		}
	})
	return nil
}

// close implements asker.
func (l *links) close() {
	l.mu.Lock()
	l.closed = true
	for _, s := range l.arp {
		s.conn.Close()
	}
	if l.echo != nil {
		l.echo.Close()
	}
	l.mu.Unlock()
	l.readers.Wait()
}
