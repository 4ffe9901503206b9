package boot

import (
	"container/list"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// Boots is where timelines are kept.
type Boots interface {
	// SaveBoot keeps a boot, in the place of what was kept of it before.
	SaveBoot(ctx context.Context, b cluster.Boot) error

	// DropBoot removes one that turned out to be a part of another.
	DropBoot(ctx context.Context, b cluster.Boot) error
}

// The recorder's defaults.
const (
	DefaultRemember = 20_000                 // machines
	DefaultFlush    = 250 * time.Millisecond // from an event to its being saved
	maxEvents       = 64                     // of one boot; later ones are dropped
	maxDropped      = 10_000                 // boots that wait to be removed; more are listed twice
	saveTimeout     = 5 * time.Second
	heardOnly       = 3 * time.Second  // for so long what all servers hear is left to the one that serves
	bootOld         = 15 * time.Minute // an unfinished boot that was silent for so long is over
	bootLeft        = 45 * time.Second // and one that was left to its disk: UEFI asks by PXE and by HTTP, seconds apart
)

// Sighting is one thing that a server saw a machine do.
type Sighting struct {
	MAC      cluster.MAC
	Host     cluster.HostName
	Event    cluster.Event // its At is filled in when it is zero
	Firmware bool          // firmware looks for a server: a DHCP DISCOVER that begins a boot
	IPXE     bool          // and it is iPXE that does
}

// Recorder keeps the timeline of the current boot of every host, and saves it.
// Recording never waits for the saving. A nil Recorder records nothing; the
// zero value records, and saves when it has Boots and runs.
type Recorder struct {
	Boots    Boots
	Server   cluster.ServerName // this one, among those that share the store
	Several  func() bool        // reports whether others share it now; nil: none does
	Logger   *slog.Logger       // nil is silence
	Remember int                // hosts; default DefaultRemember
	Flush    time.Duration      // default DefaultFlush

	mu      sync.Mutex
	boots   map[cluster.MAC]*list.Element // of *timeline
	recent  list.List                     // most recently changed first
	dirty   map[*timeline]bool
	dropped []cluster.Boot // saved, and parts of others

	failing bool // Run's alone: the last save failed, and was logged
}

type timeline struct {
	boot  cluster.Boot
	last  time.Time
	saved bool // under its ID
	heard bool // the last event is one that every server sees: a DISCOVER
}

// Record adds what was seen to the machine's timeline. Machines that no
// document names have none: a stranger could make up any number of them.
func (r *Recorder) Record(s Sighting) {
	if r == nil || s.Host == "" {
		return
	}
	if s.Event.At.IsZero() {
		s.Event.At = time.Now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.find(s.MAC)
	switch {
	case t == nil || begins(t.boot, s):
		if s.Event.Step == cluster.StepDHCP && !s.Firmware {
			return // a running system renews its lease
		}
		t = r.begin(s)
	case !adds(t.boot, s):
		return
	}
	t.boot.Events = append(t.boot.Events, s.Event)
	t.last, t.heard = s.Event.At, s.Firmware
	r.touch(t)
}

// begins reports whether what was seen is the first of a new boot. Firmware
// asks for an address once itself and once more as iPXE, and both belong to one
// boot; firmware that asks after anything later has started over.
func begins(b cluster.Boot, s Sighting) bool {
	last := b.Events[len(b.Events)-1]
	if s.Event.At.Sub(last.At) > bootOld && !reached(b, cluster.StepConfig) {
		return true
	}
	if !s.Firmware {
		return false
	}
	if last.Local && s.Event.At.Sub(last.At) > bootLeft {
		return true
	}
	for _, e := range b.Events {
		switch {
		case e.Step == cluster.StepLoader && !s.IPXE: // it was reset while it loaded
			return true
		case e.Step != cluster.StepDHCP && e.Step != cluster.StepLoader:
			return true
		}
	}
	return s.Event.At.Sub(last.At) > bootOld
}

func reached(b cluster.Boot, step cluster.Step) bool {
	return slices.ContainsFunc(b.Events, func(e cluster.Event) bool { return e.Step == step })
}

// adds reports whether what was seen is news. What is sent or asked for again,
// and leases that a running system renews, are not.
func adds(b cluster.Boot, s Sighting) bool {
	if len(b.Events) >= maxEvents {
		return false
	}
	for _, e := range slices.Backward(b.Events) {
		if e.Step == s.Event.Step {
			return e.Detail != s.Event.Detail || e.Addr != s.Event.Addr
		}
	}
	return true
}

func (r *Recorder) find(mac cluster.MAC) *timeline {
	if e, ok := r.boots[mac]; ok {
		return e.Value.(*timeline)
	}
	return nil
}

// begin begins a boot with what was seen.
func (r *Recorder) begin(s Sighting) *timeline {
	return r.put(cluster.Boot{
		ID:   s.Event.At.UTC().Format("2006-01-02T15:04:05.000000000Z"),
		Host: s.Host, MAC: s.MAC,
	})
}

// put forgets the machine's last boot for another, and the host that was silent
// longest when there are too many.
func (r *Recorder) put(b cluster.Boot) *timeline {
	if r.boots == nil {
		r.boots = make(map[cluster.MAC]*list.Element)
		r.dirty = make(map[*timeline]bool)
	}
	limit := r.Remember
	if limit <= 0 {
		limit = DefaultRemember
	}
	if e, ok := r.boots[b.MAC]; ok {
		old := r.recent.Remove(e).(*timeline)
		if len(r.dirty) > limit { // nothing could be saved for long
			delete(r.dirty, old)
		}
	}
	for r.recent.Len() >= limit {
		e := r.recent.Back()
		old := r.recent.Remove(e).(*timeline)
		delete(r.boots, old.boot.MAC)
		delete(r.dirty, old)
	}
	t := &timeline{boot: b}
	r.boots[b.MAC] = r.recent.PushFront(t)
	return t
}

func (r *Recorder) touch(t *timeline) {
	r.recent.MoveToFront(r.boots[t.boot.MAC])
	r.dirty[t] = true
}

// Current returns the timeline of a machine's current boot so far.
func (r *Recorder) Current(mac cluster.MAC) (cluster.Boot, bool) {
	if r == nil {
		return cluster.Boot{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.find(mac)
	if t == nil {
		return cluster.Boot{}, false
	}
	return t.copy(), true
}

// CurrentID returns the ID of a machine's current boot, or nothing when none was seen.
func (r *Recorder) CurrentID(mac cluster.MAC) string {
	if r == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.find(mac); t != nil {
		return t.boot.ID
	}
	return ""
}

func (t *timeline) copy() cluster.Boot {
	b := t.boot
	b.Events = slices.Clone(b.Events)
	return b
}

// Run saves timelines as they change, until ctx is done; then it saves what is
// left and returns.
func (r *Recorder) Run(ctx context.Context) {
	every := r.Flush
	if every <= 0 {
		every = DefaultFlush
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.save(ctx)
			r.drop(ctx)
		case <-ctx.Done():
			r.save(context.WithoutCancel(ctx))
			r.drop(context.WithoutCancel(ctx))
			return
		}
	}
}

// save saves every changed timeline. The first failure ends it until the next
// turn, when whatever is left is tried again.
func (r *Recorder) save(ctx context.Context) {
	if r.Boots == nil {
		return
	}
	changed := r.changed()
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	for i, t := range changed {
		r.mu.Lock()
		b := t.copy()
		b.Server, t.saved = r.Server, true
		delete(r.dirty, t)
		r.mu.Unlock()
		err := r.Boots.SaveBoot(ctx, b)
		if err == nil {
			r.failing = false
			continue
		}
		r.mu.Lock()
		r.dirty[t] = true
		r.mu.Unlock()
		if !r.failing {
			r.failing = true
			r.logger().Warn("timelines of boots are not saved; it is tried until it works", "host", b.Host, "boots", len(changed)-i, "error", err)
		}
		return
	}
}

// drop removes what was saved as boots of their own, and was not.
func (r *Recorder) drop(ctx context.Context) {
	r.mu.Lock()
	parts := r.dropped
	r.dropped = nil
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	for i, b := range parts {
		if err := r.Boots.DropBoot(ctx, b); err != nil {
			r.mu.Lock()
			if len(r.dropped) < maxDropped { // at the next turn
				r.dropped = append(r.dropped, parts[i:]...)
			}
			r.mu.Unlock()
			return
		}
	}
}

// changed returns what is to be saved, what changed first coming first.
func (r *Recorder) changed() []*timeline {
	several := r.Several != nil && r.Several()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*timeline
	for t := range r.dirty {
		if several && t.heard && time.Since(t.last) < heardOnly {
			continue // the server that the machine chose saves it too, with what comes next
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *timeline) int { return a.last.Compare(b.last) })
	return out
}

func (r *Recorder) logger() *slog.Logger {
	if r.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Logger
}
