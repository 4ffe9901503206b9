package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

// machines is what a server knows of machines.
type machines struct {
	seen  []cluster.Discovered
	store *clustertest.Memory
}

func (machines) Explain(_ context.Context, who string) (Explanation, error) {
	if who == "none" {
		return Explanation{}, fmt.Errorf("%s: %w", who, cluster.ErrNotFound)
	}
	return Explanation{Who: who, Why: []string{"because"}}, nil
}

func (machines) Render(_ context.Context, in RenderRequest) (string, []byte, error) {
	if in.Installer {
		in.Host += "'s installer"
	}
	return "text/x-config", []byte(in.Host + " for " + in.Accept), nil
}

func (machines) RevokeUserdata(_ context.Context, actor string, h cluster.HostName) (int, error) {
	return len(h) + len(actor), nil
}

func (machines) Userdata(_ context.Context, actor string, h cluster.HostName, in UserdataRequest) (Userdata, error) {
	if in.Life > time.Hour {
		return Userdata{}, &StatusError{http.StatusBadRequest, errors.New("too long")}
	}
	return Userdata{Host: h, Pointer: []byte(in.For + " for " + actor)}, nil
}

func (m machines) Install(h cluster.HostName) cluster.Install {
	i, _ := m.ChangeInstall(context.Background(), h, func(i cluster.Install) cluster.Install { return i })
	return i
}

func (m machines) ChangeInstall(ctx context.Context, h cluster.HostName, next func(cluster.Install) cluster.Install) (cluster.Install, error) {
	return m.store.ChangeInstall(ctx, h, next)
}

func (m machines) Discovered() []cluster.Discovered { return m.seen }

func (machines) AddressOf(h *cluster.Host) (netip.Addr, bool) {
	return netip.MustParseAddr("10.0.0.77"), slices.Contains(h.MACs, cluster.MAC{2})
}

// rig is a server over a store in memory, with real TLS.
type rig struct {
	*Server
	t     *testing.T
	store *clustertest.Memory
	id    *secret.Identity
	ca    *join.CA
	dir   string
	url   string
	log   bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, store: new(clustertest.Memory), dir: t.TempDir()}
	var err error
	r.id, err = secret.NewIdentity()
	must(t, err)
	r.ca, err = join.OpenCA(filepath.Join(r.dir, "ca"))
	must(t, err)
	r.Server = &Server{
		Applier: Applier{Store: r.store}, Store: r.store, Recipient: r.id.Recipient(), Machines: machines{store: r.store},
		Snapshot: func() *cluster.Snapshot { s, _ := r.store.Load(context.Background()); return s },
		Logger:   slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	s := httptest.NewUnstartedServer(r.Handler(operator))
	server := r.certificate("server", join.Subject{CommonName: "server:a", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Server: true})
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{server}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: r.ca.Pool()}
	s.StartTLS()
	t.Cleanup(s.Close)
	r.url = s.URL
	t.Cleanup(func() {
		audit, _ := r.store.AuditLog(context.Background(), cluster.AuditQuery{})
		if strings.Contains(r.log.String(), value) || strings.Contains(fmt.Sprint(audit), value) {
			t.Error("the value is in the log or the audit")
		}
	})
	return r
}

func operator(r *http.Request) (string, bool) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", false
	}
	name := r.TLS.PeerCertificates[0].Subject
	return "operator:" + name.CommonName, slices.Contains(name.Organization, join.OperatorOrg)
}

func (r *rig) certificate(name string, s join.Subject) tls.Certificate {
	r.t.Helper()
	base := filepath.Join(r.dir, name)
	must(r.t, r.ca.Ensure(base, s))
	cert, err := tls.LoadX509KeyPair(base+".crt", base+".key")
	must(r.t, err)
	return cert
}

func (r *rig) client(certs ...tls.Certificate) *Client {
	return NewClient(r.url, &tls.Config{RootCAs: r.ca.Pool(), Certificates: certs})
}

func (r *rig) admin() *Client {
	return r.client(r.certificate("admin", join.Subject{CommonName: "admin", Organization: join.OperatorOrg}))
}
