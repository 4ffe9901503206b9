package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

func TestGatewayIsOff(t *testing.T) {
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: shared.tls(t, RootUser)}}
	for _, path := range []string{"/v3/kv/range", "/v3/auth/user/list", "/v3/maintenance/status"} {
		res, err := c.Post(shared.endpoint()+path, "application/json", strings.NewReader(`{"key":"AA=="}`))
		if err == nil { // only gRPC is spoken there
			body, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			t.Errorf("%s: %s %s", path, res.Status, body)
		}
	}
}

func TestStrangersAreRefused(t *testing.T) {
	other, err := newSite(t.TempDir())
	must(t, err)
	foreign := other.tls(t, RootUser)
	foreign.RootCAs = shared.ca.Pool()
	for name, config := range map[string]*tls.Config{
		"no certificate": {RootCAs: shared.ca.Pool()}, "another authority's": foreign,
	} {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{shared.endpoint()}, TLS: config})
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := c.Get(ctx, cluster.AppliedKey); err == nil {
			t.Errorf("%s: was let in", name)
		}
		cancel()
		_ = c.Close()
		conn, err := tls.Dial("tcp", shared.config.Client.String(), config)
		if err == nil { // TLS 1.3: refused at the first read
			_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		var tlsErr tls.AlertError
		if opErr := new(net.OpError); !errors.As(err, &tlsErr) && !errors.As(err, &opErr) || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := shared.tls(t, RootUser)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, err := tls.Dial("tcp", shared.config.Client.String(), old); err == nil {
		t.Error("TLS 1.2 was spoken")
	}
}

// TestPeersAreServersOnly shows that a host's certificate, which is of the same
// authority, does not make it a member.
func TestPeersAreServersOnly(t *testing.T) {
	ask := func(config *tls.Config) error {
		c := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{TLSClientConfig: config}}
		res, err := c.Get("https://" + shared.config.Peer.String() + "/members")
		if err == nil {
			_ = res.Body.Close()
		}
		return err
	}
	if err := ask(shared.tls(t, "node:n1")); err == nil {
		t.Error("a host spoke to a member as a peer")
	}
	for _, name := range []string{"server:test", RootUser, "admin"} {
		if err := ask(shared.tls(t, name)); err == nil {
			t.Errorf("%s spoke to a member as a peer", name)
		}
	}
	server := shared.tls(t, RootUser)
	cert, err := tls.LoadX509KeyPair(shared.config.PeerTLS.Cert, shared.config.PeerTLS.Key)
	must(t, err)
	server.Certificates = []tls.Certificate{cert}
	if err := ask(server); err != nil {
		t.Errorf("a server: %v", err)
	}
}

func refused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "permission denied") // not every call of the client translates it
}

// TestHostsSeeTheirOwnOnly asks with a host's certificate for all that is not
// the host's.
func TestHostsSeeTheirOwnOnly(t *testing.T) {
	s, ctx := empty(t), t.Context()
	for _, h := range []cluster.HostName{"n1", "n10", "n2"} {
		must(t, s.AllowNode(ctx, h))
		must(t, s.AllowNode(ctx, h)) // again changes nothing
		_, err := s.client.Put(ctx, cluster.DesiredKey(h), "{}")
		must(t, err)
	}
	c := shared.as(t, "node:n1")
	reads := map[string]bool{
		cluster.DesiredKey("n1"): true, cluster.NodeFolder("n1"): true,
		cluster.NodeSecretKey("n1", cluster.Version{Name: "a", Version: 1}): true,
		cluster.DesiredKey("n10"): false, cluster.DesiredKey("n2"): false, cluster.NodesFolder: false, cluster.NodesFolder + "n1": false,
		cluster.Folder(cluster.KindSecret): false, cluster.TokensFolder: false, cluster.IntroductionKey("n1"): false,
		cluster.AppliedKey: false, cluster.AuditFolder: false, cluster.LeasesFolder: false, "": false,
	}
	for key, allowed := range reads {
		opts := []clientv3.OpOption{clientv3.WithPrefix()}
		if !strings.HasSuffix(key, "/") && key != "" {
			opts = nil
		}
		if _, err := c.Get(ctx, key, opts...); allowed && err != nil || !allowed && !refused(err) {
			t.Errorf("read %q: %v", key, err)
		}
		watch, cancel := context.WithTimeout(ctx, 5*time.Second)
		r, open := <-c.Watch(watch, key, append(opts, clientv3.WithCreatedNotify())...)
		if denied := !open || r.Err() != nil; denied == allowed {
			t.Errorf("watch %q: %v", key, r.Err())
		}
		cancel()
	}
	for key, allowed := range map[string]bool{
		cluster.StatusKey("n1"): true, cluster.AliveKey("n1"): true,
		cluster.DesiredKey("n1"): false, cluster.NodeFolder("n1") + "other": false, cluster.StatusKey("n1") + "/x": false,
		cluster.NodeSecretKey("n1", cluster.Version{Name: "a", Version: 1}): false,
		cluster.StatusKey("n10"): false, cluster.StatusKey("n2"): false, cluster.AppliedKey: false, cluster.IntroductionKey("n1"): false,
		cluster.SecretValueKey(cluster.Version{Name: "a", Version: 1}): false, "x": false,
	} {
		if _, err := c.Put(ctx, key, "{}"); allowed && err != nil || !allowed && !refused(err) {
			t.Errorf("write %q: %v", key, err)
		}
		_, err := c.Txn(ctx).Then(clientv3.OpPut(cluster.StatusKey("n1"), "{}"), clientv3.OpPut(key+"", "{}")).Commit()
		if !allowed && !refused(err) {
			t.Errorf("write %q in a transaction: %v", key, err)
		}
		if _, err := c.Delete(ctx, key); allowed && err != nil || !allowed && !refused(err) {
			t.Errorf("delete %q: %v", key, err)
		}
	}
	if _, err := c.Delete(ctx, cluster.NodeFolder("n1"), clientv3.WithPrefix()); !refused(err) {
		t.Errorf("delete its folder: %v", err)
	}
}

// TestHostsMakeHostCallsOnly tries etcd's other calls, which roles do not guard
// in every version.
func TestHostsMakeHostCallsOnly(t *testing.T) {
	s, ctx := empty(t), t.Context()
	must(t, s.AllowNode(ctx, "n1"))
	theirs, err := s.client.Grant(ctx, 60)
	must(t, err)
	_, err = s.client.Put(ctx, cluster.AliveKey("n2"), "{}", clientv3.WithLease(theirs.ID))
	must(t, err)
	c := shared.as(t, "node:n1")
	for name, call := range map[string]func() error{
		"user list":    func() error { _, err := c.UserList(ctx); return err },
		"user add":     func() error { _, err := c.UserAdd(ctx, "x", "y"); return err },
		"role grant":   func() error { _, err := c.RoleGrantPermission(ctx, "node:n1", "a", "b", 0); return err },
		"grant role":   func() error { _, err := c.UserGrantRole(ctx, "node:n1", "root"); return err },
		"auth disable": func() error { _, err := c.AuthDisable(ctx); return err },
		"compact":      func() error { _, err := c.Compact(ctx, 1); return err },
		"members":      func() error { _, err := c.MemberList(ctx); return err },
		"member add":   func() error { _, err := c.MemberAdd(ctx, []string{"https://127.0.0.1:1"}); return err },
		"leases":       func() error { _, err := c.Leases(ctx); return err },
		"lease ttl":    func() error { _, err := c.TimeToLive(ctx, theirs.ID, clientv3.WithAttachedKeys()); return err },
		"lease revoke": func() error { _, err := c.Revoke(ctx, theirs.ID); return err },
		"status":       func() error { _, err := c.Status(ctx, shared.endpoint()); return err },
		"defragment":   func() error { _, err := c.Defragment(ctx, shared.endpoint()); return err },
		"snapshot": func() error {
			r, err := c.Snapshot(ctx)
			if err == nil {
				_, err = io.ReadAll(r)
			}
			return err
		},
		"alarm": func() error {
			_, err := pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE})
			return err
		},
	} {
		if err := call(); !refused(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"node:nobody", "admin", "server:test"} { // of the authority, and no user
		if _, err := shared.as(t, name).Get(ctx, cluster.NodeFolder("n1"), clientv3.WithPrefix()); err == nil {
			t.Errorf("%s was let in", name)
		}
	}
}

func TestForgottenHostIsRefusedAtOnce(t *testing.T) {
	s, ctx := empty(t), t.Context()
	must(t, s.AllowNode(ctx, "n1"))
	c := shared.as(t, "node:n1")
	_, err := c.Put(ctx, cluster.StatusKey("n1"), "{}")
	must(t, err)
	must(t, s.ForgetNode(ctx, "n1"))
	if _, err := c.Put(ctx, cluster.StatusKey("n1"), "{}"); err == nil {
		t.Error("wrote")
	}
	if _, err := c.Get(ctx, cluster.DesiredKey("n1")); err == nil {
		t.Error("read")
	}
	if r, open := <-c.Watch(ctx, cluster.NodeFolder("n1"), clientv3.WithPrefix(), clientv3.WithCreatedNotify()); open && r.Err() == nil {
		t.Error("watches")
	}
}

func TestRestart(t *testing.T) {
	s := own(t)
	st := s.outside(t)
	apply(t, st, "a")
	must(t, st.AllowNode(t.Context(), "n1"))
	s.member.Close()
	must(t, s.start())
	found(t, st, "a") // by the connection that there was
	apply(t, st, "b")
	if _, err := s.as(t, "node:n1").Put(t.Context(), cluster.StatusKey("n1"), "{}"); err != nil {
		t.Error(err)
	}
	if _, err := s.as(t, "node:n1").Get(t.Context(), cluster.AppliedKey); !refused(err) {
		t.Errorf("access control is off: %v", err)
	}
}

func apply(t *testing.T, s *Store, name string) {
	t.Helper()
	base, err := s.Load(t.Context())
	must(t, err)
	must(t, s.Apply(t.Context(), base, []cluster.Document{&cluster.Policy{Meta: cluster.Meta{Name: name}}}, nil, nil))
}

func found(t *testing.T, s *Store, name string) {
	t.Helper()
	snap, err := s.Load(t.Context())
	must(t, err)
	if _, ok := snap.Get(cluster.Ref{Kind: cluster.KindPolicy, Name: name}); !ok {
		t.Errorf("policy %s is gone", name)
	}
}

// TestCloseIsFast has a client hold watches and a lease: etcd by itself waits
// five seconds for it to let go.
func TestCloseIsFast(t *testing.T) {
	s := own(t)
	st := s.store(t)
	must(t, st.AllowNode(t.Context(), "n1"))
	for _, c := range []*clientv3.Client{s.as(t, "node:n1"), s.as(t, RootUser)} {
		<-c.Watch(t.Context(), cluster.NodeFolder("n1"), clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		l, err := c.Grant(t.Context(), 10)
		must(t, err)
		alive, err := c.KeepAlive(t.Context(), l.ID)
		must(t, err)
		<-alive
	}
	start := time.Now()
	s.member.Close()
	d := time.Since(start)
	t.Logf("closed in %v", d)
	if d > 1500*time.Millisecond {
		t.Errorf("took %v", d)
	}
}

func TestBusyPort(t *testing.T) {
	s, err := newSite(t.TempDir())
	must(t, err)
	s.config.Client = shared.config.Client
	start := time.Now()
	err = s.start()
	if err == nil || !strings.Contains(err.Error(), "is in use") || !strings.Contains(err.Error(), s.config.Client.String()) {
		t.Errorf("busy port: %v", err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("took %v to say so", d)
	}
	s.config.Client, s.config.Peer = s.config.Peer, shared.config.Peer
	if err := s.start(); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("busy peer port: %v", err)
	}
	s.config.TLS.Cert = filepath.Join(s.dir, "none")
	if err := s.start(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("no certificate: %v", err)
	}
}

const victimEnv = "PILOTLIGHT_TEST_VICTIM"

// victim runs a member in a process of its own, until it is killed.
func victim(dir string) int {
	s, err := newSite(dir)
	if err == nil {
		err = s.start()
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		return 1
	}
	_, _ = os.Stdout.WriteString(s.config.Client.String() + " " + s.config.Peer.String() + "\n")
	select {}
}

func TestKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	s, err := newSite(dir)
	must(t, err)
	client, peer, _ := strings.Cut(strings.TrimSpace(string(line[:n])), " ")
	must(t, s.config.Client.UnmarshalText([]byte(client)))
	must(t, s.config.Peer.UnmarshalText([]byte(peer)))
	st := s.store(t)
	apply(t, st, "a")
	l := cluster.Lease{Network: "lan", Address: loopback, MAC: cluster.MAC{2}, Expires: time.Now()}
	_, err = st.Commit(t.Context(), []cluster.Lease{l}, nil)
	must(t, err)
	must(t, cmd.Process.Kill()) // as soon as Commit has returned
	_ = cmd.Wait()
	must(t, s.start())
	defer s.member.Close()
	found(t, st, "a")
	if all, _, err := st.Leases(t.Context()); err != nil || len(all) != 1 || !all[0].Equal(l) {
		t.Errorf("leases %v, %v", all, err)
	}
}

// TestWatchOutlivesARestart has the member go and come back: what was applied
// before, and what is applied after, arrives.
func TestWatchOutlivesARestart(t *testing.T) {
	s := own(t)
	st := s.outside(t)
	apply(t, st, "a")
	base, err := st.Load(t.Context())
	must(t, err)
	ch := make(chan *cluster.Snapshot)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- st.Watch(ctx, base, ch) }()
	s.member.Close()
	must(t, s.start())
	apply(t, st, "b")
	for n := 0; n < 2; {
		select {
		case snap := <-ch:
			n = len(snap.Documents())
		case <-time.After(10 * time.Second):
			t.Fatal("the watch does not come back")
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
