package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

func TestPlanWithoutADesireDoesNothing(t *testing.T) {
	d := Plan(World{Found: []Found{is(web(1), PhaseExited)}, Networks: []cluster.SiteName{"shop"}, Stored: []Slot{SlotOf(web(1))}, Now: noon})
	if len(d.Actions) > 0 {
		t.Errorf("does %v", d.Actions)
	}
}

func TestPlanSaysWhenToLookAgain(t *testing.T) {
	plain := web(1)
	plain.Service.Health = nil
	for _, c := range []struct {
		name  string
		found []Found
		mem   Memory
		want  cluster.Container
		after time.Duration
	}{
		{"until settled", []Found{is(plain, PhaseRunning, started(2*time.Second))}, Memory{}, plain, 3 * time.Second},
		{"until a trial must be over", []Found{is(web(1), PhaseExited), is(web(2), PhaseRunning, starting)}, proven(web(1)), web(2), 35 * time.Second},
		{"until a failure is old", []Found{is(web(1), PhaseRunning, healthy)}, failed(proven(web(1)), web(2), time.Minute), web(2), time.Minute},
	} {
		d := Plan(World{Desired: &cluster.Desired{Containers: []cluster.Container{c.want}}, Found: c.found, Memory: c.mem, Settle: 5 * time.Second, Now: noon})
		if got := d.Again.Sub(noon); got != c.after {
			t.Errorf("%s: after %s, not %s", c.name, got, c.after)
		}
	}
}

func TestPlanKeepsImagesThatAreAWayBack(t *testing.T) {
	old := noon.Add(-time.Hour)
	images := map[string]time.Time{"reg/web@sha256:0": old, "reg/web@sha256:1": old, "reg/web@sha256:2": old, "reg/gone@sha256:1": noon.Add(-time.Minute)}
	memory := Memory{Images: images, Proven: map[Slot]Proven{SlotOf(web(2)): {Container: web(2), Before: "reg/web@sha256:1"}}}
	d := Plan(World{
		Desired: &cluster.Desired{Containers: []cluster.Container{web(2)}}, Found: []Found{is(web(2), PhaseRunning, healthy)}, Memory: memory, Now: noon,
	})
	if got := strings.Join(said(d, nil), ","); got != "remove image reg/web@sha256:0" {
		t.Errorf("does %q", got)
	}
	d = Plan(World{Desired: &cluster.Desired{}, Memory: Memory{Images: map[string]time.Time{"reg/gone@sha256:1": noon.Add(-time.Minute)}}, Now: noon})
	if want := imageKept - time.Minute; len(d.Actions) > 0 || d.Again.Sub(noon) != want {
		t.Errorf("does %v, looks again after %s, not %s", d.Actions, d.Again.Sub(noon), want)
	}
}

func TestHash(t *testing.T) {
	base := web(1)
	base.Secrets = []cluster.Version{{Name: "a", Version: 1}, {Name: "b", Version: 1}}
	same := base
	same.Service.DependsOn = []cluster.ServiceName{"db"}
	same.Secrets = []cluster.Version{{Name: "b", Version: 1}, {Name: "a", Version: 1}}
	if Hash(base) != Hash(same) {
		t.Error("what a container waits for, or an order, changes it")
	}
	if base.Secrets[0].Name != "a" || same.Secrets[0].Name != "b" {
		t.Error("Hash changes what it is given")
	}
	for name, change := range map[string]func(*cluster.Container){
		"site":  func(c *cluster.Container) { c.Site = "other" },
		"image": func(c *cluster.Container) { c.Service.Image += "0" },
		"secret": func(c *cluster.Container) {
			c.Secrets = []cluster.Version{{Name: "a", Version: 2}, {Name: "b", Version: 1}}
		},
		"env":     func(c *cluster.Container) { c.Service.Environment = map[string]string{"A": "1"} },
		"restart": func(c *cluster.Container) { c.Service.Restart = "no" },
	} {
		c := base
		if change(&c); Hash(c) == Hash(base) {
			t.Errorf("%s does not change the hash", name)
		}
	}
	// The name of a container is on disks: a new version of the agent that
	// computed another would restart everything.
	if got := Hash(web(1)); got != "875dbfac3aa6f43a" {
		t.Errorf("the hash of an unchanged container has changed, to %s", got)
	}
}

func TestCollide(t *testing.T) {
	p := func(s string, host uint16, proto string) []cluster.Port {
		out := cluster.Port{Host: host, Container: 1, Protocol: proto}
		if s != "" {
			_ = out.HostIP.UnmarshalText([]byte(s))
		}
		return []cluster.Port{out}
	}
	for _, c := range []struct {
		a, b []cluster.Port
		want bool
	}{
		{p("", 80, "tcp"), p("", 80, "tcp"), true},
		{p("", 80, "tcp"), p("", 80, "TCP"), true},
		{p("", 80, "tcp"), p("", 81, "tcp"), false},
		{p("", 80, "tcp"), p("", 80, "udp"), false},
		{p("", 0, "tcp"), p("", 0, "tcp"), false},
		{p("10.0.0.1", 80, "tcp"), p("10.0.0.2", 80, "tcp"), false},
		{p("10.0.0.1", 80, "tcp"), p("0.0.0.0", 80, "tcp"), true},
		{p("10.0.0.1", 80, "tcp"), p("", 80, "tcp"), true},
		{nil, p("", 80, "tcp"), false},
	} {
		if collide(c.a, c.b) != c.want || collide(c.b, c.a) != c.want {
			t.Errorf("%v and %v: not %t", c.a, c.b, c.want)
		}
	}
}
