package dhcp6

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// Leases is where leases are kept, by this server and by others.
type Leases interface {
	// Leases returns every lease there is, lapsed and declined ones too, as of one
	// revision of the store.
	Leases(ctx context.Context) ([]cluster.Lease, cluster.Revision, error)

	// Commit makes put durable and takes remove away, in one transaction, whose
	// revision it returns. What remove holds is believed, to the letter, to be
	// there; an address in put that is not also in remove is believed to be free.
	// Where that is not so nothing is changed, and the error is a
	// cluster.ErrConflict: another server was faster. If it is a
	// *cluster.LeaseConflictError too, that says what there is, and the leases need
	// not all be loaded.
	Commit(ctx context.Context, put, remove []cluster.Lease) (cluster.Revision, error)
}

// Times that a client notices.
const (
	declineTime = time.Hour // an address that somebody else uses is not lent
	// A lease that has this much of its time left already covers the Reply:
	// firmware, iPXE, initial RAM disk and system ask one after the other, and only
	// the first needs a write.
	freshShare = 0.95
)

// Server answers DHCPv6 on the IPv6 networks that are authoritative. Its fields are
// set before Serve and not changed after.
type Server struct {
	Snapshot func() *cluster.Snapshot // what is applied; never nil, never blocks
	Leases   Leases
	DUID     []byte         // of this server, kept for its life: NewDUID
	Loaders  boot.Loaders   // what TFTP and HTTP have for firmware
	Installs *boot.Installs // where the installations of hosts stand; nil boots no installer
	// Admit reports whether firmware that no document names is about to become a
	// host. It is not answered until it is. It must not block; nil admits nobody.
	Admit      func(m cluster.MAC, arch cluster.Arch, n *cluster.Network) bool
	HTTPPort   uint16 // of the boot server
	HTTPSPort  uint16 // zero when there is none
	Recorder   *boot.Recorder
	Logger     *slog.Logger          // nil is silence
	Registerer prometheus.Registerer // nil keeps the metrics to itself

	book      book
	strangers strangers
	places    places
	quiet     boot.Quiet
	metrics   *metrics
	setUp     sync.Once
}

// NewDUID makes an identifier for a server: one from a random UUID (RFC 6355),
// which holds when network cards are exchanged.
func NewDUID() []byte {
	var d dhcpv6.DUIDUUID
	rand.Read(d.UUID[:]) // never fails
	d.UUID[6], d.UUID[8] = d.UUID[6]&0x0f|0x40, d.UUID[8]&0x3f|0x80
	return d.ToBytes()
}

// Serve loads the leases and answers what comes on conn until ctx is done. It
// closes conn, writes what waits to be written, and returns nil then. Conn is a
// UDP socket on port 547, with which Serve joins the group of all servers on the
// networks' interfaces; of any other it takes the local address for the server's
// own. It is called once.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	s.init()
	defer conn.Close()
	if err := s.reload(ctx); err != nil {
		return err
	}
	in, err := newWire(conn)
	if err != nil {
		return err
	}
	out, err := newWire(conn)
	if err != nil {
		return err
	}
	s.places.local = addrPort(conn.LocalAddr()).Addr()
	c := &committer{server: s, wire: out, queue: make(chan change, queueLimit)}
	sweeping, stopSweeping := context.WithCancel(ctx)
	defer stopSweeping()
	var writing, running sync.WaitGroup
	writing.Go(func() { c.run(context.WithoutCancel(ctx)) })
	running.Go(func() { c.sweep(sweeping) })
	err = s.loop(ctx, in, c)
	stopSweeping()
	running.Wait()
	close(c.queue)
	writing.Wait()
	return err
}

// loop answers packets until ctx is done. It wakes up now and then to hear
// interfaces that came up.
func (s *Server) loop(ctx context.Context, w *wire, c *committer) error {
	stop := context.AfterFunc(ctx, func() { w.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var out []outbound
	var next time.Time
	for {
		if now := time.Now(); !now.Before(next) {
			s.join(w)
			next = now.Add(ifacesAge)
			w.conn.SetReadDeadline(next)
		}
		// Looked at after setting the deadline, lest it undo ctx's.
		if ctx.Err() != nil {
			return nil
		}
		err := w.receive(func(in inbound) {
			if o := s.answer(in, c); o != nil {
				out = append(out, *o)
			}
		})
		s.send(w, out...)
		out = out[:0]
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("dhcp6: the socket was closed: %w", err)
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			// An ICMP error that an earlier answer drew, or no memory: neither is a
			// reason to stop.
			s.metrics.dropped("read-error")
			if s.quiet.Says("read") {
				s.logger().Warn("reading a DHCPv6 packet failed", "error", err)
			}
		}
	}
}

func (s *Server) join(w *wire) {
	s.places.join(w, s.Snapshot(), func(name string, n *cluster.Network, err error) {
		if err == nil {
			s.logger().Info("DHCPv6 clients are heard", "interface", name, "network", n.Name)
		} else if s.quiet.Says("join " + name) {
			s.logger().Warn("DHCPv6 clients cannot be heard", "interface", name, "network", n.Name, "error", err)
		}
	})
}

// answer is the way of one packet. It returns what is to be sent at once.
func (s *Server) answer(in inbound, c *committer) *outbound {
	e := s.begin(in)
	if e == nil {
		return nil
	}
	e.identify()
	if e.isAdmitted() {
		s.metrics.dropped("admitting")
		return nil
	}
	e.decide()
	out, err := e.respond(c)
	if err != nil {
		s.refused(e, err)
	}
	return out
}

// begin decodes a packet and finds the network that it belongs to. It returns nil
// for one that is not ours to answer.
func (s *Server) begin(in inbound) *exchange {
	m, err := decode(in)
	if err != nil {
		s.metrics.dropped("malformed")
		s.logger().Debug("dropped a DHCPv6 packet", "from", in.from, "error", err)
		return nil
	}
	s.metrics.received(m.kind)
	if len(m.relays) == 0 && in.to.IsValid() && !in.to.IsMulticast() {
		s.metrics.dropped("unicast") // RFC 8415, section 16: we offer nobody to send so
		return nil
	}
	e, err := s.exchange(m)
	if err != nil {
		s.metrics.dropped("not-ours")
		s.logger().Debug("dropped a DHCPv6 packet", "mac", m.mac, "from", in.from, "type", m.kind, "error", err)
		return nil
	}
	return e
}

// LentTo returns the machine to which an address is lent, as boot/dhcp does.
func (s *Server) LentTo(a netip.Addr) (cluster.Identity, bool) {
	mac, ok := s.Owner(a)
	return cluster.Identity{MAC: mac}, ok
}

// Owner returns the machine to which an IPv6 address is lent or for which it is
// reserved.
func (s *Server) Owner(a netip.Addr) (cluster.MAC, bool) {
	snap := s.Snapshot()
	n, ok := snap.NetworkOf(a)
	if !ok || !serves(n) {
		return cluster.MAC{}, false
	}
	if mac, ok := s.book.owner(cluster.NetworkName(n.Name), a, time.Now()); ok {
		return mac, true
	}
	if h, ok := snap.HostByAddress(a); ok && len(h.MACs) > 0 {
		return h.MACs[0], true
	}
	return cluster.MAC{}, false
}

// LeaseOf returns an IPv6 address that is lent to a machine at the moment, on
// whichever network.
func (s *Server) LeaseOf(m cluster.MAC) (netip.Addr, bool) {
	now := time.Now()
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, p := range s.book.pools {
		if a, ok := p.byMAC[m]; ok && p.slots[a].lends(m, now) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// LearnAll takes over every lease that the store held at a revision, and that it
// held no other.
func (s *Server) LearnAll(leases []cluster.Lease, at cluster.Revision) { s.book.load(leases, at) }

// Learn takes over leases that another server gave, or took away: those have no
// MAC. It is for a watch on the store; without one they are learnt when they are
// in the way.
func (s *Server) Learn(leases ...cluster.Lease) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, l := range leases {
		s.book.learn(l)
	}
}

// Discovered returns the machines that asked and that no document names, the last
// seen first.
func (s *Server) Discovered() []cluster.Discovered { return s.strangers.list() }

func (s *Server) reload(ctx context.Context) error {
	leases, rev, err := s.Leases.Leases(ctx)
	if err != nil {
		return fmt.Errorf("load the DHCPv6 leases: %w", err)
	}
	s.LearnAll(leases, rev)
	return nil
}

func (s *Server) init() {
	s.setUp.Do(func() { s.metrics = newMetrics(s.Registerer) })
}

func (s *Server) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}
