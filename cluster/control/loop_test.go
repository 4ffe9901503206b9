package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

var _ Store = (*clustertest.Memory)(nil)

const value = "hunter2-the-value"

// counting is a store that notes who is told what, and fails for some.
type counting struct {
	*clustertest.Memory
	told map[cluster.HostName]int
	fail cluster.HostName
	hook func()
}

var errDown = errors.New("etcd is down")

func (c *counting) Assign(ctx context.Context, n cluster.Node, d cluster.Desired, put map[cluster.Version]json.RawMessage, remove []cluster.Version) error {
	if n.Host == c.fail {
		return errDown
	}
	if c.hook != nil {
		c.hook()
	}
	c.told[n.Host]++
	return c.Memory.Assign(ctx, n, d, put, remove)
}

func (c *counting) ForgetNode(ctx context.Context, h cluster.HostName) error {
	if h == c.fail {
		return errDown
	}
	return c.Memory.ForgetNode(ctx, h)
}

// rig is a loop over a store in memory.
type rig struct {
	*Loop
	t     *testing.T
	store *counting
	keys  map[cluster.HostName]*secret.Identity
	log   bytes.Buffer
}

func identity(t *testing.T) *secret.Identity {
	t.Helper()
	id, err := secret.NewIdentity()
	must(t, err)
	return id
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRig(t *testing.T, docs ...cluster.Document) *rig {
	t.Helper()
	r := &rig{t: t, store: &counting{Memory: new(clustertest.Memory), told: map[cluster.HostName]int{}}, keys: map[cluster.HostName]*secret.Identity{}}
	r.Loop = &Loop{Store: r.store, Identity: identity(t), Logger: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	r.Snapshot = func() *cluster.Snapshot {
		s, err := r.store.Load(t.Context())
		must(t, err)
		return s
	}
	r.apply(docs...)
	t.Cleanup(func() {
		if strings.Contains(r.log.String(), value) {
			t.Error("the value is in the log")
		}
	})
	return r
}

func (r *rig) apply(docs ...cluster.Document) {
	r.t.Helper()
	must(r.t, r.store.Apply(r.t.Context(), r.Snapshot(), docs, nil, nil))
}

// introduce brings a host in with a new key.
func (r *rig) introduce(names ...cluster.HostName) {
	r.t.Helper()
	for _, h := range names {
		r.keys[h] = identity(r.t)
		_, rev, err := r.store.Introduction(r.t.Context(), h)
		if err != nil && !errors.Is(err, cluster.ErrNotFound) {
			r.t.Fatal(err)
		}
		must(r.t, r.store.AllowNode(r.t.Context(), h))
		tok := cluster.Token{Host: h, After: rev}
		must(r.t, r.store.PutToken(r.t.Context(), "hash", tok))
		_, at, err := r.store.Token(r.t.Context(), "hash")
		must(r.t, err)
		must(r.t, r.store.Redeem(r.t.Context(), "hash", tok, at, cluster.Introduction{Host: h, At: time.Now(), KeyHash: string(h), Recipient: r.keys[h].Recipient()}))
	}
}

func (r *rig) put(v cluster.Version, text string) {
	r.t.Helper()
	sealed, err := secret.Seal(secret.NewValue([]byte(text)), v, r.Identity.Recipient())
	must(r.t, err)
	body, err := json.Marshal(sealed)
	must(r.t, err)
	must(r.t, r.store.PutSecretValue(r.t.Context(), v, body))
}

func (r *rig) step() {
	r.t.Helper()
	must(r.t, r.Step(r.t.Context()))
}

// writes says who was told since it was asked last.
func (r *rig) writes() string {
	out := map[cluster.HostName]cluster.Desired{}
	for h := range r.store.told {
		out[h] = cluster.Desired{}
	}
	r.store.told = map[cluster.HostName]int{}
	return told(out)
}

// open opens what is sealed to a host, with the host's key and with another's.
func (r *rig) open(h cluster.HostName, v cluster.Version) string {
	r.t.Helper()
	body, ok := r.store.Sealed(h)[v]
	if !ok {
		return ""
	}
	if bytes.Contains(body, []byte(value)) {
		r.t.Error("the value is in the clear")
	}
	var s secret.Sealed
	must(r.t, json.Unmarshal(body, &s))
	if to := s.Recipients(); len(to) != 1 || to[0] != r.keys[h].Recipient() {
		r.t.Errorf("sealed to %v", to)
	}
	if _, err := s.Open(r.Identity); err == nil {
		r.t.Error("the server can open what is sealed to a host")
	}
	plain, err := s.OpenAs(r.keys[h], v)
	must(r.t, err)
	return string(plain.Reveal())
}

func (r *rig) desired(h cluster.HostName) *cluster.Desired {
	r.t.Helper()
	all, err := r.store.Nodes(r.t.Context())
	must(r.t, err)
	for _, n := range all {
		if n.Host == h {
			return n.Desired
		}
	}
	return nil
}

func secretSite(name string, p cluster.Placement) *cluster.Site {
	return site(name, p, cluster.Service{Name: "web", Image: "ours.org/web" + digest, Secrets: []cluster.SecretMount{{Name: "tls", Target: "tls"}}})
}

func tls(version int) cluster.Version { return cluster.Version{Name: "tls", Version: version} }

func TestStep(t *testing.T) {
	only1 := cluster.Placement{Hosts: []cluster.HostName{"h1"}}
	r := newRig(t, append(hosts("h1", "h2"), secretSite("www", only1), &cluster.Secret{Meta: meta("tls"), Sites: []cluster.SiteName{"www"}})...)
	r.introduce("h1", "h2")
	r.step()
	if got := r.writes(); got != "h1:; h2:" {
		t.Errorf("first told %s", got)
	}
	if d := r.desired("h1"); len(d.Containers) != 1 || len(d.Containers[0].Secrets) != 0 {
		t.Errorf("a secret without a value: %+v", d)
	}
	r.step()
	if got := r.writes(); got != "" {
		t.Errorf("told %s, though nothing differs", got)
	}
	r.put(tls(1), value)
	r.step()
	if got := r.writes(); got != "h1:" || r.open("h1", tls(1)) != value || len(r.store.Sealed("h2")) != 0 {
		t.Errorf("told %s", got)
	}
	r.put(tls(2), value+"2")
	r.step()
	if r.open("h1", tls(2)) != value+"2" || r.open("h1", tls(1)) != "" || r.desired("h1").Containers[0].Secrets[0] != tls(2) {
		t.Error("the new version is not there, or the old one is")
	}
	r.writes()
	r.introduce("h1") // with another key
	r.step()
	if got := r.writes(); got != "h1:" || r.open("h1", tls(2)) != value+"2" {
		t.Errorf("not sealed to the new key; told %s", got)
	}
	r.apply(secretSite("www", cluster.Placement{Hosts: []cluster.HostName{"h2"}}))
	r.step()
	if len(r.store.Sealed("h1")) != 0 || r.open("h2", tls(2)) != value+"2" || len(r.desired("h1").Containers) != 0 {
		t.Error("the secret did not move with its site")
	}
}

// TestStepReintroducedMeanwhile has a host come back with another key between
// the look and the write: nothing stays that is sealed to the old key.
func TestStepReintroducedMeanwhile(t *testing.T) {
	r := newRig(t, append(hosts("h1"), secretSite("www", cluster.Placement{}), &cluster.Secret{Meta: meta("tls")})...)
	r.introduce("h1")
	r.put(tls(1), value)
	r.store.hook = func() { r.store.hook = nil; r.introduce("h1") }
	r.step()
	if got := r.store.Sealed("h1"); len(got) != 0 {
		t.Error("sealed to a key that is gone")
	}
	r.step()
	if r.open("h1", tls(1)) != value {
		t.Error("not sealed to the new key")
	}
}

func TestStepForgets(t *testing.T) {
	r := newRig(t, append(hosts("h1", "h2"), site("www", cluster.Placement{}))...)
	r.introduce("h1", "h2")
	r.step()
	behind := r.Snapshot()
	must(t, r.store.Apply(t.Context(), behind, nil, []cluster.Ref{{Kind: cluster.KindHost, Name: "h1"}}, nil))
	r.step()
	if r.store.Allowed("h1") || !r.store.Allowed("h2") || r.desired("h1") != nil {
		t.Error("h1 is not forgotten, or h2 is")
	}
	// A server that is behind forgets nobody whom the store knows.
	old := r.Loop.Snapshot
	r.apply(hosts("h3")...)
	r.introduce("h3")
	r.Loop.Snapshot = func() *cluster.Snapshot { return behind }
	r.step()
	if !r.store.Allowed("h3") || r.desired("h3") == nil {
		t.Error("a host was forgotten by a server that had not heard of it yet")
	}
	r.Loop.Snapshot = old
}

func TestStepOneFails(t *testing.T) {
	r := newRig(t, append(hosts("h1", "h2", "h3"), site("www", cluster.Placement{}))...)
	r.introduce("h1", "h2", "h3", "h0")
	r.store.fail = "h1"
	err := r.Step(t.Context())
	if !errors.Is(err, errDown) || !strings.Contains(err.Error(), "h1") || r.writes() != "h2:; h3:" || r.store.Allowed("h0") {
		t.Errorf("got %v", err)
	}
	r.store.fail = ""
	r.step()
	if got := r.writes(); got != "h1:" {
		t.Errorf("then told %s", got)
	}
}

func TestStepDamagedSecret(t *testing.T) {
	r := newRig(t, append(hosts("h1", "h2"), secretSite("www", cluster.Placement{Hosts: []cluster.HostName{"h1"}}), site("other", cluster.Placement{Hosts: []cluster.HostName{"h2"}}), &cluster.Secret{Meta: meta("tls")}, &cluster.Secret{Meta: meta("x")})...)
	r.introduce("h1", "h2")
	sealed, err := secret.Seal(secret.NewValue([]byte(value)), cluster.Version{Name: "x", Version: 1}, r.Identity.Recipient())
	must(t, err)
	moved, err := json.Marshal(sealed)
	must(t, err)
	for i, body := range []string{string(moved), `{"name":"tls","version":2}`, `"` + value + `"`, `[]`} {
		must(t, r.store.PutSecretValue(t.Context(), tls(i+1), json.RawMessage(body)))
		err := r.Step(t.Context())
		if err == nil || !strings.Contains(err.Error(), "tls") || strings.Contains(err.Error(), value) {
			t.Errorf("%s: %v", body, err)
		}
		if i == 0 && !errors.Is(err, secret.ErrMoved) {
			t.Errorf("another's value: %v", err)
		}
		if r.desired("h2") == nil {
			t.Error("h2 had to wait for h1")
		}
	}
}

// TestLostByOurClock has a host whose clock is a year ahead fall silent.
func TestLostByOurClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, append(hosts("h1", "h2"), site("www", cluster.Placement{Replicas: 1}))...)
		r.introduce("h1", "h2")
		for _, h := range []cluster.HostName{"h1", "h2"} {
			must(t, r.store.SetAlive(t.Context(), h, &cluster.Alive{}))
			must(t, r.store.SetStatus(t.Context(), h, cluster.Status{At: time.Now().AddDate(1, 0, 0)}))
		}
		on := func() string {
			t.Helper()
			r.step()
			return told(map[cluster.HostName]cluster.Desired{"h1": *r.desired("h1"), "h2": *r.desired("h2")})
		}
		if got := on(); got != "h1: www; h2:" {
			t.Fatal(got)
		}
		time.Sleep(time.Hour)
		must(t, r.store.SetAlive(t.Context(), "h1", nil))
		for _, want := range []string{"h1: www; h2:", "h1: www; h2:", "h1: www; h2:", "h1:; h2: www"} {
			if got := on(); got != want {
				t.Fatalf("at %v: %s, not %s", time.Now(), got, want)
			}
			time.Sleep(25 * time.Second)
		}
		must(t, r.store.SetAlive(t.Context(), "h1", &cluster.Alive{}))
		if got := on(); got != "h1:; h2: www" {
			t.Errorf("it went back: %s", got)
		}
	})
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, append(hosts("h1"), site("www", cluster.Placement{}))...)
		ctx, cancel := context.WithCancel(t.Context())
		changed, done := make(chan struct{}, 1), make(chan struct{})
		go func() { r.Run(ctx, changed); close(done) }()
		synctest.Wait()
		r.introduce("h1")
		changed <- struct{}{}
		synctest.Wait()
		if r.desired("h1") == nil {
			t.Error("not told when something changed")
		}
		r.apply(site("www2", cluster.Placement{}))
		time.Sleep(resync + time.Second)
		synctest.Wait()
		if len(r.desired("h1").Containers) != 2 {
			t.Error("not told in time")
		}
		cancel()
		<-done
	})
}
