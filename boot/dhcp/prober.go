package dhcp

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
)

// Before an address is offered to a machine that never had it, whoever uses it
// already is looked for (RFC 2131, section 2.2): by ARP on a link of ours, as RFC
// 5227 has it, and by ICMP echo elsewhere. The offer waits for that, and nobody
// else does. RFC 5227 takes seconds; firmware that waits for an offer does not
// have them, and what answers on a network answers in milliseconds.
const (
	probeAgain = 150 * time.Millisecond // asked a second time: one packet may be lost
	probeWait  = 400 * time.Millisecond // the offer leaves
	probedTime = time.Minute            // for which it is believed that nobody answered
	probeTries = 3 * time.Second        // in which one DISCOVER goes from address to address; its client asks again
	// probeLimit is how many addresses are looked for at a time, which is some
	// thousand offers a second. Beyond that, offers leave unprobed, so that a rack
	// that is switched on, or a stranger, costs no more than that.
	probeLimit = 1024
)

// asker sends one question for an address. Answers come by prober.heard.
type asker interface {
	ask(p *trial) error
	close() // and no answer comes after
}

// trial is an address that is looked for.
type trial struct {
	addr  netip.Addr
	link  int // the interface that it is on the link of; zero when it is on none
	began time.Time

	e     *exchange // the last DISCOVER that waits; of prober.mu
	ended bool      // of prober.mu
}

// prober looks for addresses, and answers the DISCOVERs that wait for it.
type prober struct {
	s         *Server
	committer *committer
	asker     asker

	mu      sync.Mutex
	of      map[netip.Addr]*trial
	pending int // ended ones too, until their time is over

	again, last chan *trial // in the order in which they are due
	sending     sync.Mutex
	wire        *wire
	running     sync.WaitGroup
	stop        context.CancelFunc
}

// startProber begins; stopped ends and waits.
func startProber(s *Server, c *committer, a asker, w *wire) *prober {
	p := &prober{
		s: s, committer: c, asker: a, wire: w, of: make(map[netip.Addr]*trial),
		again: make(chan *trial, probeLimit), last: make(chan *trial, probeLimit),
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.running.Go(func() {
		p.each(ctx, p.again, probeAgain, func(q *trial) {
			if !p.isOver(q) {
				p.asker.ask(q) // that failed once before it could be here
			}
			p.last <- q
		})
	})
	p.running.Go(func() { p.each(ctx, p.last, probeWait, func(q *trial) { p.end(q, cluster.MAC{}, false); p.leave() }) })
	return p
}

// stopped drops what waits: its clients ask again.
func (p *prober) stopped() {
	p.stop()
	p.asker.close()
	p.running.Wait()
	p.sending.Lock()
	defer p.sending.Unlock()
	p.wire.frames.close()
}

// each takes probes when they are due.
func (p *prober) each(ctx context.Context, from chan *trial, after time.Duration, do func(*trial)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-from:
			timer.Reset(time.Until(q.began.Add(after)))
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
				do(q)
			}
		}
	}
}

// begin looks for an address, after which the exchange is answered. It reports
// false when that is not to be waited for.
func (p *prober) begin(e *exchange, a netip.Addr) bool {
	q, news := p.enter(e, a)
	if q == nil {
		p.s.metrics.probed("skipped")
		return false
	}
	if !news {
		return true
	}
	if err := p.asker.ask(q); err != nil {
		p.abandon(q)
		p.s.metrics.probed("failed")
		if p.s.quiet.Says("probe " + e.network.Name) {
			p.s.logger().Info("addresses are offered without a look whether somebody uses them", "network", e.network.Name, "error", err,
				"try", "give the server CAP_NET_RAW and a route to the network, or set probe: false in network "+e.network.Name)
		}
		return false
	}
	p.again <- q
	return true
}

// enter notes a probe. A client that asks again meanwhile waits for the one
// that is under way. a nil trial is one too many.
func (p *prober) enter(e *exchange, a netip.Addr) (q *trial, news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.of[a]; q != nil {
		q.e = e
		return q, false
	}
	if p.pending >= probeLimit {
		return nil, false
	}
	p.pending++
	q = &trial{addr: a, link: e.on, began: time.Now(), e: e}
	p.of[a] = q
	return q, true
}

func (p *prober) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending--
}

func (p *prober) abandon(q *trial) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q.ended = true
	delete(p.of, q.addr)
	p.pending--
}

func (p *prober) isOver(q *trial) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return q.ended
}

// heard takes in that an address answers; mac is zero when it is not known who.
// The machine that is to have it may have it already.
func (p *prober) heard(a netip.Addr, mac cluster.MAC) {
	p.mu.Lock()
	q := p.of[a]
	if q == nil || mac == q.e.m.mac {
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.end(q, mac, true)
}

// end answers the exchange that waits for a probe: with an offer of the address,
// or of another one, for which the same begins.
func (p *prober) end(q *trial, by cluster.MAC, taken bool) {
	p.mu.Lock()
	if q.ended {
		p.mu.Unlock()
		return
	}
	q.ended = true
	delete(p.of, q.addr)
	e := q.e
	p.mu.Unlock()

	began := e.now
	e.now = time.Now()
	if taken {
		p.s.metrics.probed("taken")
		e.used(p.committer, q.addr, by)
	} else {
		p.s.metrics.probed("free")
		e.isFree(q.addr)
	}
	if taken && e.now.Sub(began) > probeTries {
		return
	}
	out, err := e.discover(p.committer)
	if err != nil {
		p.s.refused(e, err)
	}
	if out != nil {
		p.sending.Lock()
		defer p.sending.Unlock()
		p.s.send(p.wire, *out)
	}
}

// isUntried reports whether an address has to be looked for before a machine is
// offered it: its host's own, and one that the machine had, has not. The book's
// mu is held.
func (e *exchange) isUntried(s *slot) bool {
	if e.s.prober == nil || !e.network.Probes() || s.saved && s.lease.MAC == e.m.mac || e.now.Sub(s.probed) < probedTime {
		return false
	}
	_, reserved := e.snap.HostByAddress(s.addr)
	return !reserved
}

// isFree notes that nobody answered.
func (e *exchange) isFree(a netip.Addr) {
	b := &e.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.pool(e.snap, e.network).slots[a]; s != nil {
		s.probed = e.now
	}
}

// used takes an address out of use that somebody answers for, as DECLINE does.
func (e *exchange) used(c *committer, a netip.Addr, by cluster.MAC) {
	b := &e.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pool(e.snap, e.network)
	s := p.slots[a]
	if s == nil || s.mac != e.m.mac || s.busy > 0 || s.lends() {
		return // something has happened to it meanwhile
	}
	if e.s.quiet.Says("declined " + a.String()) {
		who := any(by)
		if by.IsZero() {
			who = "something that answers a ping"
		}
		e.s.logger().Warn("an address of a pool is used without a lease, and is not lent", "address", a, "used_by", who, "mac", e.m.mac,
			"network", e.network.Name, "kept_out_for", declineTime, "try", "find that machine, or take the address out of pools: in network "+e.network.Name)
	}
	if by.IsZero() {
		by = e.m.mac
	}
	until := e.now.Add(declineTime).UTC().Truncate(time.Second)
	p.vacate(s)
	p.hold(s, until) // also when it cannot be written
	c.submit(change{pool: p, slot: s, lease: cluster.Lease{
		Network: cluster.NetworkName(e.network.Name), Address: a, MAC: by, Declined: true, Expires: until,
	}})
}

// findLink finds the interface that the machine which asks is on the link of.
// Behind a relay there is none, unless the network is on a link of ours too.
func (e *exchange) findLink() {
	e.on = e.m.in.iface
	if e.m.relay.IsValid() {
		e.on = e.places.linkOf(e.network.CIDR)
	}
}

// offer makes the answer to a DISCOVER.
func (e *exchange) offer(a netip.Addr) *outbound {
	e.record(e.asks(), netip.Addr{}, e.m.request.IsFirmware())
	return e.encode(dhcpv4.MessageTypeOffer, a, e.leaseTime())
}
