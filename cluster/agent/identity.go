package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

// The files of an Identity.
const (
	keyFile         = "node.key"
	certificateFile = "node.crt"
	ageFile         = "node.age"
	caFile          = "ca.crt"
)

// ErrNoCertificate says that the host has no certificate that is valid now.
var ErrNoCertificate = errors.New("no valid certificate")

// Identity is who a host is: two keys that were made on it and never leave it,
// the certificate that the servers signed for one of them, and the authorities
// that they named.
type Identity struct {
	dir string
	key *ecdsa.PrivateKey
	age *secret.Identity

	mu          sync.Mutex
	certificate *tls.Certificate // its Leaf is set
	ca          []byte
	changed     chan struct{} // closed, and made anew, at each change
}

// OpenIdentity reads the identity in dir, and makes its keys when there are
// none. A certificate that does not fit its key is as good as none.
func OpenIdentity(dir string) (*Identity, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("identity: %w; set --state DIR", err)
	}
	i := &Identity{dir: dir, changed: make(chan struct{})}
	var err error
	if i.key, err = openKey(filepath.Join(dir, keyFile)); err != nil {
		return nil, err
	}
	if i.age, err = openAge(filepath.Join(dir, ageFile)); err != nil {
		return nil, err
	}
	if i.ca, err = os.ReadFile(filepath.Join(dir, caFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("identity: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, certificateFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if c, err := i.parse(b); err == nil {
		i.certificate = c
	}
	return i, nil
}

func openKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("the host's key: %w", err)
	}
	if block, _ := pem.Decode(b); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := key.(*ecdsa.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("the host's key: %s does not hold an ECDSA key; move it away and introduce the host again", path)
}

func makeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the host's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make the host's key: %w", err)
	}
	if err := writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("make the host's key: %w", err)
	}
	return key, nil
}

func openAge(path string) (*secret.Identity, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id, err := secret.NewIdentity()
		if err != nil {
			return nil, err
		}
		return id, writeFile(path, []byte(id.Export()+"\n"), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("the host's age identity: %w", err)
	}
	id, err := secret.ParseIdentity(string(b))
	if err != nil {
		return nil, fmt.Errorf("the host's age identity, %s: %w; or move it away and introduce the host again", path, err)
	}
	return id, nil
}

// Recipient returns what the host's secrets are to be sealed to.
func (i *Identity) Recipient() string { return i.age.Recipient() }

// Open implements Opener.
func (i *Identity) Open(s *secret.Sealed, as cluster.Version) (secret.Value, error) {
	return s.OpenAs(i.age, as)
}

// KeyHash names the host's public key.
func (i *Identity) KeyHash() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	if err != nil {
		return "", fmt.Errorf("the host's key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// Request returns a certificate request in PEM. The servers decide the name.
func (i *Identity) Request(host cluster.HostName) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: cluster.UserOf(host)},
	}, i.key)
	if err != nil {
		return "", fmt.Errorf("certificate request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// parse reads a certificate, with what else is in the chain, for the host's key.
func (i *Identity) parse(b []byte) (*tls.Certificate, error) {
	c := &tls.Certificate{PrivateKey: i.key}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			c.Certificate = append(c.Certificate, block.Bytes)
		}
	}
	if len(c.Certificate) == 0 {
		return nil, errors.New("holds no certificate in PEM")
	}
	var err error
	if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
		return nil, err
	}
	if !i.key.PublicKey.Equal(c.Leaf.PublicKey) {
		return nil, errors.New("is for another key than this host's")
	}
	return c, nil
}

// Accept takes over what the servers signed, if it is for this host and holds
// against the authorities that came with it.
func (i *Identity) Accept(r join.Response) error {
	c, err := i.parse([]byte(r.Certificate))
	if err != nil {
		return fmt.Errorf("the certificate that the server signed %w", err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(r.CA)) {
		return errors.New("the server named no authority")
	}
	for _, der := range c.Certificate[1:] {
		if more, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(more)
		}
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return fmt.Errorf("the certificate that the server signed: %w; is this host's clock right (timedatectl)?", err)
	}
	if want := cluster.UserOf(r.Host); c.Leaf.Subject.CommonName != want {
		return fmt.Errorf("the certificate that the server signed is for %q, not for %q", c.Leaf.Subject.CommonName, want)
	}
	// The authorities first: the old certificate is good under the new ones,
	// since they overlap, but the new one may not be under the old.
	if err := writeFile(filepath.Join(i.dir, caFile), []byte(r.CA), 0o644); err != nil {
		return fmt.Errorf("keep the authorities: %w", err)
	}
	if err := writeFile(filepath.Join(i.dir, certificateFile), []byte(r.Certificate), 0o644); err != nil {
		return fmt.Errorf("keep the certificate: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.certificate, i.ca = c, []byte(r.CA)
	close(i.changed)
	i.changed = make(chan struct{})
	return nil
}

// Changed returns a channel that is closed at the next change.
func (i *Identity) Changed() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changed
}

// Certificate returns the host's certificate, valid or not.
func (i *Identity) Certificate() (*tls.Certificate, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.certificate, i.certificate != nil
}

// Valid reports whether the host has a certificate that is valid at that time.
func (i *Identity) Valid(at time.Time) bool {
	c, ok := i.Certificate()
	return ok && at.Before(c.Leaf.NotAfter)
}

// CA returns the authorities, in PEM, that the servers named last.
func (i *Identity) CA() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return bytes.Clone(i.ca)
}

// TLS returns how to dial etcd. A certificate that is renewed is used from the
// next connection on; new authorities need a new TLS.
func (i *Identity) TLS() (*tls.Config, error) {
	if !i.Valid(time.Now()) {
		return nil, ErrNoCertificate
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(i.CA()) {
		return nil, fmt.Errorf("%s holds no authority; introduce the host again", filepath.Join(i.dir, caFile))
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, ok := i.Certificate()
			if !ok {
				return nil, ErrNoCertificate
			}
			return c, nil
		},
	}, nil
}

// PEM returns the certificate and its key, for a registry with mutual TLS.
func (i *Identity) PEM() (certificate, key []byte, err error) {
	c, ok := i.Certificate()
	if !ok {
		return nil, nil, ErrNoCertificate
	}
	for _, der := range c.Certificate {
		certificate = append(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return nil, nil, fmt.Errorf("the host's key: %w", err)
	}
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
