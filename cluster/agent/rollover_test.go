package agent_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
	"github.com/pilotlight/pilotlight/cluster/agent/agenttest"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

func TestDeploysAndThenRests(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		b.desire(service("web", 1), service("db", 1))
		b.wait(500 * time.Millisecond)
		b.expect("web", "starting true "+image("web", 1))
		b.wait(5 * time.Second)
		b.expect("web", "healthy true "+image("web", 1))
		b.expect("db", "healthy true "+image("db", 1))
		done := len(b.engine.Done())
		b.desire(service("web", 1), service("db", 1)) // the same again
		b.wait(4 * time.Hour)
		b.did(done)
		if n := len(b.store.puts); n > 12 {
			b.Errorf("said %d times how it is in quiet hours", n)
		}
		if last := b.store.puts[len(b.store.puts)-1]; last.Revision != 2 || last.Docker != "memory" || last.Agent != "test" || last.Message != "" {
			b.Errorf("said %+v", last)
		}
	})
}

func TestRollsOverBeside(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		b.desire(service("web", 1))
		b.wait(time.Minute)
		done := len(b.engine.Done())
		b.desire(service("web", 2))
		b.wait(500 * time.Millisecond)
		b.expect("web", "healthy false "+image("web", 1)) // the old one serves meanwhile
		b.wait(time.Minute)
		b.expect("web", "healthy true "+image("web", 2))
		b.did(done, "pull "+image("web", 2), "create shop/web", "start shop/web", "stop shop/web", "remove shop/web")
	})
}

// Taken back while the version before is being stopped: that one is beyond
// saving, and the new one serves until it has come up again.
func TestRollsBackWhileItRetires(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.engine.Publish(image("web", 1), agenttest.Program{Health: time.Second, Stops: 10 * time.Second})
		b.begin()
		b.desire(service("web", 1))
		b.wait(time.Minute)
		b.desire(service("web", 2))
		b.wait(7 * time.Second)
		if done := b.engine.Done(); !strings.HasPrefix(done[len(done)-1], "stop shop/web") {
			b.Fatalf("the version before is not being stopped: %v", done)
		}
		b.desire(service("web", 1))
		for range 600 {
			b.wait(100 * time.Millisecond)
			if !slices.ContainsFunc(b.containersOf("web"), func(f agent.Found) bool { return f.Health == cluster.HealthHealthy }) {
				b.Fatalf("nothing that is well serves; done: %v", b.engine.Done())
			}
		}
		b.expect("web", "healthy true "+image("web", 1))
		if n := len(b.containersOf("web")); n != 1 {
			b.Errorf("%d containers are left", n)
		}
	})
}

func TestRollsOverOnOnePort(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		b.desire(service("web", 1, port(80)))
		b.wait(time.Minute)
		done := len(b.engine.Done())
		b.desire(service("web", 2, port(80)))
		b.wait(time.Minute)
		b.expect("web", "healthy true "+image("web", 2))
		// The last two are the old one's, which was kept until then.
		b.did(done, "pull "+image("web", 2), "create shop/web", "stop shop/web", "start shop/web", "stop shop/web", "remove shop/web")
	})
}

func TestTakesAFailedVersionBack(t *testing.T) {
	for name, bad := range map[string]agenttest.Program{
		"sick":           {Sick: true},
		"crashes":        {Exits: true, Code: 2, Log: "cannot log in with " + theSecret + " 1\n"},
		"does not start": {NoStart: errors.New("exec format error")},
		"takes forever":  {Health: time.Hour},
	} {
		for _, ports := range []uint16{0, 80} {
			t.Run(fmt.Sprintf("%s, port %d", name, ports), func(t *testing.T) {
				inBubble(t, func(b *bench) { takesBack(b, bad, ports) })
			})
		}
	}
}

func takesBack(b *bench, bad agenttest.Program, ports uint16) {
	b.engine.Publish(image("web", 2), bad)
	b.begin()
	b.desire(withSecret(service("web", 1, port(ports)), 1))
	b.wait(time.Minute)
	good := b.container("web")
	done := len(b.engine.Done())
	b.desire(withSecret(service("web", 2, port(ports)), 1))
	b.wait(150 * time.Second)
	st := b.expect("web", "failed false "+image("web", 1))
	b.Logf("says: %s", st.Message)
	if !strings.Contains(st.Message, "the version before runs") {
		b.Error("it is not said that the version before runs")
	}
	if strings.Contains(st.Message, "horse") || strings.Contains(b.log.String(), "horse") {
		b.Error("the secret is in the last words")
	}
	b.wait(2 * time.Hour)
	starts := 0
	for _, s := range b.since(done) {
		if s == "create shop/web" {
			starts++
		}
	}
	if most := 80; starts > most || bad.NoStart == nil && starts > 9 {
		b.Errorf("tried %d times in two hours", starts)
	}
	if at := time.Since(b.agent.Status().At); at < 0 {
		b.Errorf("status of the future: %s", at)
	}
	b.desire(withSecret(service("web", 3, port(ports)), 1))
	b.wait(2 * time.Minute)
	b.expect("web", "healthy true "+image("web", 3))
	if b.container("web").ID == good.ID {
		b.Error("the old container is still there")
	}
}

func TestBringsBackWhatGoes(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		b.desire(service("web", 1))
		b.wait(time.Minute)
		first := b.container("web")
		b.engine.Kill(first.ID)
		b.wait(2 * time.Second)
		b.expect("web", "healthy true "+image("web", 1))
		if b.container("web").ID != first.ID {
			b.Error("killed, and made anew")
		}
		if err := b.engine.Remove(b.Context(), first.ID); err != nil {
			b.Fatal(err)
		}
		b.wait(2 * time.Second)
		b.expect("web", "healthy true "+image("web", 1))
	})
}

func TestAdoptsWhatRuns(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		b.desire(withSecret(service("web", 1), 1), service("db", 1))
		b.wait(time.Minute)
		done := len(b.engine.Done())
		b.end()
		b.begin()
		b.wait(time.Minute)
		b.did(done)
		b.expect("web", "healthy true "+image("web", 1))

		b.end()
		// A host that was introduced anew has no secrets in etcd for a moment.
		b.tell(&agent.State{Desired: b.store.state.Desired, Revision: b.rev, Secrets: map[cluster.Version]*secret.Sealed{}})
		b.begin()
		b.wait(time.Minute)
		b.did(done)
		b.end()
		b.store.state = nil // and without etcd
		b.begin()
		b.wait(time.Hour)
		b.did(done)
		b.expect("db", "healthy true "+image("db", 1))
		if saved, err := os.ReadFile(filepath.Join(b.dir, "state.json")); err != nil || !bytes.Contains(saved, []byte(`"box"`)) {
			b.Errorf("the sealed secret is not kept: %s %v", saved, err)
		}
		if err := b.agent.Ready(); err == nil {
			b.Error("ready without etcd")
		}
	})
}

func TestGoesOnAmidATrial(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.engine.Publish(image("web", 2), agenttest.Program{Sick: true})
		b.begin()
		b.desire(service("web", 1, port(80)))
		b.wait(time.Minute)
		good := b.container("web").ID
		b.desire(service("web", 2, port(80)))
		b.wait(500 * time.Millisecond)
		b.end() // the old one is stopped, the new one runs and is not healthy yet
		b.begin()
		b.wait(10 * time.Second)
		b.expect("web", "failed false "+image("web", 1))
		if b.container("web").ID != good {
			b.Error("the way back was lost with the agent")
		}
		done := len(b.engine.Done())
		b.end()
		b.begin() // nor is a failed version hurried by a new agent
		b.wait(20 * time.Second)
		b.did(done)
	})
}
