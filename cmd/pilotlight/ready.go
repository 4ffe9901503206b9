package main

import (
	"context"
	"net/netip"
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
	// What joins runs, so it was installed, whether its installer has said so or
	// not.
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	if b.installs.Of(in.Host).Phase != cluster.InstallBegun {
		return
	}
	if err := b.finished(ctx, in.Host, in.Address); err != nil {
		b.s.log.Error("a host joined, but that it is installed could not be written down: it would be installed again", "host", in.Host,
			"err", err, "try", "pilotlight host installed "+string(in.Host))
	}
}

// installTimeout is how long it may take to write down that a host is installed.
const installTimeout = 10 * time.Second

// installed takes an installer's word.
func (b *bootServices) installed(ctx context.Context, t cluster.Token) error {
	if err := b.finished(ctx, t.Host, t.Address); err != nil {
		return err
	}
	b.recorder.Record(boot.Sighting{MAC: t.MAC, Host: t.Host, Event: cluster.Event{Step: cluster.StepInstalled, Addr: t.Address}})
	b.s.log.Info("a host is installed, and boots from its disk from now on", "host", t.Host, "address", t.Address)
	return nil
}

func (b *bootServices) finished(ctx context.Context, h cluster.HostName, by netip.Addr) error {
	now := time.Now()
	_, err := b.installs.Change(ctx, h, func(i cluster.Install) cluster.Install { return i.Done(by.String(), now) })
	return err
}

// Install implements api.Machines.
func (b *bootServices) Install(h cluster.HostName) cluster.Install { return b.installs.Of(h) }

// ChangeInstall implements api.Machines.
func (b *bootServices) ChangeInstall(ctx context.Context, h cluster.HostName, next func(cluster.Install) cluster.Install) (cluster.Install, error) {
	return b.installs.Change(ctx, h, next)
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
