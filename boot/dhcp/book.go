package dhcp

import (
	"net/netip"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// book is what this server knows of every lease, on every network.
type book struct {
	mu    sync.Mutex
	pools map[cluster.NetworkName]*pool
	cards map[cluster.HostName]cluster.MAC // by which a host asked last, of those that a lease names
}

// place is an address on a network.
type place struct {
	network cluster.NetworkName
	addr    netip.Addr
}

// pool returns the pool of a network as the snapshot has it. mu is held.
func (b *book) pool(snap *cluster.Snapshot, n *cluster.Network) *pool {
	p := b.named(cluster.NetworkName(n.Name))
	p.configure(snap, n)
	return p
}

func (b *book) named(name cluster.NetworkName) *pool {
	p := b.pools[name]
	if p == nil {
		if b.pools == nil {
			b.pools = make(map[cluster.NetworkName]*pool)
		}
		p = newPool()
		b.pools[name] = p
	}
	return p
}

// load takes over everything that the store held at a revision, and that it held
// nothing else.
func (b *book) load(leases []cluster.Lease, at cluster.Revision, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	there := make(map[place]bool, len(leases))
	for _, l := range leases {
		there[place{l.Network, l.Address}] = true
		b.learn(l, now)
	}
	for name, p := range b.pools {
		for _, s := range p.slots {
			if s.saved && s.lease.Revision <= at && !there[place{name, s.addr}] {
				p.unlearn(s, at)
			}
		}
	}
}

// learn takes over what the store holds for one address; a lease without a MAC
// says that it holds nothing. mu is held.
func (b *book) learn(l cluster.Lease, now time.Time) {
	if !l.Address.Is4() {
		return
	}
	p := b.named(l.Network)
	if !l.MAC.IsZero() {
		p.learn(l, now)
		b.names(l)
	} else if s := p.slots[l.Address]; s != nil && s.isNews(l.Revision) {
		p.unlearn(s, l.Revision)
	}
}

// names notes by which card a host has an address. mu is held.
func (b *book) names(l cluster.Lease) {
	if l.Hostname == "" || l.Declined {
		return
	}
	if b.cards == nil {
		b.cards = make(map[cluster.HostName]cluster.MAC)
	}
	b.cards[cluster.HostName(l.Hostname)] = l.MAC
}

// owner returns the machine to which an address is lent.
func (b *book) owner(n cluster.NetworkName, a netip.Addr, now time.Time) (cluster.Identity, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pools[n]
	if p == nil {
		return cluster.Identity{}, false
	}
	s := p.slots[a]
	if s == nil || !s.saved || s.lease.Declined || !s.lease.Expires.After(now) {
		return cluster.Identity{}, false
	}
	return cluster.Identity{MAC: s.lease.MAC, Port: s.lease.Port}, true
}
