package dhcp6

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	batchLimit = 120  // changes in one transaction; etcd allows 128 operations
	queueLimit = 4096 // changes waiting; a client whose change finds no room asks again
	// How long a write may take, and how often it is tried: one that was on its way to
	// a member of the store that died is lost, and the others take over within 2 s.
	commitTimeout = 2 * time.Second
	commitTries   = 3
)

// change is one lease on its way to the store.
type change struct {
	lease  cluster.Lease // as it is to be
	over   cluster.Lease // what it replaces
	remove bool          // it is to be there no more
	answer *outbound     // goes once the lease is durable; nil when nobody waits
	done   func()        // called then; nil when nobody waits
}

// committer makes leases durable: it gathers what waits, writes it in one
// transaction, and only then lets the answers go. One transaction is under way at
// a time, so the more there is to do, the more each one carries.
type committer struct {
	server *Server
	wire   *wire
	queue  chan change
	next   *change // did not fit into the last batch
}

// submit hands over a change. It reports whether there was room. The book's mu is
// held.
func (c *committer) submit(ch change) bool {
	p := c.server.book.pool(ch.lease.Network)
	s := p.slots[ch.lease.Address]
	if s == nil {
		s = new(slot)
	}
	ch.over = s.lease
	select {
	case c.queue <- ch:
	default:
		return false
	}
	p.slots[ch.lease.Address] = s
	s.busy++
	s.next = ch.lease
	if _, has := p.byMAC[ch.lease.MAC]; !has && !ch.remove && !ch.lease.Declined {
		p.byMAC[ch.lease.MAC] = ch.lease.Address // the same for one that asks again meanwhile
	}
	return true
}

// run works until the queue is closed and empty.
func (c *committer) run(ctx context.Context) {
	for {
		batch := c.gather()
		if len(batch) == 0 {
			return
		}
		c.commit(ctx, batch)
	}
}

// gather waits for one change and takes what waits behind it. Of two changes of
// one address the second waits for the next batch.
func (c *committer) gather() []change {
	var batch []change
	seen := make(map[netip.Addr]bool)
	for len(batch) < batchLimit {
		ch, ok := c.take(len(batch) == 0)
		if !ok {
			break
		}
		if seen[ch.lease.Address] {
			c.next = &ch
			break
		}
		seen[ch.lease.Address] = true
		batch = append(batch, ch)
	}
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
// changes one by one. A client whose address is lost is not answered: it asks
// again in a second, and gets another.
func (c *committer) commit(ctx context.Context, batch []change) {
	// What waited behind a change that met a conflict may be lost by now.
	batch = slices.DeleteFunc(batch, func(ch change) bool {
		lost := c.lost(ch)
		if lost {
			c.settle([]change{ch}, 0, errTaken)
		}
		return lost
	})
	if len(batch) == 0 {
		return
	}
	rev, err := c.write(ctx, batch)
	if !errors.Is(err, cluster.ErrConflict) {
		c.settle(batch, rev, err)
		return
	}
	c.server.metrics.conflicts.Inc()
	c.correct(ctx, err)
	for i := range batch {
		rev, err := cluster.Revision(0), error(errTaken)
		if !c.lost(batch[i]) {
			rev, err = c.write(ctx, batch[i:i+1])
		}
		if errors.Is(err, cluster.ErrConflict) {
			c.correct(ctx, err)
		}
		c.settle(batch[i:i+1], rev, err)
	}
}

// lost reports whether another server has given a change's address away. A host
// may have it from another of its cards (see pool.check).
func (c *committer) lost(ch change) bool {
	b := &c.server.book
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.pool(ch.lease.Network).slots[ch.lease.Address]
	if !s.saved || !s.lease.Expires.After(time.Now()) {
		return false
	}
	return s.lease.Declined != ch.lease.Declined && s.lease.Declined || s.lease.MAC != ch.lease.MAC && !s.lease.Equal(ch.over)
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

// write makes a batch durable in one transaction, and returns its revision.
func (c *committer) write(ctx context.Context, batch []change) (cluster.Revision, error) {
	put, remove := c.transaction(batch)
	if len(put)+len(remove) == 0 {
		return 0, nil
	}
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
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ch := range batch {
		s := b.pool(ch.lease.Network).slots[ch.lease.Address]
		if !ch.remove {
			put = append(put, ch.lease)
		}
		if s.saved {
			remove = append(remove, s.lease)
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
		p, there := s.book.pool(ch.lease.Network), ch.lease
		slot := p.slots[there.Address]
		slot.busy--
		switch {
		case err != nil:
			p.drop(there.Address, slot)
			continue
		case ch.remove:
			there.MAC = cluster.MAC{}
		}
		there.Revision = rev
		p.saved(there)
		if ch.answer != nil {
			answers = append(answers, *ch.answer)
		}
	}
	s.book.mu.Unlock()
	if err != nil {
		if err != errTaken {
			s.notSaved(batch, err)
		}
		return
	}
	s.send(c.wire, answers...)
	s.metrics.leased.Add(float64(len(answers)))
	for _, ch := range batch {
		if ch.done != nil {
			ch.done()
		}
	}
}

// sweep takes leases out of the store that are of no use any more, until ctx is
// done: strangers can make up more hardware addresses than there is room for.
func (c *committer) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.discard(time.Now())
		}
	}
}

// discard submits what is stale for removal, as far as there is room.
func (c *committer) discard(now time.Time) {
	stale := c.server.book.stale(now)
	b := &c.server.book
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range stale {
		s := b.pool(l.Network).slots[l.Address]
		if s == nil || s.busy > 0 || !s.saved || !s.lease.Equal(l) {
			continue
		}
		if len(c.queue) > queueLimit/2 || !c.submit(change{lease: l, remove: true}) {
			return
		}
	}
}
