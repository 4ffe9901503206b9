package agenttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
)

// Subject is a Runtime under test, and an image for it.
type Subject struct {
	Runtime agent.Runtime
	Image   string   // can be pulled, and is not there yet
	Serve   []string // the command that runs until it is stopped
	Fail    []string // the command that says "I give up" and exits with code 3
	Check   []string // a health check that passes
	Port    uint16   // of the host, free
}

const wait = 20 * time.Second

// TestRuntime is what every Runtime does.
func TestRuntime(t *testing.T, s Subject) {
	site := cluster.SiteName(fmt.Sprintf("suite-%d", time.Now().UnixNano()%1e9))
	c := &check{T: t, Subject: s, ctx: t.Context(), site: site}
	t.Cleanup(c.cleanUp)
	c.images()
	c.life()
	c.ports()
	c.health()
	c.failing()
	c.networks()
}

type check struct {
	*testing.T
	Subject
	ctx  context.Context
	site cluster.SiteName
	ids  []string
}

func (c *check) ok(what string, err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
}

func (c *check) twice(what string, call func() error) {
	c.Helper()
	c.ok(what, call())
	c.ok(what+" again", call())
}

func (c *check) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	for _, id := range c.ids {
		c.ok("clean up", c.Runtime.Remove(ctx, id))
	}
	c.ok("clean up", c.Runtime.RemoveNetwork(ctx, c.site))
	c.ok("clean up", c.Runtime.RemoveImage(ctx, c.Image))
}

func (c *check) spec(name string, command []string) agent.Spec {
	v := cluster.Service{Name: cluster.ServiceName(name), Image: c.Image, Command: command, Restart: "no", StopGrace: cluster.Duration(time.Second)}
	return agent.Spec{Slot: agent.SlotOf(cluster.Container{Site: c.site, Service: v}), Service: v}
}

func (c *check) create(s agent.Spec) string {
	c.Helper()
	id, err := c.Runtime.Create(c.ctx, s)
	c.ok("create", err)
	c.ids = append(c.ids, id)
	return id
}

func (c *check) find(id string) (agent.Found, bool) {
	c.Helper()
	all, err := c.Runtime.List(c.ctx)
	c.ok("list", err)
	i := slices.IndexFunc(all, func(f agent.Found) bool { return f.ID == id })
	if i < 0 {
		return agent.Found{}, false
	}
	return all[i], true
}

func (c *check) until(id, what string, is func(agent.Found) bool) agent.Found {
	c.Helper()
	var f agent.Found
	for began := time.Now(); time.Since(began) < wait; time.Sleep(20 * time.Millisecond) {
		if f, _ = c.find(id); is(f) {
			return f
		}
	}
	c.Fatalf("never %s: %#v", what, f)
	return f
}

func (c *check) images() {
	version, err := c.Runtime.Version(c.ctx)
	if c.ok("version", err); version == "" {
		c.Error("no version")
	}
	found, err := c.Runtime.Image(c.ctx, c.Image)
	if c.ok("look for the image", err); found != nil {
		c.Fatal("the image is there before it is pulled")
	}
	if _, err := c.Runtime.Create(c.ctx, c.spec("early", c.Serve)); err == nil {
		c.Error("a container is made without its image")
	}
	c.twice("pull", func() error { return c.Runtime.Pull(c.ctx, c.Image) })
	if found, err = c.Runtime.Image(c.ctx, c.Image); err != nil || found == nil {
		c.Fatalf("the pulled image is not there: %v", err)
	}
	name, _, _ := strings.Cut(c.Image, "@")
	if err := c.Runtime.Pull(c.ctx, name+"@sha256:"+strings.Repeat("0", 64)); err == nil {
		c.Error("pulled what is not in the registry")
	}
}

func (c *check) life() {
	ctx, cancel := context.WithCancel(c.ctx)
	var told atomic.Int64
	ended := make(chan error)
	go func() { ended <- c.Runtime.Watch(ctx, func() { told.Add(1) }) }()
	spec := c.spec("life", c.Serve)
	id := c.create(spec)
	if again := c.create(spec); again != id {
		c.Errorf("made twice: %s and %s", id, again)
	}
	f := c.until(id, "created", func(f agent.Found) bool { return f.Phase == agent.PhaseCreated })
	if f.Slot != spec.Slot || f.Image != c.Image || f.Restart != "no" || !f.Started.IsZero() || f.Health != "" {
		c.Errorf("found as %#v", f)
	}
	if err := c.Runtime.RemoveImage(c.ctx, c.Image); err == nil {
		c.Error("the image was removed under a container")
	}
	before := told.Load()
	c.twice("start", func() error { return c.Runtime.Start(c.ctx, id) })
	f = c.until(id, "running", func(f agent.Found) bool { return f.Phase == agent.PhaseRunning })
	if time.Since(f.Started) > wait {
		c.Errorf("started at %s", f.Started)
	}
	c.twice("stop", func() error { return c.Runtime.Stop(c.ctx, id) })
	if f, _ = c.find(id); f.Phase != agent.PhaseExited { // with any code: it may not have got to its handlers
		c.Errorf("stopped, and found as %#v", f)
	}
	for began := time.Now(); told.Load() == before; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > wait {
			c.Fatal("whoever watches is not told")
		}
	}
	c.twice("remove", func() error { return c.Runtime.Remove(c.ctx, id) })
	if _, there := c.find(id); there {
		c.Error("removed, and still there")
	}
	if err := c.Runtime.Start(c.ctx, id); err == nil {
		c.Error("started what is not there")
	}
	c.ok("stop what is not there", c.Runtime.Stop(c.ctx, id))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		c.Errorf("the watch ended with %v", err)
	}
}

func (c *check) ports() {
	port := []cluster.Port{{Host: c.Port, Container: 8080, Protocol: "tcp"}}
	one, two := c.spec("one", c.Serve), c.spec("two", c.Serve)
	one.Service.Ports, two.Service.Ports = port, port
	first, second := c.create(one), c.create(two)
	c.ok("start", c.Runtime.Start(c.ctx, first))
	if f, _ := c.find(first); len(f.Ports) != 1 || f.Ports[0].Host != c.Port || f.Ports[0].Container != 8080 || f.Ports[0].Protocol != "tcp" {
		c.Errorf("found with ports %+v", f.Ports)
	}
	if err := c.Runtime.Start(c.ctx, second); err == nil {
		c.Error("two containers have one port")
	}
	c.ok("stop", c.Runtime.Stop(c.ctx, first))
	c.ok("remove", c.Runtime.Remove(c.ctx, second))
	second = c.create(two)
	c.ok("start with the port that is free now", c.Runtime.Start(c.ctx, second))
	c.ok("remove", c.Runtime.Remove(c.ctx, first))
	c.ok("remove while it runs", c.Runtime.Remove(c.ctx, second))
}

func (c *check) health() {
	spec := c.spec("health", c.Serve)
	spec.Service.Health = &cluster.Healthcheck{Test: c.Check, Interval: cluster.Duration(time.Second), Retries: 2}
	id := c.create(spec)
	c.ok("start", c.Runtime.Start(c.ctx, id))
	c.until(id, "healthy", func(f agent.Found) bool { return f.Health == cluster.HealthHealthy })
	c.ok("remove", c.Runtime.Remove(c.ctx, id))
}

func (c *check) failing() {
	spec := c.spec("fail", c.Fail)
	id := c.create(spec)
	c.ok("start", c.Runtime.Start(c.ctx, id))
	f := c.until(id, "exited", func(f agent.Found) bool { return f.Phase == agent.PhaseExited })
	if f.ExitCode != 3 || f.Started.IsZero() || f.Finished.Before(f.Started) {
		c.Errorf("found as %#v", f)
	}
	words, err := c.Runtime.Logs(c.ctx, id, 5)
	if c.ok("logs", err); !strings.Contains(string(words), "I give up") {
		c.Errorf("last words: %q", words)
	}
	c.ok("remove", c.Runtime.Remove(c.ctx, id))

	spec = c.spec("fails-again", c.Fail)
	spec.Service.Restart = "on-failure:2"
	id = c.create(spec)
	c.ok("start", c.Runtime.Start(c.ctx, id))
	f = c.until(id, "given up", func(f agent.Found) bool { return f.Phase == agent.PhaseExited && f.Restarts == 2 })
	if f.Restart != "on-failure:2" {
		c.Errorf("restart policy %q", f.Restart)
	}
	c.ok("remove", c.Runtime.Remove(c.ctx, id))
}

func (c *check) networks() {
	has := func() bool {
		all, err := c.Runtime.Networks(c.ctx)
		c.ok("networks", err)
		return slices.Contains(all, c.site)
	}
	if !has() {
		c.Error("the site has no network")
	}
	c.twice("remove the network", func() error { return c.Runtime.RemoveNetwork(c.ctx, c.site) })
	if has() {
		c.Error("removed, and still there")
	}
}
