// Package agenttest holds a container engine that works in memory, and the
// suite that it and package docker both pass.
package agenttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
)

// Program is how the containers of an image behave.
type Program struct {
	User    string
	Health  time.Duration // after how long the health check passes, for services that have one
	Sick    bool          // the health check fails, three intervals after the start
	Exits   bool          // by itself, After the start, with Code
	After   time.Duration
	Code    int
	NoStart error         // the engine cannot start it
	Stops   time.Duration // how long it takes when it is told to
	Log     string
}

// Engine is a container engine in memory. Its time is that of package time, so
// that it works in a bubble of testing/synctest. The zero Engine has no images
// to pull.
type Engine struct {
	mu       sync.Mutex
	registry map[string]Program
	pulled   map[string]bool
	boxes    map[string]*box
	networks map[cluster.SiteName]bool
	watchers map[int]func()
	next     int
	done     []string
	down     error
}

var _ agent.Runtime = (*Engine)(nil)

type box struct {
	agent.Found
	spec    agent.Spec
	program Program
	stopped bool // by Stop: the restart policy does not apply
	epoch   int  // counts starts, so that a timer of an earlier one is told
}

// Publish makes an image pullable, or changes how its containers behave.
func (e *Engine) Publish(image string, p Program) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.registry == nil {
		e.registry = map[string]Program{}
	}
	e.registry[image] = p
}

// Down makes every call fail with err, or work again.
func (e *Engine) Down(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = err
	e.changed()
}

// Done returns what was done so far: "start site/service", "pull image" ...
func (e *Engine) Done() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.done)
}

// Kill ends a container's process as docker kill does.
func (e *Engine) Kill(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b := e.boxes[id]; b != nil {
		e.exit(b, 137, true)
	}
}

// enter begins a call. What it returns ends it.
func (e *Engine) enter(ctx context.Context, what string) (leave func(), err error) {
	e.mu.Lock()
	if err = ctx.Err(); err == nil {
		err = e.down
	}
	if err != nil {
		e.mu.Unlock()
		return nil, err
	}
	if what != "" {
		e.done = append(e.done, what)
	}
	return e.mu.Unlock, nil
}

func (e *Engine) changed() {
	for _, w := range e.watchers {
		w()
	}
}

// Version implements agent.Engine.
func (e *Engine) Version(ctx context.Context) (string, error) {
	leave, err := e.enter(ctx, "")
	if err != nil {
		return "", err
	}
	defer leave()
	return "memory", nil
}

// Image implements agent.Images.
func (e *Engine) Image(ctx context.Context, image string) (*agent.Image, error) {
	leave, err := e.enter(ctx, "")
	if err != nil {
		return nil, err
	}
	defer leave()
	if !e.pulled[image] {
		return nil, nil
	}
	return &agent.Image{User: e.registry[image].User}, nil
}

// Pull implements agent.Images.
func (e *Engine) Pull(ctx context.Context, image string) error {
	leave, err := e.enter(ctx, "pull "+image)
	if err != nil {
		return err
	}
	defer leave()
	if _, ok := e.registry[image]; !ok {
		return fmt.Errorf("pull %s: manifest unknown", image)
	}
	if e.pulled == nil {
		e.pulled = map[string]bool{}
	}
	e.pulled[image] = true
	return nil
}

// RemoveImage implements agent.Images.
func (e *Engine) RemoveImage(ctx context.Context, image string) error {
	leave, err := e.enter(ctx, "remove image "+image)
	if err != nil {
		return err
	}
	defer leave()
	for _, b := range e.boxes {
		if b.Image == image {
			return fmt.Errorf("image %s is used by container %s", image, b.ID)
		}
	}
	delete(e.pulled, image)
	return nil
}

// List implements agent.Containers.
func (e *Engine) List(ctx context.Context) ([]agent.Found, error) {
	leave, err := e.enter(ctx, "")
	if err != nil {
		return nil, err
	}
	defer leave()
	out := make([]agent.Found, 0, len(e.boxes))
	for _, b := range e.boxes {
		out = append(out, b.Found)
	}
	slices.SortFunc(out, func(a, b agent.Found) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Create implements agent.Containers.
func (e *Engine) Create(ctx context.Context, s agent.Spec) (string, error) {
	leave, err := e.enter(ctx, "create "+s.Slot.String())
	if err != nil {
		return "", err
	}
	defer leave()
	if !e.pulled[s.Service.Image] {
		return "", fmt.Errorf("create %s: no such image: %s", s.Slot, s.Service.Image)
	}
	for id, b := range e.boxes {
		if b.Slot == s.Slot {
			return id, nil
		}
	}
	if e.networks == nil {
		e.networks, e.boxes = map[cluster.SiteName]bool{}, map[string]*box{}
	}
	e.networks[s.Site] = true
	e.next++
	b := &box{spec: s, program: e.registry[s.Service.Image], Found: agent.Found{
		Slot: s.Slot, ID: fmt.Sprintf("%064x", e.next), Image: s.Service.Image, Restart: s.Service.Restart,
		Ports: s.Service.Ports, Phase: agent.PhaseCreated, Created: time.Now(),
	}}
	e.boxes[b.ID] = b
	e.changed()
	return b.ID, nil
}

// Remove implements agent.Containers.
func (e *Engine) Remove(ctx context.Context, id string) error {
	leave, err := e.enter(ctx, "remove "+e.name(id))
	if err != nil {
		return err
	}
	defer leave()
	if b := e.boxes[id]; b != nil {
		b.epoch++
		delete(e.boxes, id)
		e.changed()
	}
	return nil
}

// name returns whose container it is.
func (e *Engine) name(id string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b := e.boxes[id]; b != nil {
		return b.Slot.String()
	}
	return "nothing"
}

// Start implements agent.Processes.
func (e *Engine) Start(ctx context.Context, id string) error {
	leave, err := e.enter(ctx, "start "+e.name(id))
	if err != nil {
		return err
	}
	defer leave()
	b := e.boxes[id]
	switch {
	case b == nil:
		return fmt.Errorf("start %s: no such container", id)
	case b.Phase == agent.PhaseRunning:
		return nil
	case b.program.NoStart != nil:
		return b.program.NoStart
	}
	for _, other := range e.boxes {
		if other != b && other.Phase == agent.PhaseRunning && samePort(other.Ports, b.Ports) {
			return errors.New("port is already allocated")
		}
	}
	b.Restarts, b.stopped = 0, false
	e.run(b)
	return nil
}

func samePort(a, b []cluster.Port) bool {
	return slices.ContainsFunc(a, func(x cluster.Port) bool {
		return x.Host != 0 && slices.ContainsFunc(b, func(y cluster.Port) bool { return x.Host == y.Host && x.Protocol == y.Protocol })
	})
}

// run begins a process, and sets the timers of what it will do.
func (e *Engine) run(b *box) {
	b.epoch++
	b.Phase, b.Started, b.Health = agent.PhaseRunning, time.Now(), ""
	p := b.program
	if h := b.spec.Service.Health; h != nil {
		b.Health = cluster.HealthStarting
		if p.Sick {
			e.later(b, 3*max(time.Duration(h.Interval), time.Second), func() { b.Health = cluster.HealthUnhealthy })
		} else if !p.Exits || p.After > p.Health {
			e.later(b, max(p.Health, time.Millisecond), func() { b.Health = cluster.HealthHealthy })
		}
	}
	if p.Exits {
		e.later(b, max(p.After, time.Millisecond), func() { e.exit(b, p.Code, false) })
	}
	e.changed()
}

// later does something to a box if it has not been started again by then.
func (e *Engine) later(b *box, after time.Duration, do func()) {
	epoch := b.epoch
	time.AfterFunc(after, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if b.epoch == epoch {
			do()
			e.changed()
		}
	})
}

// exit ends a process, and obeys the restart policy as Docker does: not when
// the end was asked for.
func (e *Engine) exit(b *box, code int, asked bool) {
	if b.Phase != agent.PhaseRunning && b.Phase != agent.PhaseRestarting {
		return
	}
	b.epoch++
	b.Phase, b.ExitCode, b.Finished, b.Health = agent.PhaseExited, code, time.Now(), ""
	policy, limit, _ := strings.Cut(b.Restart, ":")
	again := policy == "" || policy == "always" || policy == "unless-stopped"
	if policy == "on-failure" && code != 0 {
		times := 0
		_, _ = fmt.Sscan(limit, &times)
		again = times == 0 || b.Restarts < times
	}
	if again && !asked {
		b.Phase = agent.PhaseRestarting
		e.later(b, min(100*time.Millisecond<<min(b.Restarts, 10), time.Minute), func() {
			b.Restarts++
			e.run(b)
		})
	}
	e.changed()
}

// Stop implements agent.Processes.
func (e *Engine) Stop(ctx context.Context, id string) error {
	leave, err := e.enter(ctx, "stop "+e.name(id))
	if err != nil {
		return err
	}
	b := e.boxes[id]
	leave()
	if b != nil { // it runs, and looks well, until it has ended
		time.Sleep(b.program.Stops)
	}
	if leave, err = e.enter(ctx, ""); err != nil {
		return err
	}
	defer leave()
	if b := e.boxes[id]; b != nil {
		e.exit(b, 0, true)
	}
	return nil
}

// Logs implements agent.Processes.
func (e *Engine) Logs(ctx context.Context, id string, lines int) ([]byte, error) {
	leave, err := e.enter(ctx, "")
	if err != nil {
		return nil, err
	}
	defer leave()
	b := e.boxes[id]
	if b == nil {
		return nil, fmt.Errorf("logs of %s: no such container", id)
	}
	all := strings.SplitAfter(b.program.Log, "\n")
	return []byte(strings.Join(all[max(0, len(all)-lines-1):], "")), nil
}

// Networks implements agent.Engine.
func (e *Engine) Networks(ctx context.Context) ([]cluster.SiteName, error) {
	leave, err := e.enter(ctx, "")
	if err != nil {
		return nil, err
	}
	defer leave()
	var out []cluster.SiteName
	for n := range e.networks {
		out = append(out, n)
	}
	slices.Sort(out)
	return out, nil
}

// RemoveNetwork implements agent.Engine.
func (e *Engine) RemoveNetwork(ctx context.Context, site cluster.SiteName) error {
	leave, err := e.enter(ctx, "remove network "+string(site))
	if err != nil {
		return err
	}
	defer leave()
	for _, b := range e.boxes {
		if b.Site == site {
			return fmt.Errorf("network of %s has active endpoints", site)
		}
	}
	delete(e.networks, site)
	return nil
}

// Watch implements agent.Engine.
func (e *Engine) Watch(ctx context.Context, changed func()) error {
	leave, err := e.enter(ctx, "")
	if err != nil {
		return err
	}
	if e.watchers == nil {
		e.watchers = map[int]func(){}
	}
	e.next++
	id := e.next
	e.watchers[id] = changed
	changed()
	leave()
	<-ctx.Done()
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.watchers, id)
	return ctx.Err()
}
