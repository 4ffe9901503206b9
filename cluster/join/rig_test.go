package join

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"filippo.io/age"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
)

// rig is an introducer over a store in memory, and all that it lets be seen.
type rig struct {
	*Introducer
	t      *testing.T
	store  *clustertest.Memory
	log    bytes.Buffer
	tokens []string
	joined atomic.Int32
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, store: new(clustertest.Memory)}
	var mu sync.Mutex
	r.Introducer = &Introducer{
		CA: openCA(t, t.TempDir()), Records: r.store, Nodes: r.store, Auditor: r.store,
		Logger: slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return r.log.Write(b)
		}), &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnJoin: func(cluster.Introduction) { r.joined.Add(1) },
	}
	t.Cleanup(r.noTokenIsSeen)
	return r
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// noTokenIsSeen looks for the text of each token in the log, the audit and the
// records.
func (r *rig) noTokenIsSeen() {
	audit, _ := r.store.AuditLog(context.Background(), cluster.AuditQuery{})
	nodes, _ := r.store.Nodes(context.Background())
	records := []any{audit, nodes}
	for _, token := range r.tokens {
		record, _, _ := r.store.Token(context.Background(), hashToken(token))
		records = append(records, record)
	}
	kept, _ := json.Marshal(records)
	for _, token := range r.tokens {
		if strings.Contains(r.log.String(), token) || bytes.Contains(kept, []byte(token)) {
			r.t.Error("a token is in the log, the audit or a record")
		}
	}
}

func (r *rig) mint() string {
	r.t.Helper()
	token, err := r.Mint(r.t.Context(), Bearer{Host: "web1", MAC: hostMAC, UUID: hostUUID, Address: hostAddr, Boot: "b1"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.tokens = append(r.tokens, token)
	return token
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csrOf(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "root", Organization: []string{OperatorOrg}}, DNSNames: []string{"evil"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func request(t *testing.T, token string, key crypto.Signer) Request {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return Request{Token: token, CSR: csrOf(t, key), Recipient: id.Recipient().String(), MAC: hostMAC, UUID: hostUUID}
}

func keyHash(t *testing.T, key crypto.Signer) string {
	t.Helper()
	hash, err := KeyHash(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// refusal checks that an answer is a refusal, and that it is audited with an
// alarm.
func (r *rig) refusal(err error, status int, says string) {
	r.t.Helper()
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Status != status || !strings.Contains(refusal.Reason, says) {
		r.t.Errorf("got %v, not %d %s", err, status, says)
		return
	}
	all := r.audit("")
	if len(all) == 0 {
		r.t.Fatal("nothing in the audit")
	}
	if last := all[len(all)-1]; last.OK || !last.Alarm || !strings.Contains(last.Detail, says) || last.Actor == "" || last.At.IsZero() {
		r.t.Errorf("audit %+v, not %s", last, says)
	}
}

// audit returns what is about a host, oldest first.
func (r *rig) audit(about string) []cluster.AuditEntry {
	r.t.Helper()
	p, err := r.store.AuditLog(r.t.Context(), cluster.AuditQuery{About: about})
	if err != nil {
		r.t.Fatal(err)
	}
	return p.Entries
}

func (r *rig) certificate(out Response) *x509.Certificate {
	r.t.Helper()
	cert, err := parseCertificate([]byte(out.Certificate))
	if err != nil {
		r.t.Fatal(err)
	}
	return cert
}
