package dhcp

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// What another server lends is its own to know. What goes by says most of it: a
// REQUEST names the address that its machine takes, and comes to every server
// on the link and behind a relay; an ACK that is broadcast, as firmware asks
// for, says it once more and for how long.
const (
	seenLimit = 16_384         // machines; the one that was silent longest is forgotten
	seenTime  = 12 * time.Hour // how long a machine is taken to keep an address when nobody said
)

// sighting is a machine that was seen to take an address from another server.
type sighting struct {
	addr    netip.Addr
	who     cluster.Identity // its card and its switch port
	expires time.Time
}

// sightings keeps the last one of each address and of each machine. It is
// bounded, whatever a stranger makes up; and what it makes up it may believe:
// nothing on such a network proves who sent a packet (docs/trust.md).
type sightings struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]*list.Element // of *sighting
	byMAC  map[cluster.MAC]*list.Element
	recent list.List // the last seen first
}

// see notes that a machine takes an address. What is seen last counts: the other
// server gives an address to a second machine when the first has released it,
// which nobody but that server sees. A weak sighting is one of which the other
// server knows nothing; it never takes an address from another machine.
func (l *sightings) see(a netip.Addr, who cluster.Identity, now time.Time, term time.Duration, weak bool) {
	if term <= 0 || term > 2*seenTime {
		term = seenTime
	}
	mac := who.MAC
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byAddr[a]; ok {
		if s := e.Value.(*sighting); weak && s.who.MAC != mac && s.expires.After(now) {
			return
		}
		l.drop(e)
	}
	if e, ok := l.byMAC[mac]; ok {
		l.drop(e)
	}
	if l.byAddr == nil {
		l.byAddr, l.byMAC = make(map[netip.Addr]*list.Element), make(map[cluster.MAC]*list.Element)
	}
	if l.recent.Len() >= seenLimit {
		l.drop(l.recent.Back())
	}
	e := l.recent.PushFront(&sighting{a, who, now.Add(term)})
	l.byAddr[a], l.byMAC[mac] = e, e
}

func (l *sightings) drop(e *list.Element) {
	s := l.recent.Remove(e).(*sighting)
	delete(l.byAddr, s.addr)
	delete(l.byMAC, s.who.MAC)
}

// owner returns the machine that was seen to take an address.
func (l *sightings) owner(a netip.Addr, now time.Time) (cluster.Identity, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byAddr[a]; ok {
		if s := e.Value.(*sighting); s.expires.After(now) {
			return s.who, true
		}
	}
	return cluster.Identity{}, false
}

// known returns what is known of a machine that takes an address: more than its
// card when its own REQUEST went by before.
func (l *sightings) known(a netip.Addr, mac cluster.MAC) cluster.Identity {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byAddr[a]; ok && e.Value.(*sighting).who.MAC == mac {
		return e.Value.(*sighting).who
	}
	return cluster.Identity{MAC: mac}
}

// address returns the address that a machine was seen to take.
func (l *sightings) address(mac cluster.MAC, now time.Time) (netip.Addr, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byMAC[mac]; ok {
		if s := e.Value.(*sighting); s.expires.After(now) {
			return s.addr, true
		}
	}
	return netip.Addr{}, false
}
