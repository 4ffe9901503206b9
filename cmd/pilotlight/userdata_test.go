package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
)

var (
	pointerURL    = regexp.MustCompile(`https://[^"']*` + join.PathConfig)
	pointerToken  = regexp.MustCompile(`(?:Bearer |"token": ")([\w-]{40,})`)
	pointerSHA256 = regexp.MustCompile(`(?:sha256-|"sha256": "|echo ')([0-9a-f]{64})`)
	pointerCA     = regexp.MustCompile(`(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----`)
)

// pointed is "pointed CODE POINTER FILE": a machine follows a pointer, whatever its
// language, verifies what it gets, and has it in the file; what else is said is
// printed.
func pointed(ts *testscript.TestScript, _ bool, a []string) {
	text := ts.ReadFile(a[1])
	find := func(re *regexp.Regexp, in string) string {
		m := re.FindStringSubmatch(in)
		if m == nil {
			ts.Fatalf("%s has no %s", a[1], re)
		}
		return m[len(m)-1]
	}
	ca := strings.ReplaceAll(plain(text), `\n`, "\n")
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(find(pointerCA, ca))) {
		ts.Fatalf("%s has no authority", a[1])
	}
	req, err := http.NewRequest(http.MethodGet, find(pointerURL, text), nil)
	ts.Check(err)
	req.Header.Set("Authorization", "Bearer "+find(pointerToken, text))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	res, err := client.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	if fmt.Sprint(res.StatusCode) != a[0] {
		ts.Fatalf("answered %s: %s", res.Status, body)
	}
	if res.StatusCode != http.StatusOK {
		_, err = ts.Stdout().Write(body)
		ts.Check(err)
		return
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(body)); sum != find(pointerSHA256, text) {
		ts.Fatalf("its sha256 is %s", sum)
	}
	ts.Check(os.WriteFile(ts.MkAbs(a[2]), body, 0o600))
}

var configToken = regexp.MustCompile(`data:,([\w-]{43})"|content: "([\w-]{43})"`)

func tokenIn(ts *testscript.TestScript, file string) string {
	m := configToken.FindStringSubmatch(ts.ReadFile(file))
	if m == nil {
		ts.Fatalf("%s holds no token", file)
	}
	return m[1] + m[2]
}

// joins is "joins CONFIG HOST": what an agent does with the token in its config.
func joins(ts *testscript.TestScript, neg bool, a []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	ts.Check(err)
	id, err := age.GenerateX25519Identity()
	ts.Check(err)
	ca, err := os.ReadFile(ts.MkAbs("data/ca/ca.crt"))
	ts.Check(err)
	client := join.Client{Servers: func() []string { return []string{"https://" + ts.Getenv("HTTPS")} }, CA: func() []byte { return ca }}
	out, err := client.Introduce(context.Background(), join.Request{
		Token: tokenIn(ts, a[0]), CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		Recipient: id.Recipient().String(), MAC: cluster.MAC{2, 0, 0, 0, 0, 1},
	})
	if neg != (err != nil) || err == nil && string(out.Host) != a[1] {
		ts.Fatalf("%+v, %v", out.Host, err)
	}
}

// mode is "mode OCTAL FILE".
func mode(ts *testscript.TestScript, _ bool, a []string) {
	info, err := os.Stat(ts.MkAbs(a[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != a[0] {
		ts.Fatalf("%s has mode %s", a[1], got)
	}
}

// size is "size MOST FILE".
func size(ts *testscript.TestScript, neg bool, a []string) {
	most, err := strconv.Atoi(a[0])
	ts.Check(err)
	if n := len(ts.ReadFile(a[1])); n == 0 || n > most != neg {
		ts.Fatalf("%s has %d bytes", a[1], n)
	}
}

// hides is "hides CONFIG PLACE": the token in the config is not in what was printed
// by a program (stdout, or one in the background).
func hides(ts *testscript.TestScript, _ bool, a []string) {
	token := tokenIn(ts, a[0])
	for _, text := range []string{token, base64.StdEncoding.EncodeToString([]byte(token))} {
		if strings.Contains(ts.ReadFile(a[1]), text) {
			ts.Fatalf("the token is in %s", a[1])
		}
	}
}

// TestUserdataIsNotForTerminals: a terminal is told from a file and a pipe.
func TestUserdataIsNotForTerminals(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	c := &cli{out: master}
	if _, err := c.secretFile(""); err == nil || !strings.Contains(err.Error(), "-o FILE") {
		t.Errorf("a terminal gets the token: %v", err)
	}
	if to, err := c.secretFile("-"); err != nil || to.out != c.out {
		t.Error(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := (&cli{out: w}).secretFile(""); err != nil {
		t.Error(err)
	}
}

// What is no file stays what it is: the userdata goes through it.
func TestSecretFileIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR, 0) // which waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	to, err := new(cli).secretFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.write([]byte("secret")); err != nil {
		t.Fatal(err)
	}
	to.abandon()
	if info, err := os.Stat(path); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	got := make([]byte, 100)
	if n, err := pipe.Read(got); string(got[:n]) != "secret" {
		t.Errorf("%q, %v", got[:n], err)
	}
}
