//go:build integration

package ignition

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/ignition/ignitiontest"
)

// ignitions are Debian's and the current one.
func ignitions(t *testing.T) map[string]string {
	t.Helper()
	current, err := ignitiontest.Current()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"debian": needTool(t, ignitionBinary, "ignition"), "current": current}
}

// apply has Ignition make a system of a config, and returns all that it wrote: PATH
// MODE OWNER CONTENT, sorted.
func apply(t *testing.T, binary string, in func(*server) Input) []string {
	t.Helper()
	s := newServer(t)
	s.config.Store(mustCompile(t, in(s)))
	root, state := newRoot(t), t.TempDir()
	if err := os.Remove(filepath.Join(root, "etc/issue")); err != nil { // which one of them writes
		t.Fatal(err)
	}
	for _, stage := range []string{"fetch", "files"} {
		if out, err := runIgnitionOf(t.Context(), t, binary, s, root, state, stage); err != nil {
			t.Fatalf("%s: %v\n%s", stage, err, out)
		}
	}
	return tree(t, root)
}

func tree(t *testing.T, root string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, root)
		if d.IsDir() || strings.HasPrefix(rel, "/etc/selinux") || strings.HasPrefix(rel, "/var/log") ||
			strings.HasSuffix(rel, "shadow") || strings.HasSuffix(rel, "-") || strings.HasSuffix(rel, ".lock") || rel == "/etc/.ignition-result.json" {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		of := info.Sys().(*syscall.Stat_t)
		content, _ := os.Readlink(path)
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = strings.TrimRight(string(b), "\n") + "\n" // Debian's has one more after keys
			if strings.HasSuffix(rel, ".preset") {              // in no order
				lines := strings.Split(strings.TrimSpace(content), "\n")
				slices.Sort(lines)
				content = strings.Join(lines, "\n")
			}
		}
		all = append(all, fmt.Sprintf("%s %v %d:%d %q", rel, info.Mode(), of.Uid, of.Gid, content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// Both make the same system of each golden config: Debian's of spec 3.3 and the
// current one of the newest.
func TestIntegrationEveryExample(t *testing.T) {
	both := ignitions(t)
	inputs := map[string]func(*server) Input{
		"common, fcos":    commonFor("variant: fcos\nversion: 1.4.0\n"),
		"common, flatcar": commonFor("variant: flatcar\nversion: 1.0.0\n"),
	}
	for _, path := range goldenFiles(t) {
		if config := goldenConfig(t, path); config.CloudConfig == "" {
			inputs[path] = func(s *server) Input {
				in := s.input(config)
				in.Server.URL = s.URL // from which one of them merges
				return in
			}
		}
	}
	for name, in := range inputs {
		t.Run(filepath.Base(name), func(t *testing.T) {
			s := newServer(t) // one address for both: it stands in what they write
			fixed := func(*server) Input { return in(s) }
			old, current := apply(t, both["debian"], fixed), apply(t, both["current"], fixed)
			for _, l := range old {
				if !slices.Contains(current, l) {
					t.Errorf("only Debian's made %s", l)
				}
			}
			for _, l := range current {
				if !slices.Contains(old, l) {
					t.Errorf("only the current one made %s", l)
				}
			}
			if len(old) < 8 {
				t.Errorf("little was made:\n%s", strings.Join(old, "\n"))
			}
		})
	}
}

func commonFor(butane string) func(*server) Input {
	return func(s *server) Input {
		in := commonInput(cluster.Config{Butane: butane})
		own := s.input(cluster.Config{})
		in.Agent = own.Agent
		return in
	}
}

// What is said once for every language is there once Ignition has run.
func TestIntegrationCommonByIgnition(t *testing.T) {
	made := apply(t, needTool(t, ignitionBinary, "ignition"), commonFor("variant: fcos\nversion: 1.4.0\n"))
	for _, want := range []string{
		`/etc/motd -rw-r--r-- 0:0 "This is web1.\n\tSay \"hello\" — 100% 10000000\n"`,
		`/srv/alice.sh -rwxr-x--- 1000:0 "#!/bin/sh\nexit 0\n"`,
		`/etc/empty -rw-r--r-- 0:0 "\n"`,
		`/etc/sudoers.d/pilotlight-alice -r--r----- 0:0 "alice ALL=(ALL) NOPASSWD: ALL\n"`,
		`/home/alice/.ssh/authorized_keys.d/ignition -rw------- 1000:1000 "` + testKey + `\n"`,
		`/etc/NetworkManager/system-connections/pilotlight-lan0.nmconnection -rw------- 0:0 "[connection]`,
		`/etc/systemd/system/hello.service -rw-r--r-- 0:0 "[Unit]\nDescription=Hello from web1`,
		`/etc/systemd/system/docker.service.d/10-log.conf -rw-r--r-- 0:0`,
		`/etc/systemd/system/update-engine.service Lrwxrwxrwx 0:0 "/dev/null"`,
		`/etc/systemd/system/pilotlight-firewall.service -rw-r--r-- 0:0`,
		`/etc/pilotlight/firewall.nft -rw-r--r-- 0:0`,
	} {
		if !slices.ContainsFunc(made, func(l string) bool { return strings.HasPrefix(l, want) }) {
			t.Errorf("not there: %s", want)
		}
	}
	all := strings.Join(made, "\n")
	for _, want := range []string{`alice:x:1000:1000:Alice Ng:/home/alice:/bin/bash`, `docker:x:999:alice`, `enable hello.service`, `enable pilotlight-firewall.service`} {
		if !strings.Contains(all, want) {
			t.Errorf("not there: %s", want)
		}
	}
	if t.Failed() {
		t.Log(all)
	}
}
