package dhcp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	serverPort = 67
	clientPort = 68
	maxPacket  = 4096 // more than any client sends; the rest of a longer one is cut off
	batchSize  = 32   // packets read or written by one system call
)

// inbound is a packet as it came.
type inbound struct {
	data  []byte
	from  netip.AddrPort
	to    netip.Addr // where it was sent to; zero when the socket does not say
	iface int        // on which it came; zero when the socket does not say
}

// outbound is a packet as it goes.
type outbound struct {
	kind  dhcpv4.MessageType
	data  []byte
	to    netip.AddrPort
	from  netip.Addr  // our address
	iface int         // on which it goes; zero lets routing decide
	mac   cluster.MAC // of a client that has no address yet to be asked for by ARP; zero otherwise
}

// wire reads and writes packets. A UDP socket says on which interface a packet
// came, and takes many at a time; any other net.PacketConn, such as a test's,
// does neither.
type wire struct {
	conn   net.PacketConn
	udp    *ipv4.PacketConn // nil when conn is no UDP socket
	frames frames
	in     []ipv4.Message
}

func newWire(conn net.PacketConn) (*wire, error) {
	w := &wire{conn: conn}
	if udp, ok := conn.(*net.UDPConn); ok {
		enlarge(udp)
		w.udp = ipv4.NewPacketConn(conn)
		if err := w.udp.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true); err != nil {
			return nil, fmt.Errorf("ask the socket for each packet's interface: %w", err)
		}
	}
	w.in = make([]ipv4.Message, batchSize)
	for i := range w.in {
		w.in[i].Buffers = [][]byte{make([]byte, maxPacket)}
		w.in[i].OOB = ipv4.NewControlMessage(ipv4.FlagInterface | ipv4.FlagDst)
	}
	return w, nil
}

// enlarge asks for room for some thousand packets, so that a rack that is
// switched on, or a pause of ours, loses none. Without the right to go beyond
// the system's limit it takes what that gives.
func enlarge(udp *net.UDPConn) {
	const room = 4 << 20
	forced := false
	if raw, err := udp.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) == nil
		})
	}
	if !forced {
		udp.SetReadBuffer(room)
	}
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
		var cm ipv4.ControlMessage
		if cm.Parse(m.OOB[:m.NN]) == nil {
			p.iface = cm.IfIndex
			p.to, _ = netip.AddrFromSlice(cm.Dst.To4())
		}
		each(p)
	}
	return nil
}

// send writes packets. What the network refuses now it would refuse again, and
// a client that misses an answer asks again; so it goes on to the next.
func (w *wire) send(packets ...outbound) error {
	var errs []error
	batch := make([]ipv4.Message, 0, len(packets))
	for _, p := range packets {
		if !p.mac.IsZero() && p.iface != 0 && w.frames.send(p) == nil {
			continue
		}
		if !p.mac.IsZero() {
			// Without a raw socket the kernel would ask by ARP for an address
			// that nobody has yet: RFC 2131, section 4.1 allows to broadcast.
			p.to = netip.AddrPortFrom(broadcast, p.to.Port())
		}
		if w.udp == nil {
			if _, err := w.conn.WriteTo(p.data, net.UDPAddrFromAddrPort(p.to)); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		batch = append(batch, message4(p))
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

func message4(p outbound) ipv4.Message {
	var cm ipv4.ControlMessage
	if p.iface != 0 {
		cm.IfIndex = p.iface
	}
	if p.from.Is4() {
		cm.Src = p.from.AsSlice()
	}
	return ipv4.Message{Buffers: [][]byte{p.data}, Addr: net.UDPAddrFromAddrPort(p.to), OOB: cm.Marshal()}
}

func addrPort(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		ap := u.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
