package agent

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// say makes the status, and wakes whoever publishes it when it is news.
func (a *Agent) say(containers []cluster.ContainerStatus, message string) {
	now := time.Now().UTC()
	containers = slices.Clone(containers) // the published status is never changed
	after := make(map[Key]cluster.ContainerStatus, len(containers))
	for i := range containers {
		c := &containers[i]
		key := Key{c.Site, c.Service}
		c.Since = now
		if b, ok := a.before[key]; ok && b.Health == c.Health && b.Current == c.Current {
			c.Since = b.Since
		}
		after[key] = *c
	}
	a.before = after
	next := cluster.Status{
		Agent: a.Version, Revision: a.state.Revision, Docker: a.engine,
		Message: message, Containers: containers,
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if same(a.status, next) {
		return
	}
	next.At = now
	a.status = next
	a.news()
}

// news leaves a token for publish.
func (a *Agent) news() {
	select {
	case a.fresh <- struct{}{}:
	default:
	}
}

func same(a, b cluster.Status) bool {
	return a.Agent == b.Agent && a.Revision == b.Revision && a.Docker == b.Docker && a.Message == b.Message && !a.At.IsZero() &&
		slices.EqualFunc(a.Containers, b.Containers, func(x, y cluster.ContainerStatus) bool {
			return x.Site == y.Site && x.Service == y.Service && x.Image == y.Image && x.Health == y.Health &&
				x.Current == y.Current && x.Since.Equal(y.Since) && x.Message == y.Message && slices.Equal(x.Secrets, y.Secrets)
		})
}

// Status returns what the host last said of itself.
func (a *Agent) Status() cluster.Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// publish puts each new status into the store, and the last one again after
// the link was lost.
func (a *Agent) publish(ctx context.Context) {
	backoff := Backoff{Min: time.Second, Max: 30 * time.Second}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.fresh:
		}
		for {
			err := a.Link.PutStatus(ctx, a.Status())
			if err == nil || ctx.Err() != nil {
				backoff.Reset()
				break
			}
			a.Log.Debug("status not told", "err", err)
			if !Sleep(ctx, backoff.Next()) {
				return
			}
		}
	}
}

// listen hands what the host is told to the loop; of several, the last.
func (a *Agent) listen(ctx context.Context, told chan State) {
	err := a.Link.Run(ctx, func(s State) {
		select {
		case <-told:
		default:
		}
		told <- s // this is the only sender, and there is room for one
		a.news()
	})
	if err != nil && ctx.Err() == nil {
		a.Log.Error("the link to the store ended; what runs stays", "err", err)
	}
}

// watch tells the loop that something happened to a container.
func (a *Agent) watch(ctx context.Context, changed chan struct{}) {
	backoff := Backoff{Min: time.Second, Max: 15 * time.Second}
	for {
		began := time.Now()
		err := a.Runtime.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		if time.Since(began) > time.Minute {
			backoff.Reset()
		}
		if ctx.Err() != nil {
			return
		}
		a.Log.Warn("the events of the container engine ended; looking from time to time instead", "err", err)
		if !Sleep(ctx, backoff.Next()) {
			return
		}
	}
}

// readiness is what the loop was last seen to manage.
type readiness struct {
	told   bool // the store has answered since the start
	engine bool // the container engine answered last time
	looked time.Time
}

func (a *Agent) note(change func(*readiness)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.health)
}

// Alive returns an error when the loop hangs.
func (a *Agent) Alive() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.health.looked.IsZero() && time.Since(a.health.looked) > 2*engineTime+a.Resync {
		return fmt.Errorf("the loop has not looked since %s", a.health.looked.UTC().Format(time.RFC3339))
	}
	return nil
}

// Ready returns an error while the host is not both told what to run and able
// to run it.
func (a *Agent) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !a.health.engine:
		return fmt.Errorf("the container engine does not answer; see systemctl status docker")
	case !a.health.told:
		return fmt.Errorf("etcd has not answered yet; what runs stays")
	}
	return nil
}

type count struct {
	verb Verb
	ok   bool
}

func (a *Agent) count(v Verb, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts[count{v, err == nil}]++
}

// WriteMetrics writes the agent's figures in the text form of Prometheus.
func (a *Agent) WriteMetrics(w io.Writer) {
	ready := a.Ready() == nil
	a.mu.Lock()
	defer a.mu.Unlock()
	gauge := func(name, help string) { fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name) }
	gauge("pilotlight_agent_info", "The version of the agent.")
	fmt.Fprintf(w, "pilotlight_agent_info{version=%q,docker=%q} 1\n", a.status.Agent, a.status.Docker)
	gauge("pilotlight_agent_ready", "1 when told what to run, and able to.")
	fmt.Fprintf(w, "pilotlight_agent_ready %d\n", bit(ready))
	gauge("pilotlight_agent_revision", "The etcd revision of what is desired.")
	fmt.Fprintf(w, "pilotlight_agent_revision %d\n", a.status.Revision)
	gauge("pilotlight_agent_container_healthy", "1 when the service is healthy on this host.")
	for _, c := range a.status.Containers {
		fmt.Fprintf(w, "pilotlight_agent_container_healthy{site=%q,service=%q} %d\n", c.Site, c.Service, bit(c.Health == cluster.HealthHealthy))
	}
	gauge("pilotlight_agent_container_current", "1 when the version that runs is the one desired.")
	for _, c := range a.status.Containers {
		fmt.Fprintf(w, "pilotlight_agent_container_current{site=%q,service=%q} %d\n", c.Site, c.Service, bit(c.Current))
	}
	fmt.Fprint(w, "# HELP pilotlight_agent_actions_total What the agent did.\n# TYPE pilotlight_agent_actions_total counter\n")
	for _, c := range slices.SortedFunc(maps.Keys(a.counts), func(x, y count) int {
		return strings.Compare(string(x.verb), string(y.verb))*2 + bit(x.ok) - bit(y.ok)
	}) {
		fmt.Fprintf(w, "pilotlight_agent_actions_total{verb=%q,ok=\"%t\"} %d\n", c.verb, c.ok, a.counts[c])
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
