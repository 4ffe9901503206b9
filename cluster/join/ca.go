package join

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// How long certificates hold. A host's is short, since it is renewed over the
// wire; it begins a day early, for servers whose clock is behind.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 365 * 24 * time.Hour
	nodeLife      = 24 * time.Hour
	backdate      = 24 * time.Hour
)

// longAgo is when the authority's certificate and those of servers begin: a machine
// without a clock of its own believes, when it fetches its config, that it is the year
// in which its systemd was built.
var longAgo = time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)

// OperatorOrg is the organization in an operator's certificate.
const OperatorOrg = "pilotlight operators"

// CA is the authority of one installation: it signs the servers', the
// operators' and the hosts' certificates, and nothing else is trusted.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// OpenCA loads the authority kept in dir (ca.crt, ca.key), or makes it.
func OpenCA(dir string) (*CA, error) {
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	certPEM, err := os.ReadFile(certFile)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(keyFile); err == nil {
			return nil, fmt.Errorf("%s is there but %s is not: restore it from a backup, since without it no host trusts this server; if no host ever joined, remove %s", keyFile, certFile, keyFile)
		}
		return makeCA(dir, certFile, keyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the authority's key: %w; restore it from a backup", err)
	}
	return parseCA(certFile, certPEM, keyFile, keyPEM)
}

func parseCA(certFile string, certPEM []byte, keyFile string, keyPEM []byte) (*CA, error) {
	cert, err := parseCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup", certFile, err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup", keyFile, err)
	}
	switch {
	case !key.PublicKey.Equal(cert.PublicKey):
		return nil, fmt.Errorf("%s is not the key of %s; restore both from one backup", keyFile, certFile)
	case !cert.IsCA:
		return nil, fmt.Errorf("%s is the certificate of no authority; restore it from a backup", certFile)
	case time.Now().After(cert.NotAfter):
		return nil, fmt.Errorf("the authority in %s ended at %s; move its directory away, start again and boot every host anew", certFile, cert.NotAfter.UTC().Format(time.DateOnly))
	}
	return &CA{cert, key, certPEM}, nil
}

func makeCA(dir, certFile, keyFile string) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	t := template(pkix.Name{CommonName: "pilotlight CA " + time.Now().UTC().Format("2006-01-02")}, authorityLife)
	t.NotBefore = longAgo
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	ca := &CA{cert, key, encodeCertificate(der)}
	if err := WriteFile(keyFile, keyPEM, 0o600); err != nil {
		return nil, err
	}
	return ca, WriteFile(certFile, ca.pem, 0o644)
}

// PlaceCA keeps an authority that another server gave in dir, where OpenCA finds
// it.
func PlaceCA(dir string, certPEM, keyPEM []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the authority: %w", err)
	}
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	if _, err := parseCA(certFile, certPEM, keyFile, keyPEM); err != nil {
		return err
	}
	if err := WriteFile(keyFile, keyPEM, 0o600); err != nil {
		return err
	}
	return WriteFile(certFile, certPEM, 0o644)
}

// keyPEM is the authority's key, for another server.
func (ca *CA) keyPEM() ([]byte, error) {
	key, ok := ca.key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the authority's key cannot be given to another server")
	}
	return encodeKey(key)
}

// PEM returns the authority's certificate.
func (ca *CA) PEM() []byte { return ca.pem }

// Pool returns a pool with the authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Subject says whom a certificate is for.
type Subject struct {
	CommonName   string
	Organization string
	Names        []string     // DNS names of a server
	Addresses    []netip.Addr // of a server
	Server       bool         // may serve, and not only ask
}

// Ensure keeps a certificate for s at BASE.crt with its key at BASE.key: it
// makes them when they are missing, do not fit any more, or have less than a
// third of their life left, and leaves them alone otherwise.
func (ca *CA) Ensure(base string, s Subject) error {
	if ca.fits(base+".crt", base+".key", s) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key for %s: %w", s.CommonName, err)
	}
	cert, err := ca.sign(key.Public(), s, serverLife)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return fmt.Errorf("keep the certificate of %s: %w", s.CommonName, err)
	}
	if err := WriteFile(base+".key", keyPEM, 0o600); err != nil {
		return err
	}
	return WriteFile(base+".crt", cert, 0o644)
}

func (ca *CA) fits(certFile, keyFile string, s Subject) bool {
	text, err := os.ReadFile(certFile)
	if err != nil {
		return false
	}
	keyText, err := os.ReadFile(keyFile)
	if err != nil {
		return false
	}
	cert, err := parseCertificate(text)
	if err != nil || cert.CheckSignatureFrom(ca.cert) != nil || !s.is(cert) {
		return false
	}
	key, err := parseKey(keyText)
	if err != nil || !key.PublicKey.Equal(cert.PublicKey) {
		return false
	}
	return time.Until(cert.NotAfter) > serverLife/3
}

// is reports whether a certificate is for s, and for nothing more: an address
// that the server has lost is somebody else's.
func (s Subject) is(cert *x509.Certificate) bool {
	organization := []string{}
	if s.Organization != "" {
		organization = []string{s.Organization}
	}
	return cert.Subject.CommonName == s.CommonName &&
		slices.Equal(cert.Subject.Organization, organization) &&
		slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) == s.Server &&
		sameWords(cert.DNSNames, s.Names) &&
		sameWords(addressesOf(cert), words(s.Addresses))
}

func addressesOf(cert *x509.Certificate) []string {
	out := make([]netip.Addr, len(cert.IPAddresses))
	for i, ip := range cert.IPAddresses {
		out[i], _ = netip.AddrFromSlice(ip)
	}
	return words(out)
}

// words are addresses as a certificate holds them: without zones.
func words(in []netip.Addr) []string {
	out := make([]string, len(in))
	for i, a := range in {
		out[i] = a.Unmap().WithZone("").String()
	}
	return out
}

// sameWords reports whether a and b hold the same, in whatever order.
func sameWords(a, b []string) bool {
	sorted := func(in []string) []string {
		out := slices.Clone(in)
		slices.Sort(out)
		return slices.Compact(out)
	}
	return slices.Equal(sorted(a), sorted(b))
}

// sign returns a certificate for a public key, in PEM.
func (ca *CA) sign(public crypto.PublicKey, s Subject, life time.Duration) ([]byte, error) {
	name := pkix.Name{CommonName: s.CommonName}
	if s.Organization != "" {
		name.Organization = []string{s.Organization}
	}
	t := template(name, life)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if s.Server {
		t.NotBefore = longAgo
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	t.DNSNames = s.Names
	for _, a := range s.Addresses {
		t.IPAddresses = append(t.IPAddresses, a.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", s.CommonName, err)
	}
	return encodeCertificate(der), nil
}

func template(name pkix.Name, life time.Duration) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: name, NotBefore: now.Add(-backdate), NotAfter: now.Add(life)}
}

// KeyHash names a public key: the SHA-256 of its PKIX form, in hexadecimal.
func KeyHash(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("is no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("is no key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("is not an ECDSA key")
	}
	return ec, nil
}

// WriteFile replaces a file whole: a crash leaves the old one or the new one.
func WriteFile(path string, text []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	_, err = bytes.NewReader(text).WriteTo(tmp)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
