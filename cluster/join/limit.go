package join

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pilotlight/pilotlight/cluster"
)

// What strangers may have written into etcd. The bursts are far above what an
// honest network does in a morning when all its machines boot.
const (
	auditBurst = 2000
	auditEvery = 10 * time.Second // beyond the burst
	mintBurst  = 20               // tokens of one host
	mintEvery  = 20 * time.Second
)

// limits bounds what strangers can have written. Its parts are apart, so that
// made-up tokens do not hide that real ones are tried.
type limits struct {
	unknown  limit
	refusals limit
	mints    limit
	fetches  limit // of userdata

	mu    sync.Mutex
	hosts map[cluster.HostName]*rate.Limiter
}

// mayMint reports whether one more token may be made for a host.
func (l *limits) mayMint(h cluster.HostName) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hosts == nil {
		l.hosts = map[cluster.HostName]*rate.Limiter{}
	}
	if l.hosts[h] == nil {
		l.hosts[h] = rate.NewLimiter(rate.Every(mintEvery), mintBurst)
	}
	return l.hosts[h].Allow()
}

// limit bounds one sort of audit entry. The zero limit is ready.
type limit struct {
	mu      sync.Mutex
	rate    *rate.Limiter
	leftOut int
}

// take reports whether an entry may be written, and how many were left out
// since the last one.
func (l *limit) take() (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == nil {
		l.rate = rate.NewLimiter(rate.Every(auditEvery), auditBurst)
	}
	if !l.rate.Allow() {
		l.leftOut++
		return 0, false
	}
	leftOut, l.leftOut = l.leftOut, 0
	return leftOut, true
}

// entry returns an entry as it is to be written, if it may be.
func (l *limit) entry(e cluster.AuditEntry) (cluster.AuditEntry, bool) {
	left, ok := l.take()
	if left > 0 {
		e.Detail = strings.TrimSpace(fmt.Sprintf("%s (%d entries like this were left out before)", e.Detail, left))
	}
	return e, ok
}
