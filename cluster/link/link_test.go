package link

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
	"github.com/pilotlight/pilotlight/cluster/etcd"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

// house is the servers' etcd, for real: TLS, client certificates, and users.
type house struct {
	*testing.T
	dir    string
	ca     *join.CA
	config etcd.MemberConfig
	member *etcd.Member
	store  *etcd.Store
	root   *clientv3.Client
	addr   string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{T: t, dir: t.TempDir()}
	loopback := netip.MustParseAddr("127.0.0.1")
	h.ca = must(join.OpenCA(h.dir))(t)
	files := h.certify(join.Subject{CommonName: etcd.RootUser, Addresses: []netip.Addr{loopback}, Server: true})
	h.config = etcd.MemberConfig{Name: "one", Dir: filepath.Join(h.dir, "etcd"), Client: netip.AddrPortFrom(loopback, freePort(t)), Peer: netip.AddrPortFrom(loopback, freePort(t)), TLS: files, PeerTLS: files}
	h.addr = h.config.Client.String()
	h.start()
	t.Cleanup(func() { h.member.Close() })
	h.store = must(etcd.Open(etcd.ClientConfig{Endpoints: []string{"https://" + h.addr}, TLS: h.dialer(files)}))(t)
	t.Cleanup(func() { _ = h.store.Close() })
	if err := h.store.EnsureAuth(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.root = must(clientv3.New(clientv3.Config{Endpoints: []string{"https://" + h.addr}, TLS: h.dialer(files)}))(t)
	t.Cleanup(func() { _ = h.root.Close() })
	return h
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func (h *house) start() { h.member = must(etcd.StartMember(h.Context(), h.config))(h.T) }

func (h *house) certify(s join.Subject) etcd.Files {
	h.Helper()
	base := filepath.Join(h.dir, strings.ReplaceAll(s.CommonName, ":", "-"))
	if err := h.ca.Ensure(base, s); err != nil {
		h.Fatal(err)
	}
	return etcd.Files{Cert: base + ".crt", Key: base + ".key", CA: filepath.Join(h.dir, "ca.crt")}
}

func (h *house) dialer(f etcd.Files) *tls.Config {
	pair := must(tls.LoadX509KeyPair(f.Cert, f.Key))(h.T)
	return &tls.Config{RootCAs: h.ca.Pool(), MinVersion: tls.VersionTLS13, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
}

// host dials as one host, who is let in.
func (h *house) host(name cluster.HostName, change ...func(*Config)) *Link {
	h.Helper()
	if err := h.store.AllowNode(h.Context(), name); err != nil {
		h.Fatal(err)
	}
	c := Config{Host: name, Endpoints: []string{h.addr}, TLS: h.dialer(h.certify(join.Subject{CommonName: cluster.UserOf(name)})), Version: "test", TTL: 2 * time.Second}
	for _, do := range change {
		do(&c)
	}
	return must(Dial(c))(h.T)
}

// run runs a link, and returns what it is told.
func (h *house) run(l *Link) (told <-chan agent.State, stop func(cause error)) {
	states := make(chan agent.State, 100)
	ctx, cancel := context.WithCancelCause(h.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, func(s agent.State) { states <- s }) }()
	var once sync.Once
	stop = func(cause error) {
		once.Do(func() {
			cancel(cause)
			if err := <-ended; err != nil {
				h.Errorf("the link ended with %v", err)
			}
		})
	}
	h.Cleanup(func() { stop(nil) })
	return states, stop
}

func (h *house) next(told <-chan agent.State) agent.State {
	h.Helper()
	select {
	case s := <-told:
		return s
	case <-time.After(20 * time.Second):
		h.Fatal("nothing is told")
	}
	return agent.State{}
}

func (h *house) until(what string, ok func() bool) {
	h.Helper()
	for began := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			h.Fatalf("never: %s", what)
		}
	}
}

func (h *house) alive(name cluster.HostName) bool {
	ok, err := h.store.Alive(h.Context(), name)
	return err == nil && ok
}

func (h *house) put(key, value string) {
	h.Helper()
	must(h.root.Put(h.Context(), key, value))(h.T)
}

func desired(image string) cluster.Desired {
	return cluster.Desired{Containers: []cluster.Container{{Site: "shop", Service: cluster.Service{Name: "web", Image: image}}}}
}

func sealed(t *testing.T, v cluster.Version) json.RawMessage {
	t.Helper()
	id := must(secret.NewIdentity())(t)
	return must(json.Marshal(must(secret.Seal(secret.NewValue([]byte("x")), v, id.Recipient()))(t)))(t)
}
