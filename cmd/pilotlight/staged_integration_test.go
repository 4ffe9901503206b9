//go:build integration

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/ignition/ignitiontest"
)

const (
	debianIgnition = "/usr/lib/dracut/modules.d/30ignition/ignition"
	stagedMotd     = "what only this host is told\n"
)

func stagedManifest(motd string) string {
	return strings.Replace(labManifest, "    version: 1.4.0\n", `    version: 1.4.0
    passwd: {users: [{name: core, ssh_authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJNnAyiNTEvBt0e+GmvBPLzzB8Q0oCcyqO4FNVtGhwKL ops"]}]}
    storage: {files: [{path: /etc/motd, contents: {inline: "`+strings.TrimSpace(motd)+`\n"}}]}
`, 1) + hostManifest("n1", mac1) + hostManifest("n2", mac2) + hostManifest("n3", mac3)
}

// first is what a machine that reads spec 3.3 is told over HTTP.
func (l *lab) first(ns, mac string) string {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "first.ign")
	l.mustIn(ns, "curl", "-sf", "-o", path, "-H", "Accept: application/vnd.coreos.ignition+json;version=3.3.0, */*;q=0.1",
		"http://"+serverAddr+":8080/ignition?mac="+mac)
	return path
}

// follow is what a machine does with it, with curl: the status, and what it got.
func (l *lab) follow(ns, first string) (code, body string) {
	l.t.Helper()
	text, err := os.ReadFile(first)
	if err != nil {
		l.t.Fatal(err)
	}
	var config struct {
		Ignition struct {
			Config struct {
				Merge []struct {
					Source      string
					HTTPHeaders []struct{ Name, Value string }
				}
			}
			Security struct {
				TLS struct{ CertificateAuthorities []struct{ Source string } }
			}
		}
	}
	if err := json.Unmarshal(text, &config); err != nil || len(config.Ignition.Config.Merge) != 1 {
		l.t.Fatalf("%v: %s points to nothing", err, text)
	}
	merge, dir := config.Ignition.Config.Merge[0], l.t.TempDir()
	for name, text := range map[string]string{
		"ca":     dataURL(l.t, config.Ignition.Security.TLS.CertificateAuthorities[0].Source),
		"header": merge.HTTPHeaders[0].Name + ": " + merge.HTTPHeaders[0].Value + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	code = l.mustIn(ns, "curl", "-s", "--cacert", dir+"/ca", "-H", "@"+dir+"/header", "-o", dir+"/rest", "-w", "%{http_code}", merge.Source)
	rest, err := os.ReadFile(dir + "/rest")
	if err != nil {
		l.t.Fatal(err)
	}
	return code, string(rest)
}

// bootIgnition has an Ignition do what it does on a machine of metal whose kernel was
// told where its config is, as far as the files stage.
func (l *lab) bootIgnition(ns, binary, mac string) (root, out string, err error) {
	l.t.Helper()
	dir := l.t.TempDir()
	root = l.newRoot(dir)
	cmdline := filepath.Join(dir, "cmdline")
	if err := os.WriteFile(cmdline, []byte("ignition.config.url=http://"+serverAddr+":8080/ignition?mac="+mac+"\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	for _, stage := range []string{"fetch", "files"} {
		out, err = l.in(ns, "unshare", "-m", "sh", "-c", `mount --bind "$0" /proc/cmdline && PATH=$1:$PATH && shift && exec "$@"`, cmdline, dir, binary,
			"--stage="+stage, "--platform=metal", "--root="+root, "--config-cache="+dir+"/cache", "--state-file="+dir+"/state", "--neednet="+dir+"/net", "--log-to-stdout")
		if err != nil {
			return root, out, err
		}
	}
	return root, out, nil
}

// TestIntegrationStaged: a machine is told over HTTP where its config is and nothing
// else, and fetches it by HTTPS; both ages of Ignition do.
func TestIntegrationStaged(t *testing.T) {
	current, err := ignitiontest.Current()
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	l.write("vmlinuz", "a kernel")
	l.write("all.yaml", stagedManifest(stagedMotd))
	server := l.serve()
	old, fresh, thief := l.machine(mac1), l.machine(mac2), l.machine(mac3)
	l.lease(old)
	l.lease(fresh)
	l.lease(thief)

	first := l.first(old, mac1)
	t.Run("what goes over HTTP", func(t *testing.T) {
		text, err := os.ReadFile(first)
		if err != nil || len(text) > 4<<10 || strings.Contains(string(text), "ssh-ed25519") || strings.Contains(string(text), "motd") || strings.Contains(string(text), "agent.json") {
			t.Errorf("%v: %d bytes\n%s", err, len(text), text)
		}
		must(t, "ignition-validate", first)
		changing := regexp.MustCompile(`Bearer [\w-]+|sha256-[0-9a-f]{64}`)
		if got, rendered := changing.ReplaceAllString(string(text), "X"), changing.ReplaceAllString(l.pilotlight("render", "n1", "--spec", "3.3.0", "--what", "pointer"), "X"); got != rendered {
			t.Errorf("served\n%s\nrendered\n%s", got, rendered)
		}
		if out := l.mustIn(old, "curl", "-s", "-w", "%{http_code}", "-H", "Authorization: Bearer "+bearer(t, text), "http://"+serverAddr+":8080/v1/config"); !strings.HasSuffix(out, "404") {
			t.Errorf("its config by HTTP: %s", out)
		}
		l.config(old, "application/vnd.coreos.ignition+json;version=3.0.0", "ssh-ed25519") // which has no header in merge
		l.config(old, "*/*", "ssh-ed25519")                                                // coreos-installer, curl
	})
	t.Run("what goes by HTTPS is what render prints", func(t *testing.T) {
		code, rest := l.follow(old, first)
		again, same := l.follow(old, first)
		token := regexp.MustCompile(`data:,([\w-]{43})"`).FindStringSubmatch(rest)
		if code != "200" || again != "200" || same != rest || token == nil {
			t.Fatalf("%s, %s: %s", code, again, rest)
		}
		rendered := l.pilotlight("render", "n1", "--spec", "3.3.0")
		if got := strings.Replace(rest, token[1], "THE-INTRODUCTION-TOKEN-IS-MADE-FOR-EACH-BOOT", 1); got != rendered {
			at := 0
			for at < min(len(got), len(rendered)) && got[at] == rendered[at] {
				at++
			}
			t.Errorf("what is served is not what is rendered: from byte %d on it is\n%.300s\nand not\n%.300s", at, got[at:], rendered[at:])
		}
	})
	t.Run("another machine with the pointer", func(t *testing.T) {
		if code, body := l.follow(thief, first); code != "403" || strings.Contains(body, "ssh-ed25519") {
			t.Errorf("%s: %s", code, body)
		}
		if log := l.pilotlight("audit", "--alarms"); !strings.Contains(log, "config.fetch") {
			t.Errorf("no alarm:\n%s", log)
		}
	})
	for name, of := range map[string]struct{ ns, binary, mac, host string }{
		"Debian's Ignition": {old, debianIgnition, mac1, "n1"}, "the current Ignition": {fresh, current, mac2, "n2"},
	} {
		t.Run(name, func(t *testing.T) { l.joinsStaged(t, of.ns, of.binary, of.mac, of.host) })
	}
	t.Run("what was used opens nothing", func(t *testing.T) {
		if code, body := l.follow(old, first); code != "403" || !strings.Contains(body, "since this one was made") {
			t.Errorf("%s: %s", code, body)
		}
	})
	t.Run("documents change and the server restarts", func(t *testing.T) { server = l.stagedChanges(t, server, thief) })
	for _, token := range regexp.MustCompile(`Bearer ([\w-]{40,})`).FindAllStringSubmatch(readAll(t, first), -1) {
		if strings.Contains(server.text(), token[1]) {
			t.Error("the token is in the server's log")
		}
	}
}

// stagedChanges is of what changes between a machine's first config and the rest.
func (l *lab) stagedChanges(t *testing.T, server *process, ns string) *process {
	apply := func(motd string) {
		path := filepath.Join(l.dir, "site", "all.yaml")
		if err := os.WriteFile(path, []byte(stagedManifest(motd)), 0o600); err != nil {
			t.Fatal(err)
		}
		l.pilotlight("apply", "-f", path)
	}
	restart := func() {
		server.stop(syscall.SIGKILL)
		server = l.serve()
	}
	promised := l.first(ns, mac3)
	restart()
	if code, body := l.follow(ns, promised); code != "200" || !strings.Contains(body, "what%20only") {
		t.Errorf("after a restart: %s: %s", code, body)
	}
	promised = l.first(ns, mac3)
	apply("another word\n")
	if code, body := l.follow(ns, promised); code != "200" || !strings.Contains(body, "what%20only") {
		t.Errorf("what was promised before a change: %s: %s", code, body)
	}
	apply(stagedMotd)
	promised = l.first(ns, mac3)
	apply("another word\n")
	restart()
	if code, body := l.follow(ns, promised); code != "410" || !strings.Contains(body, "boot the machine again") {
		t.Errorf("after a change and a restart: %s: %s", code, body)
	}
	if log := l.pilotlight("audit", "n3"); !regexp.MustCompile(`refused.*config\.fetch`).MatchString(log) {
		t.Errorf("the audit says\n%s", log)
	}
	return server
}

func (l *lab) joinsStaged(t *testing.T, ns, binary, mac, host string) {
	root, out, err := l.bootIgnition(ns, binary, mac)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if motd := readAll(t, root+"/etc/motd"); motd != stagedMotd {
		t.Errorf("the file says %q", motd)
	}
	l.same(l.agent, root+"/opt/pilotlight/bin/pilotlight-agent")
	token := l.joinBy(ns, host, root)
	if strings.Contains(l.pilotlight("audit"), token) {
		t.Error("the token is in the audit")
	}
	whole := regexp.MustCompile(`(?s)pointer +/ignition\n.* config +/v1/config\n.* agent .* join `)
	l.eventually("the timeline says pointer, config, agent, join", func() bool { return whole.MatchString(l.pilotlight("boot", "list", host)) })
}

func (l *lab) config(ns, accept, want string) {
	l.t.Helper()
	if out := l.mustIn(ns, "curl", "-s", "-H", "Accept: "+accept, "http://"+serverAddr+":8080/ignition?mac="+mac1); !strings.Contains(out, want) || !strings.Contains(out, cluster.AgentTokenFile) {
		l.t.Errorf("who accepts %s gets\n%s", accept, out)
	}
}

func bearer(t *testing.T, text []byte) string {
	t.Helper()
	m := regexp.MustCompile(`Bearer ([\w-]{40,})`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no token in %s", text)
	}
	return string(m[1])
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
