package dhcp

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// slot is one address that is, or once was, lent or offered.
type slot struct {
	addr   netip.Addr
	mac    cluster.MAC   // whose it is; zero when it was taken from its machine
	held   time.Time     // until then it is kept for mac, although nothing durable says so
	lease  cluster.Lease // what the store holds for the address, maybe still another machine's
	saved  bool          // the store holds it
	busy   int           // changes on their way to the store
	asked  time.Time     // when its machine last began to look for it
	probed time.Time     // when it was looked for last, and nobody answered
	left   *slot         // the slot that mac gives up when it gets this one

	lapse time.Time // when anybody may have it
	index int       // in the heap
}

// lends reports whether the slot is durably lent to its machine.
func (s *slot) lends() bool { return s.saved && s.lease.MAC == s.mac && !s.lease.Declined }

// isNews reports whether what the store held at a revision is newer than what is
// known. Zero is of unknown age, and believed.
func (s *slot) isNews(at cluster.Revision) bool { return at == 0 || at > s.lease.Revision }

// pool is the addresses of one network. Every address that was ever used has a
// slot; the slots are in a heap, the one that lapses first on top. So to choose
// an address costs the same however many there are.
type pool struct {
	snap    *cluster.Snapshot // for which it is configured
	network *cluster.Network
	ranges  []cluster.Range
	size    uint32 // addresses in ranges
	fresh   uint32 // below it, every address of ranges has been considered
	slots   map[netip.Addr]*slot
	byMAC   map[cluster.MAC]*slot
	lapsing lapsing
	stale   []cluster.Lease // lapsed, saved, and of no use: to be removed from the store
}

func newPool() *pool {
	return &pool{slots: make(map[netip.Addr]*slot), byMAC: make(map[cluster.MAC]*slot)}
}

// configure takes over what was applied. Leases outside new ranges live on
// until they lapse.
func (p *pool) configure(snap *cluster.Snapshot, n *cluster.Network) {
	if p.snap == snap {
		return
	}
	p.snap, p.network = snap, n
	p.ranges, p.size = p.ranges[:0:0], 0
	p.fresh = 0 // an address that was reserved may be anybody's now
	for _, r := range n.Pools {
		if r.First.Is4() && r.Last.Is4() {
			p.ranges = append(p.ranges, r)
			p.size += number(r.Last) - number(r.First) + 1
		}
	}
}

// claimant is a machine that wants an address.
type claimant struct {
	mac  cluster.MAC
	host *cluster.Host // nil when no document names it
	snap *cluster.Snapshot
	us   netip.Addr // our own address on the network
	now  time.Time
}

// Why a machine does not get an address. A client is told so in a NAK.
var (
	errFull     = errors.New("every address of the pool is lent")
	errNoPool   = errors.New("the network has no pool")
	errReserved = errors.New("the address is reserved for another machine")
	errTaken    = errors.New("the address is another machine's")
	errNotLent  = errors.New("the address is not lent on this network")
)

// choose returns the address that a machine is offered: the one reserved for
// it, or the one it has or last had, or the one it asks for, or one that nobody
// had yet, or the one that was given up longest ago. busy names a reservation
// that could not be kept because another machine has the address still.
func (p *pool) choose(c claimant, wanted netip.Addr) (s *slot, busy netip.Addr, err error) {
	if c.host != nil && c.host.Address.IsValid() && p.network.CIDR.Contains(c.host.Address) {
		if p.check(c, c.host.Address) == nil {
			return p.take(c, c.host.Address), busy, nil
		}
		busy = c.host.Address
	}
	if s := p.byMAC[c.mac]; s != nil && p.check(c, s.addr) == nil {
		return s, busy, nil
	}
	if wanted.IsValid() && p.check(c, wanted) == nil {
		return p.take(c, wanted), busy, nil
	}
	if p.size == 0 {
		return nil, busy, errNoPool
	}
	if a := p.at(hash(c.mac) % p.size); p.slots[a] == nil && p.check(c, a) == nil {
		return p.take(c, a), busy, nil
	}
	for p.fresh < p.size {
		a := p.at(p.fresh)
		p.fresh++
		if p.slots[a] == nil && p.check(c, a) == nil {
			return p.take(c, a), busy, nil
		}
	}
	for len(p.lapsing) > 0 && !p.lapsing[0].lapse.After(c.now) {
		s := p.lapsing[0]
		if p.check(c, s.addr) == nil {
			return p.take(c, s.addr), busy, nil
		}
		if s.busy > 0 {
			p.hold(s, c.now.Add(offerTime))
			continue
		}
		if s.saved { // it is in no range any more, or reserved
			p.stale = append(p.stale, s.lease)
		}
		p.forget(s)
	}
	return nil, busy, errFull
}

// check says why a machine may not have an address, or returns nil.
func (p *pool) check(c claimant, a netip.Addr) error {
	if !p.network.CIDR.Contains(a) || a == p.network.Gateway || a == c.us || a == p.network.Server {
		return errNotLent
	}
	lent := p.lends(a)
	if h, ok := c.snap.HostByAddress(a); ok {
		if h != c.host {
			return errReserved
		}
	} else if !lent {
		return errNotLent
	}
	s := p.slots[a]
	switch {
	case s == nil:
		return nil
	case s.busy > 0 && s.mac != c.mac: // its lease may be durable at any moment
		return errTaken
	case !s.lapse.After(c.now):
		return nil
	case s.saved && s.lease.Declined && s.lease.Expires.After(c.now):
		return errTaken
	case s.mac == c.mac:
		return nil
	case !lent:
		// Only its own host can have had an address that is reserved and in no
		// pool: its network card was exchanged, or the reservation moved.
		return nil
	}
	return errTaken
}

// lends reports whether an address is in a range, and can be a machine's.
func (p *pool) lends(a netip.Addr) bool {
	if cidr := p.network.CIDR; cidr.Bits() < 31 && (a == cidr.Masked().Addr() || a == lastOf(cidr)) {
		return false
	}
	return slices.ContainsFunc(p.ranges, func(r cluster.Range) bool { return r.Contains(a) })
}

// take makes the address the machine's in memory. Nothing is durable yet.
func (p *pool) take(c claimant, a netip.Addr) *slot {
	s := p.slots[a]
	if s == nil {
		s = &slot{addr: a}
		p.slots[a] = s
		heap.Push(&p.lapsing, s)
	}
	if s.mac != c.mac {
		p.vacate(s)
		s.mac = c.mac
	}
	if old := p.byMAC[c.mac]; old != nil && old != s {
		s.left = old
	}
	p.byMAC[c.mac] = s
	return s
}

// hold keeps an address for its machine for a while.
func (p *pool) hold(s *slot, until time.Time) {
	s.held = until
	p.settle(s)
}

// settle puts a slot where it belongs in the heap after a change.
func (p *pool) settle(s *slot) {
	s.lapse = s.held
	if s.saved && (s.lease.MAC == s.mac || s.lease.Declined) && s.lease.Expires.After(s.lapse) {
		s.lapse = s.lease.Expires
	}
	heap.Fix(&p.lapsing, s.index)
}

// forget drops a slot of which the store knows nothing.
func (p *pool) forget(s *slot) {
	heap.Remove(&p.lapsing, s.index)
	delete(p.slots, s.addr)
	if p.byMAC[s.mac] == s {
		delete(p.byMAC, s.mac)
	} else if now := p.byMAC[s.mac]; now != nil && now.left == s {
		now.left = nil
	}
}

// learn takes over what the store holds for an address.
func (p *pool) learn(l cluster.Lease, now time.Time) {
	s := p.slots[l.Address]
	if s == nil {
		s = &slot{addr: l.Address}
		p.slots[l.Address] = s
		heap.Push(&p.lapsing, s)
	} else if !s.isNews(l.Revision) {
		return
	}
	s.lease, s.saved = l, true
	offered := s.mac != l.MAC && s.held.After(now)
	switch {
	case offered && !l.Expires.After(now):
		// It lapsed, and was offered to another machine meanwhile.
	case l.Declined:
		p.vacate(s)
	case s.mac != l.MAC:
		p.vacate(s)
		s.mac = l.MAC
		fallthrough
	default:
		if other := p.byMAC[l.MAC]; other == nil || !other.lends() || other.lease.Expires.Before(l.Expires) {
			p.byMAC[l.MAC] = s
		}
	}
	p.settle(s)
}

// vacate takes a slot from its machine.
func (p *pool) vacate(s *slot) {
	if p.byMAC[s.mac] == s {
		delete(p.byMAC, s.mac)
	}
	s.mac, s.held, s.left = cluster.MAC{}, time.Time{}, nil
}

// unlearn takes over that the store holds nothing for an address, as of a revision.
func (p *pool) unlearn(s *slot, at cluster.Revision) {
	s.saved = false
	s.lease.Revision = max(at, s.lease.Revision)
	p.settle(s)
}

// at returns the i-th address of the ranges.
func (p *pool) at(i uint32) netip.Addr {
	for _, r := range p.ranges {
		n := number(r.Last) - number(r.First) + 1
		if i < n {
			return address(number(r.First) + i)
		}
		i -= n
	}
	return netip.Addr{}
}

// hash picks where in a pool a machine's address is looked for first. It is the
// same on every server, so that servers which share a pool offer a machine the
// same address (FNV-1a).
func hash(m cluster.MAC) uint32 {
	h := uint32(2166136261)
	for _, b := range m {
		h = (h ^ uint32(b)) * 16777619
	}
	return h
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// lastOf returns a network's broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	return address(number(p.Addr()) | uint32(1<<(32-p.Bits())-1))
}

// lapsing is a heap of slots, the one that lapses first on top.
type lapsing []*slot

func (l lapsing) Len() int           { return len(l) }
func (l lapsing) Less(i, j int) bool { return l[i].lapse.Before(l[j].lapse) }
func (l lapsing) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}

// Push implements heap.Interface.
func (l *lapsing) Push(x any) {
	s := x.(*slot)
	s.index = len(*l)
	*l = append(*l, s)
}

// Pop implements heap.Interface.
func (l *lapsing) Pop() any {
	old := *l
	s := old[len(old)-1]
	*l = old[:len(old)-1]
	return s
}
