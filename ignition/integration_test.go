//go:build integration

package ignition

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// Debian 12's: package ignition 2.14 (spec 3.3), package cloud-init 22.4.
const (
	ignitionBinary    = "/usr/lib/dracut/modules.d/30ignition/ignition"
	ignitionValidator = "/usr/bin/ignition-validate"
)

func needTool(t *testing.T, path, install string) string {
	t.Helper()
	found, err := exec.LookPath(path)
	if err != nil {
		t.Fatalf("%v: type: apt-get install -y %s", err, install)
	}
	return found
}

var agentBinary = []byte("#!/bin/sh\necho the agent\n")

// server answers as httpboot does: a config by Accept, an agent.
type server struct {
	*httptest.Server
	config   atomic.Pointer[Config]
	agent    atomic.Pointer[[]byte]
	requests atomic.Int32
	mu       sync.Mutex
	accept   []string
}

func newServer(t *testing.T) *server {
	s := &server{}
	s.agent.Store(&agentBinary)
	mux := http.NewServeMux()
	mux.HandleFunc("/agent", func(w http.ResponseWriter, _ *http.Request) { w.Write(*s.agent.Load()) })
	mux.HandleFunc("/more.ign", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"ignition": {"version": "3.0.0"}}`)) })
	mux.HandleFunc("/ignition", func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		s.mu.Lock()
		s.accept = append(s.accept, r.Header.Get("Accept"))
		s.mu.Unlock()
		body, err := s.config.Load().Ignition(r.Header.Get("Accept"), testToken)
		switch {
		case errors.Is(err, ErrNotAcceptable):
			http.Error(w, err.Error(), http.StatusNotAcceptable)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", ContentType)
			w.Write(body)
		}
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *server) input(config cluster.Config) Input {
	in := testInput(config)
	in.Agent.URL = s.URL + "/agent"
	in.Agent.SHA256 = fmt.Sprintf("%x", sha256.Sum256(agentBinary))
	in.Agent.SHA512 = fmt.Sprintf("%x", sha512.Sum512(agentBinary))
	return in
}

// newRoot is the little of a system that Ignition and useradd need.
func newRoot(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("", "ignition-root-") // unlike t.TempDir's, open to the users that Ignition makes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"etc/passwd":      "root:x:0:0:root:/root:/bin/sh\n",
		"etc/group":       "root:x:0:\ndocker:x:999:\n",
		"etc/shadow":      "root:*:19000:0:99999:7:::\n",
		"etc/gshadow":     "root:*::\ndocker:!::\n",
		"etc/login.defs":  "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nCREATE_HOME yes\nUSERGROUPS_ENAB yes\n",
		"etc/skel/.rc":    "",
		"etc/hostname":    "debian\n", // an image's own
		"home/.keep":      "",
		"root/.keep":      "",
		"usr/sbin/.keep":  "",
		"etc/issue":       "Debian\n",
		"var/log/lastlog": "",

		// Debian's Ignition labels what it wrote, whether there is SELinux or not.
		"etc/selinux/config":                            "SELINUX=disabled\nSELINUXTYPE=none\n",
		"etc/selinux/none/contexts/files/file_contexts": "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// runIgnition runs one stage of the real Ignition into root.
func runIgnition(ctx context.Context, t *testing.T, s *server, root, state, stage string) (string, error) {
	t.Helper()
	return runIgnitionOf(ctx, t, needTool(t, ignitionBinary, "ignition"), s, root, state, stage)
}

func runIgnitionOf(ctx context.Context, t *testing.T, binary string, s *server, root, state, stage string) (string, error) {
	t.Helper()
	stub := filepath.Join(state, "stub.ign")
	config := fmt.Sprintf(`{"ignition": {"version": "3.0.0", "config": {"replace": {"source": "%s/ignition"}}}}`, s.URL)
	if err := os.WriteFile(stub, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, binary, "--stage="+stage, "--platform=file", "--root="+root,
		"--config-cache="+filepath.Join(state, "cache.json"), "--state-file="+filepath.Join(state, "state"),
		"--neednet="+filepath.Join(state, "neednet"), "--log-to-stdout")
	setfiles := filepath.Join(state, "setfiles") // of SELinux: there is none here to label for
	if err := os.WriteFile(setfiles, []byte("#!/bin/sh\ncat >/dev/null\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "IGNITION_CONFIG_FILE="+stub, "PATH="+state+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestIntegrationRealIgnition(t *testing.T) {
	s := newServer(t)
	config := goldenConfig(t, "testdata/golden/flatcar.bu")
	config.Butane = strings.Replace(config.Butane, "systemd:", `passwd:
  users:
    - name: core
      groups: [docker]
      ssh_authorized_keys: [ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7 other@key]
systemd:`, 1)
	c := mustCompile(t, s.input(config))
	s.config.Store(c)
	root, state := newRoot(t), t.TempDir()
	for _, stage := range []string{"fetch", "files"} {
		if out, err := runIgnition(t.Context(), t, s, root, state, stage); err != nil {
			t.Fatalf("%s: %v\n%s", stage, err, out)
		}
	}
	if got := strings.Join(s.accept, " "); got != ContentType+";version=3.3.0, */*;q=0.1" {
		t.Errorf("Accept: %s", got)
	}
	in := s.input(config)
	agentConfig, err := in.agentConfig()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		mode    os.FileMode
		content string
	}{
		AgentFile:                  {0o755, string(agentBinary)},
		cluster.AgentConfigFile:    {0o644, string(agentConfig)},
		cluster.AgentTokenFile:     {0o600, testToken},
		HostnameFile:               {0o644, "web1\n"},
		unitFile:                   {0o644, AgentUnitText},
		"/etc/flatcar/update.conf": {0o420, "REBOOT_STRATEGY=off\nGROUP=x,2\n"},
		"/home/core/.ssh/authorized_keys.d/ignition": {0o600, "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7 other@key\n" + testKey + "\n"},
	} {
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || strings.TrimSpace(string(got)) != strings.TrimSpace(want.content) || info.Mode().Perm() != want.mode {
			t.Errorf("%s: mode %o, %v\n%s", path, info.Mode().Perm(), err, got)
		}
	}
	preset, err := os.ReadFile(filepath.Join(root, "etc/systemd/system-preset/20-ignition.preset"))
	if err != nil || !strings.Contains(string(preset), "enable "+AgentUnit) {
		t.Errorf("%s %v", preset, err)
	}
	if passwd, _ := os.ReadFile(filepath.Join(root, "etc/passwd")); !strings.Contains(string(passwd), "\ncore:x:1000:") {
		t.Errorf("%s", passwd)
	}
}

// TestIntegrationRealIgnitionVerifies: a binary that is not the one that was meant stops
// the boot.
func TestIntegrationRealIgnitionVerifies(t *testing.T) {
	s := newServer(t)
	s.config.Store(mustCompile(t, s.input(cluster.Config{})))
	root, state := newRoot(t), t.TempDir()
	if out, err := runIgnition(t.Context(), t, s, root, state, "fetch"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	evil := []byte("#!/bin/sh\necho evil\n")
	s.agent.Store(&evil)
	out, err := runIgnition(t.Context(), t, s, root, state, "files")
	if err == nil || !strings.Contains(out, "hash verification failed") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(root, AgentFile)); !os.IsNotExist(err) {
		t.Errorf("the wrong binary is there: %v", err)
	}
}

// TestIntegrationRealIgnitionWaits: a config that the client cannot read is no config, and
// the client asks until somebody mends it.
func TestIntegrationRealIgnitionWaits(t *testing.T) {
	s := newServer(t)
	s.config.Store(mustCompile(t, s.input(cluster.Config{Ignition: `{"ignition": {"version": "3.5.0"}, "storage": {"luks": [{"name": "x", "device": "/dev/vdb", "cex": {"enabled": true}}]}}`})))
	mended := mustCompile(t, s.input(cluster.Config{}))
	go func() {
		for s.requests.Load() < 3 && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		s.config.Store(mended)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := runIgnition(ctx, t, s, newRoot(t), t.TempDir(), "fetch"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := s.requests.Load(); n < 4 {
		t.Errorf("%d requests", n)
	}
}

// TestIntegrationValidate: ignition-validate accepts each golden config in each version
// that it knows.
func TestIntegrationValidate(t *testing.T) {
	validator := needTool(t, ignitionValidator, "ignition")
	for _, path := range goldenFiles(t) {
		c := mustCompile(t, testInput(goldenConfig(t, path)))
		for _, version := range c.Versions() {
			if version > "3.3.0" {
				continue
			}
			body, err := c.Render(ContentType + ";version=" + version)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(validator, "-")
			cmd.Stdin = bytes.NewReader(body)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s in %s: %v\n%s", path, version, err, out)
			}
		}
	}
}

// TestIntegrationCloudInitSchema has cloud-init itself judge what it would be sent.
func TestIntegrationCloudInitSchema(t *testing.T) {
	tool := needTool(t, "cloud-init", "cloud-init")
	for name, config := range map[string]cluster.Config{
		"golden": goldenConfig(t, "testdata/golden/cloudinit.yaml"),
		"empty":  {CloudConfig: "#cloud-config\n"},
		"common": {CloudConfig: "#cloud-config\npackages: [nftables]\n"},
		"a user": {CloudConfig: "#cloud-config\nusers:\n  - name: core\n    groups: [docker]\n"},
	} {
		in := testInput(config)
		if name == "common" {
			in = commonInput(config)
		}
		body, err := mustCompile(t, in).CloudConfig(testToken)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "user-data")
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, "schema", "--config-file", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Valid") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestIntegrationFetchScript runs the script of hosts without Ignition, with the paths
// moved below a directory.
func TestIntegrationFetchScript(t *testing.T) {
	needTool(t, "curl", "curl")
	needTool(t, "sha256sum", "coreutils")
	s := newServer(t)
	script := func(dir string) (string, error) {
		text := strings.ReplaceAll(fetchScript(s.input(cluster.Config{}).Agent), filepath.Dir(AgentFile), dir)
		cmd := exec.Command("sh")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	dir := t.TempDir()
	agent := filepath.Join(dir, filepath.Base(AgentFile))
	evil := []byte("#!/bin/sh\necho evil\n")
	s.agent.Store(&evil)
	if out, err := script(dir); err == nil || !strings.Contains(out, "its sha256 is another") {
		t.Errorf("%v %s", err, out)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	s.agent.Store(&agentBinary)
	if out, err := script(dir); err != nil || out != "" {
		t.Fatalf("%v %s", err, out)
	}
	info, err := os.Stat(agent)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Fatalf("%v %v", info, err)
	}
	s.Close() // a host whose server is gone starts what it has
	if out, err := script(dir); err != nil {
		t.Errorf("%v %s", err, out)
	}
	if out, err := script(t.TempDir()); err == nil {
		t.Errorf("no server, no error: %s", out)
	}
}
