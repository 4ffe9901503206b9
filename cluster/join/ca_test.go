package join

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func openCA(t *testing.T, dir string) *CA {
	t.Helper()
	ca, err := OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestCAIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "ca")
	first := openCA(t, dir)
	if got := openCA(t, dir); !bytes.Equal(got.PEM(), first.PEM()) {
		t.Error("another authority at the second start")
	}
	for name, mode := range map[string]fs.FileMode{"": 0o700, "ca.key": 0o600, "ca.crt": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q has mode %v, %v", name, info.Mode(), err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v is left in the directory, %v", entries, err)
	}
	if !first.cert.IsCA || !first.cert.MaxPathLenZero {
		t.Error("the authority may make authorities")
	}
}

func TestDamagedCA(t *testing.T) {
	good, other := t.TempDir(), t.TempDir()
	openCA(t, good)
	openCA(t, other)
	file := func(dir, name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	crt, key := file(good, "ca.crt"), file(good, "ca.key")
	ended, endedKey := authority(t, time.Now().Add(-time.Hour), true)
	leaf, leafKey := authority(t, time.Now().Add(time.Hour), false)
	for name, c := range map[string]struct {
		crt, key []byte
		says     string
	}{
		"no certificate":    {nil, key, "restore it from a backup"},
		"no key":            {crt, nil, "restore it from a backup"},
		"empty certificate": {[]byte{}, key, "is no certificate in PEM"},
		"cut certificate":   {crt[:len(crt)/2], key, "is no certificate in PEM"},
		"cut key":           {crt, key[:len(key)/2], "is no key in PEM"},
		"key for both":      {key, key, "is no certificate in PEM"},
		"garbage in PEM":    {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), key, "ca.crt: x509"},
		"garbage key":       {crt, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "ca.key: "},
		"another's key":     {crt, file(other, "ca.key"), "is not the key of"},
		"ended":             {ended, endedKey, "boot every host anew"},
		"no authority":      {leaf, leafKey, "of no authority"},
	} {
		dir := t.TempDir()
		for f, text := range map[string][]byte{"ca.crt": c.crt, "ca.key": c.key} {
			if text == nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, f), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := OpenCA(dir)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && bytes.Contains([]byte(err.Error()), bytes.TrimSpace(key)[30:60]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
		for f, text := range map[string][]byte{"ca.crt": c.crt, "ca.key": c.key} {
			if now, err := os.ReadFile(filepath.Join(dir, f)); text != nil && (err != nil || !bytes.Equal(now, text)) || text == nil && err == nil {
				t.Errorf("%s: %s was touched", name, f)
			}
		}
	}
}

func TestEnsure(t *testing.T) {
	dir := t.TempDir()
	ca := openCA(t, filepath.Join(dir, "ca"))
	base := filepath.Join(dir, "made", "server")
	addr := netip.MustParseAddr
	want := Subject{CommonName: "server:a", Names: []string{"a", "b"}, Addresses: []netip.Addr{addr("10.0.0.1"), addr("fe80::1%eth0"), addr("::ffff:10.0.0.2")}, Server: true}
	ensure := func(s Subject) (reissued bool) {
		t.Helper()
		before, _ := os.ReadFile(base + ".crt")
		if err := ca.Ensure(base, s); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(base + ".crt")
		if err != nil {
			t.Fatal(err)
		}
		if !ca.fits(base+".crt", base+".key", s) {
			t.Errorf("what was made for %+v does not fit", s)
		}
		if info, err := os.Stat(base + ".key"); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key has mode %v", info.Mode())
		}
		if _, err := tls.LoadX509KeyPair(base+".crt", base+".key"); err != nil {
			t.Error(err)
		}
		return !bytes.Equal(before, after)
	}
	ensure(want)
	same := want
	same.Names = []string{"b", "a"}
	if ensure(same) {
		t.Error("reissued for the same in another order")
	}
	for name, change := range map[string]func(*Subject){
		"name": func(s *Subject) { s.CommonName = "server:b" }, "organization": func(s *Subject) { s.Organization = OperatorOrg },
		"role": func(s *Subject) { s.Server = false }, "name more": func(s *Subject) { s.Names = []string{"a", "b", "c"} },
		"name less": func(s *Subject) { s.Names = nil }, "address less": func(s *Subject) { s.Addresses = s.Addresses[:1] },
		"address more": func(s *Subject) { s.Addresses = append(s.Addresses, addr("10.0.0.9")) },
	} {
		ensure(want)
		s := want
		change(&s)
		if !ensure(s) {
			t.Errorf("%s: not reissued", name)
		}
	}
	for name, damage := range map[string]func(){
		"near its end": func() {
			key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			crt, _ := ca.sign(key.Public(), want, 11*time.Hour) // of 35 h, with the day that it is made earlier
			text, _ := encodeKey(key)
			_ = os.WriteFile(base+".crt", crt, 0o644)
			_ = os.WriteFile(base+".key", text, 0o600)
		},
		"no key":        func() { _ = os.Remove(base + ".key") },
		"damaged":       func() { _ = os.WriteFile(base+".crt", []byte("x"), 0o644) },
		"another's key": func() { _ = os.WriteFile(base+".key", mustRead(t, filepath.Join(dir, "ca", "ca.key")), 0o600) },
		"another's":     func() { _ = openCA(t, filepath.Join(dir, "ca2")).Ensure(base, want) },
	} {
		ensure(want)
		damage()
		if !ensure(want) && name != "no key" && name != "another's key" {
			t.Errorf("%s: not reissued", name)
		}
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// authority is a certificate signed by its own key, with the key.
func authority(t *testing.T, end time.Time, isCA bool) (crt, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end, IsCA: isCA, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err = encodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return encodeCertificate(der), keyPEM
}

// otherCA is an authority that signed nothing here.
func otherCA(t *testing.T) []byte {
	t.Helper()
	crt, _ := authority(t, time.Now().Add(time.Hour), true)
	return crt
}
