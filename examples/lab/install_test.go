//go:build lab

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestInstall installs two machines over the network, one by BIOS and one by
// UEFI, each of which boots from the network first whenever it restarts, and
// restarts for ever: as machines do whose boot order nobody has set. Each is
// installed once, and once more when an operator wants it. An installer that
// never says that it is done is booted three times, and no more.
func TestInstall(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Minute)
	defer cancel()
	l := startInstall(ctx, t)
	n1, n2 := l.machines[0], l.machines[1]

	for _, m := range l.machines {
		l.becomes(t, m, "its first disk boots", func(c counts) bool { return c.disk >= 3 })
		l.counted(t, m, 1)
		l.state(t, m, "installed")
	}
	l.report(t)

	for _, m := range l.machines {
		if _, err := l.server.run(ctx, nil, "host", "reinstall", m.name); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range l.machines {
		before := l.count(m)
		l.becomes(t, m, "installed anew", func(c counts) bool { return c.installed >= 2 })
		l.becomes(t, m, "its disk boots again", func(c counts) bool { return c.disk >= before.disk+3 })
		l.counted(t, m, 2)
		l.state(t, m, "installed")
	}
	n2.process.stop(time.Second)

	broken := filepath.Join(l.work, "broken.yaml")
	if err := os.WriteFile(broken, []byte(neverDone), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"apply", "-f", broken}, {"host", "reinstall", n1.name}} {
		if _, err := l.server.run(ctx, nil, command...); err != nil {
			t.Fatal(err)
		}
	}
	l.becomes(t, n1, "three installations that nobody hears of", func(c counts) bool { return c.installed >= 5 })
	after := l.count(n1)
	l.becomes(t, n1, "left to its disk", func(c counts) bool { return c.disk >= after.disk+4 })
	l.counted(t, n1, 5)
	l.state(t, n1, "failed")
}

// neverDone is n1 with an installer that never says that it is done.
const neverDone = `kind: host
name: n1
macs: ["52:54:00:99:00:01"]
address: 10.99.0.11
profile: disk
variables: {says_done: false}
`

// counts is what a machine said on its console.
type counts struct {
	installed int // an installer has written the disk
	disk      int // the disk was booted
}

type installLab struct {
	*lab
	mu     sync.Mutex
	counts map[*machine]counts
}

func (l *installLab) count(m *machine) counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[m]
}

// startInstall starts a server and two machines with empty disks.
func startInstall(ctx context.Context, t *testing.T) *installLab {
	t.Helper()
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	packages = append(packages, diskPackages...)
	l := &installLab{
		lab:    newLab(settings{root: root, dir: filepath.Join(root, "build", "lab"), memory: defaultMemory, out: t.Output()}),
		counts: map[*machine]counts{},
	}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error("clean up:", err)
		}
		assertGone(t, l.lab)
	})
	for _, step := range []func(context.Context) error{l.own, l.build, l.connectAll, l.serve, l.plugIn, l.turnOn} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func (l *installLab) build(ctx context.Context) (err error) {
	if l.node, err = nodeImage(ctx, l.settings, l.say); err != nil {
		return err
	}
	l.say("building the disk, and pilotlight")
	if err := makeDisk(ctx, l.work); err != nil {
		return err
	}
	if l.program, err = buildServer(ctx, l.settings); err != nil {
		return err
	}
	if l.key, err = openSSHKey(l.dir); err != nil {
		return err
	}
	sums, err := checksums(l.node)
	if err != nil {
		return err
	}
	return writeManifests(l.settings, "install", l.manifests(), facts{
		Node: filepath.Join("..", filepath.Base(l.node)), Sums: sums, Key: l.key.public,
		Disk: filepath.Join(l.work, diskImage),
	})
}

// plugIn gives each machine an empty disk, and counts what it says.
func (l *installLab) plugIn(context.Context) error {
	for _, m := range l.machines {
		m.disk = filepath.Join(l.work, m.name+".disk")
		if err := os.WriteFile(m.disk, nil, 0o600); err != nil {
			return err
		}
		if err := os.Truncate(m.disk, diskSize); err != nil {
			return err
		}
		m.onLine = func(line string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			c := l.counts[m]
			if strings.Contains(line, "installer: disk written") {
				c.installed++
			}
			if strings.Contains(line, diskWords) {
				c.disk++
			}
			l.counts[m] = c
		}
	}
	return nil
}

func (l *installLab) becomes(t *testing.T, m *machine, what string, is func(counts) bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Minute); !is(l.count(m)); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(deadline) || m.check() != nil {
			t.Fatalf("%s: %s not in time (%+v, %v); the end of its console:\n%s", m.name, what, l.count(m), m.check(), lastLines(m.process.log, 15))
		}
	}
	l.say("%s: %s: %+v", m.name, what, l.count(m))
}

// counted checks how often a machine was installed, which is how often it was
// asked for.
func (l *installLab) counted(t *testing.T, m *machine, want int) {
	t.Helper()
	if c := l.count(m); c.installed != want {
		t.Errorf("%s was installed %d times, not %d", m.name, c.installed, want)
	}
}

// state checks what `pilotlight host list` says of a machine that restarts all
// the time: what it is once a boot is over, or that it boots.
func (l *installLab) state(t *testing.T, m *machine, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(500 * time.Millisecond) {
		h, err := l.server.host(t.Context(), m.name)
		if err == nil && h.Install.Phase == want {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s is %+v, not %s: %v", m.name, h, want, err)
			return
		}
	}
}

func (l *installLab) report(t *testing.T) {
	t.Helper()
	for _, m := range l.machines {
		out, err := l.server.run(t.Context(), nil, "boot", "list", m.name)
		t.Logf("%s, %v:\n%s", m.name, err, out)
	}
}
