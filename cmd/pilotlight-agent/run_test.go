package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
)

func do(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, nil, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

func TestFlags(t *testing.T) {
	code, out, _ := do(t, "--help")
	if code != exitOK || !strings.Contains(out, "--token-file FILE") || !strings.Contains(out, "Exit codes:") {
		t.Errorf("--help: %d\n%s", code, out)
	}
	_, example, found := strings.Cut(out, "Example:\n")
	example, _, _ = strings.Cut(example, "\n")
	if args := strings.Fields(example); !found || args[0] != "pilotlight-agent" {
		t.Errorf("no example in\n%s", out)
	} else if _, err := parse(args[1:], nil, &bytes.Buffer{}); err != nil {
		t.Errorf("the example does not parse: %v", err)
	}
	if code, out, _ := do(t, "--version"); code != exitOK || out != "pilotlight-agent "+version+"\n" {
		t.Errorf("--version: %d %q", code, out)
	}
	for _, args := range [][]string{{"--nonsense"}, {"surplus"}} {
		if code, _, err := do(t, args...); code != exitUsage || !strings.Contains(err, "see pilotlight-agent --help") {
			t.Errorf("%v: %d %q", args, code, err)
		}
	}
	if code, _, err := do(t, "--mount-secrets", "--secrets", "relative"); code != exitFailed || !strings.Contains(err, "--secrets /run/pilotlight/secrets") {
		t.Errorf("%d %q", code, err)
	}
	if got := dockerAuthFile([]string{"A=b", "DOCKER_CONFIG=/d"}); got != "/d/config.json" {
		t.Error(got)
	}
	if got := dockerAuthFile(nil); got != "/root/.docker/config.json" {
		t.Error(got)
	}
}

func TestConfigSaysAllThatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.json")
	for text, says := range map[string][]string{
		"{":                                     {"render it again"},
		`{"servers":["http://x"],"etcd":["x"]}`: {"host: is missing", `servers[0]: "http://x" is not https://ADDRESS:PORT`, `etcd[0]: "x" is not ADDRESS:PORT`, "ca: holds no certificate"},
		`{"host":"h"}`:                          {"servers: is missing", "etcd: is missing"},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, log := do(t, "--config", path)
		for _, s := range says {
			if quoted, _ := json.Marshal(s); code != exitUsage || !strings.Contains(log, strings.Trim(string(quoted), `"`)) {
				t.Errorf("%s: %d, not %q in %s", text, code, s, log)
			}
		}
	}
	if code, _, log := do(t, "--config", path+"-none"); code != exitUsage || !strings.Contains(log, "pilotlight render HOST") {
		t.Errorf("%d %s", code, log)
	}
}

func TestHandler(t *testing.T) {
	h := handler(&agent.Agent{})
	for path, want := range map[string]struct {
		code int
		body string
	}{
		"/healthz": {200, "ok"}, "/readyz": {503, "systemctl status docker"}, "/metrics": {200, "pilotlight_agent_ready 0"}, "/": {404, ""},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want.code || !strings.Contains(w.Body.String(), want.body) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := notify(t.Context(), path, "READY=1"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := l.Read(buf); err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("%q %v", buf[:n], err)
	}
}

func TestOneAgentAState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil || !strings.Contains(err.Error(), "another agent uses "+dir) {
		t.Errorf("%v", err)
	}
	unlock()
	if unlock, err = lock(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
}

// TestUnit holds the example to what the program takes.
func TestUnit(t *testing.T) {
	b, err := os.ReadFile("../../examples/systemd/pilotlight-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	for line := range strings.Lines(string(b)) {
		if _, command, ok := strings.Cut(strings.TrimSpace(line), "=+"); ok && strings.HasPrefix(line, "Exec") {
			line = "ExecStartPre=" + command
		}
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart"); ok {
			_, command, _ = strings.Cut(command, "=")
			args := strings.Fields(command)
			if _, err := parse(args[1:], nil, &bytes.Buffer{}); err != nil || filepath.Base(args[0]) != "pilotlight-agent" {
				t.Errorf("%s: %v", line, err)
			}
			runs++
		}
	}
	o, err := parse(nil, nil, &bytes.Buffer{})
	if err != nil || runs != 2 {
		t.Fatalf("%d commands, %v", runs, err)
	}
	for setting, path := range map[string]string{
		"StateDirectory=pilotlight-agent\n":                  "/var/lib/" + filepath.Base(o.state) + "|" + o.state,
		"RuntimeDirectory=pilotlight\n":                      "/run/pilotlight|" + filepath.Dir(o.secrets),
		"RuntimeDirectoryPreserve=yes\n":                     "|",
		"ConfigurationDirectory=pilotlight docker/certs.d\n": filepath.Dir(cluster.AgentTokenFile) + "|/etc/pilotlight",
	} {
		a, b2, _ := strings.Cut(path, "|")
		if !strings.Contains(string(b), setting) || a != b2 {
			t.Errorf("%q: %s and %s", setting, a, b2)
		}
	}
}

// TestDependencies: what would make the agent large, or have no place on a
// host, and why.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if broken := forbidden(strings.Fields(string(out))); len(broken) > 0 {
		t.Error(strings.Join(broken, "\n"))
	}
	if len(forbidden([]string{"go.etcd.io/etcd/server/v3/embed", "gopkg.in/yaml.v3"})) != 2 {
		t.Error("planted dependencies are not found")
	}
}

func forbidden(deps []string) (broken []string) {
	for part, why := range map[string]string{
		"etcd/server":     "the servers' business",
		"/butane":         "configs are translated on the servers",
		"/ignition":       "configs are translated on the servers",
		"dhcp":            "hosts do not boot others",
		"tftp":            "hosts do not boot others",
		"yaml":            "hosts read JSON, and a parser is a surface",
		"aws":             "hosts hold no keys of a cloud",
		"govmomi":         "hosts hold no keys of a cloud",
		"gofish":          "hosts hold no keys of a board",
		"cobra":           "one command needs package flag",
		"prometheus":      "a dozen lines of text need no library",
		"distribution/v3": "hosts pull, they do not serve images",
	} {
		for _, d := range deps {
			if strings.Contains(d, part) {
				broken = append(broken, d+": "+why)
			}
		}
	}
	return broken
}
