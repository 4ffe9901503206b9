package dhcp

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// memory keeps leases as Leases asks for it: compare, then swap, all or
// nothing.
type memory struct {
	mu      sync.Mutex
	leases  map[place]cluster.Lease
	commits int
	err     error         // what Commit fails with
	terse   bool          // a conflict does not say what there is
	before  func()        // called by Commit, first
	delay   time.Duration // that a Commit takes
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

func (m *memory) Commit(ctx context.Context, put, remove []cluster.Lease) (cluster.Revision, error) {
	if m.before != nil {
		m.before()
	}
	if m.delay > 0 {
		select {
		case <-time.After(m.delay):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return 0, m.err
	}
	believed := make(map[place]cluster.Lease, len(remove))
	for _, l := range remove {
		at := place{l.Network, l.Address}
		if _, twice := believed[at]; twice {
			panic("an address is removed twice in one transaction")
		}
		believed[at] = l
		if there := m.leases[at]; there != l {
			there.Network, there.Address = l.Network, l.Address
			return 0, m.conflict(there)
		}
	}
	added := make(map[place]bool, len(put))
	for _, l := range put {
		at := place{l.Network, l.Address}
		if added[at] {
			panic("an address is put twice in one transaction")
		}
		added[at] = true
		if _, known := believed[at]; !known {
			if l, there := m.leases[at]; there {
				return 0, m.conflict(l)
			}
		}
	}
	m.commits++
	if m.leases == nil {
		m.leases = make(map[place]cluster.Lease)
	}
	for at := range believed {
		delete(m.leases, at)
	}
	for _, l := range put {
		m.leases[place{l.Network, l.Address}] = l
	}
	return 0, nil
}

func (m *memory) conflict(there cluster.Lease) error {
	if m.terse {
		return cluster.ErrConflict
	}
	return &cluster.LeaseConflictError{Leases: []cluster.Lease{there}}
}

func (m *memory) at(addr string) (cluster.Lease, bool) { return m.on("lan", addr) }

func (m *memory) on(n cluster.NetworkName, addr string) (cluster.Lease, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.leases[place{n, netip.MustParseAddr(addr)}]
	return l, ok
}

// put sets a lease behind the server's back, as another server would.
func (m *memory) put(l cluster.Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leases == nil {
		m.leases = make(map[place]cluster.Lease)
	}
	m.leases[place{l.Network, l.Address}] = l
}

// pipe is a net.PacketConn in memory: what is written to in the server reads,
// and what it answers comes out of out.
type pipe struct {
	in       chan []byte
	out      chan sent
	closed   chan struct{}
	once     sync.Once
	deadline chan struct{}
	dead     sync.Once
}

type sent struct {
	data []byte
	to   netip.AddrPort
}

func newPipe() *pipe {
	return &pipe{in: make(chan []byte, 64), out: make(chan sent, 64), closed: make(chan struct{}), deadline: make(chan struct{})}
}

func (p *pipe) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case data := <-p.in:
		return copy(b, data), &net.UDPAddr{IP: net.IPv4zero, Port: clientPort}, nil
	case <-p.deadline:
		return 0, nil, os.ErrDeadlineExceeded
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

func (p *pipe) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case p.out <- sent{append([]byte(nil), b...), addrPort(to)}:
	default: // nobody reads: the network drops it
	}
	return len(b), nil
}

func (p *pipe) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (p *pipe) LocalAddr() net.Addr                { return &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: serverPort} }
func (p *pipe) SetDeadline(t time.Time) error      { return p.SetReadDeadline(t) }
func (p *pipe) SetReadDeadline(time.Time) error    { p.dead.Do(func() { close(p.deadline) }); return nil }
func (p *pipe) SetWriteDeadline(t time.Time) error { return nil }

// rig is a server on a pipe.
type rig struct {
	t      testing.TB
	server *Server
	leases *memory
	pipe   *pipe
	stop   func()
}

var loaders = boot.Loaders{
	boot.BIOS: "undionly.kpxe", boot.X64: "snponly.efi", boot.IA32GRUB: "grubnetia32.efi", boot.IA32GRUBHTTP: "grubia32-http.efi",
	boot.ARM64GRUB: "shimaa64.efi", boot.ARM64GRUBHTTP: "grubaa64-http.efi", boot.Pi: "rpi/start4.elf",
}

func mac(n int) cluster.MAC { return cluster.MAC{0x52, 0x54, 0, byte(n >> 16), byte(n >> 8), byte(n)} }

// documents is a network, and host web1 (MAC 1) with the address 10.0.0.50.
func documents(more ...cluster.Document) []cluster.Document {
	return append([]cluster.Document{
		&cluster.Network{
			Meta: cluster.Meta{Name: "lan"}, CIDR: netip.MustParsePrefix("10.0.0.0/24"), DHCP: cluster.DHCPAuthoritative,
			Pools:   []cluster.Range{{First: netip.MustParseAddr("10.0.0.100"), Last: netip.MustParseAddr("10.0.0.199")}},
			Gateway: netip.MustParseAddr("10.0.0.254"), DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, Domain: "example.test",
		},
		&cluster.Image{Meta: cluster.Meta{Name: "node"}},
		&cluster.Profile{Meta: cluster.Meta{Name: "web"}, Image: "node"},
		&cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{mac(1)}, Address: netip.MustParseAddr("10.0.0.50"), Profile: "web"},
		&cluster.Host{Meta: cluster.Meta{Name: "web2"}, MACs: []cluster.MAC{mac(2)}, Profile: "web"},
	}, more...)
}

func start(t testing.TB, leases *memory, docs ...cluster.Document) *rig {
	t.Helper()
	r := prepare(t, leases, docs...)
	r.run()
	return r
}

func prepare(t testing.TB, leases *memory, docs ...cluster.Document) *rig {
	t.Helper()
	if docs == nil {
		docs = documents()
	}
	if leases == nil {
		leases = new(memory)
	}
	snap := cluster.NewSnapshot(1, docs)
	r := &rig{t: t, leases: leases, pipe: newPipe()}
	r.server = &Server{Snapshot: func() *cluster.Snapshot { return snap }, Leases: leases, Loaders: loaders, HTTPPort: 8080, Recorder: new(boot.Recorder)}
	return r
}

// run serves until the test ends.
func (r *rig) run() {
	t := r.t
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(ctx, r.pipe) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(r.stop)
}

// ask sends a packet and returns the answer, and where it went.
func (r *rig) ask(p *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, netip.AddrPort) {
	r.t.Helper()
	r.pipe.in <- p.ToBytes()
	select {
	case s := <-r.pipe.out:
		a, err := dhcpv4.FromBytes(s.data)
		if err != nil {
			r.t.Fatalf("the answer to %s cannot be read: %v", p.MessageType(), err)
		}
		return a, s.to
	case <-time.After(5 * time.Second):
		r.t.Fatalf("no answer to %s", p.Summary())
	}
	return nil, netip.AddrPort{}
}

// silence sends a packet and sees to it that it is not answered: the answer to
// an INFORM sent behind it comes first.
func (r *rig) silence(p *dhcpv4.DHCPv4) {
	r.t.Helper()
	r.pipe.in <- p.ToBytes()
	a, _ := r.ask(packetOf(dhcpv4.MessageTypeInform, mac(9999), xid(0x99)))
	if a.TransactionID != [4]byte{0x99} {
		r.t.Fatalf("%s was answered with %s", p.MessageType(), a.Summary())
	}
}

func xid(b byte) dhcpv4.Modifier { return dhcpv4.WithTransactionID([4]byte{b}) }

func packetOf(kind dhcpv4.MessageType, m cluster.MAC, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	p, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(m[:]), dhcpv4.WithTransactionID([4]byte{1, 2, 3, 4})}, mods...)...)
	if err != nil {
		panic(err)
	}
	return p
}

func with(code uint8, value ...byte) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), value))
}

func ip(s string) net.IP { return net.ParseIP(s).To4() }

var us = ip("10.0.0.1")

func selecting(m cluster.MAC, addr string, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	return packetOf(dhcpv4.MessageTypeRequest, m, append([]dhcpv4.Modifier{with(50, ip(addr)...), with(54, us...)}, mods...)...)
}

// lease goes through a whole exchange and returns the address.
func (r *rig) lease(m cluster.MAC, mods ...dhcpv4.Modifier) string {
	r.t.Helper()
	offer, _ := r.ask(packetOf(dhcpv4.MessageTypeDiscover, m, mods...))
	r.kind(offer, dhcpv4.MessageTypeOffer)
	ack, _ := r.ask(selecting(m, offer.YourIPAddr.String(), mods...))
	r.kind(ack, dhcpv4.MessageTypeAck)
	if !ack.YourIPAddr.Equal(offer.YourIPAddr) {
		r.t.Fatalf("offered %s, acknowledged %s", offer.YourIPAddr, ack.YourIPAddr)
	}
	return ack.YourIPAddr.String()
}

func (r *rig) kind(p *dhcpv4.DHCPv4, want dhcpv4.MessageType) {
	r.t.Helper()
	if p.MessageType() != want {
		r.t.Fatalf("answered with %s (%s), want %s", p.MessageType(), p.Message(), want)
	}
}
