package agent_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
	"github.com/pilotlight/pilotlight/cluster/agent/agenttest"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

const theSecret = "hunter2\ncorrect horse battery staple"

// store is etcd as a host sees it, in memory.
type store struct {
	mu    sync.Mutex
	state *agent.State // nil: cannot be read
	fresh chan struct{}
	puts  []cluster.Status
	deaf  error
}

func (s *store) Run(ctx context.Context, told func(agent.State)) error {
	for {
		s.mu.Lock()
		state := s.state
		s.mu.Unlock()
		if state != nil {
			told(*state)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.fresh:
		}
	}
}

func (s *store) PutStatus(_ context.Context, st cluster.Status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deaf != nil {
		return s.deaf
	}
	s.puts = append(s.puts, st)
	return nil
}

// journal is a log that may be read while it is written.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

// bench is an agent with everything around it in memory, in a bubble of time.
type bench struct {
	*testing.T
	engine *agenttest.Engine
	store  *store
	id     *secret.Identity
	dir    string
	vault  *agent.Vault
	log    journal
	agent  *agent.Agent
	stop   func()
	rev    cluster.Revision
}

func inBubble(t *testing.T, f func(b *bench)) {
	t.Helper()
	dir := t.TempDir()
	vault := agent.VaultForTest(t)
	synctest.Test(t, func(t *testing.T) {
		id, err := secret.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{T: t, engine: &agenttest.Engine{}, id: id, dir: dir, vault: vault, store: &store{fresh: make(chan struct{}, 1)}}
		for n := range 6 {
			b.engine.Publish(image("web", n), agenttest.Program{Health: time.Second})
			b.engine.Publish(image("db", n), agenttest.Program{Health: 3 * time.Second})
		}
		defer func() {
			b.end()
			if t.Failed() {
				t.Logf("log:\n%s\ndone:\n%s", b.log.String(), strings.Join(b.engine.Done(), "\n"))
			}
		}()
		f(b)
	})
}

func (b *bench) Open(s *secret.Sealed, as cluster.Version) (secret.Value, error) {
	return s.OpenAs(b.id, as)
}

func (b *bench) begin() {
	b.agent = &agent.Agent{
		Runtime: b.engine, Link: b.store, Vault: b.vault, Opener: b, Dir: b.dir, Version: "test",
		Log: slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.agent.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			b.Errorf("the agent ended with %v", err)
		}
	}
	synctest.Wait()
}

func (b *bench) end() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
	}
}

func (b *bench) tell(s *agent.State) {
	b.store.mu.Lock()
	b.store.state = s
	b.store.mu.Unlock()
	select {
	case b.store.fresh <- struct{}{}:
	default:
	}
	synctest.Wait()
}

func (b *bench) desire(containers ...cluster.Container) *agent.State {
	b.rev++
	s := &agent.State{Desired: &cluster.Desired{Containers: containers}, Revision: b.rev, Secrets: map[cluster.Version]*secret.Sealed{}}
	for _, c := range containers {
		for _, v := range c.Secrets {
			sealed, err := secret.Seal(secret.NewValue(fmt.Appendf(nil, "%s %d", theSecret, v.Version)), v, b.id.Recipient())
			if err != nil {
				b.Fatal(err)
			}
			s.Secrets[v] = sealed
		}
	}
	b.tell(s)
	return s
}

func (b *bench) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// expect says how a service must be by now.
func (b *bench) expect(service string, want string) cluster.ContainerStatus {
	b.Helper()
	for _, c := range b.agent.Status().Containers {
		if string(c.Service) == service {
			if got := fmt.Sprintf("%s %t %s", c.Health, c.Current, c.Image); got != want {
				b.Errorf("%s is %q (%s), not %q", service, got, c.Message, want)
			}
			return c
		}
	}
	b.Errorf("nothing is said of %s: %+v", service, b.agent.Status())
	return cluster.ContainerStatus{}
}

// since returns what was done after n things had been.
func (b *bench) since(n int) []string {
	out := b.engine.Done()[n:]
	for i, s := range out {
		if fields := strings.Split(s, "/"); len(fields) == 3 && !strings.Contains(s, "@") {
			out[i] = fields[0] + "/" + fields[1]
		}
	}
	return out
}

func (b *bench) did(n int, want ...string) {
	b.Helper()
	if got := b.since(n); !slices.Equal(got, want) {
		b.Errorf("did\n\t%s\nnot\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func (b *bench) container(service string) agent.Found {
	b.Helper()
	out := b.containersOf(service)
	if len(out) != 1 {
		b.Fatalf("%d containers of %s: %+v", len(out), service, out)
	}
	return out[0]
}

// containersOf returns a service's containers, whatever they do.
func (b *bench) containersOf(service string) (out []agent.Found) {
	b.Helper()
	all, err := b.engine.List(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range all {
		if string(f.Service) == service {
			out = append(out, f)
		}
	}
	return out
}

func image(name string, n int) string { return fmt.Sprintf("reg/%s@sha256:%d", name, n) }

func service(name string, n int, change ...func(*cluster.Service)) cluster.Container {
	c := cluster.Container{Site: "shop", Service: cluster.Service{
		Name: cluster.ServiceName(name), Image: image(name, n),
		Health: &cluster.Healthcheck{Test: []string{"CMD", "true"}, Interval: cluster.Duration(time.Second)},
	}}
	for _, do := range change {
		do(&c.Service)
	}
	return c
}

func port(n uint16) func(*cluster.Service) {
	return func(s *cluster.Service) { s.Ports = []cluster.Port{{Host: n, Container: 80, Protocol: "tcp"}} }
}

func needs(names ...cluster.ServiceName) func(*cluster.Service) {
	return func(s *cluster.Service) { s.DependsOn = names }
}

func withSecret(c cluster.Container, version int) cluster.Container {
	c.Service.Secrets = []cluster.SecretMount{{Name: "key", Target: "password"}}
	c.Secrets = []cluster.Version{{Name: "key", Version: version}}
	return c
}
