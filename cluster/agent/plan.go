package agent

import (
	"fmt"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// World is all that Plan decides from.
type World struct {
	Desired  *cluster.Desired // nil: unknown, so that nothing changes
	Found    []Found
	Networks []cluster.SiteName
	Images   map[string]bool          // of those desired: is it here?
	Sealed   map[cluster.Version]bool // the secrets that are here
	Stored   []Slot                   // those with opened secrets
	Busy     map[Key]bool             // those on which an action is under way
	Stuck    map[Slot]time.Time       // those that could not be cleaned up, and until when not to try
	Memory   Memory
	Settle   time.Duration // how long a container without a health check runs before it counts as healthy
	Now      time.Time
}

// Verb says what an Action does.
type Verb string

// The verbs.
const (
	Pull          Verb = "pull"
	Create        Verb = "create"
	Start         Verb = "start"   // after stopping what must not run beside it
	Restore       Verb = "restore" // start the version before, which serves until a better one does
	Stop          Verb = "stop"
	Remove        Verb = "remove"         // stopped with its grace if it runs
	Abandon       Verb = "abandon"        // a new version that is not healthy: kept are its last words
	RemoveNetwork Verb = "remove network" // of a site that is gone
	RemoveSecrets Verb = "remove secrets" // of a container that is gone
	RemoveImage   Verb = "remove image"
)

// cleans reports whether the verb takes something away that is not wanted.
func (v Verb) cleans() bool {
	return v == Stop || v == Remove || v == RemoveNetwork || v == RemoveSecrets || v == RemoveImage
}

// Action is one step towards what is desired. Two of different Keys may be
// carried out at the same time.
type Action struct {
	Verb      Verb
	Slot      Slot
	ID        string            // of the container, for all but pull and create
	First     string            // for start: the container to stop just before
	Image     string            // for pull and remove image
	Container cluster.Container // for create, start and restore: whose secrets must be in place
	Why       string
}

// Decision is what Plan says.
type Decision struct {
	Actions []Action
	Status  []cluster.ContainerStatus // Since is left to the caller
	Healthy []Well                    // the versions that are healthy now
	Images  map[string]bool           // those that run, are to run, or are a way back
	Again   time.Time                 // when the passing of time alone changes the decision; zero: never
}

// Well is a version that is healthy, and the engine's container that is.
type Well struct {
	Container cluster.Container
	ID        string
}

// Plan decides what to do next. It is a pure function.
func Plan(w World) Decision {
	p := &planner{World: w, status: map[Key]cluster.ContainerStatus{}, wanted: map[Key]cluster.Container{}, finished: map[Key]bool{}}
	if w.Desired == nil {
		return p.Decision
	}
	for _, c := range w.Desired.Containers {
		p.wanted[KeyOf(c)] = c
	}
	p.removeUnwanted()
	order := byDependency(w.Desired.Containers)
	for _, c := range order {
		p.service(c)
	}
	for _, c := range w.Desired.Containers {
		p.Status = append(p.Status, p.status[KeyOf(c)])
	}
	p.tidy()
	return p.Decision
}

type planner struct {
	World
	Decision
	wanted map[Key]cluster.Container
	status map[Key]cluster.ContainerStatus

	finished map[Key]bool // those whose container has done its work, and needs not run
}

func (p *planner) act(a Action) {
	if until := p.Stuck[a.Slot]; until.After(p.Now) {
		p.wake(until)
		return
	}
	if !p.Busy[a.Slot.Key] {
		p.Actions = append(p.Actions, a)
	}
}

func (p *planner) wake(at time.Time) {
	if at.After(p.Now) && (p.Again.IsZero() || at.Before(p.Again)) {
		p.Again = at
	}
}

func (p *planner) removeUnwanted() {
	for _, f := range p.Found {
		if _, ok := p.wanted[f.Key]; !ok && f.Phase != PhaseRemoving {
			p.act(Action{Verb: Remove, Slot: f.Slot, ID: f.ID, Why: "no longer desired"})
		}
	}
}

// turn is what planning one service needs to know.
type turn struct {
	want   cluster.Container
	slot   Slot
	cur    *Found // the container that is desired
	old    *Found // the one that serves until cur is healthy, or again when cur is not
	extra  []*Found
	failed Failure // of the version that is desired
	held   bool    // the failure is too recent to try again
	trial  bool    // cur has still to show that it is better than old
}

func (p *planner) turn(want cluster.Container) turn {
	t := turn{want: want, slot: SlotOf(want)}
	proven, id := p.Memory.provenOf(t.slot.Key)
	var others []*Found
	for i := range p.Found {
		f := &p.Found[i]
		switch {
		case f.Key != t.slot.Key || f.Phase == PhaseRemoving:
		case f.Hash == t.slot.Hash && t.cur == nil:
			t.cur = f
		default:
			others = append(others, f)
		}
	}
	// A version that was healthy once, in a container that is gone, has to show
	// it again: until then what serves is kept.
	t.trial = proven != t.slot.Hash || t.cur != nil && id != "" && t.cur.ID != id
	if t.trial || t.cur == nil {
		t.old = bestOf(others, proven)
	}
	for _, f := range others {
		if f != t.old {
			t.extra = append(t.extra, f)
		}
	}
	t.trial = t.trial && t.old != nil
	t.failed = p.Memory.Failed[t.slot]
	t.held = t.failed.Until.After(p.Now)
	return t
}

// bestOf returns the container to fall back to: the proven one, else one that
// runs, else the one that ran last. One that never ran is nothing to fall back
// to.
func bestOf(found []*Found, proven string) *Found {
	var best *Found
	better := func(f *Found) bool {
		switch {
		case best == nil:
			return true
		case (f.Hash == proven) != (best.Hash == proven):
			return f.Hash == proven
		case f.up() != best.up():
			return f.up()
		}
		return f.Started.After(best.Started)
	}
	for _, f := range found {
		if !f.Started.IsZero() && better(f) {
			best = f
		}
	}
	return best
}

// service decides the next step for one service, and says how it is. Each step
// is taken only when the one before is seen to be done.
func (p *planner) service(want cluster.Container) {
	t := p.turn(want)
	if t.held {
		p.wake(t.failed.Until)
	}
	if len(t.extra) > 0 {
		p.say(t, "")
		p.act(Action{Verb: Remove, Slot: t.extra[0].Slot, ID: t.extra[0].ID, Why: "neither desired nor the way back"})
		return
	}
	switch {
	case t.cur == nil:
		p.absent(t)
	case t.cur.Phase == PhaseDead:
		p.say(t, "removing a dead container")
		p.act(Action{Verb: Remove, Slot: t.slot, ID: t.cur.ID, Why: "dead"})
	case t.cur.Phase == PhaseCreated:
		p.ready(t)
	case t.cur.Phase == PhaseExited:
		p.exited(t)
	default:
		p.running(t)
	}
}

// absent plans for a container that is not there: what serves goes on, and the
// new one is prepared beside it.
func (p *planner) absent(t turn) {
	if t.old != nil && p.restart(t, t.old) {
		return
	}
	if t.held {
		p.say(t, "")
		return
	}
	image := t.want.Service.Image
	if !p.World.Images[image] {
		p.say(t, "pulling "+image)
		p.act(Action{Verb: Pull, Slot: t.slot, Image: image, Why: "not on this host"})
		return
	}
	for _, v := range t.want.Secrets {
		if !p.Sealed[v] {
			p.say(t, fmt.Sprintf("waits for version %d of secret %s", v.Version, v.Name))
			return
		}
	}
	p.say(t, "creating")
	p.act(Action{Verb: Create, Slot: t.slot, Container: t.want, Why: t.why()})
}

func (t *turn) why() string {
	if t.old != nil {
		return "changed, from " + t.old.Hash
	}
	return "not there"
}

// restart starts the container that serves meanwhile, if it should run and
// does not.
func (p *planner) restart(t turn, f *Found) bool {
	if done, failed := f.done(); f.up() || done || failed {
		return false
	}
	if before := p.Memory.Failed[f.Slot]; before.Until.After(p.Now) {
		p.wake(before.Until)
		return false
	}
	proven, known := p.Memory.Proven[f.Slot]
	if !known {
		proven.Container = cluster.Container{Site: f.Site, Service: cluster.Service{Name: f.Service}}
	}
	p.say(t, "starting the version before")
	p.act(Action{Verb: Restore, Slot: f.Slot, ID: f.ID, Container: proven.Container, Why: "the version before serves until the new one does"})
	return true
}

// ready plans for a container that was made and never started.
func (p *planner) ready(t turn) {
	if t.held {
		p.say(t, "")
		return
	}
	if reason := p.dependencies(t.want); reason != "" {
		if t.old == nil || !p.restart(t, t.old) {
			p.say(t, reason)
		}
		return
	}
	if blocker := p.blocker(t); blocker != nil {
		p.say(t, fmt.Sprintf("waits until %s gives up its port", blocker.Key))
		if p.prepared(blocker.Key) { // it may wait for a port of ours in turn
			p.act(Action{Verb: Stop, Slot: blocker.Slot, ID: blocker.ID, Why: "its port is needed by " + t.slot.String()})
		}
		return
	}
	start := Action{Verb: Start, Slot: t.slot, ID: t.cur.ID, Container: t.want, Why: t.why()}
	if t.old != nil && t.old.up() && collide(t.want.Service.Ports, t.old.Ports) {
		start.First = t.old.ID
	}
	p.say(t, "starting")
	p.act(start)
}

// exited plans for a container that ran and has no process now.
func (p *planner) exited(t turn) {
	done, failed := t.cur.done()
	switch {
	case done:
		p.finished[t.slot.Key] = true
		p.healthy(t)
		p.say(t, "")
	case t.trial:
		p.say(t, "")
		p.act(p.abandon(t, fmt.Sprintf("exited with code %d", t.cur.ExitCode)))
	case failed:
		p.say(t, "")
	case t.held:
		p.say(t, "")
	default:
		p.say(t, "starting again")
		p.act(Action{Verb: Start, Slot: t.slot, ID: t.cur.ID, Container: t.want, Why: fmt.Sprintf("had exited with code %d", t.cur.ExitCode)})
	}
}

// patience is how many times the engine may restart a container on trial.
const patience = 3

// running plans for a container that has a process.
func (p *planner) running(t turn) {
	health := p.health(t.cur)
	deadline := t.cur.Started.Add(p.allowed(t.want.Service.Health))
	switch {
	case health == cluster.HealthHealthy && t.trial && p.young(t.cur): // its first check says little
	case health == cluster.HealthHealthy:
		p.healthy(t)
	case !t.trial:
	case health == cluster.HealthUnhealthy && t.cur.Phase == PhaseRunning:
		p.act(p.abandon(t, "its health check fails"))
	case t.cur.Restarts >= patience:
		p.act(p.abandon(t, fmt.Sprintf("exited %d times, last with code %d", t.cur.Restarts, t.cur.ExitCode)))
	case !p.Now.Before(deadline):
		p.act(p.abandon(t, "was not healthy in time"))
	default:
		p.wake(deadline)
	}
	p.say(t, "")
}

func (p *planner) abandon(t turn, why string) Action {
	return Action{Verb: Abandon, Slot: t.slot, ID: t.cur.ID, Container: t.want, Why: why}
}

// healthy notes that cur needs no way back, and retires the one there is.
func (p *planner) healthy(t turn) {
	if !p.Busy[t.slot.Key] { // what is being stopped may look well to its end
		p.Healthy = append(p.Healthy, Well{t.want, t.cur.ID})
	}
	if t.old != nil {
		p.act(Action{Verb: Remove, Slot: t.old.Slot, ID: t.old.ID, Why: t.slot.Hash + " serves now"})
	}
}

// health says how a container is that is there.
func (p *planner) health(f *Found) cluster.Health {
	switch f.Phase {
	case PhaseCreated:
		return cluster.HealthPending
	case PhaseRunning:
		if f.Health != "" {
			return f.Health
		}
		if p.young(f) {
			return cluster.HealthStarting
		}
		return cluster.HealthHealthy
	case PhaseExited:
		if _, failed := f.done(); failed {
			return cluster.HealthFailed
		}
		return cluster.HealthStopped
	case PhaseRestarting, PhasePaused:
		return cluster.HealthUnhealthy
	}
	return cluster.HealthStopped
}

// young reports whether a container has not run for long enough to be judged.
func (p *planner) young(f *Found) bool {
	settled := f.Started.Add(p.Settle)
	p.wake(settled)
	return settled.After(p.Now)
}

// What Docker takes when a health check does not say.
const (
	checkInterval = 30 * time.Second
	checkTimeout  = 30 * time.Second
	checkRetries  = 3
)

// allowed returns how long a container may take until it is healthy. Docker
// says unhealthy earlier; this is for when it says nothing.
func (p *planner) allowed(h *cluster.Healthcheck) time.Duration {
	interval, timeout, retries, start := checkInterval, checkTimeout, checkRetries, time.Duration(0)
	if h != nil {
		start = time.Duration(h.StartPeriod)
		if h.Interval > 0 {
			interval = time.Duration(h.Interval)
		}
		if h.Timeout > 0 {
			timeout = time.Duration(h.Timeout)
		}
		if h.Retries > 0 {
			retries = h.Retries
		}
	}
	return max(p.Settle+time.Minute, start+(interval+timeout)*time.Duration(retries+1))
}
