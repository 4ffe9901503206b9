package main

import (
	"context"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
)

// readiness is which hosts have joined and are not ready yet, so that the last
// step of their boot can be written down when it comes.
type readiness struct {
	mu      sync.Mutex
	pending map[cluster.HostName]waiting
}

type waiting struct {
	mac   cluster.MAC
	since time.Time
}

func newReadiness() *readiness { return &readiness{pending: map[cluster.HostName]waiting{}} }

// readyLimit is how long after its introduction a host that becomes ready still
// counts as booting.
const readyLimit = 10 * time.Minute

func (r *readiness) wait(h cluster.HostName, m cluster.MAC) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending[h] = waiting{m, time.Now()}
}

func (r *readiness) hosts() map[cluster.HostName]waiting {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[cluster.HostName]waiting, len(r.pending))
	for h, w := range r.pending {
		if time.Since(w.since) > readyLimit {
			delete(r.pending, h)
			continue
		}
		out[h] = w
	}
	return out
}

func (r *readiness) done(h cluster.HostName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, h)
}

// joined writes the introduction into the boot's timeline.
func (b *bootServices) joined(in cluster.Introduction) {
	b.recorder.Record(boot.Sighting{MAC: in.MAC, Host: in.Host, Event: cluster.Event{Step: cluster.StepJoin, At: in.At, Addr: in.Address}})
	b.ready.wait(in.Host, in.MAC)
}

// watchReady writes down when a host that joined runs all that it must. It asks
// etcd only while there is such a host.
func (b *bootServices) watchReady(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pending := b.ready.hosts()
		if len(pending) == 0 {
			continue
		}
		nodes, err := b.s.store.Nodes(ctx)
		if err != nil {
			continue // asked again in a moment
		}
		for _, n := range nodes {
			w, ok := pending[n.Host]
			if !ok || n.Alive == nil || !api.Ready(n) {
				continue
			}
			b.recorder.Record(boot.Sighting{MAC: w.mac, Host: n.Host, Event: cluster.Event{Step: cluster.StepReady}})
			b.ready.done(n.Host)
		}
	}
}
