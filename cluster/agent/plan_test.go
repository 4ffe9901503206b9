package agent

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// web is version n of a service that publishes a port and has a health check.
func web(n int) cluster.Container { return service("web", n, 80) }

func service(name string, n int, port uint16, needs ...cluster.ServiceName) cluster.Container {
	c := cluster.Container{Site: "shop", Service: cluster.Service{
		Name: cluster.ServiceName(name), Image: fmt.Sprintf("reg/%s@sha256:%d", name, n), DependsOn: needs,
		Health: &cluster.Healthcheck{Test: []string{"CMD", "true"}, Interval: cluster.Duration(time.Second), Timeout: cluster.Duration(time.Second), Retries: 2},
	}}
	if port != 0 {
		c.Service.Ports = []cluster.Port{{Host: port, Container: 8080, Protocol: "tcp"}}
	}
	return c
}

// is is the container of c as it is found.
func is(c cluster.Container, phase Phase, change ...func(*Found)) Found {
	f := Found{
		Slot: SlotOf(c), ID: c.Service.Image, Image: c.Service.Image, Restart: c.Service.Restart,
		Ports: c.Service.Ports, Phase: phase, Created: noon.Add(-time.Hour),
	}
	if phase != PhaseCreated {
		f.Started = noon.Add(-30 * time.Second)
	}
	for _, do := range change {
		do(&f)
	}
	return f
}

func health(h cluster.Health) func(*Found) { return func(f *Found) { f.Health = h } }

var (
	healthy   = health(cluster.HealthHealthy)
	starting  = health(cluster.HealthStarting)
	unhealthy = health(cluster.HealthUnhealthy)
)

func code(n int) func(*Found)     { return func(f *Found) { f.ExitCode = n } }
func restarts(n int) func(*Found) { return func(f *Found) { f.Restarts = n } }
func policy(s string) func(*Found) {
	return func(f *Found) { f.Restart = s }
}

func started(ago time.Duration) func(*Found) {
	return func(f *Found) { f.Started = noon.Add(-ago) }
}

func proven(c cluster.Container) Memory {
	return Memory{Proven: map[Slot]Proven{SlotOf(c): {Container: c}}}
}

func failed(m Memory, c cluster.Container, until time.Duration) Memory {
	m.Failed = map[Slot]Failure{SlotOf(c): {Count: 2, Until: noon.Add(until), Trial: true, Message: "it broke"}}
	return m
}

// say is a decision in short: "start web/2 stop web/1 first".
func said(d Decision, names map[string]string) []string {
	var out []string
	for _, a := range d.Actions {
		s := string(a.Verb)
		if n := names[a.Slot.Hash]; n != "" {
			s += " " + n
		} else if a.Slot.Service != "" && a.Verb != RemoveImage {
			s += " " + string(a.Slot.Service)
		}
		if a.First != "" {
			s += " after " + a.First
		}
		if a.Verb == RemoveImage {
			s += " " + a.Image
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func TestPlan(t *testing.T) {
	all := map[string]bool{}
	for n := range 4 {
		all[fmt.Sprintf("reg/web@sha256:%d", n)] = true
		all[fmt.Sprintf("reg/db@sha256:%d", n)] = true
		all[fmt.Sprintf("reg/job@sha256:%d", n)] = true
	}
	names := map[string]string{}
	for n := range 4 {
		names[Hash(web(n))] = fmt.Sprintf("web/%d", n)
		names[Hash(service("web", n, 0))] = fmt.Sprintf("web/%d", n)
		names[Hash(service("web", n, 81))] = fmt.Sprintf("web/%d", n)
		names[Hash(service("db", n, 0))] = fmt.Sprintf("db/%d", n)
		names[Hash(service("db", n, 80))] = fmt.Sprintf("db/%d", n)
		names[Hash(service("db", n, 81))] = fmt.Sprintf("db/%d", n)
	}
	withSecret := web(1)
	withSecret.Secrets = []cluster.Version{{Name: "key", Version: 7}}
	names[Hash(withSecret)] = "web/secret"
	plain := web(1)
	plain.Service.Health = nil
	names[Hash(plain)] = "web/plain"
	job := service("job", 1, 0)
	job.Service.Restart, job.Service.Health = "no", nil
	names[Hash(job)] = "job/1"
	beside := func(n int) cluster.Container { return service("web", n, 0) }

	for _, c := range []struct {
		name   string
		want   []cluster.Container
		found  []Found
		change func(*World)
		does   []string
		says   string // health current image message
	}{
		{
			"nothing there: pull",
			[]cluster.Container{web(1)},
			nil, func(w *World) { w.Images = nil },
			[]string{"pull web/1"},
			"pending false  pulling reg/web@sha256:1",
		},
		{"pulled: create", []cluster.Container{web(1)}, nil, nil, []string{"create web/1"}, "pending false  creating"},
		{"no secret yet: wait", []cluster.Container{withSecret}, nil, nil, nil, "pending false  waits for version 7 of secret key"},
		{
			"secret here: create",
			[]cluster.Container{withSecret},
			nil, func(w *World) { w.Sealed = map[cluster.Version]bool{{Name: "key", Version: 7}: true} },
			[]string{"create web/secret"},
			"pending false  creating",
		},
		{"created: start", []cluster.Container{web(1)}, []Found{is(web(1), PhaseCreated)}, nil, []string{"start web/1"}, "pending false  starting"},
		{"starting: wait", []cluster.Container{web(1)}, []Found{is(web(1), PhaseRunning, starting)}, nil, nil, "starting true reg/web@sha256:1 "},
		{"healthy: rest", []cluster.Container{web(1)}, []Found{is(web(1), PhaseRunning, healthy)}, nil, nil, "healthy true reg/web@sha256:1 "},
		{
			"unhealthy, nothing to go back to: say so",
			[]cluster.Container{web(1)},
			[]Found{is(web(1), PhaseRunning, unhealthy)},
			nil, nil,
			"unhealthy true reg/web@sha256:1 its health check fails; see docker inspect reg/web@sha2",
		},
		{"no health check, just started: starting", []cluster.Container{plain}, []Found{is(plain, PhaseRunning, started(2*time.Second))}, nil, nil, "starting true reg/web@sha256:1 "},
		{"no health check, runs for long: healthy", []cluster.Container{plain}, []Found{is(plain, PhaseRunning, started(6*time.Second))}, nil, nil, "healthy true reg/web@sha256:1 "},
		{
			"keeps exiting, nothing to go back to: leave it to the engine",
			[]cluster.Container{web(1)},
			[]Found{is(web(1), PhaseRestarting, restarts(9), code(2))},
			nil, nil,
			"unhealthy true reg/web@sha256:1 keeps exiting, last with code 2, restarted 9 times; see docker logs reg/web@sha2",
		},
		{"killed by hand: start", []cluster.Container{web(1)}, []Found{is(web(1), PhaseExited, code(137))}, nil, []string{"start web/1"}, "stopped true  starting again"},
		{"dead: remove", []cluster.Container{web(1)}, []Found{is(web(1), PhaseDead)}, nil, []string{"remove web/1"}, "stopped true  removing a dead container"},
		{"being removed: as if gone", []cluster.Container{web(1)}, []Found{is(web(1), PhaseRemoving)}, nil, []string{"create web/1"}, "pending false  creating"},
		{"paused: say so", []cluster.Container{web(1)}, []Found{is(web(1), PhasePaused)}, nil, nil, "unhealthy true reg/web@sha256:1 is paused; docker unpause reg/web@sha2"},
		{"busy: hands off", []cluster.Container{web(1)}, nil, func(w *World) { w.Busy = map[Key]bool{KeyOf(web(1)): true} }, nil, "pending false  creating"},

		{"a job that is done: rest", []cluster.Container{job}, []Found{is(job, PhaseExited, policy("no"))}, nil, nil, "stopped true  "},
		{
			"a job that failed: say so",
			[]cluster.Container{job},
			[]Found{is(job, PhaseExited, policy("no"), code(1))},
			nil, nil,
			"failed true  exited with code 1; see docker logs reg/job@sha2",
		},
		{"a job that never started: start", []cluster.Container{job}, []Found{is(job, PhaseExited, policy("no"), func(f *Found) { f.Started = time.Time{} })}, nil, []string{"start job/1"}, "stopped true  starting again"},
		{
			"tries used up: failed",
			[]cluster.Container{web(1)},
			[]Found{is(web(1), PhaseExited, policy("on-failure:3"), restarts(3), code(1))},
			nil, nil,
			"failed true  exited with code 1; see docker logs reg/web@sha2",
		},
		{"tries left, so killed by hand: start", []cluster.Container{web(1)}, []Found{is(web(1), PhaseExited, policy("on-failure:3"), restarts(1), code(137))}, nil, []string{"start web/1"}, "stopped true  starting again"},

		{
			"changed: prepare beside the old",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseRunning, healthy)},
			mem(proven(web(1))),
			[]string{"create web/2"},
			"healthy false reg/web@sha256:1 creating",
		},
		{
			"changed, same port: stop, start",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseRunning, healthy), is(web(2), PhaseCreated)},
			mem(proven(web(1))),
			[]string{"start web/2 after reg/web@sha256:1"},
			"healthy false reg/web@sha256:1 starting",
		},
		{
			"changed, no port: start beside",
			[]cluster.Container{beside(2)},
			[]Found{is(beside(1), PhaseRunning, healthy), is(beside(2), PhaseCreated)},
			mem(proven(beside(1))),
			[]string{"start web/2"},
			"healthy false reg/web@sha256:1 starting",
		},
		{
			"killed between stop and start: start",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseExited), is(web(2), PhaseCreated)},
			mem(proven(web(1))),
			[]string{"start web/2"},
			"stopped false  starting",
		},
		{
			"both run: wait for the new one",
			[]cluster.Container{beside(2)},
			[]Found{is(beside(1), PhaseRunning, healthy), is(beside(2), PhaseRunning, starting)},
			mem(proven(beside(1))),
			nil, "healthy false reg/web@sha256:1 ",
		},
		{
			"the new one is healthy: the old one goes",
			[]cluster.Container{beside(2)},
			[]Found{is(beside(1), PhaseRunning, healthy), is(beside(2), PhaseRunning, healthy)},
			mem(proven(beside(1))),
			[]string{"remove web/1"},
			"healthy false reg/web@sha256:1 ",
		},
		{
			"the new one is healthy, but young: the old one stays",
			[]cluster.Container{beside(2)},
			[]Found{is(beside(1), PhaseRunning, healthy), is(beside(2), PhaseRunning, healthy, started(time.Second))},
			mem(proven(beside(1))),
			nil, "healthy false reg/web@sha256:1 ",
		},
		{
			"it is young on the port of the old one: still on trial",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseExited), is(web(2), PhaseRunning, healthy, started(time.Second))},
			mem(proven(web(1))),
			nil, "starting true reg/web@sha256:2 ",
		},
		{
			"the new one is unhealthy: abandon",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseExited), is(web(2), PhaseRunning, unhealthy)},
			mem(proven(web(1))),
			[]string{"abandon web/2"},
			"unhealthy true reg/web@sha256:2 its health check fails; see docker inspect reg/web@sha2",
		},
		{
			"the new one keeps exiting: abandon",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseExited), is(web(2), PhaseRestarting, restarts(3), code(1))},
			mem(proven(web(1))),
			[]string{"abandon web/2"},
			"unhealthy true reg/web@sha256:2 keeps exiting, last with code 1, restarted 3 times; see docker logs reg/web@sha2",
		},
		{
			"the new one exited once: patience",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseExited), is(web(2), PhaseRestarting, restarts(1), code(1))},
			mem(proven(web(1))),
			nil, "unhealthy true reg/web@sha256:2 keeps exiting, last with code 1, restarted 1 times; see docker logs reg/web@sha2",
		},
		{
			"the new one ended: abandon",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseExited), is(web(2), PhaseExited, code(1))},
			mem(proven(web(1))),
			[]string{"abandon web/2"},
			"stopped true  ",
		},
		{
			"the new one takes forever: abandon",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseExited), is(web(2), PhaseRunning, starting, started(2*time.Minute))},
			mem(proven(web(1))),
			[]string{"abandon web/2"},
			"starting true reg/web@sha256:2 ",
		},
		{
			"abandoned: the old one again",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseExited)},
			mem(failed(proven(web(1)), web(2), time.Minute)),
			[]string{"restore web/1"},
			"failed false  it broke; tried again at 12:01:00 UTC, or at once when the site changes",
		},
		{
			"the old one again: rest until the time is up",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseRunning, healthy)},
			mem(failed(proven(web(1)), web(2), time.Minute)),
			nil, "failed false reg/web@sha256:1 it broke; the version before runs; tried again at 12:01:00 UTC, or at once when the site changes",
		},
		{
			"the time is up: try again",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseRunning, healthy)},
			mem(failed(proven(web(1)), web(2), 0)),
			[]string{"create web/2"},
			"failed false reg/web@sha256:1 it broke; the version before runs",
		},
		{
			"pull takes long: the old one is kept up",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseExited, code(137))},
			func(w *World) { w.Images, w.Memory = nil, proven(web(1)) },
			[]string{"restore web/1"},
			"stopped false  starting the version before",
		},
		{
			"changed again amid a trial: the proven one is the way back",
			[]cluster.Container{web(3)},
			[]Found{is(web(1), PhaseExited), is(web(2), PhaseRunning, starting)},
			mem(proven(web(1))),
			[]string{"remove web/2"},
			"stopped false  ",
		},
		{
			"changed back amid a trial: the trial ends",
			[]cluster.Container{web(1)},
			[]Found{is(web(1), PhaseExited), is(web(2), PhaseRunning, starting)},
			mem(proven(web(1))),
			[]string{"remove web/2"},
			"stopped true  ",
		},
		{
			"memory lost amid a trial: the one that ran is the way back",
			[]cluster.Container{web(2)},
			[]Found{is(web(1), PhaseExited), is(web(2), PhaseRunning, unhealthy)},
			nil,
			[]string{"abandon web/2"},
			"unhealthy true reg/web@sha256:2 its health check fails; see docker inspect reg/web@sha2",
		},

		{"no longer desired: all goes", nil, []Found{is(web(1), PhaseRunning, healthy)}, func(w *World) {
			w.Networks, w.Stored, w.Memory = []cluster.SiteName{"shop"}, []Slot{SlotOf(web(1))}, proven(web(1))
		}, []string{"remove web/1"}, ""},
		{"the container is gone: so are network and secrets", nil, nil, func(w *World) {
			w.Networks, w.Stored = []cluster.SiteName{"shop"}, []Slot{SlotOf(web(1))}
		}, []string{"remove network", "remove secrets web/1"}, ""},
		{"a stuck removal is not hurried", nil, []Found{is(web(1), PhaseRunning)}, func(w *World) {
			w.Stuck = map[Slot]time.Time{SlotOf(web(1)): noon.Add(time.Second)}
		}, nil, ""},

		{"dependency first", []cluster.Container{service("web", 1, 80, "db"), service("db", 1, 0)}, nil, nil, []string{"create db/1", "create web/1"}, "pending false  creating"},
		{
			"dependency starting: wait",
			[]cluster.Container{service("web", 1, 80, "db"), service("db", 1, 0)},
			[]Found{is(web(1), PhaseCreated), is(service("db", 1, 0), PhaseRunning, starting)},
			nil, nil, "pending false  waits for db, which is starting",
		},
		{
			"dependency healthy: start",
			[]cluster.Container{service("web", 1, 80, "db"), service("db", 1, 0)},
			[]Found{is(web(1), PhaseCreated), is(service("db", 1, 0), PhaseRunning, healthy)},
			nil,
			[]string{"start web/1"},
			"pending false  starting",
		},
		{
			"dependency not at its new version: wait",
			[]cluster.Container{service("web", 1, 80, "db"), service("db", 2, 0)},
			[]Found{is(web(1), PhaseCreated), is(service("db", 1, 0), PhaseRunning, healthy)},
			nil,
			[]string{"create db/2"},
			"pending false  waits for the new version of db",
		},
		{
			"dependency that is a job: when it is done",
			[]cluster.Container{service("web", 1, 80, "job"), job},
			[]Found{is(web(1), PhaseCreated), is(job, PhaseExited, policy("no"))},
			nil,
			[]string{"start web/1"},
			"pending false  starting",
		},
		{"dependency that is not on this host: none", []cluster.Container{service("web", 1, 80, "elsewhere")}, []Found{is(web(1), PhaseCreated)}, nil, []string{"start web/1"}, "pending false  starting"},

		{
			"a port of what is going: wait",
			[]cluster.Container{web(1)},
			[]Found{is(web(1), PhaseCreated), is(service("db", 1, 80), PhaseRunning)},
			nil,
			[]string{"remove db/1"},
			"pending false  waits until shop/db gives up its port",
		},
		{
			"two services swap ports: both yield",
			[]cluster.Container{service("web", 2, 81), service("db", 2, 80)},
			[]Found{is(web(1), PhaseRunning, healthy), is(service("db", 1, 81), PhaseRunning, healthy), is(service("web", 2, 81), PhaseCreated), is(service("db", 2, 80), PhaseCreated)},
			nil,
			[]string{"stop db/1", "stop web/1"},
			"healthy false reg/web@sha256:1 waits until shop/db gives up its port",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := World{Desired: &cluster.Desired{Containers: c.want}, Found: c.found, Images: all, Settle: 5 * time.Second, Now: noon}
			if c.change != nil {
				c.change(&w)
			}
			d := Plan(w)
			if got := said(d, names); !slices.Equal(got, c.does) {
				t.Errorf("does %q, not %q", got, c.does)
			}
			if len(c.want) == 0 {
				return
			}
			st := d.Status[0]
			if got := fmt.Sprintf("%s %t %s %s", st.Health, st.Current, st.Image, st.Message); got != c.says {
				t.Errorf("says %q,\n not %q", got, c.says)
			}
		})
	}
}

func mem(m Memory) func(*World) { return func(w *World) { w.Memory = m } }
