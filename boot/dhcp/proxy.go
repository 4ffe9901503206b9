package dhcp

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// PXEPort is where firmware asks a boot server (PXE 2.1, section 2.2.3).
const PXEPort = 4011

// Tags in iPXE's encapsulated options.
const ipxePriority = 0x01 // of two proxy offers, and of two file names, it takes the one that has more

// asksAgain reports whether firmware takes from a proxy offer only where to ask
// again, on port 4011 once it has its address.
//
// UEFI does when the offer says "PXEClient" and has no valid option 43 (EDK2's
// PxeBcDhcp4.c: a BINL offer). The other way, a file at once by 43.6 = 8, EDK2
// has been seen not to keep (edk2#6944), so that UEFI gets no option 43. BIOS
// takes the file from the offer; so does iPXE, which waits for proxy offers by
// itself, and UEFI HTTP Boot, which knows no port 4011.
func asksAgain(q *boot.Request) bool {
	return q.Class == boot.ClassPXE && !q.IsIPXE() && q.Arch() != boot.ArchBIOS && q.Arch() != boot.ArchPi
}

// knowsProxies reports whether a client takes what to boot from an offer without
// an address. U-Boot would take the offer, and have no address.
func knowsProxies(q *boot.Request) bool { return q.Class != boot.ClassUBoot }

// ProxyWay says for people how firmware comes to its boot file on a network
// with dhcp: proxy.
func ProxyWay(q boot.Request) string {
	if !knowsProxies(&q) {
		return "not told by us, as U-Boot knows no proxy DHCP: have the other server name this one (next-server, siaddr)"
	}
	if asksAgain(&q) {
		return "on port 4011, where our offer sends it"
	}
	return "in our offer, beside the other server's"
}

// ServePXE answers what comes on conn, a UDP socket on port 4011, until ctx is
// done: firmware on networks with dhcp: proxy that has its address from another
// server and asks what to boot. It closes conn and returns nil then.
func (s *Server) ServePXE(ctx context.Context, conn net.PacketConn) error {
	s.init()
	defer conn.Close()
	w, err := newWire(conn)
	if err != nil {
		return err
	}
	defer w.frames.close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	at := &places{local: addrPort(conn.LocalAddr()).Addr()}
	return s.loop(ctx, w, func(in inbound) *outbound { return s.answerPXE(in, at) })
}

// answerPXE is the way of one packet on port 4011.
func (s *Server) answerPXE(in inbound, at *places) *outbound {
	e := s.begin(in, at)
	if e == nil {
		return nil
	}
	e.pxe = true
	if e.network.DHCP != cluster.DHCPProxy {
		s.metrics.dropped("not-ours")
		return nil
	}
	return e.beside()
}

// beside answers on a network where another server gives the addresses. What
// is no firmware of a host gets silence, and so does whatever could be taken
// for a lease.
func (e *exchange) beside() *outbound {
	if !e.identify() {
		return nil
	}
	e.learn()
	if e.isAdmitted() {
		e.s.metrics.dropped("admitting")
		return nil
	}
	e.decide()
	m := e.m
	if e.host == nil || e.reply.IsZero() || !m.request.IsFirmware() || !knowsProxies(&m.request) {
		return nil
	}
	switch {
	case m.kind == dhcpv4.MessageTypeDiscover && !e.pxe:
		if e.s.misled.has(m.mac, e.now, misledTime) {
			return nil
		}
		e.record(e.asks(), netip.Addr{}, true)
		return e.tell(dhcpv4.MessageTypeOffer)
	case m.kind == dhcpv4.MessageTypeRequest && e.pxe:
		e.record("asks on port 4011 as "+e.what(), m.client, false)
		return e.tell(dhcpv4.MessageTypeAck)
	case m.kind == dhcpv4.MessageTypeRequest:
		return e.besideRequest()
	case m.kind == dhcpv4.MessageTypeInform:
		return e.tell(dhcpv4.MessageTypeAck)
	}
	return nil
}

// besideRequest answers a REQUEST on port 67. One is a machine's that has its
// address and asks us for a boot file. Every other is a machine's word to the
// server that lends it an address, and never ours to acknowledge.
//
// Some clients say that they are firmware and know nothing of proxies: udhcpc
// with -V PXEClient takes the first offer and asks us for 0.0.0.0. Such a one
// is told no, and hears nothing of us when it begins again.
func (e *exchange) besideRequest() *outbound {
	switch {
	case !e.named():
		return nil
	case e.m.packet.Options.Has(dhcpv4.OptionRequestedIPAddress):
		e.s.misled.add(e.m.mac, e.now)
		return e.refuse("no address is lent here: take another server's offer")
	case e.m.client.IsValid():
		return e.tell(dhcpv4.MessageTypeAck)
	}
	return nil
}

const (
	latelyLimit = 1000
	misledTime  = time.Minute      // from a mistake to the client's next boot
	solicitTime = 20 * time.Second // for which iPXE asks for a router, at most
)

// lately are machines of which something happened a moment ago.
type lately struct {
	mu sync.Mutex
	at map[cluster.MAC]time.Time
}

func (l *lately) add(mac cluster.MAC, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.at) >= latelyLimit {
		clear(l.at) // what is lost costs a machine one more try
	}
	if l.at == nil {
		l.at = make(map[cluster.MAC]time.Time)
	}
	l.at[mac] = now
}

func (l *lately) has(mac cluster.MAC, now time.Time, within time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.at[mac]
	return ok && now.Sub(at) < within
}

// BootsBeside reports whether a machine's iPXE was told what to boot a moment
// ago, on a network with dhcp: proxy.
func (s *Server) BootsBeside(mac cluster.MAC) bool { return s.told.has(mac, time.Now(), solicitTime) }

// tell answers, and says so to whoever looks closely.
func (e *exchange) tell(kind dhcpv4.MessageType) *outbound {
	if e.m.request.IsIPXE() {
		e.s.told.add(e.m.mac, e.now)
	}
	e.s.logger().Debug("told a machine what to boot", "mac", e.m.mac, "host", e.host.Name, "asks", e.what(), "type", e.m.kind,
		"port4011", e.pxe, "why", e.reply.Why)
	return e.encodeProxy(kind)
}

// named reports whether the client chose us.
func (e *exchange) named() bool {
	return e.m.server.IsValid() && e.isUs(e.m.server)
}

// learn notes the address that a machine takes from the other server.
func (e *exchange) learn() {
	m := e.m
	if m.kind != dhcpv4.MessageTypeRequest {
		return
	}
	if e.pxe {
		// Whoever has no such address would not get our answer.
		if m.client.IsValid() && m.client == m.in.from.Addr() && e.network.CIDR.Contains(m.client) {
			e.s.seen.see(m.client, e.identity(""), e.now, 0, true)
		}
		return
	}
	a := m.requested
	if !a.IsValid() {
		a = m.client // it renews
	}
	if e.named() || !a.IsValid() || !e.network.CIDR.Contains(a) {
		return
	}
	e.s.seen.see(a, e.identity(""), e.now, 0, false)
	e.record("takes "+a.String()+" of another server", a, false)
}

// encodeProxy makes the packet that tells firmware what to boot, and lends
// nothing: no address, no time, no parameters of the network.
func (e *exchange) encodeProxy(kind dhcpv4.MessageType) *outbound {
	p := e.header(kind)
	if kind == dhcpv4.MessageTypeAck && e.m.client.IsValid() {
		p.ClientIPAddr = e.m.client.AsSlice()
	}
	e.bootOptions(p)
	if !e.pxe {
		return e.address(p, netip.Addr{})
	}
	return e.addressPXE(p)
}

// addressPXE answers where the question came from, as what was asked: firmware
// unicasts to the server of the offer, from whichever port it likes.
func (e *exchange) addressPXE(p *dhcpv4.DHCPv4) *outbound {
	in := e.m.in
	out := &outbound{kind: p.MessageType(), from: e.server.Addr, to: in.from, data: p.ToBytes()}
	if in.to.Is4() && in.to != broadcast && !in.to.IsMulticast() {
		out.from = in.to
	}
	if !in.from.Addr().Is4() || in.from.Addr().IsUnspecified() {
		port := in.from.Port()
		if port == 0 {
			port = clientPort
		}
		out.to, out.iface = netip.AddrPortFrom(broadcast, port), in.iface
	}
	return out
}

// proxyOptions adds what makes firmware take a proxy offer for one.
func (e *exchange) proxyOptions(p *dhcpv4.DHCPv4) {
	q := &e.m.request
	switch {
	case q.Class == boot.ClassHTTP && !q.IsIPXE():
		// UEFI drops an HTTP boot offer that does not say so (HttpBootDhcp4.c).
		p.Options[60] = []byte(boot.ClassHTTP)
		return
	case q.IsIPXE():
		// No option 43, as ever. iPXE is not told to leave proxy DHCP alone:
		// it would leave us alone. But of two offers ours is to count.
		p.Options[optIPXE] = []byte{ipxePriority, 1, 1}
	case !asksAgain(q):
		// PXE 2.1: boot the file now, look for no boot server (43.6 = 8).
		p.Options[43] = []byte{6, 1, 8, 255}
	}
	// By this, and by the address that is missing, an offer is a proxy's.
	p.Options[60] = []byte(boot.ClassPXE)
}

// Neighbour returns the machine that answers for an address on a link of ours,
// whatever DHCP says.
func (s *Server) Neighbour(a netip.Addr) (cluster.MAC, bool) { return s.neighbours.Of(a) }
