package boot

import (
	"sync"
	"time"
)

// Quiet keeps a log line that a stranger can provoke from filling the log: it lets each
// key through once in a while. The zero value is ready.
type Quiet struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// How often a key is let through, and how many are known: with more of them the whole
// log is rationed.
const (
	quietTime = 30 * time.Second
	QuietMost = 1000
)

// Says reports whether a line may be written now.
func (q *Quiet) Says(key string) bool { return q.says(key, time.Now()) }

func (q *Quiet) says(key string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.last[key]) < quietTime {
		return false
	}
	if q.last == nil {
		q.last = make(map[string]time.Time)
	}
	if len(q.last) >= QuietMost {
		for k, at := range q.last {
			if now.Sub(at) >= quietTime {
				delete(q.last, k)
			}
		}
		if len(q.last) >= QuietMost {
			return false
		}
	}
	q.last[key] = now
	return true
}

// Len is how many keys are known.
func (q *Quiet) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.last)
}
