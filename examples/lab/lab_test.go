package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/manifest"
)

func testSettings(t *testing.T) settings {
	t.Helper()
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	return settings{root: root, dir: t.TempDir(), out: t.Output()}
}

// testFacts is what manifests may say, made up.
func testFacts(t *testing.T, s settings) facts {
	t.Helper()
	key, err := openSSHKey(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	f := facts{
		Loader: "ipxe", Node: "../node-0", Key: key.public, User: siteUser, Digest: "sha256:" + strings.Repeat("0", 64),
		Sums: map[string]string{},
	}
	for _, name := range []string{"vmlinuz", "initrd.img", "rootfs.squashfs"} {
		f.Sums[name] = strings.Repeat("a", 64)
	}
	return f
}

// loadManifests reads a directory as the server does.
func loadManifests(t *testing.T, dir string) *manifest.Set {
	t.Helper()
	set, err := manifest.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestManifestsAreWhatTheServerReads(t *testing.T) {
	s := testSettings(t)
	dir := filepath.Join(s.dir, "manifests")
	if err := writeManifests(s, "manifests", dir, testFacts(t, s)); err != nil {
		t.Fatal(err)
	}
	set := loadManifests(t, dir)
	if err := set.Place(cluster.Check(set.Documents)); err != nil {
		t.Error(err)
	}
	snap := cluster.NewSnapshot(1, set.Documents)
	for _, m := range machines() {
		mac, err := cluster.ParseMAC(m.mac)
		if err != nil {
			t.Fatal(err)
		}
		h, ok := snap.Identify(cluster.Identity{MAC: mac})
		if !ok || h.Name != m.name || h.Address.String() != m.address {
			t.Errorf("the manifests' host of %s is %+v, the lab's is %s at %s", m.mac, h, m.name, m.address)
		}
	}
}

// What the longer labs serve is read here, too, where that takes no boot.
func TestManifestsOfTheOtherLabs(t *testing.T) {
	s := testSettings(t)
	f := testFacts(t, s)
	for _, test := range []struct {
		name, beside string   // a directory that is served, with the site; one that is applied then
		copied       []string // what that names and the first has
	}{{"vm", "", nil}, {"seed", "", nil}, {"manifests", "net", []string{"node.bu"}}} {
		dir := filepath.Join(s.dir, test.name+test.beside)
		if err := errors.Join(writeManifests(s, test.name, dir, f), writeSite(s, filepath.Join(dir, "www.yaml"), f)); err != nil {
			t.Fatal(err)
		}
		snap := cluster.NewSnapshot(1, loadManifests(t, dir).Documents)
		if test.beside != "" {
			then := filepath.Join(s.dir, test.beside)
			if err := writeManifests(s, test.beside, then, f); err != nil {
				t.Fatal(err)
			}
			for _, name := range test.copied {
				if err := copyFile(filepath.Join(dir, name), filepath.Join(then, name)); err != nil {
					t.Fatal(err)
				}
			}
			snap = snap.With(2, loadManifests(t, then).Documents, nil)
		}
		if problems := cluster.CheckSnapshot(snap); len(problems) > 0 {
			t.Errorf("%s %s: %v", test.name, test.beside, problems)
		}
		if advice := cluster.Advise(snap); len(advice) > 0 {
			t.Errorf("%s %s: %v", test.name, test.beside, advice)
		}
	}
}

func TestManifestWithAMissingFactIsRefused(t *testing.T) {
	s := testSettings(t)
	from := filepath.Join(s.dir, "x.yaml")
	if err := os.WriteFile(from, []byte("sum: [[index .Sums \"x\"]] [[.Nothing]]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fill(from, from+".out", facts{}); err == nil || !strings.Contains(err.Error(), "Nothing") {
		t.Errorf("error %v does not name what is missing", err)
	}
}

func TestSiteImageIsTheSameEachTime(t *testing.T) {
	program := []byte("#!/bin/true")
	var digests []string
	for range 2 {
		img, err := scratch(program)
		if err != nil {
			t.Fatal(err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d.String())
		c, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if c.Config.User != siteUser || c.Config.Healthcheck == nil || len(c.RootFS.DiffIDs) != 1 {
			t.Errorf("config %+v, rootfs %+v", c.Config, c.RootFS)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("two digests of one program: %v", digests)
	}
}

func TestArtifactIsMadeOncePerInput(t *testing.T) {
	dir := t.TempDir()
	input := filepath.Join(dir, "input")
	cache := filepath.Join(dir, "cache")
	made := 0
	a := artifact{name: "thing", inputs: []string{input}, make: func(at string) error {
		made++
		return os.WriteFile(filepath.Join(at, "out"), nil, 0o600)
	}}
	get := func(content string, want int) string {
		t.Helper()
		if err := os.WriteFile(input, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		at, err := a.get(cache)
		if err != nil {
			t.Fatal(err)
		}
		if made != want {
			t.Errorf("made %d times, want %d", made, want)
		}
		if _, err := os.Stat(filepath.Join(at, "out")); err != nil {
			t.Error(err)
		}
		return at
	}
	first := get("a", 1)
	get("a", 1)
	get("b", 2)
	if _, err := os.Stat(first); err == nil {
		t.Error("the old one is still there")
	}
}

func TestArtifactThatCannotBeMadeLeavesNothing(t *testing.T) {
	cache := t.TempDir()
	a := artifact{name: "thing", make: func(string) error { return os.ErrPermission }}
	if _, err := a.get(cache); err == nil {
		t.Fatal("no error")
	}
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestProcessIsStoppedAndItsLinesAreTimed(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	said := make(chan string, 10)
	p, err := startProcess(command{
		name: "shell", log: log, args: []string{"sh", "-c", "printf 'one\ntwo'; exec sleep 60"},
		onLine: func(line string) { said <- line },
	})
	if err != nil {
		t.Fatal(err)
	}
	if line := <-said; line != "one" {
		t.Errorf("first line %q", line)
	}
	p.stop(5 * time.Second)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(" one\n")) || !bytes.HasSuffix(text, []byte(" two\n")) {
		t.Errorf("log %q", text)
	}
}

func TestProcessThatCannotStartSaysSo(t *testing.T) {
	_, err := startProcess(command{name: "nothing", log: filepath.Join(t.TempDir(), "log"), args: []string{"/nonexistent/program"}})
	if err == nil || !strings.Contains(err.Error(), "start nothing") {
		t.Errorf("error %v", err)
	}
}

func TestOutputEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := output(ctx, nil, nil, nil, "sleep", "60"); err == nil || time.Since(start) > 20*time.Second {
		t.Errorf("error %v after %s", err, time.Since(start))
	}
}

func TestMachineHearsItsConsole(t *testing.T) {
	m := &machine{name: "n9", powerOn: time.Now(), process: &process{done: make(chan struct{})}}
	for _, line := range []string{"noise", "node: 2.4 s: started, Linux 6", "node: 9.0 s: FAILED: no address from DHCP: is it up?"} {
		m.listen(line)
	}
	if got := m.timeline(); len(got) != 2 || got[0].what != "started, Linux 6" {
		t.Errorf("marks %+v", got)
	}
	if err := m.check(); err == nil || !strings.Contains(err.Error(), "no address from DHCP: is it up?") {
		t.Errorf("error %v does not say why", err)
	}
}

func TestLockIsForOne(t *testing.T) {
	dir := t.TempDir()
	held, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil || !strings.Contains(err.Error(), "another lab runs") {
		t.Errorf("error %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestResidentMemoryIsRead(t *testing.T) {
	if kib, err := residentKiB(os.Getpid()); err != nil || kib < 1000 {
		t.Errorf("%d KiB, %v", kib, err)
	}
}
