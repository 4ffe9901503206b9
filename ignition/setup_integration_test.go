//go:build integration

package ignition

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// TestIntegrationSetup runs the program as an installer does, with curl and with wget alone,
// in a directory that stands for the system on the disk.
func TestIntegrationSetup(t *testing.T) {
	agent := []byte("#!/bin/sh\n: the agent\n")
	sum := sha256.Sum256(agent)
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(agent) }))
	defer files.Close()
	for _, tool := range []string{"curl", "wget"} {
		t.Run(tool, func(t *testing.T) {
			var said string
			done := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				said = r.Method + " " + string(b)
			}))
			defer done.Close()
			in := testInput(cluster.Config{})
			in.Agent.URL, in.Agent.SHA256 = files.URL+"/agent", hex.EncodeToString(sum[:])
			in.Server.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: done.Certificate().Raw}))
			body, err := Setup(in, testToken, &Said{Token: "an-installers-token", URL: done.URL})
			if err != nil {
				t.Fatal(err)
			}
			root, bin := t.TempDir(), t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "etc/systemd/system"), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{tool, "mkdir", "dirname", "sleep", "base64", "chmod", "mv", "sha256sum", "ln", "rm"} {
				path, err := exec.LookPath(name)
				if err != nil {
					t.Fatalf("%v: apt-get install curl wget coreutils", err)
				}
				if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
					t.Fatal(err)
				}
			}
			script := strings.NewReplacer(" /opt/", " "+root+"/opt/", " /etc/", " "+root+"/etc/", "="+caFile, "="+root+caFile).Replace(string(body))
			cmd := exec.Command("/bin/sh", "-c", script)
			cmd.Env = []string{"PATH=" + bin}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s\n%s", err, out, script)
			}
			if said != "POST an-installers-token" {
				t.Errorf("said %q", said)
			}
			for path, want := range map[string]struct {
				mode os.FileMode
				text string
			}{
				AgentFile: {0o755, string(agent)}, cluster.AgentTokenFile: {0o600, testToken}, HostnameFile: {0o644, "web1\n"},
				unitFile: {0o644, AgentUnitText}, caFile: {0o644, in.Server.CA},
			} {
				info, err := os.Stat(root + path)
				if err != nil || info.Mode().Perm() != want.mode {
					t.Errorf("%s: %v, %v", path, info, err)
					continue
				}
				if b, err := os.ReadFile(root + path); err != nil || string(b) != want.text {
					t.Errorf("%s: %q, %v", path, b, err)
				}
			}
			if _, err := os.Stat(root + cluster.InstallTokenFile); err == nil {
				t.Error("the installer's token is left")
			}
		})
	}
}
