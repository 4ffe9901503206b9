package dhcp

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	// Operations in one transaction. Where a sync of the disk takes long it is what
	// bounds the leases a second. The embedded etcd takes more (its MaxTxnOps).
	batchLimit = 1000
	queueLimit = 4096 // changes waiting; a client whose change finds no room asks again
	// How long a write may take, and how often it is tried: one that was on its way to
	// a member of the store that died is lost, and the others take over within 2 s.
	commitTimeout = 2 * time.Second
	commitTries   = 3
)

// errLost is a conflict of which everything is known already.
var errLost = &cluster.LeaseConflictError{}

// change is one lease on its way to the store.
type change struct {
	pool   *pool
	slot   *slot
	lease  cluster.Lease    // as it is to be
	remove bool             // take lease out instead; slot is nil
	ack    *outbound        // goes once the lease is durable; nil when nobody waits
	nak    func() *outbound // goes when another server gave the address away; nil when nobody waits
	done   func()           // called when the lease is durable, before ack is sent; nil when nobody waits
	cost   int              // operations that it takes
}

// committer makes leases durable: it gathers what waits, writes it in one
// transaction, and only then lets the acknowledgements go. One transaction is
// under way at a time, so the more there is to do, the more each one carries.
type committer struct {
	server *Server
	wire   *wire
	queue  chan change
	next   *change // did not fit into the last batch
	batch  []change
}

// submit hands over a change. It reports whether there was room. The book's mu
// is held.
func (c *committer) submit(ch change) bool {
	ch.cost = 1
	if ch.slot != nil && ch.slot.left != nil {
		ch.cost = 2
	}
	select {
	case c.queue <- ch:
		if ch.slot != nil {
			ch.slot.busy++
		}
		return true
	default:
		return false
	}
}

// run works until the queue is closed and empty.
func (c *committer) run(ctx context.Context) {
	defer c.wire.frames.close()
	for {
		batch := c.gather()
		if len(batch) == 0 {
			return
		}
		c.commit(ctx, batch)
	}
}

// gather waits for one change and takes what waits behind it. Of two changes of
// one address the second waits for the next batch. What it returns holds until it
// is called again.
func (c *committer) gather() []change {
	clear(c.batch)
	batch := c.batch[:0]
	seen := make(map[place]bool)
	for cost := 0; cost < batchLimit-1; {
		ch, ok := c.take(len(batch) == 0)
		if !ok {
			break
		}
		at := place{ch.lease.Network, ch.lease.Address}
		if seen[at] {
			c.next = &ch
			break
		}
		seen[at] = true
		batch = append(batch, ch)
		cost += ch.cost
	}
	c.batch = batch
	return batch
}

func (c *committer) take(wait bool) (change, bool) {
	if ch := c.next; ch != nil {
		c.next = nil
		return *ch, true
	}
	if wait {
		ch, ok := <-c.queue
		return ch, ok
	}
	select {
	case ch, ok := <-c.queue:
		return ch, ok
	default:
		return change{}, false
	}
}

// commit writes a batch and sends its answers. When another server was faster
// with one of the addresses, it takes over what the store holds and writes the
// halves, so that one conflict costs only its own client, and the others of its
// batch no more than some transactions.
func (c *committer) commit(ctx context.Context, batch []change) {
	if batch = c.withoutLost(batch); len(batch) == 0 {
		return
	}
	rev, err := c.write(ctx, batch)
	if !errors.Is(err, cluster.ErrConflict) {
		c.settle(batch, rev, err)
		return
	}
	c.server.metrics.conflicts.Inc()
	c.correct(ctx, err)
	if len(batch) == 1 {
		rev, err := c.retry(ctx, batch[0])
		if errors.Is(err, cluster.ErrConflict) {
			c.correct(ctx, err)
		}
		c.settle(batch, rev, err)
		return
	}
	half := len(batch) / 2
	c.commit(ctx, batch[:half])
	c.commit(ctx, batch[half:])
}

// correct takes over what the store holds: what a conflict says of it, or all.
func (c *committer) correct(ctx context.Context, conflict error) {
	s := c.server
	if e, ok := errors.AsType[*cluster.LeaseConflictError](conflict); ok {
		s.Learn(e.Leases...)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := s.reload(ctx); err != nil && s.quiet.Says("reload") {
		s.logger().Warn("leases could not be loaded after a conflict", "error", err)
	}
}

// retry writes one change against what the store is now known to hold.
func (c *committer) retry(ctx context.Context, ch change) (cluster.Revision, error) {
	b := &c.server.book
	b.mu.Lock()
	lost := ch.lost()
	b.mu.Unlock()
	if lost {
		return 0, errLost
	}
	return c.write(ctx, []change{ch})
}

// withoutLost refuses the changes whose address went to another machine while
// they waited, in a conflict of one before them: what the store holds is known by
// now, and would be taken for what they replace. It returns the others.
func (c *committer) withoutLost(batch []change) []change {
	b := &c.server.book
	var lost []change
	b.mu.Lock()
	kept := slices.DeleteFunc(batch, func(ch change) bool {
		if !ch.lost() {
			return false
		}
		lost = append(lost, ch)
		return true
	})
	b.mu.Unlock()
	if len(lost) > 0 {
		c.settle(lost, 0, errLost)
	}
	return kept
}

// lost reports whether the address is another machine's by now; for a grant also,
// whether it is nobody's any more. The book's mu is held.
func (ch *change) lost() bool {
	s := ch.slot
	return s != nil && s.mac != ch.lease.MAC && (ch.ack != nil || !s.mac.IsZero())
}

// write makes a batch durable in one transaction, and returns its revision.
func (c *committer) write(ctx context.Context, batch []change) (cluster.Revision, error) {
	put, remove := c.transaction(batch)
	start := time.Now()
	rev, err := c.try(ctx, put, remove)
	for tries := 1; errors.Is(err, context.DeadlineExceeded) && tries < commitTries && ctx.Err() == nil; tries++ {
		// If it was done all the same there is a conflict now, with what is wanted.
		rev, err = c.try(ctx, put, remove)
	}
	c.server.metrics.commits.Observe(time.Since(start).Seconds())
	return rev, err
}

func (c *committer) try(ctx context.Context, put, remove []cluster.Lease) (cluster.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	return c.server.Leases.Commit(ctx, put, remove)
}

// transaction says what is to be there, and what is believed to be there now.
func (c *committer) transaction(batch []change) (put, remove []cluster.Lease) {
	b := &c.server.book
	put = make([]cluster.Lease, 0, len(batch))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ch := range batch {
		if ch.remove {
			remove = append(remove, ch.lease)
			continue
		}
		put = append(put, ch.lease)
		if ch.slot.saved {
			remove = append(remove, ch.slot.lease)
		}
		if left := ch.slot.left; left != nil && left.saved && left.mac == ch.lease.MAC && left.busy == 0 {
			remove = append(remove, left.lease)
		}
	}
	return put, remove
}

// settle takes a batch's outcome over into the book, and answers.
func (c *committer) settle(batch []change, rev cluster.Revision, err error) {
	s := c.server
	answers := make([]outbound, 0, len(batch))
	s.book.mu.Lock()
	for _, ch := range batch {
		if ch.slot != nil {
			ch.slot.busy--
		}
		switch {
		case err == nil && !ch.remove:
			ch.pool.saved(ch, rev)
			s.book.names(ch.lease)
			if ch.ack != nil {
				answers = append(answers, *ch.ack)
			}
		case errors.Is(err, cluster.ErrConflict) && ch.nak != nil:
			answers = append(answers, *ch.nak())
		}
	}
	s.book.mu.Unlock()
	if err != nil {
		s.notSaved(batch, err)
		s.send(c.wire, answers...)
		return
	}
	// Before the answers: with its address a machine asks on at once, and its
	// timeline is to have this first.
	for _, ch := range batch {
		if ch.done != nil {
			ch.done()
		}
	}
	s.send(c.wire, answers...)
	s.metrics.leased.Add(float64(len(answers)))
}

// saved takes over that a change is durable as of a revision, unless what came
// after it was learnt already. The book's mu is held.
func (p *pool) saved(ch change, rev cluster.Revision) {
	s := ch.slot
	if rev != s.lease.Revision && !s.isNews(rev) {
		return
	}
	s.lease, s.saved = ch.lease, true
	s.lease.Revision = rev
	if left := s.left; left != nil {
		s.left = nil
		if left.mac == ch.lease.MAC && left.busy == 0 && p.slots[left.addr] == left {
			p.vacate(left)
			p.unlearn(left, rev)
		}
	}
	if ch.lease.Declined {
		p.vacate(s)
	} else if s.mac == ch.lease.MAC {
		s.held = time.Time{}
	}
	p.settle(s)
}
