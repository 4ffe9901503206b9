package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
)

// admittedBy is the label of a host that a group has let in.
const admittedBy = "admitted-by"

// admission makes hosts of machines that a group with admit: takes. Who asks is
// on a network that authenticates nobody, so each group says how many.
type admission struct {
	snapshot func() *cluster.Snapshot
	apply    func(context.Context, *cluster.Host) (api.ApplyResponse, error)
	log      *slog.Logger

	queue chan *cluster.Host
	mu    sync.Mutex
	asked map[cluster.MAC]asked
}

// asked is a machine that was to be let in.
type asked struct {
	until   time.Time // nothing more is done about it until then
	refused bool
}

const (
	admissionQueue = 64
	admissionRest  = time.Minute // for a machine that could not be let in
	admissionTime  = 10 * time.Second
)

func newAdmission(snapshot func() *cluster.Snapshot, apply func(context.Context, *cluster.Host) (api.ApplyResponse, error), log *slog.Logger) *admission {
	return &admission{
		snapshot: snapshot, apply: apply, log: log,
		queue: make(chan *cluster.Host, admissionQueue), asked: map[cluster.MAC]asked{},
	}
}

// admit reports whether a machine that no document names is about to become a
// host: then it is best not answered until it is. It waits for nothing.
func (a *admission) admit(mac cluster.MAC, arch cluster.Arch, n *cluster.Network) bool {
	h := &cluster.Host{Meta: cluster.Meta{Name: "host-" + mac.Hyphens()}, MACs: []cluster.MAC{mac}, Arch: arch}
	snap := a.snapshot()
	g, ok := snap.GroupOf(h, n)
	if !ok || g.Admit == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if before := a.asked[mac]; time.Now().Before(before.until) {
		return !before.refused
	}
	if len(a.asked) > 10*admissionQueue {
		clear(a.asked)
	}
	h.Labels = map[string]string{admittedBy: g.Name}
	select {
	case a.queue <- h:
		a.asked[mac] = asked{until: time.Now().Add(admissionTime)}
		return true
	default:
		return false
	}
}

// run lets machines in, one after the other, until ctx ends.
func (a *admission) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-a.queue:
			if err := a.letIn(ctx, h); err != nil && ctx.Err() == nil {
				a.refuse(h.MACs[0])
				a.log.Warn("a machine was not made a host", "mac", h.MACs[0], "group", h.Labels[admittedBy], "err", err)
			}
		}
	}
}

func (a *admission) letIn(ctx context.Context, h *cluster.Host) error {
	ctx, cancel := context.WithTimeout(ctx, admissionTime)
	defer cancel()
	snap := a.snapshot()
	group := h.Labels[admittedBy]
	d, ok := snap.Get(cluster.Ref{Kind: cluster.KindGroup, Name: group})
	if !ok {
		return fmt.Errorf("group %s is gone", group)
	}
	there := 0
	for _, d := range snap.Documents(cluster.KindHost) {
		if d.(*cluster.Host).Labels[admittedBy] == group {
			there++
		}
	}
	if limit := d.(*cluster.Group).Admit; there >= limit {
		return fmt.Errorf("group %s has let in %d machines, and admit: %d is all: raise that, or type: pilotlight host approve %s --name NAME", group, there, limit, h.MACs[0])
	}
	out, err := a.apply(ctx, h)
	if err != nil {
		return err
	}
	if len(out.Problems) > 0 {
		words := make([]string, len(out.Problems))
		for i, p := range out.Problems {
			words[i] = p.String()
		}
		return fmt.Errorf("%s", strings.Join(words, "; "))
	}
	a.log.Info("a machine was made a host", "host", h.Name, "mac", h.MACs[0], "group", group)
	return nil
}

func (a *admission) refuse(m cluster.MAC) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[m] = asked{time.Now().Add(admissionRest), true}
}

// makeHost applies the document of a machine that a group lets in.
func (b *bootServices) makeHost(ctx context.Context, h *cluster.Host) (api.ApplyResponse, error) {
	return b.s.api.Applier.Apply(ctx, "group:"+h.Labels[admittedBy], []cluster.Document{h}, nil)
}
