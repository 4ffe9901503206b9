//go:build storm || integration

package storm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
	"github.com/pilotlight/pilotlight/cluster/api"
)

// TestIntegrationStorm is a small one: one server that comes back, and three that go
// on without one.
func TestIntegrationStorm(t *testing.T) {
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprint(servers), func(t *testing.T) { smallStorm(t, servers) })
	}
}

func smallStorm(t *testing.T, servers int) {
	storm(t, config{machines: 30, servers: servers, ramp: 3 * time.Second, pace: 0.25, limit: time.Minute})
}

// storm switches machines on, kills a server when half of them are introduced,
// starts it again as systemd would, and looks whether everything came right.
func storm(t *testing.T, c config) *outcome {
	w := newWorld(t, c)
	for range c.servers {
		w.addServer()
	}
	w.settle()
	seen := w.watch()
	if c.prepared {
		w.prepared(seen)
	}
	ctx, cancel := context.WithTimeout(t.Context(), c.limit)
	defer cancel()
	out := &outcome{config: c, servers: w.servers}

	began := time.Now()
	machines, up, off := w.switchOn(ctx)
	defer off()
	if err := seen.until(ctx, c.machines/2, 0); err != nil {
		t.Fatalf("half of the machines: %v", err)
	}
	out.killedAt, _ = seen.counts()
	out.back = w.crash(seen)
	if err := up(); err != nil {
		t.Error(err)
	}
	if err := seen.until(ctx, c.machines, c.machines); err != nil {
		introduced, alive := seen.counts()
		t.Errorf("%d of %d hosts are introduced, and %d alive: %v", introduced, c.machines, alive, err)
	}
	w.check(seen)

	out.introduced, out.alive = seen.last(began)
	at, err := seen.progress(t.Context())
	if err != nil {
		t.Error(err)
	}
	out.changes, out.entries = at[0]-seen.began[0], at[1]-seen.began[1]
	out.acks, out.wavered, out.log = w.ledger.acks, len(seen.lost), merge(machines)
	off()
	for _, s := range w.servers {
		s.end(syscall.SIGTERM)
	}
	t.Logf("\n%s", out)
	return out
}

// switchOn switches the machines on, one after the other. up waits until all
// have booted; off switches them off.
func (w *world) switchOn(ctx context.Context) (all []*machine, up func() error, off func()) {
	for n := range w.config.machines {
		all = append(all, newMachine(w, n))
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var booting sync.WaitGroup
	failed := make([]error, len(all))
	for n, m := range all {
		booting.Go(func() {
			if agent.Sleep(ctx, rand.N(w.config.ramp)) {
				failed[n] = m.run(running)
			}
		})
	}
	end := context.AfterFunc(ctx, stop)
	up = func() error {
		booting.Wait()
		return errors.Join(failed...)
	}
	return all, up, sync.OnceFunc(func() {
		end()
		stop()
		booting.Wait()
		for _, m := range all {
			if m.system != nil {
				m.system.owned.Wait()
			}
		}
	})
}

// voters are the servers whose etcd answers clients: of two the first.
func (w *world) voters() []*server {
	if len(w.servers) == 2 {
		return w.servers[:1]
	}
	return w.servers
}

// settle waits until those vote that are to.
func (w *world) settle() {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var members []cluster.Member
		if err := json.Unmarshal([]byte(w.last().pilotlight("", "server", "members", "-o", "json")), &members); err != nil {
			w.t.Fatal(err)
		}
		votes := 0
		for _, m := range members {
			if !m.Learner && m.Version != "" {
				votes++
			}
		}
		if len(members) == len(w.servers) && votes == len(w.voters()) {
			return
		}
	}
	w.t.Fatalf("never: %d votes of %d servers", len(w.voters()), len(w.servers))
}

// prepared waits until every host has its etcd user: they were applied the evening
// before.
func (w *world) prepared(seen *watcher) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		users, err := seen.client.UserList(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if len(users.Users) > w.config.machines { // and root
			return
		}
	}
	w.t.Fatal("the hosts are never prepared")
}

// last is a server that is never killed, unless it is the only one.
func (w *world) last() *server { return w.servers[len(w.servers)-1] }

// crash kills the first server, and looks whether every lease is still there that
// was acknowledged before. It starts it again, as systemd would, unless the others
// are to do without it: three are.
func (w *world) crash(seen *watcher) time.Duration {
	t, s := w.t, w.servers[0]
	t.Helper()
	before := w.ledger.now()
	began := time.Now()
	s.end(syscall.SIGKILL)
	if len(w.servers) < 3 {
		time.Sleep(restartAfter)
		s.start()
	}
	for _, s := range w.servers {
		if s.cmd != nil {
			s.ready()
		}
	}
	back := time.Since(began)
	stored, err := seen.leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after := w.ledger.now()
	for addr, p := range before {
		if after[addr] == p && stored[addr] != p.mac {
			t.Errorf("%s was acknowledged to %s before the crash, and is lent to %s after it", addr, p.mac, stored[addr])
		}
	}
	return back
}

// leases is what etcd holds of them.
func (o *watcher) leases(ctx context.Context) (map[netip.Addr]cluster.MAC, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	all, _, err := o.store.Leases(ctx)
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]cluster.MAC{}
	for _, l := range all {
		if l.Expires.After(time.Now()) {
			out[l.Address] = l.MAC
		}
		if l.Declined {
			return nil, fmt.Errorf("%s was declined by %s, and nobody declines", l.Address, l.MAC)
		}
	}
	return out, nil
}

// check looks whether everything came right.
func (w *world) check(seen *watcher) {
	t := w.t
	t.Helper()
	for _, f := range w.ledger.faults {
		t.Error(f)
	}
	stored, err := seen.leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := map[netip.Addr]cluster.MAC{}
	for addr, p := range w.ledger.now() {
		held[addr] = p.mac
	}
	if !maps.Equal(stored, held) {
		t.Errorf("etcd holds %d leases, and the machines %d:", len(stored), len(held))
		for addr, mac := range stored {
			if held[addr] != mac {
				t.Errorf("  %s is lent to %s, and held by %s", addr, mac, held[addr])
			}
		}
		for addr, mac := range held {
			if stored[addr] != mac {
				t.Errorf("  %s is held by %s, and lent to %s", addr, mac, stored[addr])
			}
		}
	}
	seen.mu.Lock()
	for n := range w.config.machines {
		if host := string(hostName(n)); seen.introduction[host] != 1 {
			t.Errorf("host %s was introduced %d times", host, seen.introduction[host])
		}
	}
	seen.mu.Unlock()
	w.checkHosts()
}

// checkHosts asks as an operator does.
func (w *world) checkHosts() {
	t := w.t
	t.Helper()
	hosts := w.readyHosts()
	if len(hosts) != w.config.machines {
		t.Errorf("%d hosts are listed, not %d", len(hosts), w.config.machines)
	}
	for _, h := range hosts {
		addr, _ := netip.ParseAddr(h.Address)
		if p := w.ledger.now()[addr]; h.State != cluster.StateReady || len(h.MACs) != 1 || h.MACs[0] != p.mac {
			t.Errorf("host %s is %s at %s, which is lent to %s; %s", h.Name, h.State, h.Address, p.mac, h.Message)
		}
	}
	var alarms []json.RawMessage
	if err := json.Unmarshal([]byte(w.last().pilotlight("", "audit", "--alarms", "-n", "0", "-o", "json")), &alarms); err != nil {
		t.Fatal(err)
	}
	for _, a := range alarms {
		t.Errorf("an alarm, and no machine is a thief: %s", a)
	}
}

// readyHosts are the hosts once all are ready, or after a minute.
func (w *world) readyHosts() (hosts []api.HostStatus) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if err := json.Unmarshal([]byte(w.last().pilotlight("", "host", "list", "-o", "json")), &hosts); err != nil {
			w.t.Fatal(err)
		}
		waits := slices.ContainsFunc(hosts, func(h api.HostStatus) bool { return h.State != cluster.StateReady })
		if !waits || time.Now().After(end) {
			return hosts
		}
	}
}

// last returns how long after began the last host was introduced, and alive.
func (o *watcher) last(began time.Time) (introduced, alive time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, at := range o.introduced {
		introduced = max(introduced, at.Sub(began))
	}
	for _, at := range o.alive {
		alive = max(alive, at.Sub(began))
	}
	return introduced, alive
}
