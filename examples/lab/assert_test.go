//go:build lab

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// claims are what TestLab asserts. Later ones change what earlier ones saw, so
// their order matters.
var claims = []struct {
	name string
	f    func(*labTest, *testing.T)
}{
	{"timeline of each boot", (*labTest).timelines},
	{"hosts are ready", (*labTest).ready},
	{"page shows the fingerprint, not the value", (*labTest).pages},
	{"ssh with the manifest's key", (*labTest).ssh},
	{"Ignition did all of it", (*labTest).ignition},
	{"etcd opens its own prefix alone", (*labTest).etcd},
	{"memory", (*labTest).memory},
	{"the secret is nowhere on the server", (*labTest).serverKeepsSecret},
	{"a search finds a secret that is planted", (*labTest).searchFindsPlant},
	{"the secret is nowhere on a node", (*labTest).nodeKeepsSecret},
	{"a killed container comes back", (*labTest).killedContainer},
	{"a killed agent adopts what runs", (*labTest).killedAgent},
	{"a changed site is rolled over", (*labTest).rollover},
	{"the old secret is nowhere after all that", (*labTest).nodeKeepsSecret},
	{"a removed site is removed", (*labTest).removal},
}

// TestLab boots the lab once, and asserts in turn all that a site's people rely
// on.
func TestLab(t *testing.T) {
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Minute)
	defer cancel()
	l, err := start(ctx, settings{root: root, dir: filepath.Join(root, "build", "lab"), memory: defaultMemory, out: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error("clean up:", err)
		}
		assertGone(t, l)
	})
	boot, stop := context.WithTimeout(ctx, bootTimeout)
	defer stop()
	if err := l.waitReady(boot); err != nil {
		t.Fatal(err)
	}
	lt := &labTest{lab: l, ctx: ctx}
	for _, s := range claims {
		t.Run(s.name, func(t *testing.T) { s.f(lt, t) })
	}
}

// labTest is what the subtests share.
type labTest struct {
	*lab
	ctx context.Context
}

// assertGone checks that the lab left nothing behind.
func assertGone(t *testing.T, l *lab) {
	if _, err := os.Stat(l.network.path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("namespace %s is still there (%v)", l.network.name, err)
	}
	if _, err := os.Stat(l.work); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", l.work, err)
	}
	var processes []*process
	for _, m := range l.machines {
		processes = append(processes, m.process)
	}
	if l.server != nil {
		processes = append(processes, l.server.process)
	}
	for _, p := range processes {
		if p == nil {
			continue
		}
		if _, err := os.Stat("/proc/" + itoa(p.pid)); err == nil {
			t.Errorf("%s still runs as %d", p.name, p.pid)
		}
	}
}

// on logs in to a machine and runs a script as root there.
func (l *labTest) on(t *testing.T, m *machine, script string) string {
	t.Helper()
	r, err := connect(l.ctx, l.network, m.address, l.key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	ctx, cancel := context.WithTimeout(l.ctx, 5*time.Minute)
	defer cancel()
	out, err := r.root(ctx, script)
	if err != nil {
		t.Fatalf("on %s: %v\n%s", m.name, err, out)
	}
	return strings.TrimSpace(out)
}

// eventually waits until f has no error.
func (l *labTest) eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	start := time.Now()
	for {
		err := f()
		if err == nil {
			t.Logf("after %.1f s", time.Since(start).Seconds())
			return
		}
		if time.Since(start) > limit || l.ctx.Err() != nil {
			t.Fatalf("not within %s: %v", limit, err)
		}
		time.Sleep(time.Second)
	}
}

// containers returns the ids of the site's running containers on a machine.
func (l *labTest) containers(t *testing.T, m *machine) []string {
	t.Helper()
	return strings.Fields(l.on(t, m, `docker ps --no-trunc --quiet --filter name=pilotlight-www-web`))
}

// container returns the id of the one that must be there.
func (l *labTest) container(t *testing.T, m *machine) string {
	t.Helper()
	ids := l.containers(t, m)
	if len(ids) != 1 {
		t.Fatalf("%s runs %d containers of the site, want 1: %v", m.name, len(ids), ids)
	}
	return ids[0]
}

func (l *labTest) timelines(t *testing.T) {
	for _, m := range l.machines {
		text, err := l.timeline(l.ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		t.Log("\n" + text)
		for _, step := range []cluster.Step{cluster.StepDHCP, cluster.StepScript, cluster.StepKernel, cluster.StepInitrd, cluster.StepRootfs, cluster.StepPointer, cluster.StepConfig, cluster.StepAgent, cluster.StepJoin, cluster.StepReady} {
			if !strings.Contains(text, "server   "+string(step)) {
				t.Errorf("the timeline of %s lacks %s", m.name, step)
			}
		}
		if m.firmware == uefi && !strings.Contains(text, "server   "+string(cluster.StepLoader)) {
			t.Errorf("the timeline of %s lacks its loader, which UEFI needs", m.name)
		}
	}
}

func (l *labTest) ready(t *testing.T) {
	for _, m := range l.machines {
		h, err := l.server.host(l.ctx, m.name)
		if err != nil || h.State != string(cluster.StateReady) {
			t.Errorf("%s is %s (%s), %v", m.name, h.State, h.Message, err)
		}
	}
}

func (l *labTest) pages(t *testing.T) {
	for _, m := range l.machines {
		page, err := l.page(l.ctx, m, "/")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			`id="version">v1<`, `id="fingerprint">` + l.fingerprint() + `<`,
			`id="mode">-r--------<`, `id="readonly">read-only<`, `id="memory">in memory<`,
		} {
			if !strings.Contains(page, want) {
				t.Errorf("the page of %s lacks %s:\n%s", m.name, want, page)
			}
		}
		if strings.Contains(page, l.secret) {
			t.Errorf("the page of %s shows the secret", m.name)
		}
	}
}

func (l *labTest) ssh(t *testing.T) {
	for _, m := range l.machines {
		if got := l.on(t, m, `hostname; systemctl is-failed --quiet '*' && systemctl --failed --no-legend || true`); got != m.name {
			t.Errorf("on %s: %s", m.name, got)
		}
	}
	other, err := openSSHKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := connect(l.ctx, l.network, l.machines[0].address, other); err == nil {
		_ = r.close()
		t.Error("a key that no manifest names may log in")
	}
}

// ignition asserts what the config told, and that the token is used up.
func (l *labTest) ignition(t *testing.T) {
	for _, m := range l.machines {
		got := l.on(t, m, `
			cat /etc/motd
			systemctl is-enabled pilotlight-agent.service
			systemctl is-active pilotlight-agent.service
			test -e /etc/pilotlight/introduction-token && echo token-left
			docker info --format '{{.Driver}}'
			test -e /run/ignition.json && echo config-left
			true`)
		want := m.name + ": a machine of pilotlight's lab\nenabled\nactive\noverlay2"
		if got != want {
			t.Errorf("on %s:\n%s\nwant:\n%s", m.name, got, want)
		}
	}
}

func (l *labTest) memory(t *testing.T) {
	const agentMax, serverMax = 40 << 10, 150 << 10
	for _, m := range l.machines {
		text := l.on(t, m, `cat /proc/$(systemctl show -p MainPID --value pilotlight-agent.service)/status; free -m >&2`)
		kib, err := parseResident(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: the agent has %.1f MiB", m.name, float64(kib)/1024)
		if kib > agentMax {
			t.Errorf("%s: the agent has more than 40 MiB", m.name)
		}
	}
	kib, err := residentKiB(l.server.process.pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the server has %.1f MiB", float64(kib)/1024)
	if kib > serverMax {
		t.Error("the server has more than 150 MiB")
	}
}

// agentConfig reads what a machine's agent was told.
func (l *labTest) agentConfig(t *testing.T, m *machine) (c cluster.AgentConfig) {
	t.Helper()
	if err := json.Unmarshal([]byte(l.on(t, m, `cat `+cluster.AgentConfigFile)), &c); err != nil {
		t.Fatal(err)
	}
	return c
}
