package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

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
	offerTime   = 15 * time.Second // an offered address is kept for its machine
	declineTime = time.Hour        // an address that somebody else uses is not lent
	// A lease that has this much of its time left already covers the
	// acknowledgement: firmware, iPXE, initial RAM disk and system ask one after
	// the other, and only the first needs a write.
	freshShare = 0.95
)

// Server answers DHCP on the networks that are authoritative, and tells firmware
// what to boot on those that are proxy. Its fields are set before Serve and not
// changed after.
type Server struct {
	Snapshot func() *cluster.Snapshot // what is applied; never nil, never blocks
	Leases   Leases
	Loaders  boot.Loaders   // what TFTP and HTTP have for firmware
	Installs *boot.Installs // where the installations of hosts stand; nil boots no installer
	// Admit reports whether firmware that no document names is about to become a
	// host. It is not answered until it is: it asks again within seconds, and gets
	// all at once. It must not block; nil admits nobody.
	Admit func(m cluster.MAC, arch cluster.Arch, n *cluster.Network) bool
	// Fellow reports whether an address is that of another server on the same store,
	// whose answers are as good as our own; nil knows none.
	Fellow     func(netip.Addr) bool
	FellowCard func(cluster.MAC) bool // the same of a hardware address
	HTTPPort   uint16                 // of the boot server
	HTTPSPort  uint16                 // zero when there is none
	Recorder   *boot.Recorder
	Logger     *slog.Logger          // nil is silence
	Registerer prometheus.Registerer // nil keeps the metrics to itself

	book       book
	strangers  strangers
	seen       sightings
	neighbours Neighbours
	rivals     rivals
	chained    boot.Chained
	misled     lately  // clients that took a proxy offer for an address
	told       lately  // iPXE, what to boot beside another server
	places     places  // of port 67
	prober     *prober // nil looks for nobody
	asker      asker   // nil is that of the sockets
	options    encoded
	quiet      boot.Quiet
	metrics    *metrics
	setUp      sync.Once
}

// Serve loads the leases and answers what comes on conn until ctx is done. It
// closes conn, writes what waits to be written, and returns nil then. Conn is a
// UDP socket on port 67, from which Serve learns on which interface a packet
// came; of any other it takes the local address for the server's own. It is
// called once.
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
	if err := s.startProber(c, conn, in.udp != nil); err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { c.run(context.WithoutCancel(ctx)) })
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })

	err = s.loop(ctx, in, func(in inbound) *outbound { return s.answer(in, c) })
	stop()
	in.frames.close()
	if s.prober != nil {
		s.prober.stopped()
	}
	close(c.queue)
	running.Wait()
	return err
}

// startProber begins to look for addresses, where there is something to look with.
func (s *Server) startProber(c *committer, conn net.PacketConn, isUDP bool) error {
	if s.asker == nil && !isUDP {
		return nil
	}
	w, err := newWire(conn)
	if err != nil {
		return err
	}
	l := &links{}
	if s.asker == nil {
		s.asker = l
	}
	s.prober = startProber(s, c, s.asker, w)
	l.heard = func(a netip.Addr, by cluster.MAC, probe bool) {
		if s.isUse(by, probe) {
			s.prober.heard(a, by)
		}
	}
	return nil
}

// isUse reports whether an ARP packet says that a machine uses an address or is
// about to. Servers that share the store look for the same address at the same
// moment, since they offer a machine the same.
func (s *Server) isUse(by cluster.MAC, probe bool) bool { return !probe || !s.isFellowCard(by) }

// loop answers packets until ctx is done.
func (s *Server) loop(ctx context.Context, w *wire, answer func(inbound) *outbound) error {
	var out []outbound
	for {
		err := w.receive(func(in inbound) {
			if o := answer(in); o != nil {
				out = append(out, *o)
			}
		})
		s.send(w, out...)
		out = out[:0]
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("dhcp: the socket was closed: %w", err)
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			// An ICMP error that an earlier answer drew, or no memory: neither
			// is a reason to stop.
			s.metrics.dropped("read-error")
			if s.quiet.Says("read") {
				s.logger().Warn("reading a DHCP packet failed", "error", err)
			}
		}
	}
}

// answer is the way of one packet. It returns what is to be sent at once.
func (s *Server) answer(in inbound, c *committer) *outbound {
	e := s.begin(in, &s.places)
	if e == nil {
		return nil
	}
	e.overhear()
	if e.network.DHCP == cluster.DHCPProxy {
		return e.beside()
	}
	if !e.identify() {
		return nil
	}
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

// begin decodes a packet and finds the network that it belongs to. It returns
// nil for one that is not ours to answer.
func (s *Server) begin(in inbound, at *places) *exchange {
	m, err := decode(in)
	if err != nil {
		s.metrics.dropped("malformed")
		s.logger().Debug("dropped a DHCP packet", "from", in.from, "error", err)
		return nil
	}
	s.metrics.received(m.kind)
	if isProbe(m) && (at.card(m.mac) || s.isFellowCard(m.mac)) {
		s.metrics.dropped("probe")
		return nil // our own, come back by another of our interfaces, or a fellow's
	}
	e, err := s.exchange(m, at)
	if err != nil {
		s.metrics.dropped("not-ours")
		s.logger().Debug("dropped a DHCP packet", "mac", m.mac, "from", in.from, "type", m.kind, "error", err)
		return nil
	}
	return e
}

// Owner returns the network card of the machine that LentTo returns.
func (s *Server) Owner(a netip.Addr) (cluster.MAC, bool) {
	id, ok := s.LentTo(a)
	return id.MAC, ok
}

// LentTo returns the machine to which an address is lent or for which it is
// reserved, and where it is plugged in. Where another server lends, it is the
// machine that was seen to take the address.
func (s *Server) LentTo(a netip.Addr) (cluster.Identity, bool) {
	snap := s.Snapshot()
	n, ok := snap.NetworkOf(a)
	if !ok {
		return cluster.Identity{}, false
	}
	lent := func() (cluster.Identity, bool) { return s.book.owner(cluster.NetworkName(n.Name), a, time.Now()) }
	if n.DHCP == cluster.DHCPProxy {
		lent = func() (cluster.Identity, bool) { return s.seen.owner(a, time.Now()) }
	}
	if id, ok := lent(); ok {
		return id, true
	}
	if h, ok := snap.HostByAddress(a); ok && len(h.MACs) > 0 && h.SwitchPort.IsZero() {
		return cluster.Identity{MAC: h.MACs[0]}, true
	}
	return cluster.Identity{}, false
}

// LearnAll takes over every lease that the store held at a revision, and that it
// held no other.
func (s *Server) LearnAll(leases []cluster.Lease, at cluster.Revision) {
	s.book.load(leases, at, time.Now())
}

// Learn takes over leases that another server gave, or took away: those have no
// MAC. What is older than what is known changes nothing. It is for a watch on the
// store; without one they are learnt when they are in the way.
func (s *Server) Learn(leases ...cluster.Lease) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, l := range leases {
		s.book.learn(l, time.Now())
	}
}

// Discovered returns the machines that asked and that no document names, the
// last seen first.
func (s *Server) Discovered() []Stranger { return s.strangers.list() }

func (s *Server) reload(ctx context.Context) error {
	leases, rev, err := s.Leases.Leases(ctx)
	if err != nil {
		return fmt.Errorf("load the DHCP leases: %w", err)
	}
	s.LearnAll(leases, rev)
	return nil
}

func (s *Server) isFellowCard(m cluster.MAC) bool { return s.FellowCard != nil && s.FellowCard(m) }

func (s *Server) init() {
	s.setUp.Do(func() { s.metrics = newMetrics(s.Registerer) })
}

func (s *Server) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}
