package dhcp

import (
	"net/netip"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// AddressOf returns an address that is lent to a host at the moment: to one of
// its cards, or to whatever is at its switch port.
func (s *Server) AddressOf(h *cluster.Host) (netip.Addr, bool) {
	for _, m := range h.MACs {
		if a, ok := s.LeaseOf(m); ok {
			return a, true
		}
	}
	if len(h.MACs) > 0 {
		return netip.Addr{}, false
	}
	s.book.mu.Lock()
	m, ok := s.book.cards[h.HostName()]
	s.book.mu.Unlock()
	if !ok {
		return netip.Addr{}, false
	}
	return s.LeaseOf(m)
}

// LeaseOf returns an address that is lent to a machine at the moment, on
// whichever network; where another server lends, the one that the machine was
// seen to take.
func (s *Server) LeaseOf(m cluster.MAC) (netip.Addr, bool) {
	now := time.Now()
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, p := range s.book.pools {
		if slot := p.byMAC[m]; slot != nil && slot.lends() && slot.lease.Expires.After(now) {
			return slot.addr, true
		}
	}
	return s.seen.address(m, now)
}

// Began returns when a machine last began to look for its address, which a system
// that runs does not: it renews it.
func (s *Server) Began(m cluster.MAC) (at time.Time) {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	for _, p := range s.book.pools {
		if slot := p.byMAC[m]; slot != nil && slot.asked.After(at) {
			at = slot.asked
		}
	}
	return at
}
