//go:build integration

package ignition

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestIntegrationPointerCoreOS runs the script with the real curl and a stand-in for
// coreos-cloudinit: the token is in no program's arguments, nothing is left behind,
// and what is not the config is not applied.
func TestIntegrationPointerCoreOS(t *testing.T) {
	curl := needTool(t, "curl", "curl")
	const config = "#cloud-config\ncoreos: {}\n"
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+testToken {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		_, _ = w.Write([]byte(config))
	}))
	defer s.Close()
	sum := sha256.Sum256([]byte(config))
	good := Pointer{
		URL: s.URL + "/v1/config", Token: testToken, SHA256: hex.EncodeToString(sum[:]),
		CA: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})),
	}
	for name, test := range map[string]struct {
		spoil func(*Pointer)
		says  string
	}{
		"good":          {func(*Pointer) {}, ""},
		"another hash":  {func(p *Pointer) { p.SHA256 = strings.Repeat("ab", 32) }, "its sha256 is another"},
		"another token": {func(p *Pointer) { p.Token += "x" }, "403"},
		"no authority":  {func(p *Pointer) { p.CA = testPointer().CA }, "curl: ("},
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			test.spoil(&p)
			text, err := p.For(LanguageCoreOS)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for program, body := range map[string]string{
				"curl":             "#!/bin/sh\necho \"$@\" > " + dir + "/arguments\nexec " + curl + " \"$@\"\n",
				"coreos-cloudinit": "#!/bin/sh\ncp \"${1#--from-file=}\" " + dir + "/applied\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, program), []byte(body), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("sh", "-c", strings.ReplaceAll(string(text), "/run/pilotlight-userdata", dir+"/run"))
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
			out, err := cmd.CombinedOutput()
			if failed := err != nil; failed != (test.says != "") || !strings.Contains(string(out), test.says) || strings.Contains(string(out), testToken) {
				t.Errorf("%v\n%s", err, out)
			}
			applied, err := os.ReadFile(dir + "/applied")
			if test.says == "" && string(applied) != config || test.says != "" && err == nil {
				t.Errorf("applied %q, %v", applied, err)
			}
			if arguments, err := os.ReadFile(dir + "/arguments"); err != nil || strings.Contains(string(arguments), testToken) {
				t.Errorf("curl's arguments: %s, %v", arguments, err)
			}
			if _, err := os.Stat(dir + "/run"); err == nil {
				t.Error("its directory is left")
			}
		})
	}
}
