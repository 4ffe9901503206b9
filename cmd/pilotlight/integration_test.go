//go:build integration

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
)

// lab is a server and machines, each in a network namespace of its own, on one
// bridge that leads nowhere else.
type lab struct {
	t        *testing.T
	dir      string
	server   string // its namespace
	bin      string
	agent    string
	machines int
}

const serverAddr = "10.98.0.1"

// must runs a command and returns what it printed; a missing tool fails.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), server: fmt.Sprintf("pl%d-s", os.Getpid())}
	l.bin, l.agent = filepath.Join(l.dir, "pilotlight"), filepath.Join(l.dir, "pilotlight-agent")
	for bin, pkg := range map[string]string{l.bin: ".", l.agent: "../pilotlight-agent"} {
		c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, pkg)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
	}
	l.namespace(l.server)
	must(t, "ip", "-n", l.server, "link", "add", "br0", "type", "bridge", "forward_delay", "0", "stp_state", "0")
	must(t, "ip", "-n", l.server, "addr", "add", serverAddr+"/24", "dev", "br0")
	must(t, "ip", "-n", l.server, "link", "set", "br0", "up")
	return l
}

func (l *lab) namespace(name string) {
	l.t.Helper()
	must(l.t, "ip", "netns", "add", name)
	l.t.Cleanup(func() { must(l.t, "ip", "netns", "del", name) })
	must(l.t, "ip", "-n", name, "link", "set", "lo", "up")
}

// machine plugs a machine in and returns its namespace.
func (l *lab) machine(mac string) string {
	l.t.Helper()
	l.machines++
	name, veth := fmt.Sprintf("pl%d-m%d", os.Getpid(), l.machines), fmt.Sprintf("m%d", l.machines)
	l.namespace(name)
	must(l.t, "ip", "-n", l.server, "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", name)
	must(l.t, "ip", "-n", l.server, "link", "set", veth, "master", "br0", "up")
	must(l.t, "ip", "-n", name, "link", "set", "eth0", "address", mac, "up")
	return name
}

// in runs a command in a namespace.
func (l *lab) in(ns, name string, args ...string) (string, error) {
	c := exec.Command("ip", append([]string{"netns", "exec", ns, name}, args...)...)
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	err := c.Run()
	return out.String() + errOut.String(), err
}

func (l *lab) mustIn(ns, name string, args ...string) string {
	l.t.Helper()
	out, err := l.in(ns, name, args...)
	if err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// pilotlight runs the operator's command line on the server.
func (l *lab) pilotlight(args ...string) string {
	l.t.Helper()
	return l.mustIn(l.server, l.bin, append([]string{"--data", l.data()}, args...)...)
}

func (l *lab) data() string { return filepath.Join(l.dir, "data") }

// write makes a file of the site.
func (l *lab) write(name, text string) {
	l.t.Helper()
	path := filepath.Join(l.dir, "site", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// process is a program in the background, stopped when the test ends.
type process struct {
	cmd *exec.Cmd
	log *os.File
}

func (l *lab) start(ns, name string, args ...string) *process {
	l.t.Helper()
	log, err := os.CreateTemp(l.dir, filepath.Base(name)+"-*.log")
	if err != nil {
		l.t.Fatal(err)
	}
	p := &process{exec.Command("ip", append([]string{"netns", "exec", ns, name}, args...)...), log}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil { // ip execs the program: its process is the program's
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		if l.t.Failed() {
			l.t.Logf("log of %s:\n%s", filepath.Base(name), p.text())
		}
	})
	return p
}

func (p *process) stop(s os.Signal) {
	_ = p.cmd.Process.Signal(s) // it may have ended by itself
	_ = p.cmd.Wait()
}

func (p *process) text() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// resident returns the memory that a process has resident, in MB.
func (p *process) resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatal("no VmRSS in /proc/PID/status")
	}
	kb, _ := strconv.Atoi(string(m[1]))
	return kb >> 10
}

// serve starts the server and returns when it says that it is ready.
func (l *lab) serve() *process {
	l.t.Helper()
	p := l.start(l.server, l.bin, "serve", filepath.Join(l.dir, "site"), "--data", l.data(), "--agent", l.agent)
	l.eventually("the server is ready", func() bool {
		_, err := l.in(l.server, "curl", "-sf", "http://"+serverAddr+":8080/readyz")
		return err == nil
	})
	return p
}

// eventually waits for something that has no deadline of its own; a minute is
// when it is taken to have failed.
func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	l.within(time.Minute, what, ok)
}

// within is eventually with another time.
func (l *lab) within(limit time.Duration, what string, ok func() bool) {
	l.t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	l.t.Fatalf("not in %s: %s", limit, what)
}

// lease has a machine ask for an address as a real client does.
func (l *lab) lease(ns string) string {
	l.t.Helper()
	script := filepath.Join(l.dir, "bound")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = bound ] && ip addr flush dev eth0 && ip addr add $ip/24 dev eth0\nexit 0\n"), 0o755); err != nil {
		l.t.Fatal(err)
	}
	out := l.mustIn(ns, "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", script)
	m := regexp.MustCompile(`lease of ([0-9.]+) obtained`).FindStringSubmatch(out)
	if m == nil {
		l.t.Fatalf("no lease: %s", out)
	}
	return m[1]
}

// ignition fetches a machine's config, and returns what is in the agent's
// configuration and the token.
func (l *lab) ignition(ns, mac string) (config cluster.AgentConfig, token string) {
	l.t.Helper()
	body := l.mustIn(ns, "curl", "-sf", "http://"+serverAddr+":8080/ignition?mac="+strings.ReplaceAll(mac, ":", "-"))
	var ign struct {
		Storage struct {
			Files []struct {
				Path     string
				Contents struct{ Source string }
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &ign); err != nil {
		l.t.Fatalf("%v\n%s", err, body)
	}
	for _, f := range ign.Storage.Files {
		text := dataURL(l.t, f.Contents.Source)
		switch f.Path {
		case cluster.AgentConfigFile:
			if err := json.Unmarshal([]byte(text), &config); err != nil {
				l.t.Fatal(err)
			}
		case cluster.AgentTokenFile:
			token = strings.TrimSpace(text)
		}
	}
	if config.Host == "" || token == "" {
		l.t.Fatalf("the config has no agent.json or no token:\n%s", body)
	}
	return config, token
}

func dataURL(t *testing.T, source string) string {
	t.Helper()
	head, body, ok := strings.Cut(source, ",")
	if !ok || !strings.HasPrefix(head, "data:") {
		return ""
	}
	if strings.HasSuffix(head, ";base64") {
		text, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	text, err := url.PathUnescape(body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// hosts is `pilotlight host list`, by name.
func (l *lab) hosts() map[string]api.HostStatus {
	l.t.Helper()
	var list []api.HostStatus
	if err := json.Unmarshal([]byte(l.pilotlight("host", "list", "-o", "json")), &list); err != nil {
		l.t.Fatal(err)
	}
	out := map[string]api.HostStatus{}
	for _, h := range list {
		out[h.Name] = h
	}
	return out
}
