package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

// Defaults of an Agent.
const (
	DefaultSettle = 5 * time.Second
	DefaultResync = 15 * time.Second

	maxBusy   = 8 // actions at the same time
	stateFile = "state.json"
)

// Link is the way to what a host is told, and from what it says.
type Link interface {
	// Run calls told with each State that is read, until ctx ends. It comes
	// back from every failure by itself.
	Run(ctx context.Context, told func(State)) error
	PutStatus(ctx context.Context, s cluster.Status) error
}

// Agent keeps one host at what is desired. Its exported fields are set before
// Run, and not after.
type Agent struct {
	Runtime Runtime
	Link    Link
	Vault   *Vault
	Opener  Opener
	Dir     string // where the last known state is kept
	Version string
	Settle  time.Duration // how long a container without a health check runs before it counts as healthy
	Resync  time.Duration // how often to look without being told to
	Log     *slog.Logger  // nil: silent

	Found func(cluster.Uplinks) // told where the servers are by now, from the last known state first; nil: nobody

	memory Memory
	state  State
	busy   map[Key]Action
	before map[Key]cluster.ContainerStatus
	engine string           // its version, once it has answered
	stuck  map[Slot]Failure // what could not be cleaned up
	down   Backoff
	saved  string // what is on the disk
	ended  chan outcome

	mu     sync.Mutex // guards what follows, which other goroutines read
	status cluster.Status
	health readiness
	counts map[count]int
	fresh  chan struct{} // holds one token when status is news
}

// Run keeps the host at what is desired until ctx ends. What runs goes on
// running after it. It ends with an error only when it cannot begin.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.begin(); err != nil {
		return err
	}
	told := make(chan State, 1)
	changed := make(chan struct{}, 1)
	ctx, stop := context.WithCancel(ctx)
	var owned sync.WaitGroup
	owned.Go(func() { a.watch(ctx, changed) })
	owned.Go(func() { a.publish(ctx) })
	owned.Go(func() { a.listen(ctx, told) })
	a.loop(ctx, told, changed)
	stop()
	owned.Wait()
	return nil
}

func (a *Agent) begin() error {
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	if a.Settle == 0 {
		a.Settle = DefaultSettle
	}
	if a.Resync == 0 {
		a.Resync = DefaultResync
	}
	a.busy, a.before = map[Key]Action{}, map[Key]cluster.ContainerStatus{}
	a.counts, a.stuck = map[count]int{}, map[Slot]Failure{}
	a.fresh = make(chan struct{}, 1)
	a.ended = make(chan outcome)
	a.down = Backoff{Min: time.Second, Max: 15 * time.Second}
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return fmt.Errorf("state directory: %w; set --state DIR", err)
	}
	if err := a.Vault.Open(); err != nil {
		return err
	}
	var err error
	if a.state, a.memory, err = loadState(filepath.Join(a.Dir, stateFile)); err != nil {
		a.Log.Error("last known state", "err", err)
	} else if a.state.Desired != nil {
		a.Log.Info("last known state", "revision", a.state.Revision, "containers", len(a.state.Desired.Containers), "secrets", len(a.state.Secrets))
		a.found()
	}
	return nil
}

// loop is the one goroutine that decides.
func (a *Agent) loop(ctx context.Context, told <-chan State, changed <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			a.finish()
			return
		case s := <-told:
			a.take(s)
		case o := <-a.ended:
			a.settleOutcome(o)
		case <-changed:
		case <-timer.C:
		}
		timer.Reset(a.step(ctx))
	}
}

// finish waits for what was begun.
func (a *Agent) finish() {
	for len(a.busy) > 0 {
		a.settleOutcome(<-a.ended)
	}
	a.save()
}

// take takes over what the host was told. What it was not told stays as it was.
func (a *Agent) take(s State) {
	next := State{Desired: a.state.Desired, Revision: a.state.Revision, Secrets: s.Secrets, Problem: s.Problem}
	if s.Desired != nil {
		next.Desired, next.Revision = s.Desired, s.Revision
	} else if s.Problem == "" {
		next.Problem = "the servers have decided nothing for this host yet; what runs stays (pilotlight site status)"
	}
	a.keepNeeded(&next)
	a.state = next
	a.found()
	for slot, f := range a.memory.Failed {
		if !f.Trial { // it may have failed for what has just come
			f.Until = time.Time{}
			a.memory.Failed[slot] = f
		}
	}
	a.note(func(r *readiness) { r.told = true })
	a.Log.Info("told what to run", "revision", next.Revision, "containers", len(containersOf(next)), "secrets", len(next.Secrets), "problem", next.Problem)
	a.save()
}

// found passes on where the servers are by now.
func (a *Agent) found() {
	if d := a.state.Desired; a.Found != nil && d != nil && !d.Uplinks.IsZero() {
		a.Found(d.Uplinks)
	}
}

// keepNeeded keeps the secrets of what runs and of the versions to fall back
// to. A version of a secret never changes, so that the one at hand is right
// until the servers have sealed it anew.
func (a *Agent) keepNeeded(next *State) {
	next.Secrets = maps.Clone(next.Secrets)
	if next.Secrets == nil {
		next.Secrets = map[cluster.Version]*secret.Sealed{}
	}
	keep := func(c cluster.Container) {
		for _, v := range c.Secrets {
			if old, ok := a.state.Secrets[v]; ok && next.Secrets[v] == nil {
				next.Secrets[v] = old
			}
		}
	}
	for _, c := range containersOf(*next) {
		keep(c)
	}
	for _, p := range a.memory.Proven {
		keep(p.Container)
	}
}

func containersOf(s State) []cluster.Container {
	if s.Desired == nil {
		return nil
	}
	return s.Desired.Containers
}

// step looks, decides, and begins what is to be done next. It returns after
// how long to look again unless something happens before.
func (a *Agent) step(ctx context.Context) time.Duration {
	if ctx.Err() != nil {
		return a.Resync
	}
	w, err := a.observe(ctx)
	a.note(func(r *readiness) { r.engine = err == nil; r.looked = time.Now() })
	if err != nil {
		a.say(a.status.Containers, fmt.Sprintf("the container engine does not answer: %v; see systemctl status docker", err))
		return a.down.Next()
	}
	a.down.Reset()
	d := Plan(w)
	a.learn(w, d)
	h := hand{a.Runtime, a.Vault, a.Opener, a.state.Secrets}
	for _, action := range d.Actions {
		if len(a.busy) >= maxBusy {
			break
		}
		if _, taken := a.busy[action.Slot.Key]; taken {
			continue
		}
		a.busy[action.Slot.Key] = action
		a.about(action).Info(string(action.Verb), "why", action.Why)
		go func() { a.ended <- h.do(ctx, action) }() // finish waits for it
	}
	a.say(d.Status, a.state.Problem)
	if d.Again.IsZero() {
		return a.Resync
	}
	return max(min(a.Resync, time.Until(d.Again)), 10*time.Millisecond)
}

// observe gathers what Plan decides from.
func (a *Agent) observe(ctx context.Context) (World, error) {
	ctx, cancel := context.WithTimeout(ctx, engineTime)
	defer cancel()
	w := World{
		Desired: a.state.Desired, Memory: a.memory, Settle: a.Settle,
		Images: map[string]bool{}, Sealed: map[cluster.Version]bool{}, Busy: map[Key]bool{}, Stuck: map[Slot]time.Time{},
	}
	var err error
	if a.engine == "" {
		if a.engine, err = a.Runtime.Version(ctx); err != nil {
			return w, err
		}
	}
	if w.Found, err = a.Runtime.List(ctx); err != nil {
		return w, err
	}
	if w.Networks, err = a.Runtime.Networks(ctx); err != nil {
		return w, err
	}
	if w.Stored, err = a.Vault.Slots(); err != nil {
		return w, err
	}
	if err := a.observeImages(ctx, &w); err != nil {
		return w, err
	}
	for v := range a.state.Secrets {
		w.Sealed[v] = true
	}
	for k := range a.busy {
		w.Busy[k] = true
	}
	for slot, f := range a.stuck {
		w.Stuck[slot] = f.Until
	}
	w.Now = time.Now()
	return w, nil
}

// observeImages looks for the images of which a container is still to be made.
func (a *Agent) observeImages(ctx context.Context, w *World) error {
	there := map[Slot]bool{}
	for _, f := range w.Found {
		there[f.Slot] = true
	}
	for _, c := range containersOf(a.state) {
		if image := c.Service.Image; !there[SlotOf(c)] && !w.Images[image] {
			found, err := a.Runtime.Image(ctx, image)
			if err != nil {
				return err
			}
			w.Images[image] = found != nil
		}
	}
	return nil
}

// learn notes what a look has shown.
func (a *Agent) learn(w World, d Decision) {
	news := false
	for _, w := range d.Healthy {
		news = a.memory.proves(w) || news
	}
	if w.Desired == nil {
		return
	}
	wanted, there := map[Key]string{}, map[Slot]bool{}
	for _, c := range w.Desired.Containers {
		wanted[KeyOf(c)] = Hash(c)
	}
	for _, f := range w.Found {
		there[f.Slot] = true
	}
	for slot := range a.memory.Failed {
		if wanted[slot.Key] != slot.Hash && !there[slot] {
			delete(a.memory.Failed, slot)
			news = true
		}
	}
	for slot := range a.memory.Proven {
		if _, ok := wanted[slot.Key]; !ok && !there[slot] {
			delete(a.memory.Proven, slot)
			news = true
		}
	}
	for image := range a.memory.Images {
		if d.Images[image] {
			a.memory.Images[image] = w.Now
		}
	}
	if news {
		a.save()
	}
}

// about is the log with what an action is about.
func (a *Agent) about(act Action) *slog.Logger {
	log := a.Log
	for _, attr := range []slog.Attr{
		slog.String("site", string(act.Slot.Site)), slog.String("service", string(act.Slot.Service)),
		slog.String("hash", act.Slot.Hash), slog.String("image", act.Image),
	} {
		if attr.Value.String() != "" {
			log = log.With(attr)
		}
	}
	return log
}

// settleOutcome notes how an action ended.
func (a *Agent) settleOutcome(o outcome) {
	act := o.action
	delete(a.busy, act.Slot.Key)
	a.count(act.Verb, o.err)
	log := a.about(act).With("took", o.took.Round(time.Millisecond).String())
	now := time.Now()
	switch {
	case errors.Is(o.err, context.Canceled):
		log.Info(string(act.Verb) + " was given up")
	case act.Verb == Abandon:
		a.stick(act, o.err, now)
		message := act.Why
		if o.words != "" {
			message += "; its last words: " + o.words
		}
		log.Error("the new version failed", "why", message)
		if o.err != nil {
			log.Error("remove failed", "err", o.err)
		}
		a.memory.Failed[act.Slot] = a.memory.Failed[act.Slot].again(now, true, message)
		a.save()
	case o.err != nil && act.Verb == RemoveImage: // somebody else's container has it
		log.Info("image stays", "err", o.err)
		a.remember(act, now)
	case o.err != nil && act.Verb.cleans():
		log.Error(string(act.Verb)+" failed", "err", o.err)
		a.stick(act, o.err, now)
	case o.err != nil:
		log.Error(string(act.Verb)+" failed", "err", o.err)
		a.memory.Failed[act.Slot] = a.memory.Failed[act.Slot].again(now, false, o.err.Error())
		a.save()
	default:
		delete(a.stuck, act.Slot)
		log.Info(string(act.Verb) + " done")
		a.remember(act, now)
	}
}

// stick notes that a clean-up failed, so that it is not repeated in haste.
func (a *Agent) stick(act Action, err error, now time.Time) {
	if err != nil {
		a.stuck[act.Slot] = a.stuck[act.Slot].again(now, false, err.Error())
	}
}

func (a *Agent) remember(act Action, now time.Time) {
	switch act.Verb {
	case Pull:
		a.memory.Images[act.Image] = now
		a.save()
	case RemoveImage:
		delete(a.memory.Images, act.Image)
		a.save()
	}
}

// save puts the last known state on the disk if it is not there.
func (a *Agent) save() {
	path := filepath.Join(a.Dir, stateFile)
	b, err := encodeState(a.state, a.memory)
	if err == nil && string(b) != a.saved {
		if err = writeFile(path, b, 0o600); err == nil {
			a.saved = string(b)
		}
	}
	if err != nil {
		a.Log.Error("the last known state cannot be saved; a reboot without the servers would lose it", "err", err)
	}
}
