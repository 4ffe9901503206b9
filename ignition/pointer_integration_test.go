//go:build integration

package ignition

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

// TestIntegrationPointerClock runs the part handler on a machine whose clock is
// behind: it asks until the clock is set, and no longer than it has to.
func TestIntegrationPointerClock(t *testing.T) {
	python := needTool(t, "python3", "python3")
	const config = "#cloud-config\n"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(3 * time.Second), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(config)) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of whom the certificate does not do yet
	s.StartTLS()
	defer s.Close()
	sum := sha256.Sum256([]byte(config))
	pointer, err := json.Marshal(Pointer{
		URL: s.URL, Token: testToken, SHA256: hex.EncodeToString(sum[:]), CA: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", partHandler+"\nPAUSE = 0.1\nsys.stdout.buffer.write(fetch(json.load(sys.stdin)))\n")
	cmd.Stdin = bytes.NewReader(pointer)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || string(out) != config || !strings.Contains(said.String(), "not yet valid") {
		t.Errorf("%q, %v\n%s", out, err, said.String())
	}
}
