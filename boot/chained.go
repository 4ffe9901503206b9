package boot

import (
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	chainTime  = time.Minute // in which an iPXE is loaded and asks, at most; one that asks later is the next boot's
	chainLimit = 1000
)

// Chained are the machines whose iPXE was given another one a moment ago, so that
// one that is no better is not given itself for ever. The zero Chained is ready.
type Chained struct {
	mu sync.Mutex
	at map[cluster.MAC]chaining
}

type chaining struct {
	at          time.Time
	transaction string // that was answered so; the same one may be asked again
}

// Before reports whether a request in a transaction is of what a machine was
// chained to.
func (c *Chained) Before(q Request, transaction string, now time.Time) bool {
	if !q.IsIPXE() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.at[q.MAC]
	return ok && now.Sub(last.at) < chainTime && last.transaction != transaction
}

// Note notes what a machine was told in the end: to chain, or that it need not.
func (c *Chained) Note(q Request, r Reply, transaction string, now time.Time) {
	if !q.IsIPXE() || r.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.Chain {
		delete(c.at, q.MAC)
		return
	}
	if len(c.at) >= chainLimit {
		clear(c.at) // what is lost costs a machine one more turn
	}
	if c.at == nil {
		c.at = make(map[cluster.MAC]chaining)
	}
	c.at[q.MAC] = chaining{now, transaction}
}
