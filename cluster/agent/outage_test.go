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

func TestEmptyIsNotUnreadable(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		b.desire(withSecret(service("web", 1), 1))
		b.wait(time.Minute)
		done := len(b.engine.Done())
		b.tell(&agent.State{Secrets: map[cluster.Version]*secret.Sealed{}}) // etcd holds nothing for this host
		b.wait(time.Hour)
		b.did(done)
		if m := b.agent.Status().Message; !strings.Contains(m, "decided nothing") {
			b.Errorf("says %q", m)
		}
		b.tell(&agent.State{Problem: "cannot be read"})
		b.wait(time.Hour)
		b.did(done)
		if m := b.agent.Status().Message; m != "cannot be read" {
			b.Errorf("says %q", m)
		}
		b.desire() // etcd says: nothing
		b.wait(time.Minute)
		b.did(done, "stop shop/web", "remove shop/web", "remove network shop")
		if slots, err := b.vault.Slots(); err != nil || len(slots) > 0 {
			b.Errorf("secrets left: %v %v", slots, err)
		}
	})
}

func TestEngineDown(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		b.desire(service("web", 1))
		b.wait(time.Minute)
		b.engine.Down(errors.New("connection refused"))
		b.wait(time.Minute)
		if m := b.agent.Status().Message; !strings.Contains(m, "connection refused; see systemctl status docker") {
			b.Errorf("says %q", m)
		}
		b.expect("web", "healthy true "+image("web", 1)) // as far as is known
		if b.agent.Ready() == nil || b.agent.Alive() != nil {
			b.Errorf("ready %v, alive %v", b.agent.Ready(), b.agent.Alive())
		}
		b.engine.Down(nil)
		b.wait(time.Minute)
		if m := b.agent.Status().Message; m != "" || b.agent.Ready() != nil {
			b.Errorf("says %q, ready %v", m, b.agent.Ready())
		}
	})
}

func TestRebootWithoutServers(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		b.desire(withSecret(service("web", 1), 3), service("db", 1))
		b.wait(time.Minute)
		b.end()
		for _, s := range []string{"web", "db"} {
			b.engine.Kill(b.container(s).ID)
		}
		slots, err := b.vault.Slots()
		if err != nil || len(slots) != 1 {
			b.Fatalf("%v %v", slots, err)
		}
		if err := b.vault.Remove(slots[0]); err != nil { // what was in memory is gone
			b.Fatal(err)
		}
		b.store.state = nil
		b.begin()
		b.wait(10 * time.Second)
		b.expect("web", "healthy true "+image("web", 1))
		b.expect("db", "healthy true "+image("db", 1))
		got, err := os.ReadFile(filepath.Join(b.vault.Path(slots[0]), "password"))
		if err != nil || string(got) != theSecret+" 3" {
			b.Errorf("the secret: %q %v", got, err)
		}
	})
}

func TestSecretsWaitAndComeAndStayHidden(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		s := b.desire(withSecret(service("web", 1), 1))
		want := s.Secrets
		b.wait(time.Minute)
		b.expect("web", "healthy true "+image("web", 1))

		late := withSecret(service("web", 1), 2)
		b.rev++
		b.tell(&agent.State{Desired: &cluster.Desired{Containers: []cluster.Container{late}}, Revision: b.rev, Secrets: want})
		b.wait(time.Minute)
		if st := b.expect("web", "healthy false "+image("web", 1)); st.Message != "waits for version 2 of secret key" {
			b.Errorf("says %q", st.Message)
		}
		stranger, err := secret.NewIdentity()
		if err != nil {
			b.Fatal(err)
		}
		wrong, err := secret.Seal(secret.NewValue([]byte("x")), late.Secrets[0], stranger.Recipient())
		if err != nil {
			b.Fatal(err)
		}
		b.tell(&agent.State{Desired: &cluster.Desired{Containers: []cluster.Container{late}}, Revision: b.rev, Secrets: map[cluster.Version]*secret.Sealed{late.Secrets[0]: wrong}})
		b.wait(time.Minute)
		if st := b.expect("web", "failed false "+image("web", 1)); !strings.Contains(st.Message, "is sealed to "+stranger.Recipient()) {
			b.Errorf("says %q", st.Message)
		}
		b.desire(late)
		b.wait(time.Minute)
		b.expect("web", "healthy true "+image("web", 1))

		saved, err := os.ReadFile(filepath.Join(b.dir, "state.json"))
		if err != nil || !bytes.Contains(saved, []byte(`"version":2`)) {
			b.Errorf("%s %v", saved, err)
		}
		b.end()
		var metrics bytes.Buffer
		b.agent.WriteMetrics(&metrics)
		for what, text := range map[string]string{"state.json": string(saved), "log": b.log.String(), "status": fmt.Sprintf("%+v", b.store.puts), "metrics": metrics.String()} {
			for _, piece := range []string{"hunter2", "battery"} {
				if strings.Contains(text, piece) {
					b.Errorf("%s shows the secret", what)
				}
			}
		}
		if !strings.Contains(metrics.String(), `pilotlight_agent_container_healthy{site="shop",service="web"} 1`) {
			b.Errorf("metrics:\n%s", metrics.String())
		}
	})
}

func TestDependenciesFirst(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		b.desire(service("web", 1, needs("db")), service("db", 1))
		b.wait(time.Minute)
		var starts []string
		for _, s := range b.since(0) {
			if strings.HasPrefix(s, "start") {
				starts = append(starts, s)
			}
		}
		if !slices.Equal(starts, []string{"start shop/db", "start shop/web"}) {
			b.Errorf("%v", starts)
		}
		web, db := b.container("web"), b.container("db")
		if wait := web.Started.Sub(db.Started); wait < 3*time.Second || wait > 4*time.Second {
			b.Errorf("web waited %s for db, which is healthy after 3s", wait)
		}
	})
}

func TestPullFails(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		b.desire(service("web", 9))
		b.wait(10 * time.Minute)
		st := b.expect("web", "failed false ")
		if !strings.Contains(st.Message, "manifest unknown; tried again at ") {
			b.Errorf("says %q", st.Message)
		}
		if n := len(b.engine.Done()); n < 6 || n > 12 {
			b.Errorf("tried %d times in ten minutes", n)
		}
		b.engine.Publish(image("web", 9), agenttest.Program{})
		b.wait(2 * time.Minute)
		b.expect("web", "healthy true "+image("web", 9))
	})
}

func TestImagesArePrunedButForTheWayBack(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		for n := 1; n <= 3; n++ {
			b.desire(service("web", n))
			b.wait(time.Minute)
		}
		b.wait(time.Hour)
		for n, want := range map[int]bool{1: false, 2: true, 3: true} {
			if got, err := b.engine.Image(b.Context(), image("web", n)); err != nil || (got != nil) != want {
				b.Errorf("image %d: %v %v", n, got, err)
			}
		}
		b.desire()
		b.wait(time.Hour)
		for n := range 4 {
			if got, err := b.engine.Image(b.Context(), image("web", n)); err != nil || got != nil {
				b.Errorf("image %d: %v %v", n, got, err)
			}
		}
	})
}

func TestStatusIsToldAgainWhenTheStoreIsBack(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.store.deaf = errors.New("no leader")
		b.begin()
		b.desire(service("web", 1))
		b.wait(time.Minute)
		if len(b.store.puts) > 0 {
			b.Errorf("%+v", b.store.puts)
		}
		b.store.mu.Lock()
		b.store.deaf = nil
		b.store.mu.Unlock()
		b.wait(time.Minute)
		if n := len(b.store.puts); n == 0 || b.store.puts[n-1].Containers[0].Health != cluster.HealthHealthy {
			b.Errorf("%+v", b.store.puts)
		}
	})
}

func TestStateFileIsRubbish(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.begin()
		told := b.desire(service("web", 1))
		b.wait(time.Minute)
		b.end()
		done := len(b.engine.Done())
		if err := os.WriteFile(filepath.Join(b.dir, "state.json"), []byte("{half"), 0o600); err != nil {
			b.Fatal(err)
		}
		b.store.state = nil
		b.begin()
		b.wait(time.Hour)
		b.did(done)
		if !strings.Contains(b.log.String(), "read the last known state") {
			b.Error("nothing is said of it")
		}
		b.tell(told)
		b.wait(time.Minute)
		b.did(done)
		b.expect("web", "healthy true "+image("web", 1))
	})
}
