package dhcp6

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/net/ipv6"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	serverPort = 547
	clientPort = 546
	maxPacket  = 4096 // more than any client sends; the rest of a longer one is cut off
	batchSize  = 32   // packets read or written by one system call
)

// allServers is where clients and relays send to (RFC 8415, section 7.1).
var allServers = net.UDPAddr{IP: net.ParseIP("ff02::1:2")}

// inbound is a packet as it came.
type inbound struct {
	data  []byte
	from  netip.AddrPort
	to    netip.Addr // where it was sent to; zero when the socket does not say
	iface int        // on which it came; zero when the socket does not say
}

// outbound is a packet as it goes.
type outbound struct {
	kind  dhcpv6.MessageType
	data  []byte
	to    netip.AddrPort
	from  netip.Addr // our address; zero lets the system choose
	iface int        // on which it goes; zero lets routing decide
}

// wire reads and writes packets. A UDP socket says on which interface a packet
// came, and takes many at a time; any other net.PacketConn, such as a test's,
// does neither.
type wire struct {
	conn net.PacketConn
	udp  *ipv6.PacketConn // nil when conn is no UDP socket
	in   []ipv6.Message
}

func newWire(conn net.PacketConn) (*wire, error) {
	w := &wire{conn: conn, in: make([]ipv6.Message, batchSize)}
	if _, ok := conn.(*net.UDPConn); ok {
		w.udp = ipv6.NewPacketConn(conn)
		if err := w.udp.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true); err != nil {
			return nil, fmt.Errorf("ask the socket for each packet's interface: %w", err)
		}
	}
	for i := range w.in {
		w.in[i].Buffers = [][]byte{make([]byte, maxPacket)}
		w.in[i].OOB = ipv6.NewControlMessage(ipv6.FlagInterface | ipv6.FlagDst)
	}
	return w, nil
}

// receive waits for packets and calls each for every one of them. Their data is
// valid during the call only.
func (w *wire) receive(each func(inbound)) error {
	if w.udp == nil {
		buf := w.in[0].Buffers[0]
		n, from, err := w.conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		each(inbound{data: buf[:n], from: addrPort(from)})
		return nil
	}
	n, err := w.udp.ReadBatch(w.in, 0)
	if err != nil {
		return err
	}
	for i := range w.in[:n] {
		m := &w.in[i]
		p := inbound{data: m.Buffers[0][:m.N], from: addrPort(m.Addr)}
		var cm ipv6.ControlMessage
		if cm.Parse(m.OOB[:m.NN]) == nil {
			p.iface = cm.IfIndex
			p.to, _ = netip.AddrFromSlice(cm.Dst)
		}
		each(p)
	}
	return nil
}

// send writes packets. What the network refuses now it would refuse again, and a
// client that misses an answer asks again; so it goes on to the next.
func (w *wire) send(packets ...outbound) error {
	var errs []error
	batch := make([]ipv6.Message, 0, len(packets))
	for _, p := range packets {
		if w.udp == nil {
			if _, err := w.conn.WriteTo(p.data, net.UDPAddrFromAddrPort(p.to)); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		cm := ipv6.ControlMessage{IfIndex: p.iface}
		if p.from.IsValid() {
			cm.Src = p.from.AsSlice()
		}
		to := net.UDPAddrFromAddrPort(p.to)
		batch = append(batch, ipv6.Message{Buffers: [][]byte{p.data}, Addr: to, OOB: cm.Marshal()})
	}
	for len(batch) > 0 {
		n, err := w.udp.WriteBatch(batch[:min(len(batch), batchSize)], 0)
		if err != nil {
			errs = append(errs, fmt.Errorf("send to %s: %w", batch[max(n, 0)].Addr, err))
			n = max(n, 0) + 1
		}
		batch = batch[n:]
	}
	return errors.Join(errs...)
}

// join makes the kernel hand over what clients send to all servers of a link.
func (w *wire) join(index int) error {
	if w.udp == nil {
		return nil
	}
	return w.udp.JoinGroup(&net.Interface{Index: index}, &allServers)
}

func addrPort(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		ap := u.AddrPort()
		return netip.AddrPortFrom(ap.Addr().WithZone(""), ap.Port())
	}
	return netip.AddrPort{}
}

// serves reports whether a network is one that this package answers on.
func serves(n *cluster.Network) bool {
	return n.CIDR.Addr().Is6() && n.DHCP == cluster.DHCPAuthoritative
}
