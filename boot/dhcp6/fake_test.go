package dhcp6

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// memory keeps leases as Leases asks for it: compare, then swap, all or nothing.
type memory struct {
	mu      sync.Mutex
	leases  map[netip.Addr]cluster.Lease
	commits int
	err     error         // what Commit fails with
	terse   bool          // a conflict does not say what there is
	failed  chan struct{} // gets one for each such failure
}

func (m *memory) Leases(context.Context) ([]cluster.Lease, cluster.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []cluster.Lease
	for _, l := range m.leases {
		out = append(out, l)
	}
	return out, 0, nil
}

func (m *memory) Commit(_ context.Context, put, remove []cluster.Lease) (cluster.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		m.failed <- struct{}{}
		return 0, m.err
	}
	believed := make(map[netip.Addr]bool)
	for _, l := range remove {
		if believed[l.Address] {
			panic("an address is removed twice in one transaction")
		}
		believed[l.Address] = true
		if there := m.leases[l.Address]; there != l {
			there.Network, there.Address = l.Network, l.Address
			return 0, m.conflict(there)
		}
	}
	added := make(map[netip.Addr]bool)
	for _, l := range put {
		if added[l.Address] {
			panic("an address is put twice in one transaction")
		}
		added[l.Address] = true
		if there, known := m.leases[l.Address]; known && !believed[l.Address] {
			return 0, m.conflict(there)
		}
	}
	m.commits++
	for a := range believed {
		delete(m.leases, a)
	}
	for _, l := range put {
		m.put(l)
	}
	return 0, nil
}

func (m *memory) conflict(there cluster.Lease) error {
	if m.terse {
		return cluster.ErrConflict
	}
	return &cluster.LeaseConflictError{Leases: []cluster.Lease{there}}
}

// put sets a lease; without mu held, behind the server's back.
func (m *memory) put(l cluster.Lease) {
	if m.leases == nil {
		m.leases = make(map[netip.Addr]cluster.Lease)
	}
	m.leases[l.Address] = l
}

func (m *memory) at(a netip.Addr) (cluster.Lease, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.leases[a]
	return l, ok
}

// pipe is a net.PacketConn in memory: what is written to in the server reads, and
// what it answers comes out of out.
type pipe struct {
	in     chan datagram
	out    chan datagram
	closed chan struct{}
	once   sync.Once
	ended  chan struct{} // closed by a deadline in the past
	past   sync.Once
}

type datagram struct {
	data []byte
	peer netip.AddrPort
}

func newPipe() *pipe {
	return &pipe{in: make(chan datagram, 64), out: make(chan datagram, 64), closed: make(chan struct{}), ended: make(chan struct{})}
}

func (p *pipe) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-p.in:
		return copy(b, d.data), net.UDPAddrFromAddrPort(d.peer), nil
	case <-p.ended:
		return 0, nil, os.ErrDeadlineExceeded
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

func (p *pipe) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case p.out <- datagram{slices.Clone(b), addrPort(to)}:
	default: // nobody reads: the network drops it
	}
	return len(b), nil
}

func (p *pipe) SetReadDeadline(t time.Time) error {
	if t.Before(time.Now()) {
		p.past.Do(func() { close(p.ended) })
	}
	return nil
}

func (p *pipe) Close() error { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipe) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.ParseIP("fd00::1"), Port: serverPort}
}
func (p *pipe) SetDeadline(t time.Time) error      { return p.SetReadDeadline(t) }
func (p *pipe) SetWriteDeadline(t time.Time) error { return nil }

// rig is a server on a pipe.
type rig struct {
	t      testing.TB
	server *Server
	leases *memory
	pipe   *pipe
	stop   func()
}

var (
	loaders   = boot.Loaders{boot.BIOS: "undionly.kpxe", boot.X64: "snponly.efi"}
	ourDUID   = []byte{0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	otherDUID = []byte{0, 3, 0, 1, 2, 2, 2, 2, 2, 2}
)

func mac(n int) cluster.MAC { return cluster.MAC{0x52, 0x54, 0, byte(n >> 16), byte(n >> 8), byte(n)} }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// linkLocal is the address that firmware makes from its hardware address.
func linkLocal(m cluster.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// documents is a network, and host web1 (MAC 1) with the address fd00::50. Network
// far is behind a relay.
func documents() []cluster.Document {
	pool := func(first, last string) []cluster.Range {
		return []cluster.Range{{First: addr(first), Last: addr(last)}}
	}
	return []cluster.Document{
		&cluster.Network{
			Meta: cluster.Meta{Name: "lan"}, CIDR: netip.MustParsePrefix("fd00::/64"), DHCP: cluster.DHCPAuthoritative,
			Pools: pool("fd00::1:0:0", "fd00::1:ffff:ffff"), DNS: []netip.Addr{addr("fd00::53")}, NTP: []netip.Addr{addr("fd00::123")},
			Domain: "example.test", Lease: cluster.Duration(2 * time.Hour),
		},
		&cluster.Network{
			Meta: cluster.Meta{Name: "far"}, CIDR: netip.MustParsePrefix("fd01::/64"), DHCP: cluster.DHCPAuthoritative,
			Pools: pool("fd01::100", "fd01::103"),
		},
		&cluster.Network{Meta: cluster.Meta{Name: "off"}, CIDR: netip.MustParsePrefix("fd02::/64")},
		&cluster.Image{Meta: cluster.Meta{Name: "node"}},
		&cluster.Profile{Meta: cluster.Meta{Name: "web"}, Image: "node"},
		&cluster.Profile{Meta: cluster.Meta{Name: "disk"}, Boot: cluster.BootLocal},
		&cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{mac(1), mac(11)}, Address: addr("fd00::50"), Profile: "web"},
		&cluster.Host{Meta: cluster.Meta{Name: "web2"}, MACs: []cluster.MAC{mac(2)}, Profile: "disk"},
		&cluster.Host{Meta: cluster.Meta{Name: "web3"}, UUID: "12345678-9abc-def0-1122-334455667788", Address: addr("fd00::53:3"), Profile: "web"},
	}
}

func start(t testing.TB, leases *memory) *rig {
	t.Helper()
	if leases == nil {
		leases = new(memory)
	}
	snap := cluster.NewSnapshot(1, documents())
	r := &rig{t: t, leases: leases, pipe: newPipe()}
	r.server = &Server{Snapshot: func() *cluster.Snapshot { return snap }, Leases: leases, DUID: ourDUID, Loaders: loaders, HTTPPort: 8080, Recorder: new(boot.Recorder)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(ctx, r.pipe) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// send sends a packet from a machine's link-local address.
func (r *rig) send(m cluster.MAC, p dhcpv6.DHCPv6) {
	r.pipe.in <- datagram{p.ToBytes(), netip.AddrPortFrom(linkLocal(m), clientPort)}
}

// receive returns the next answer, and where it went.
func (r *rig) receive() (dhcpv6.DHCPv6, netip.AddrPort) {
	r.t.Helper()
	select {
	case d := <-r.pipe.out:
		a, err := dhcpv6.FromBytes(d.data)
		if err != nil {
			r.t.Fatalf("the answer cannot be read: %v", err)
		}
		return a, d.peer
	case <-time.After(10 * time.Second):
		r.t.Fatal("no answer")
	}
	return nil, netip.AddrPort{}
}

// ask sends a message and returns its answer.
func (r *rig) ask(m cluster.MAC, p *dhcpv6.Message) *dhcpv6.Message {
	r.t.Helper()
	r.send(m, p)
	a, to := r.receive()
	reply, ok := a.(*dhcpv6.Message)
	if !ok || reply.TransactionID != p.TransactionID || to != netip.AddrPortFrom(linkLocal(m), clientPort) {
		r.t.Fatalf("answered to %s with %s", to, a.Summary())
	}
	if got := value(reply, dhcpv6.OptionServerID); string(got) != string(ourDUID) {
		r.t.Fatalf("the server's DUID is %x", got)
	}
	if got, want := value(reply, dhcpv6.OptionClientID), value(p, dhcpv6.OptionClientID); string(got) != string(want) {
		r.t.Fatalf("the client's DUID is %x, not %x", got, want)
	}
	return reply
}

// silence sees to it that a packet is not answered: the answer to an
// Information-request sent behind it comes first.
func (r *rig) silence(m cluster.MAC, p dhcpv6.DHCPv6) {
	r.t.Helper()
	r.send(m, p)
	probe := messageOf(dhcpv6.MessageTypeInformationRequest, ll(mac(9999)))
	probe.TransactionID = dhcpv6.TransactionID{9, 9, 9}
	r.send(mac(9999), probe)
	a, _ := r.receive()
	if reply, ok := a.(*dhcpv6.Message); !ok || reply.TransactionID != probe.TransactionID {
		r.t.Fatalf("answered with %s", a.Summary())
	}
}

type option = dhcpv6.Option

func raw(code dhcpv6.OptionCode, data ...byte) option {
	return &dhcpv6.OptionGeneric{OptionCode: code, OptionData: data}
}

// ll is a client that is known by its hardware address, llt one that names the time too.
func ll(m cluster.MAC) option {
	return dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: m[:]})
}

func llt(m cluster.MAC) option {
	return dhcpv6.OptClientID(&dhcpv6.DUIDLLT{HWType: iana.HWTypeEthernet, Time: 7, LinkLayerAddr: m[:]})
}

// ia is an IA_NA with the addresses that the client names.
func ia(id byte, addrs ...netip.Addr) option {
	o := &dhcpv6.OptIANA{IaId: [4]byte{id}}
	for _, a := range addrs {
		o.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.AsSlice(), PreferredLifetime: time.Hour, ValidLifetime: time.Hour})
	}
	return o
}

func us() option { return raw(dhcpv6.OptionServerID, ourDUID...) }

func messageOf(kind dhcpv6.MessageType, options ...option) *dhcpv6.Message {
	p := &dhcpv6.Message{MessageType: kind, TransactionID: dhcpv6.TransactionID{1, 2, 3}}
	for _, o := range options {
		p.AddOption(o)
	}
	return p
}

// lent returns the address that an answer gives with time left, and the others.
func lent(p *dhcpv6.Message) (a netip.Addr, gone []netip.Addr) {
	for _, ia := range p.Options.IANA() {
		for _, o := range ia.Options.Addresses() {
			if o.ValidLifetime == 0 {
				gone = append(gone, addr6(o.IPv6Addr))
			} else {
				a = addr6(o.IPv6Addr)
			}
		}
	}
	return a, gone
}

// code returns the status of an answer's i-th IA, or of the whole with -1.
func code(p *dhcpv6.Message, i int) iana.StatusCode {
	s := p.Options.Status()
	if i >= 0 {
		s = p.Options.IANA()[i].Options.Status()
	}
	if s == nil {
		return 999
	}
	return s.StatusCode
}

func (o *outbound) summary(t testing.TB) string {
	t.Helper()
	d, err := dhcpv6.FromBytes(o.data)
	if err != nil {
		t.Fatal(err)
	}
	return d.Summary()
}
