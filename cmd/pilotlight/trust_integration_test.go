//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

const labManifest = `kind: network
name: lab
cidr: 10.98.0.0/24
interface: br0
dhcp: authoritative
pools: [10.98.0.100-10.98.0.200]
---
kind: image
name: linux
kernel: {url: vmlinuz}
---
kind: profile
name: node
image: linux
config:
  butane: |
    variant: fcos
    version: 1.4.0
---
kind: secret
name: page-token
sites: [www]
---
kind: policy
name: lab
registries: ["10.98.0.1:8443"]
---
kind: site
name: www
services:
  web:
    image: 10.98.0.1:8443/www@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    secrets: [page-token]
`

func hostManifest(name, mac string) string {
	return fmt.Sprintf("---\nkind: host\nname: %s\nmacs: [%q]\nprofile: node\n", name, mac)
}

const (
	mac1, mac2, mac3 = "52:54:00:98:00:01", "52:54:00:98:00:02", "52:54:00:98:00:03"
	secretValue      = "correct-horse-battery-staple"
)

// TestIntegrationTrust takes the way of a machine that is introduced, with real
// clients, and every way of one that should not be.
func TestIntegrationTrust(t *testing.T) {
	l := newLab(t)
	l.write("all.yaml", labManifest+hostManifest("n1", mac1)+hostManifest("n10", mac2))
	l.write("vmlinuz", "a kernel")
	server := l.serve()
	good, thief := l.machine(mac1), l.machine(mac3)
	address := l.lease(good)
	l.lease(thief) // a machine that no document names gets an address, and nothing more
	if seen := l.hosts()[strings.ReplaceAll(mac3, ":", "-")]; seen.State != cluster.StateDiscovered || seen.Address == "" {
		t.Errorf("of that machine host list says %+v", seen)
	}

	t.Run("a config is for the machine that has the address", func(t *testing.T) {
		out, _ := l.in(thief, "curl", "-s", "-w", "%{http_code}", "http://"+serverAddr+":8080/ignition?mac="+mac1)
		if !strings.HasSuffix(out, "403") {
			t.Errorf("another machine was answered %s", out)
		}
		out, _ = l.in(thief, "curl", "-s", "-w", "%{http_code}", "http://"+serverAddr+":8080/ignition?mac="+mac3)
		if !strings.HasSuffix(out, "503") || !strings.Contains(out, "kind: host") {
			t.Errorf("an unknown machine was answered %s", out)
		}
	})

	config, token := l.ignition(good, mac1)
	ca := filepath.Join(l.dir, "ca.pem")
	if err := os.WriteFile(ca, []byte(config.CA), 0o644); err != nil {
		t.Fatal(err)
	}
	redeem := func(ns, token, mac string) string {
		dir := t.TempDir()
		must(t, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
			"-subj", "/CN=root", "-keyout", dir+"/key", "-out", dir+"/csr")
		csr, err := os.ReadFile(dir + "/csr")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := json.Marshal(map[string]string{"token": token, "csr": string(csr), "mac": mac,
			"recipient": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"})
		file := filepath.Join(dir, "request")
		if err := os.WriteFile(file, body, 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := l.in(ns, "curl", "-s", "--cacert", ca, "-w", "\n%{http_code}", "-d", "@"+file, config.Servers[0]+"/v1/join")
		return out
	}
	refused := func(name, status, audit, out string) {
		t.Helper()
		if !strings.HasSuffix(out, "\n"+status) {
			t.Errorf("%s was answered %s, not %s", name, out, status)
		}
		if log := l.pilotlight("audit"); !strings.Contains(log, "ALARM") || !strings.Contains(log, audit) {
			t.Errorf("%s: the audit does not say %q:\n%s", name, audit, log)
		}
		if strings.Contains(out, token) {
			t.Errorf("%s: the answer holds the token", name)
		}
	}
	refused("a token that was never made", "403", "this token was never made", redeem(good, "bm90LWEtdG9rZW4", mac1))
	refused("a token from another address", "403", "this token was made for "+address, redeem(thief, token, mac1))
	refused("a token of another MAC", "403", "another MAC address", redeem(good, token, mac2))

	// The real agent redeems it, and keeps nothing of it.
	tokenFile, configFile, state := l.agentFiles(config, token)
	agent := l.start(good, l.agent, "--config", configFile, "--token-file", tokenFile, "--state", state,
		"--secrets", l.tmpfs(), "--docker", "unix://"+l.dir+"/no-docker.sock", "--certs.d", filepath.Join(l.dir, "certs.d"))
	l.eventually("n1 joined", func() bool { return l.hosts()["n1"].State == cluster.StateJoined })
	if _, err := os.Stat(tokenFile); !os.IsNotExist(err) {
		t.Errorf("the token's file is still there: %v", err)
	}
	refused("a token the second time", "409", "this token was used at", redeem(good, token, mac1))

	t.Run("a host that is alive is not introduced again", func(t *testing.T) {
		out, _ := l.in(good, "curl", "-s", "-w", "%{http_code}", "http://"+serverAddr+":8080/ignition?mac="+mac1)
		if !strings.HasSuffix(out, "503") || !strings.Contains(out, "alive") {
			t.Errorf("a second config was answered %s", out)
		}
	})
	t.Run("a host reads and writes its own folder only", func(t *testing.T) { l.checkRBAC(good, state) })
	t.Run("a retired host is shut out", func(t *testing.T) {
		l.pilotlight("host", "retire", "n1")
		if out, err := l.etcdctl(good, state, "get", "--prefix", "/pilotlight/v1/nodes/n1/"); err == nil {
			t.Errorf("its certificate still opens etcd: %s", out)
		}
	})
	agent.stop(syscall.SIGTERM)
	server.stop(syscall.SIGINT)
	for name, text := range map[string]string{"server": server.text(), "agent": agent.text()} {
		if strings.Contains(text, token) {
			t.Errorf("the %s's log holds the token", name)
		}
	}
}

func (l *lab) agentFiles(config cluster.AgentConfig, token string) (tokenFile, configFile, state string) {
	l.t.Helper()
	dir := filepath.Join(l.dir, string(config.Host))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		l.t.Fatal(err)
	}
	body, err := json.Marshal(config)
	if err != nil {
		l.t.Fatal(err)
	}
	tokenFile, configFile, state = filepath.Join(dir, "token"), filepath.Join(dir, "agent.json"), filepath.Join(dir, "state")
	for name, text := range map[string][]byte{tokenFile: []byte(token), configFile: body} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	return tokenFile, configFile, state
}

// tmpfs mounts one, for a test where the agent does not see the machine's mounts.
func (l *lab) tmpfs() string {
	l.t.Helper()
	dir, err := os.MkdirTemp(l.dir, "secrets")
	if err != nil {
		l.t.Fatal(err)
	}
	must(l.t, "mount", "-t", "tmpfs", "-o", "mode=0700,size=16m", "tmpfs", dir)
	l.t.Cleanup(func() { must(l.t, "umount", dir) })
	return dir
}

func (l *lab) etcdctl(ns, state string, args ...string) (string, error) {
	return l.in(ns, "env", append([]string{"ETCDCTL_API=3", "etcdctl", "--endpoints", "https://" + serverAddr + ":2379",
		"--cacert", state + "/ca.crt", "--cert", state + "/node.crt", "--key", state + "/node.key", "--command-timeout", "5s"}, args...)...)
}

// checkRBAC tries a host's certificate on what is its own, and on all else.
func (l *lab) checkRBAC(ns, state string) {
	t := l.t
	if out, err := l.etcdctl(ns, state, "get", "--prefix", "/pilotlight/v1/nodes/n1/", "--keys-only"); err != nil || !strings.Contains(out, "n1/alive") {
		t.Errorf("its own folder: %v %s", err, out)
	}
	for _, args := range [][]string{
		{"get", "--prefix", "/pilotlight/v1/secrets"},
		{"get", "--prefix", "/pilotlight/v1/nodes/n10/"},
		{"get", "--prefix", "/pilotlight/v1/nodes/n1"}, // would hold n10 too
		{"get", "--prefix", "/pilotlight/v1/hosts/"},
		{"get", "--prefix", "/pilotlight/v1/tokens/"},
		{"get", "--prefix", "/"},
		{"put", "/pilotlight/v1/nodes/n10/desired", "{}"},
		{"put", "/pilotlight/v1/sites/www", "{}"},
		{"user", "list"},
		{"user", "add", "evil:evil"},
		{"auth", "disable"},
	} {
		out, err := l.etcdctl(ns, state, args...)
		if err == nil || !strings.Contains(out, "permission denied") {
			t.Errorf("etcdctl %s was not refused: %v %s", strings.Join(args, " "), err, out)
		}
	}
	if out, err := l.in(ns, "curl", "-sk", "-d", "{}", "https://"+serverAddr+":2379/v3/kv/range"); err == nil {
		t.Errorf("etcd answers HTTP without a certificate: %s", out)
	}
}
