package etcd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
	"github.com/pilotlight/pilotlight/cluster/control"
	"github.com/pilotlight/pilotlight/cluster/join"
)

var (
	_ clustertest.Store = (*Store)(nil)
	_ api.Documents     = (*Store)(nil)
	_ api.Store         = (*Store)(nil)
	_ join.Records      = (*Store)(nil)
	_ join.Nodes        = (*Store)(nil)
	_ join.Auditor      = (*Store)(nil)
	_ control.Store     = (*Store)(nil)
)

// site is one installation: its authority and one member.
type site struct {
	dir    string
	ca     *join.CA
	config MemberConfig
	member *Member
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func freePort() (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer l.Close()
	return netip.ParseAddrPort(l.Addr().String())
}

// newSite makes the authority and a certificate for the server.
func newSite(dir string) (*site, error) {
	ca, err := join.OpenCA(filepath.Join(dir, "ca"))
	if err != nil {
		return nil, err
	}
	s := &site{dir: dir, ca: ca}
	for base, subject := range map[string]join.Subject{
		"server": {CommonName: "server:test", Addresses: []netip.Addr{loopback}, Server: true},
		"peer":   {CommonName: PeerUser, Addresses: []netip.Addr{loopback}, Server: true},
		"root":   {CommonName: RootUser},
	} {
		if err := ca.Ensure(filepath.Join(dir, base), subject); err != nil {
			return nil, err
		}
	}
	s.config = MemberConfig{Name: "test", Dir: filepath.Join(dir, "etcd"), TLS: s.files("server"), PeerTLS: s.files("peer")}
	if s.config.Client, err = freePort(); err != nil {
		return nil, err
	}
	s.config.Peer, err = freePort()
	return s, err
}

func (s *site) files(base string) Files {
	return Files{Cert: filepath.Join(s.dir, base+".crt"), Key: filepath.Join(s.dir, base+".key"), CA: filepath.Join(s.dir, "ca", "ca.crt")}
}

func (s *site) start() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s.member, err = StartMember(ctx, s.config)
	return err
}

// tls returns how somebody with a certificate of that name speaks to etcd.
func (s *site) tls(t testing.TB, name string) *tls.Config {
	t.Helper()
	base := filepath.Join(s.dir, name)
	must(t, s.ca.Ensure(base, join.Subject{CommonName: name}))
	cert, err := tls.LoadX509KeyPair(base+".crt", base+".key")
	must(t, err)
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: s.ca.Pool(), Certificates: []tls.Certificate{cert}}
}

func (s *site) endpoint() string { return "https://" + s.config.Client.String() }

// as returns a client with a certificate of that name.
func (s *site) as(t testing.TB, name string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.endpoint()}, TLS: s.tls(t, name), DialTimeout: 5 * time.Second})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// store returns a Store of the member's own process, with access control on.
func (s *site) store(t testing.TB) *Store {
	t.Helper()
	return s.open(t, s.member)
}

// outside returns a Store that outlives the member.
func (s *site) outside(t testing.TB) *Store {
	t.Helper()
	return s.open(t, nil)
}

func (s *site) open(t testing.TB, member *Member) *Store {
	t.Helper()
	st, err := Open(ClientConfig{Endpoints: []string{s.endpoint()}, TLS: s.tls(t, RootUser), Member: member})
	must(t, err)
	t.Cleanup(func() { _ = st.Close() })
	must(t, st.EnsureAuth(t.Context()))
	return st
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// own starts a member for one test that stops and starts it.
func own(t *testing.T) *site {
	t.Helper()
	s, err := newSite(t.TempDir())
	must(t, err)
	must(t, s.start())
	t.Cleanup(func() { s.member.Close() })
	return s
}

// shared is the member of all tests that let it run.
var shared *site

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if dir := os.Getenv(victimEnv); dir != "" {
		return victim(dir)
	}
	dir, err := os.MkdirTemp("", "pilotlight-etcd-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if shared, err = newSite(dir); err == nil {
		err = shared.start()
	}
	if err != nil {
		panic(err)
	}
	defer shared.member.Close()
	return m.Run()
}

// empty returns a store of the shared member in which nothing is.
func empty(t testing.TB) *Store {
	t.Helper()
	s := shared.store(t)
	_, err := s.client.Delete(t.Context(), cluster.Root, clientv3.WithPrefix())
	must(t, err)
	users, err := s.client.UserList(t.Context())
	must(t, err)
	for _, u := range users.Users {
		if h, ok := strings.CutPrefix(u, cluster.UserOf("")); ok {
			must(t, s.ForgetNode(t.Context(), cluster.HostName(h)))
		}
	}
	return s
}

// hosts writes what hosts write, each with its own certificate.
type hosts struct {
	t       testing.TB
	clients map[cluster.HostName]*clientv3.Client
	leases  map[cluster.HostName]clientv3.LeaseID
}

func newHosts(t testing.TB) *hosts {
	return &hosts{t, map[cluster.HostName]*clientv3.Client{}, map[cluster.HostName]clientv3.LeaseID{}}
}

func (h *hosts) client(name cluster.HostName) *clientv3.Client {
	if h.clients[name] == nil {
		h.clients[name] = shared.as(h.t, cluster.UserOf(name))
	}
	return h.clients[name]
}

func (h *hosts) SetAlive(ctx context.Context, name cluster.HostName, a *cluster.Alive) error {
	c := h.client(name)
	if a == nil {
		_, err := c.Revoke(ctx, h.leases[name])
		return err
	}
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	l, err := c.Grant(ctx, 60)
	if err != nil {
		return err
	}
	h.leases[name] = l.ID
	_, err = c.Put(ctx, cluster.AliveKey(name), string(body), clientv3.WithLease(l.ID))
	return err
}

func (h *hosts) SetStatus(ctx context.Context, name cluster.HostName, s cluster.Status) error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = h.client(name).Put(ctx, cluster.StatusKey(name), string(body))
	return err
}

func TestStore(t *testing.T) {
	clustertest.TestStore(t, func(t *testing.T) clustertest.Rig {
		s := empty(t)
		return clustertest.Rig{Store: s, Hosts: newHosts(t), Compact: func(t *testing.T) {
			r, err := s.client.Get(t.Context(), cluster.AppliedKey)
			must(t, err)
			_, err = s.client.Compact(t.Context(), r.Header.Revision, clientv3.WithCompactPhysical())
			must(t, err)
		}}
	})
}

func TestApplyTellsWhatIsTooMuch(t *testing.T) {
	s := empty(t)
	base, err := s.Load(t.Context())
	must(t, err)
	docs := make([]cluster.Document, maxOps)
	for i := range docs {
		docs[i] = &cluster.Policy{Meta: cluster.Meta{Name: "p" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()}}
	}
	err = s.Apply(t.Context(), base, docs, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "apply them in parts") {
		t.Errorf("%d documents: %v", len(docs), err)
	}
}

// TestLoadSeesWhatOthersApplied: what a store knows is never taken for what there is,
// whoever applied since, and what it derived is what it would read.
func TestLoadSeesWhatOthersApplied(t *testing.T) {
	s, ctx := empty(t), t.Context()
	stores := []*Store{s, {client: s.client, near: s.client, log: s.log}}
	host := func(i, turn int) cluster.Document {
		return &cluster.Host{Meta: cluster.Meta{Name: fmt.Sprint("h", i)}, Variables: map[string]any{"turn": turn}, MACs: []cluster.MAC{{2, 0, 0, 0, 0, byte(i)}}}
	}
	for turn, by := range []int{0, 0, 1, 1, 0, 1, 0, 0} {
		base, err := stores[by].Load(ctx)
		must(t, err)
		var gone []cluster.Ref
		if turn > 2 {
			gone = []cluster.Ref{host(turn-2, 0).Ref()}
		}
		must(t, stores[by].Apply(ctx, base, []cluster.Document{host(turn, turn), host(100, turn)}, gone, nil))
		want, err := (&Store{client: s.client, log: s.log}).Load(ctx)
		must(t, err)
		for i, each := range stores {
			got, err := each.Load(ctx)
			must(t, err)
			if !reflect.DeepEqual(got.Documents(), want.Documents()) || got.Revision() < want.Revision() {
				t.Fatalf("turn %d: store %d has %v at %d, not %v at %d", turn, i, got.Documents(), got.Revision(), want.Documents(), want.Revision())
			}
		}
	}
}

// TestWasApplied: of an apply whose answer did not come it is known whether it is there.
func TestWasApplied(t *testing.T) {
	s, ctx := empty(t), t.Context()
	base, err := s.Load(ctx)
	must(t, err)
	if s.wasApplied(ctx, "") {
		t.Error("nothing was applied")
	}
	docs := []cluster.Document{&cluster.Policy{Meta: cluster.Meta{Name: "a"}}}
	must(t, s.Apply(ctx, base, docs, nil, nil))
	r, err := s.client.Get(ctx, cluster.AppliedKey)
	must(t, err)
	ops, _, err := applyOps(docs, nil) // the same once more
	must(t, err)
	if again := string(ops[len(ops)-1].ValueBytes()); !s.wasApplied(ctx, string(r.Kvs[0].Value)) || s.wasApplied(ctx, again) {
		t.Error("an apply is not told from another")
	}
}

// TestApplyIsOneAct finds documents and their audit at one revision, also when
// etcd no longer has the lease that the day's audit was kept under.
func TestApplyIsOneAct(t *testing.T) {
	s, ctx := empty(t), t.Context()
	doc := func(name string) []cluster.Document {
		return []cluster.Document{&cluster.Policy{Meta: cluster.Meta{Name: name}}}
	}
	entries := []cluster.AuditEntry{{At: time.Now(), Subject: "policy a"}, {At: time.Now(), Subject: "policy b"}}
	base, err := s.Load(ctx)
	must(t, err)
	must(t, s.Apply(ctx, base, doc("a"), nil, entries))
	r, err := s.client.Get(ctx, cluster.AuditFolder, clientv3.WithPrefix())
	must(t, err)
	base, err = s.Load(ctx)
	must(t, err)
	if len(r.Kvs) != 1 || r.Kvs[0].ModRevision != int64(base.Revision()) || r.Kvs[0].Lease == 0 {
		t.Fatalf("%+v at revision %d", r.Kvs, base.Revision())
	}
	_, err = s.client.Revoke(ctx, clientv3.LeaseID(r.Kvs[0].Lease))
	must(t, err)
	must(t, s.Apply(ctx, base, doc("b"), nil, entries[:1]))
	if p, err := s.AuditLog(ctx, cluster.AuditQuery{}); err != nil || len(p.Entries) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestLongAudit reads more than fits one answer.
func TestLongAudit(t *testing.T) {
	s, ctx := empty(t), t.Context()
	start := time.Now()
	for i := 0; i < 2*auditPage+1; i += 100 {
		var ops []clientv3.Op
		for j := range 100 {
			at := start.Add(time.Duration(i+j) * time.Millisecond)
			ops = append(ops, clientv3.OpPut(cluster.AuditFolder+at.UTC().Format("2006-01-02T15:04:05.000000000Z"), `{"actor":"a","ok":true}`))
		}
		_, err := s.client.Txn(ctx).Then(ops...).Commit()
		must(t, err)
	}
	p, err := s.AuditLog(ctx, cluster.AuditQuery{Last: 7})
	if err != nil || len(p.Entries) != 7 || p.Older != 2*auditPage+100-7 {
		t.Errorf("%d entries, %d older, %v", len(p.Entries), p.Older, err)
	}
}

func TestLeaseInOtherWords(t *testing.T) {
	s := empty(t)
	l := cluster.Lease{Network: "lan", Address: loopback, MAC: cluster.MAC{2}, Expires: time.Unix(1e9, 0).UTC()}
	// A later version of the server writes a field that this one does not know.
	_, err := s.client.Put(t.Context(), cluster.LeaseKey("lan", loopback),
		`{"vendor":"x","network":"lan","address":"127.0.0.1","mac":"02:00:00:00:00:00","expires":"2001-09-09T03:46:40+02:00"}`)
	must(t, err)
	next := l
	next.Expires = l.Expires.Add(time.Hour)
	_, err = s.Commit(t.Context(), []cluster.Lease{next}, []cluster.Lease{l})
	must(t, err)
	if _, err := s.Commit(t.Context(), nil, []cluster.Lease{l}); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("an old lease was removed: %v", err)
	}
}

// A host that writes its sign of life without a lease would count as alive for
// ever.
func TestAliveWithoutALease(t *testing.T) {
	s := empty(t)
	_, err := s.client.Put(t.Context(), cluster.AliveKey("web1"), "{}")
	must(t, err)
	alive, err := s.Alive(t.Context(), "web1")
	must(t, err)
	nodes, err := s.Nodes(t.Context())
	must(t, err)
	if alive || len(nodes) != 1 || nodes[0].Alive != nil {
		t.Errorf("alive %t, nodes %+v", alive, nodes)
	}
}

func TestLead(t *testing.T) {
	a, b := empty(t), shared.store(t)
	ctx, stop := context.WithCancel(t.Context())
	leads, ended := make(chan string), make(chan string, 2)
	lead := func(ctx context.Context, s *Store, name string) {
		s.Lead(ctx, name, func(leading context.Context) {
			leads <- name
			<-leading.Done()
		})
		ended <- name
	}
	go lead(ctx, a, "a")
	if got := <-leads; got != "a" {
		t.Fatal(got)
	}
	bctx, stopB := context.WithCancel(t.Context())
	defer stopB()
	go lead(bctx, b, "b")
	select {
	case got := <-leads:
		t.Fatalf("%s leads beside a", got)
	case <-time.After(200 * time.Millisecond):
	}
	stop()
	start := time.Now()
	for _, ch := range []chan string{ended, leads} {
		select {
		case <-ch:
		case <-time.After(4 * time.Second):
			t.Fatal("b does not follow a")
		}
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("b had to wait %v", d)
	}
	stopB()
	<-ended
}

func TestLeadEndsWithoutEtcd(t *testing.T) {
	s := own(t)
	st := s.store(t)
	ctx, cancel := context.WithCancel(t.Context())
	leads, ended := make(chan struct{}), make(chan struct{})
	go func() {
		st.Lead(ctx, "a", func(leading context.Context) { close(leads); <-leading.Done() })
		close(ended)
	}()
	<-leads
	s.member.Close()
	start := time.Now()
	cancel()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("Lead does not end")
	}
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("Lead took %v to end", d)
	}
}

func BenchmarkCommit(b *testing.B) {
	s := empty(b)
	const batch = 100
	n := 0
	for b.Loop() {
		put := make([]cluster.Lease, batch)
		for i := range put {
			n++
			put[i] = cluster.Lease{Network: "lan", Address: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), MAC: cluster.MAC{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}, Expires: time.Unix(1e9, 0)}
		}
		_, err := s.Commit(b.Context(), put, nil)
		must(b, err)
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "leases/s")
}
