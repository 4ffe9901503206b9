package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff counts failures and says how long to wait after each: from Min,
// doubling up to Max, a quarter more or less by chance so that a thousand
// hosts do not come back at once.
type Backoff struct {
	Min, Max time.Duration
	failures int
}

// Next notes a failure and returns how long to wait.
func (b *Backoff) Next() time.Duration {
	d := doubled(b.Min, b.Max, b.failures)
	b.failures++
	return Jitter(d)
}

// Reset forgets the failures.
func (b *Backoff) Reset() { b.failures = 0 }

func doubled(least, most time.Duration, times int) time.Duration {
	for range times {
		if least >= most/2 {
			return most
		}
		least *= 2
	}
	return min(least, most)
}

// Jitter returns d, a quarter more or less by chance.
func Jitter(d time.Duration) time.Duration {
	if d < 4 {
		return d
	}
	return d - d/4 + rand.N(d/2)
}

// Sleep waits for d or the end of ctx, and reports whether d passed.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
