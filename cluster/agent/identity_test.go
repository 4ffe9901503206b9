package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
)

// authority signs for tests.
type authority struct {
	*testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	next int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{T: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, Subject: pkix.Name{CommonName: "CA"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// sign answers a request as a server does.
func (a *authority) sign(csrPEM string, host cluster.HostName, life time.Duration) join.Response {
	a.Helper()
	block, _ := pem.Decode([]byte(csrPEM))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		a.Fatal(err)
	}
	return a.signKey(csr.PublicKey, cluster.UserOf(host), host, life)
}

func (a *authority) signKey(public any, cn string, host cluster.HostName, life time.Duration) join.Response {
	a.Helper()
	a.next++
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(a.next + 1), Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now(), NotAfter: time.Now().Add(life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert, public, a.key)
	if err != nil {
		a.Fatal(err)
	}
	return join.Response{Host: host, Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), CA: a.pem()}
}

func openIdentity(t *testing.T, dir string) *Identity {
	t.Helper()
	i, err := OpenIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestIdentityIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	ca := newAuthority(t)
	first := openIdentity(t, dir)
	if _, ok := first.Certificate(); ok {
		t.Error("a new identity has a certificate")
	}
	csr, err := first.Request("web1")
	if err != nil {
		t.Fatal(err)
	}
	changed := first.Changed()
	if err := first.Accept(ca.sign(csr, "web1", time.Hour)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody is told of the certificate")
	}
	again := openIdentity(t, dir)
	hash1, _ := first.KeyHash()
	hash2, err := again.KeyHash()
	if err != nil || hash1 != hash2 || len(hash1) != 64 || again.Recipient() != first.Recipient() || !again.Valid(time.Now()) || string(again.CA()) != ca.pem() {
		t.Error("it is another one when it is opened again")
	}
	if again.Valid(time.Now().Add(2 * time.Hour)) {
		t.Error("an expired certificate is valid")
	}
	for file, mode := range map[string]fs.FileMode{"": 0o700, keyFile: 0o600, ageFile: 0o600, certificateFile: 0o644, caFile: 0o644} {
		if st, err := os.Stat(filepath.Join(dir, file)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", file, st.Mode(), err)
		}
	}
	config, err := again.TLS()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := config.GetClientCertificate(nil); err != nil || c.Leaf.Subject.CommonName != "node:web1" {
		t.Errorf("dials as %v %v", c, err)
	}
	if certificate, key, err := again.PEM(); err != nil || !strings.Contains(string(certificate), "CERTIFICATE") || !strings.Contains(string(key), "PRIVATE KEY") {
		t.Errorf("PEM: %v", err)
	}
}

func TestIdentityAcceptsOnlyItsOwn(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	i, stranger := openIdentity(t, t.TempDir()), openIdentity(t, t.TempDir())
	csr, _ := i.Request("web1")
	foreign, _ := stranger.Request("web1")
	mixed := ca.sign(csr, "web1", time.Hour)
	mixed.CA = other.pem()
	for name, c := range map[string]struct {
		r    join.Response
		says string
	}{
		"another key":       {ca.sign(foreign, "web1", time.Hour), "is for another key"},
		"another authority": {mixed, "signed by unknown authority"},
		"no authority":      {join.Response{Host: "web1", Certificate: ca.sign(csr, "web1", time.Hour).Certificate}, "named no authority"},
		"another name":      {ca.signKey(&i.key.PublicKey, "node:db1", "web1", time.Hour), `is for "node:db1", not for "node:web1"`},
		"no certificate":    {join.Response{Host: "web1", Certificate: "x", CA: ca.pem()}, "holds no certificate"},
		"of yesterday":      {ca.sign(csr, "web1", -time.Hour), "timedatectl"},
	} {
		if err := i.Accept(c.r); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok := i.Certificate(); ok || len(i.CA()) > 0 {
		t.Error("something was taken over all the same")
	}
	if _, err := i.TLS(); err != ErrNoCertificate {
		t.Errorf("dials without: %v", err)
	}
}

func TestIdentityThatIsBroken(t *testing.T) {
	for file, says := range map[string]string{keyFile: "move it away and introduce the host again", ageFile: "move it away and introduce the host again"} {
		dir := t.TempDir()
		openIdentity(t, dir)
		if err := os.WriteFile(filepath.Join(dir, file), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenIdentity(dir); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", file, err)
		}
	}
	dir := t.TempDir()
	openIdentity(t, dir)
	if err := os.WriteFile(filepath.Join(dir, certificateFile), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := openIdentity(t, dir).Certificate(); ok { // as good as none: the host introduces itself again
		t.Error("rubbish is a certificate")
	}
}
