package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// line is a Link that says when it runs.
type line struct {
	name string
	mu   *sync.Mutex
	ran  *[]string
}

func (l line) note(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*l.ran = append(*l.ran, s+" "+l.name)
}

func (l line) Run(ctx context.Context, told func(State)) error {
	l.note("begins")
	told(State{})
	<-ctx.Done()
	if errors.Is(context.Cause(ctx), ErrRedial) {
		l.note("hands over")
	} else {
		l.note("ends")
	}
	return nil
}

func (l line) PutStatus(context.Context, cluster.Status) error { l.note("status"); return nil }

func TestUplink(t *testing.T) {
	atGate(t, func(g *gate) {
		var mu sync.Mutex
		var ran []string
		placed, dials := 0, 0
		u := &Uplink{Identity: g.a.Identity, Log: g.a.Log, Place: func(*Identity) error { placed++; return nil }}
		u.Dial = func(c *tls.Config) (Link, error) {
			if dials++; dials == 1 {
				return nil, errors.New("bad endpoint")
			}
			return line{string(rune('a' + dials - 2)), &mu, &ran}, nil
		}
		ctx, cancel := context.WithCancel(g.Context())
		ended := make(chan error)
		go func() { ended <- u.Run(ctx, func(State) {}) }()
		g.begin()
		g.wait(time.Minute)
		if err := u.PutStatus(ctx, cluster.Status{}); err == nil {
			t.Error("linked without a certificate")
		}
		g.change(func(s *servers) { s.life = time.Hour })
		g.give("T")
		g.wait(time.Minute)
		if err := u.PutStatus(ctx, cluster.Status{}); err != nil {
			t.Error(err)
		}
		g.wait(45 * time.Minute) // a renewal: no new connection, but new files
		old := g.ca.pem()
		g.change(func(s *servers) { s.ca, s.more = newAuthority(g.T), old })
		g.wait(45 * time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got, want := strings.Join(ran, ", "), "begins a, status a, hands over a, begins b, ends b"; got != want {
			t.Errorf("%q, not %q", got, want)
		}
		if placed < 4 {
			t.Errorf("placed %d times", placed)
		}
	})
}
