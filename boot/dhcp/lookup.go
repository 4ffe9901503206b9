package dhcp

import (
	"net/netip"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

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
