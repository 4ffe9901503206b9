package dhcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// How often a link is asked who answers there. A server may take its time: one
// that looks with a ping whether an address is free, as dnsmasq does, takes 3 s.
const (
	probeEvery = 10 * time.Minute
	probeSoon  = 15 * time.Second // while nobody has answered
)

// watch listens to the other DHCP servers on the links of our networks, by raw
// sockets: port 68, to which they answer, may be a DHCP client's of this
// machine. Frames that leave this machine do not come by.
type watch struct {
	s       *Server
	mu      sync.Mutex // of what is below; the readers share it
	places  places
	open    map[int]*tap
	refused map[string]bool // interfaces of which it was said that they cannot be listened on
	counted map[string]bool // networks that have gauges
	readers sync.WaitGroup
}

// tap is one interface that is listened on.
type tap struct {
	conn  *packet.Conn
	mac   cluster.MAC
	asked time.Time // when the last probe went out
	asks  int
}

func newWatch(s *Server) *watch {
	return &watch{s: s, open: make(map[int]*tap), refused: make(map[string]bool), counted: make(map[string]bool)}
}

// Watch finds out, until ctx is done, which other DHCP servers answer on the
// links of the networks that are served: from what they say to others, and from
// what they offer when asked. It takes no lease. Without the right to raw sockets
// it says so and only knows what clients tell.
func (s *Server) Watch(ctx context.Context) {
	s.init()
	w := newWatch(s)
	tick := time.NewTicker(ifacesAge)
	defer tick.Stop()
	for {
		w.look(time.Now())
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		w.mu.Lock()
		for _, t := range w.open {
			t.conn.Close()
		}
		w.mu.Unlock()
		w.readers.Wait()
		return
	}
}

// look listens where a network came, asks where it is time to, and brings the
// gauges up to date.
func (w *watch) look(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	snap := w.s.Snapshot()
	w.places.refresh()
	for index, i := range w.places.ifaces {
		n := w.places.link(index, snap)
		t := w.open[index]
		switch serves := n != nil && serves(n); {
		case serves && t == nil && !i.mac.IsZero():
			w.listen(i)
		case !serves && t != nil:
			t.conn.Close() // its reader sees that, and leaves
		case serves && t != nil:
			w.probe(t, n, now)
		}
	}
	w.count(snap)
}

// count brings the gauges up to date, and takes those away that are of no
// network any more. mu is held.
func (w *watch) count(snap *cluster.Snapshot) {
	now := make(map[string]bool)
	for _, n := range snap.Networks() {
		if serves(n) {
			w.s.count(n)
			now[n.Name] = true
		}
	}
	for name := range w.counted {
		if !now[name] {
			w.s.metrics.rivals.DeleteLabelValues(name)
			w.s.metrics.harms.DeleteLabelValues(name)
		}
	}
	w.counted = now
}

func serves(n *cluster.Network) bool {
	return n.DHCP == cluster.DHCPAuthoritative || n.DHCP == cluster.DHCPProxy
}

func (w *watch) listen(i iface) {
	conn, err := packet.Listen(&net.Interface{Index: i.index, Name: i.name}, packet.Raw, etherTypeIPv4, &packet.Config{Filter: fromServers})
	if err != nil {
		if !w.refused[i.name] {
			w.refused[i.name] = true
			w.s.logger().Info("other DHCP servers are not looked for: it takes a raw socket (CAP_NET_RAW)", "interface", i.name, "error", err)
		}
		return
	}
	t := &tap{conn: conn, mac: i.mac}
	w.open[i.index] = t
	w.readers.Go(func() {
		defer conn.Close()
		buf := make([]byte, maxPacket)
		for {
			n, _, err := conn.ReadFrom(buf)
			w.mu.Lock()
			if err != nil {
				if w.open[i.index] == t {
					delete(w.open, i.index)
				}
				w.mu.Unlock()
				return
			}
			w.heard(buf[:n], i.index, time.Now())
			w.mu.Unlock()
		}
	})
}

// fromServers lets through what is sent from port 67 by IPv4 and UDP, when it is an
// answer: relays ask from that port too, and their requests come by a socket already.
var fromServers = func() []bpf.RawInstruction {
	const drop, udpHeader, bootReply = 11, 8, 2
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherTypeIPv4, SkipTrue: drop - 2},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolUDP, SkipTrue: drop - 4},
		bpf.LoadAbsolute{Off: 20, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: drop - 6}, // a fragment's port is elsewhere
		bpf.LoadMemShift{Off: 14},
		bpf.LoadIndirect{Off: 14, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: serverPort, SkipTrue: drop - 9},
		bpf.LoadIndirect{Off: 14 + udpHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: bootReply, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: maxPacket},
	})
	if err != nil {
		panic(err) // it is the same program each time
	}
	return raw
}()

// heard takes in what a server said to somebody. mu is held.
func (w *watch) heard(frame []byte, index int, now time.Time) {
	mac, from, data, err := unwrap(frame)
	if err != nil {
		return
	}
	p, err := dhcpv4.FromBytes(data)
	if err != nil || p.OpCode != dhcpv4.OpcodeBootReply {
		return
	}
	snap := w.s.Snapshot()
	n := w.places.link(index, snap)
	r := rivalOf(p, mac, from, now)
	if n == nil || !serves(n) || !r.Server.IsValid() || w.places.ours(from) || w.places.ours(r.Server) || n.Server == r.Server {
		return
	}
	w.s.rival(n, r)
	client, a := p.ClientHWAddr, addr4(p.YourIPAddr)
	if n.DHCP == cluster.DHCPProxy && p.MessageType() == dhcpv4.MessageTypeAck && len(client) == 6 && a.IsValid() && n.CIDR.Contains(a) {
		w.s.seen.see(a, w.s.seen.known(a, cluster.MAC(client)), now, p.IPAddressLeaseTime(0), false)
	}
}

// unwrap takes a UDP datagram out of its frame. The kernel has taken out what
// VLAN tag there was.
func unwrap(frame []byte) (mac cluster.MAC, from netip.Addr, data []byte, err error) {
	errShort := errors.New("the frame is cut off")
	const ether, udp = 14, 8
	if len(frame) < ether+20 || binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv4 {
		return mac, from, nil, errShort
	}
	ip := frame[ether:]
	header, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || header < 20 || total < header+udp || total > len(ip) || ip[9] != protocolUDP {
		return mac, from, nil, errShort
	}
	return cluster.MAC(frame[6:12]), netip.AddrFrom4([4]byte(ip[12:16])), ip[header+udp : total], nil
}

// rivalOf reads what an answer says of the server that gave it.
func rivalOf(p *dhcpv4.DHCPv4, mac cluster.MAC, from netip.Addr, now time.Time) Rival {
	r := Rival{Server: addr4(p.Options.Get(dhcpv4.OptionServerIdentifier)), From: addr4(p.ServerIPAddr), Last: now}
	if !r.Server.IsValid() && !from.IsUnspecified() {
		r.Server = from
	}
	if r.Server == from { // else a relay passes it on
		r.MAC = mac
	}
	kind := p.MessageType()
	r.Gives = addr4(p.YourIPAddr).IsValid() || kind == dhcpv4.MessageTypeNak
	file := p.Options[67]
	if overload := p.Options[52]; len(file) == 0 && (len(overload) != 1 || overload[0]&1 == 0) {
		file = []byte(p.BootFileName)
	}
	r.File = printable(bytes.TrimRight(file, "\x00"))
	vendor := class(printable(p.Options[60]))
	r.PXE, r.HTTP = vendor == boot.ClassPXE, vendor == boot.ClassHTTP
	r.Menu = len(p.Options[43]) > 0
	for option := p.Options[optIPXE]; len(option) >= 2 && 2+int(option[1]) <= len(option); option = option[2+int(option[1]):] {
		if option[0] == ipxeNoProxyDHCP && option[1] == 1 && option[2] != 0 {
			r.NoProxy = true
		}
	}
	return r
}

// probeID begins the client identifier of a probe. No machine has it, so the
// server makes no lease; what it may hold for a moment is an offer.
const probeID = "\x00pilotlight looks for other servers "

func isProbe(m *message) bool {
	return bytes.HasPrefix(m.packet.Options[61], []byte(probeID))
}

// probe asks as firmware does, by turns UEFI and BIOS. mu is held.
func (w *watch) probe(t *tap, n *cluster.Network, now time.Time) {
	name := cluster.NetworkName(n.Name)
	every := probeEvery
	if n.DHCP == cluster.DHCPProxy && len(w.s.rivals.list(name, now)) == 0 {
		every = probeSoon
	}
	if !t.asked.IsZero() && now.Sub(t.asked) < every && t.asks > 1 {
		return
	}
	t.asked = now
	t.asks++
	if w.s.rivals.asked(name) && n.DHCP == cluster.DHCPProxy && w.s.rivals.silent(name, now) {
		w.s.logger().Warn("machines on a network get no address", "network", n.Name, "what", errNoAddresses)
	}
	out := outbound{data: probe(t.mac, byte(t.asks%2)*7), to: netip.AddrPortFrom(broadcast, serverPort), from: netip.IPv4Unspecified(), mac: everyone}
	if _, err := t.conn.WriteTo(frameFrom(out, t.mac, clientPort), &packet.Addr{HardwareAddr: everyone[:]}); err != nil {
		w.s.logger().Debug("a probe for other DHCP servers could not be sent", "network", n.Name, "error", err)
	}
}

var everyone = cluster.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func probe(mac cluster.MAC, arch byte) []byte {
	p := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: 1, ClientHWAddr: mac[:], TransactionID: [4]byte{'p', 'l', mac[4], mac[5]},
		Options: dhcpv4.Options{
			53: {byte(dhcpv4.MessageTypeDiscover)}, 61: append([]byte(probeID), mac.String()...),
			55: {1, 3, 43, 54, 60, 66, 67, 175}, 57: {2, 64}, 93: {0, arch}, 94: {1, 3, 16},
			60: fmt.Appendf(nil, "PXEClient:Arch:%05d:UNDI:003016", arch),
		},
	}
	p.SetBroadcast()
	return p.ToBytes()
}
