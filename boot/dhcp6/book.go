package dhcp6

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	probes    = 64      // addresses that are tried for a machine in a large pool
	scanned   = 1 << 16 // and a pool no larger than this is searched whole
	mostOf    = 1 << 48 // addresses of one range that are used
	keepLimit = 100_000 // leases of one network, beside those of reserved addresses
	keepTime  = 24 * time.Hour
)

// book is what this server knows of every lease, on every network.
type book struct {
	mu    sync.Mutex
	pools map[cluster.NetworkName]*pool
}

// pool is the leases of one network.
type pool struct {
	slots map[netip.Addr]*slot
	byMAC map[cluster.MAC]netip.Addr // which a machine has or last had
}

// slot is an address that is lent, was lent, or is about to be.
type slot struct {
	lease cluster.Lease // what the store holds
	saved bool          // it does
	next  cluster.Lease // what is on its way there
	busy  int           // how many changes are
}

// pool returns the pool of a network. mu is held.
func (b *book) pool(n cluster.NetworkName) *pool {
	p := b.pools[n]
	if p == nil {
		if b.pools == nil {
			b.pools = make(map[cluster.NetworkName]*pool)
		}
		p = &pool{slots: make(map[netip.Addr]*slot), byMAC: make(map[cluster.MAC]netip.Addr)}
		b.pools[n] = p
	}
	return p
}

// load takes over everything that the store held at a revision, and that it held
// nothing else.
func (b *book) load(leases []cluster.Lease, at cluster.Revision) {
	b.mu.Lock()
	defer b.mu.Unlock()
	type place struct {
		network cluster.NetworkName
		addr    netip.Addr
	}
	there := make(map[place]bool, len(leases))
	for _, l := range leases {
		there[place{l.Network, l.Address}] = true
		b.learn(l)
	}
	for name, p := range b.pools {
		for a, s := range p.slots {
			if s.saved && s.lease.Revision <= at && !there[place{name, a}] {
				p.saved(cluster.Lease{Network: name, Address: a, Revision: at})
			}
		}
	}
}

// learn takes over what the store holds for one address; a lease without a MAC
// says that it holds nothing. mu is held.
func (b *book) learn(l cluster.Lease) {
	if l.Address.Is6() && !l.Address.Is4In6() {
		b.pool(l.Network).saved(l)
	}
}

// saved takes over what the store holds for an address, unless more recent news of
// it came before. mu is held.
func (p *pool) saved(l cluster.Lease) {
	s := p.slots[l.Address]
	if s != nil && l.Revision != 0 && l.Revision < s.lease.Revision {
		return
	}
	if l.MAC.IsZero() {
		if s != nil {
			s.saved = false
			s.lease.Revision = max(l.Revision, s.lease.Revision)
			p.drop(l.Address, s)
		}
		return
	}
	if s == nil {
		s = new(slot)
		p.slots[l.Address] = s
	}
	if before := s.lease.MAC; p.byMAC[before] == l.Address && (before != l.MAC || l.Declined) {
		delete(p.byMAC, before)
	}
	s.lease, s.saved = l, true
	if l.Declined {
		return
	}
	had := p.slots[p.byMAC[l.MAC]]
	if had == nil || had == s || !had.lease.Expires.After(l.Expires) {
		p.byMAC[l.MAC] = l.Address
	}
}

// drop forgets a slot of which there is nothing to know.
func (p *pool) drop(a netip.Addr, s *slot) {
	if s.saved || s.busy > 0 {
		return
	}
	delete(p.slots, a)
	for _, mac := range []cluster.MAC{s.lease.MAC, s.next.MAC} {
		if p.byMAC[mac] == a {
			delete(p.byMAC, mac)
		}
	}
}

// lends reports whether the address is durably lent to a machine.
func (s *slot) lends(mac cluster.MAC, now time.Time) bool {
	return s != nil && s.saved && s.lease.MAC == mac && !s.lease.Declined && s.lease.Expires.After(now)
}

// isFree reports whether a machine may have the address, as far as others go.
func (s *slot) isFree(mac cluster.MAC, now time.Time) bool {
	switch {
	case s == nil:
		return true
	case s.busy > 0 && (s.next.MAC != mac || s.next.Declined):
		return false
	case !s.saved || !s.lease.Expires.After(now):
		return true
	}
	return s.lease.MAC == mac && !s.lease.Declined
}

// owner returns the machine to which an address is lent.
func (b *book) owner(n cluster.NetworkName, a netip.Addr, now time.Time) (cluster.MAC, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pools[n]; p != nil {
		if s := p.slots[a]; s != nil && s.lends(s.lease.MAC, now) {
			return s.lease.MAC, true
		}
	}
	return cluster.MAC{}, false
}

// claimant is a machine that wants an address.
type claimant struct {
	mac     cluster.MAC
	host    *cluster.Host // nil when no document names it
	snap    *cluster.Snapshot
	network *cluster.Network
	us      netip.Addr // our own address on the network
	now     time.Time
}

// Why a machine does not get an address. A client is told so in its status.
var (
	errFull     = errors.New("no address of the pools is free")
	errNoPool   = errors.New("the network has no pools, and no address is reserved for the machine")
	errReserved = errors.New("the address is reserved for another machine")
	errTaken    = errors.New("the address is another machine's")
	errNotLent  = errors.New("the address is not lent on this network")
)

// choose returns the address that a machine gets: the one reserved for it, or
// the one it has or last had, or the one it asks for, or one that follows from
// its hardware address. busy names a reservation that could not be kept because
// another machine has the address still.
func (p *pool) choose(c claimant, wanted []netip.Addr) (a, busy netip.Addr, err error) {
	if c.host != nil && c.network.CIDR.Contains(c.host.Address) {
		if p.check(c, c.host.Address) == nil {
			return c.host.Address, busy, nil
		}
		busy = c.host.Address
	}
	if a, ok := p.byMAC[c.mac]; ok && p.check(c, a) == nil {
		return a, busy, nil
	}
	for _, a := range wanted {
		if p.check(c, a) == nil {
			return a, busy, nil
		}
	}
	size := sizeOf(c.network.Pools)
	if size == 0 {
		return a, busy, errNoPool
	}
	if len(p.slots) >= keepLimit {
		return a, busy, errFull
	}
	a, err = p.find(c, size)
	return a, busy, err
}

// find looks for an address that nobody had yet, and takes one that lapsed when
// there is none.
func (p *pool) find(c claimant, size uint64) (lapsed netip.Addr, err error) {
	for i := range probes {
		if a, fresh := p.try(c, hash(c.mac, byte(i))%size); fresh {
			return a, nil
		} else if !lapsed.IsValid() {
			lapsed = a
		}
	}
	if size <= scanned {
		first := hash(c.mac, 0) % size
		for i := range size {
			if a, fresh := p.try(c, (first+i)%size); fresh {
				return a, nil
			} else if !lapsed.IsValid() {
				lapsed = a
			}
		}
	}
	if !lapsed.IsValid() {
		return lapsed, errFull
	}
	return lapsed, nil
}

// try returns the i-th address if it may be lent, and whether it never was.
func (p *pool) try(c claimant, i uint64) (a netip.Addr, fresh bool) {
	a = at(c.network.Pools, i)
	if p.check(c, a) != nil {
		return netip.Addr{}, false
	}
	return a, p.slots[a] == nil
}

// check says why a machine may not have an address, or returns nil.
func (p *pool) check(c claimant, a netip.Addr) error {
	n := c.network
	// The first address is every router's (RFC 4291, section 2.6.1).
	if !n.CIDR.Contains(a) || a == n.Gateway || a == c.us || a == n.Server || a == n.CIDR.Masked().Addr() && n.CIDR.Bits() < 127 {
		return errNotLent
	}
	lent := slices.ContainsFunc(n.Pools, func(r cluster.Range) bool { return r.Contains(a) })
	if h, ok := c.snap.HostByAddress(a); ok {
		if h != c.host {
			return errReserved
		}
	} else if !lent {
		return errNotLent
	}
	s := p.slots[a]
	if s.isFree(c.mac, c.now) {
		return nil
	}
	// A host may have taken its address with another of its cards; and only a host
	// can have taken one that is in no pool.
	if s.busy == 0 && !s.lease.Declined && c.host != nil && a == c.host.Address {
		if h, ok := c.snap.Identify(cluster.Identity{MAC: s.lease.MAC}); !lent || ok && h == c.host {
			return nil
		}
	}
	return errTaken
}

// stale returns leases that are of no use any more: those that lapsed a day ago,
// or at all when there are many.
func (b *book) stale(now time.Time) []cluster.Lease {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []cluster.Lease
	for _, p := range b.pools {
		before := now.Add(-keepTime)
		if len(p.slots) > keepLimit/2 {
			before = now
		}
		for _, s := range p.slots {
			if s.saved && s.busy == 0 && s.lease.Expires.Before(before) {
				out = append(out, s.lease)
			}
		}
	}
	return out
}

// sizeOf returns how many addresses there are to lend.
func sizeOf(pools []cluster.Range) (size uint64) {
	for _, r := range pools {
		size += length(r)
	}
	return size
}

// length returns how many addresses of a range are used.
func length(r cluster.Range) uint64 {
	if !r.First.Is6() || !r.Last.Is6() {
		return 0
	}
	firstHigh, first := halves(r.First)
	lastHigh, last := halves(r.Last)
	n := last - first // right across the border of the halves, too
	if over := lastHigh - firstHigh; over > 1 || over == 1 && last >= first || n >= mostOf {
		return mostOf
	}
	return n + 1
}

// at returns the i-th address of the pools.
func at(pools []cluster.Range, i uint64) netip.Addr {
	for _, r := range pools {
		n := length(r)
		if i >= n {
			i -= n
			continue
		}
		high, low := halves(r.First)
		if low+i < low {
			high++
		}
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], high)
		binary.BigEndian.PutUint64(b[8:], low+i)
		return netip.AddrFrom16(b)
	}
	return netip.Addr{}
}

func halves(a netip.Addr) (high, low uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// hash picks where in the pools an address is looked for. It is the same on every
// server, so that those which share the pools advertise the same.
func hash(m cluster.MAC, attempt byte) uint64 {
	h := fnv.New64a()
	h.Write(m[:])
	h.Write([]byte{attempt})
	return h.Sum64()
}
