package join

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// invites keeps invitations in memory.
type invites struct {
	mu sync.Mutex
	by map[string]string
}

func (i *invites) PutInvite(_ context.Context, hash, by string, _ time.Duration) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.by[hash] = by
	return nil
}

func (i *invites) Invite(_ context.Context, hash string) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if by, ok := i.by[hash]; ok {
		return by, nil
	}
	return "", cluster.ErrNotFound
}

func (i *invites) TakeInvite(_ context.Context, hash string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.by[hash]; !ok {
		return cluster.ErrNotFound
	}
	delete(i.by, hash)
	return nil
}

// TestServerJoins takes an invitation over the wire: it is worth one server's join,
// and a mistake does not use it up.
func TestServerJoins(t *testing.T) {
	r := newRig(t)
	kept := &invites{by: map[string]string{}}
	var refusal error
	i := &Inviter{
		CA: r.CA, Secrets: func() string { return "AGE-SECRET-KEY-1TEST" }, Invites: kept, Auditor: r.store, Logger: r.Logger,
		Add: func(_ context.Context, name cluster.ServerName, peer netip.AddrPort) (string, error) {
			return fmt.Sprintf("one=https://10.0.0.2:2380,%s=https://%s", name, peer), refusal
		},
	}
	server := httptest.NewUnstartedServer(i.Handler())
	server.TLS = serverTLS(t, r.CA)
	server.StartTLS()
	defer server.Close()
	invite, err := i.Invite(t.Context(), "operator:ann", []string{"https://127.0.0.1:1", server.URL}) // nobody is at the first
	if err != nil {
		t.Fatal(err)
	}
	ask := ServerRequest{Name: "two", Peer: netip.MustParseAddrPort("10.0.0.3:2380")}

	refusal = fmt.Errorf("there is a server two: %w", cluster.ErrConflict)
	if _, err := AskToJoin(t.Context(), invite, ask); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "there is a server two") {
		t.Errorf("a name that is taken: %v", err)
	}
	refusal = errors.New("etcd is away")
	if _, err := AskToJoin(t.Context(), invite, ask); err == nil || errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "etcd is away") {
		t.Errorf("a fault of the server's: %v", err)
	}
	refusal = nil
	got, err := AskToJoin(t.Context(), " "+invite+"\n", ask)
	if err != nil {
		t.Fatal(err)
	}
	if got.Secrets != "AGE-SECRET-KEY-1TEST" || got.Members != "one=https://10.0.0.2:2380,two=https://10.0.0.3:2380" {
		t.Errorf("members %q", got.Members)
	}
	dir := t.TempDir()
	if err := PlaceCA(dir, []byte(got.CA), []byte(got.Key)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the authority's key: %v, %v", info, err)
	}
	if same, err := OpenCA(dir); err != nil || string(same.PEM()) != string(r.CA.PEM()) {
		t.Errorf("the authority: %v", err)
	}
	if _, err := AskToJoin(t.Context(), invite, ask); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "this invitation was used") {
		t.Errorf("used twice: %v", err)
	}
	text, err := json.Marshal(r.audit("server two"))
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{got.Key, got.Secrets, invite, token(t, invite)} {
		if strings.Contains(r.log.String()+string(text), hidden) {
			t.Error("a secret is in the log or the audit")
		}
	}
	if !strings.Contains(string(text), "invited by operator:ann") || !strings.Contains(string(text), "no such invitation") {
		t.Errorf("audit: %s", text)
	}
}

// token is the secret part of an invitation.
func token(t *testing.T, invite string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(invite)
	if err != nil {
		t.Fatal(err)
	}
	var v invitation
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(v.Token)
}

// TestNoInvitation shows mistakes and made-up invitations, none of which is quoted.
func TestNoInvitation(t *testing.T) {
	r := newRig(t)
	i := &Inviter{CA: r.CA, Invites: &invites{by: map[string]string{}}, Auditor: r.store, Logger: r.Logger}
	for name, ask := range map[string]ServerRequest{
		"no name":          {Token: "AAAA", Peer: netip.MustParseAddrPort("10.0.0.3:2380")},
		"a name in quotes": {Token: "AAAA", Name: `a"b`, Peer: netip.MustParseAddrPort("10.0.0.3:2380")},
		"no address":       {Token: "AAAA", Name: "two"},
		"no token":         {Token: "!", Name: "two", Peer: netip.MustParseAddrPort("10.0.0.3:2380")},
	} {
		var refusal *Refusal
		if _, err := i.Admit(t.Context(), hostAddr, ask); !errors.As(err, &refusal) || refusal.Status != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "secret words", base64.RawURLEncoding.EncodeToString([]byte(`{"servers":[]}`)), base64.RawURLEncoding.EncodeToString([]byte(`{"servers":["https://127.0.0.1:1"],"ca":"AAAA"}`))} {
		if _, err := AskToJoin(t.Context(), text, ServerRequest{}); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Made-up invitations do not fill the audit.
func TestManyInvitations(t *testing.T) {
	r := newRig(t)
	i := &Inviter{CA: r.CA, Invites: &invites{by: map[string]string{}}, Auditor: r.store, Logger: r.Logger}
	for range auditBurst + 100 {
		if _, err := i.Admit(t.Context(), hostAddr, ServerRequest{Token: "AAAA", Name: "two", Peer: netip.MustParseAddrPort("10.0.0.3:2380")}); err == nil {
			t.Fatal("it was taken")
		}
	}
	if n := len(r.audit("server two")); n == 0 || n > auditBurst+10 {
		t.Errorf("%d entries", n)
	}
}

// A stranger with a certificate of another authority gets no invitation's token.
func TestAnotherServersAuthority(t *testing.T) {
	r := newRig(t)
	i := &Inviter{CA: r.CA, Invites: &invites{by: map[string]string{}}, Auditor: r.store, Logger: r.Logger}
	asked := false
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	server.TLS = serverTLS(t, openCA(t, t.TempDir()))
	server.StartTLS()
	defer server.Close()
	invite, err := i.Invite(t.Context(), "operator:ann", []string{server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AskToJoin(t.Context(), invite, ServerRequest{Name: "two"}); err == nil || asked {
		t.Errorf("a stranger was told: %v", err)
	}
}

// serverTLS is how a server with a certificate of an authority speaks.
func serverTLS(t *testing.T, ca *CA) *tls.Config {
	t.Helper()
	base := filepath.Join(t.TempDir(), "server")
	if err := ca.Ensure(base, Subject{CommonName: "server:one", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Server: true}); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(base+".crt", base+".key")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}
}
