//go:build storm || integration

package storm

import (
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// ledger is what the machines were promised: every lease that was acknowledged,
// and whether two of them ever had the same address.
type ledger struct {
	mu     sync.Mutex
	lent   map[netip.Addr]promise
	of     map[cluster.MAC]netip.Addr
	acks   int
	faults []string
}

type promise struct {
	mac   cluster.MAC
	until time.Time
}

func newLedger() *ledger {
	return &ledger{lent: map[netip.Addr]promise{}, of: map[cluster.MAC]netip.Addr{}}
}

// acknowledged takes an ACK down. A machine that gets another address has begun
// anew, and uses the one before no more.
func (l *ledger) acknowledged(mac cluster.MAC, a netip.Addr, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acks++
	if p, ok := l.lent[a]; ok && p.mac != mac && time.Now().Before(p.until) {
		l.faults = append(l.faults, fmt.Sprintf("%s was given to %s, and is lent to %s until %s", a, mac, p.mac, p.until.Format(time.TimeOnly)))
	}
	if before, ok := l.of[mac]; ok && before != a && l.lent[before].mac == mac {
		delete(l.lent, before)
	}
	l.lent[a], l.of[mac] = promise{mac, until}, a
}

// now returns what is lent at this moment.
func (l *ledger) now() map[netip.Addr]promise {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.lent)
}
