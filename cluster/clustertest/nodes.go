package clustertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

var introductionTests = map[string]func(*testing.T, Rig){
	"token":      testToken,
	"redeem":     testRedeem,
	"race":       testRedeemRace,
	"use":        testUseToken,
	"superseded": testSuperseded,
	"renew":      testRenew,
	"key owner":  testKeyOwner,
}

var nodeTests = map[string]func(*testing.T, Rig){
	"folder":        testFolder,
	"alive":         testAlive,
	"assign":        testAssign,
	"assign guards": testAssignGuards,
	"forget":        testForget,
	"names":         testNames,
}

func token(h cluster.HostName, after cluster.Revision) cluster.Token {
	now := time.Now()
	return cluster.Token{Host: h, Address: netip.MustParseAddr("10.0.0.5"), Minted: now, Expires: now.Add(time.Minute), After: after}
}

func introduction(h cluster.HostName, key string) cluster.Introduction {
	return cluster.Introduction{Host: h, At: time.Now().UTC().Round(0), KeyHash: key, Recipient: "age1" + key, Certificate: "PEM " + key}
}

// introduce brings a host in by a token of its own.
func introduce(t *testing.T, r Rig, h cluster.HostName, key string) {
	t.Helper()
	ctx := t.Context()
	_, after, err := r.Introduction(ctx, h)
	if err != nil && !errors.Is(err, cluster.ErrNotFound) {
		t.Fatal(err)
	}
	must(t, r.AllowNode(ctx, h))
	tok := token(h, after)
	must(t, r.PutToken(ctx, "hash "+key, tok))
	_, at, err := r.Token(ctx, "hash "+key)
	must(t, err)
	must(t, r.Redeem(ctx, "hash "+key, tok, at, introduction(h, key)))
}

func node1(t *testing.T, r Rig, h cluster.HostName) cluster.Node {
	t.Helper()
	nodes, err := r.Nodes(t.Context())
	must(t, err)
	for _, n := range nodes {
		if n.Host == h {
			return n
		}
	}
	return cluster.Node{Host: h}
}

func testToken(t *testing.T, r Rig) {
	_, _, err := r.Token(t.Context(), "nothing")
	is(t, err, cluster.ErrNotFound)
	want := token("h1", 7)
	must(t, r.PutToken(t.Context(), "x", want))
	got, at, err := r.Token(t.Context(), "x")
	must(t, err)
	if at == 0 || got.Host != "h1" || got.After != 7 || !got.Expires.Equal(want.Expires) || got.Address != want.Address {
		t.Errorf("got %+v at %d", got, at)
	}
}

func testRedeem(t *testing.T, r Rig) {
	ctx := t.Context()
	_, after, err := r.Introduction(ctx, "h1")
	is(t, err, cluster.ErrNotFound)
	if after != 0 {
		t.Fatalf("revision %d of what is not there", after)
	}
	tok := token("h1", 0)
	must(t, r.PutToken(ctx, "x", tok))
	_, at, err := r.Token(ctx, "x")
	must(t, err)
	used := tok
	used.Used, used.UsedBy = time.Now(), tok.Address
	in := introduction("h1", "k1")
	must(t, r.Redeem(ctx, "x", used, at, in))
	is(t, r.Redeem(ctx, "x", used, at, introduction("h1", "k2")), cluster.ErrConflict)
	got, at2, err := r.Token(ctx, "x")
	must(t, err)
	if got.Used.IsZero() || at2 <= at {
		t.Errorf("token %+v at %d", got, at2)
	}
	is2, rev, err := r.Introduction(ctx, "h1")
	must(t, err)
	if rev == 0 || !reflect.DeepEqual(is2, in) {
		t.Errorf("introduction %+v, not %+v", is2, in)
	}
}

// testUseToken uses a token that introduces nobody, once.
func testUseToken(t *testing.T, r Rig) {
	ctx := t.Context()
	tok := token("h1", 0)
	tok.Installer = true
	must(t, r.PutToken(ctx, "x", tok))
	got, at, err := r.Token(ctx, "x")
	must(t, err)
	if !got.Installer || !got.Used.IsZero() {
		t.Errorf("token %+v", got)
	}
	got.Used, got.UsedBy = time.Now(), tok.Address
	if of, err := r.TokensOf(ctx, got.Host); err != nil || !slices.Equal(of, []string{"x"}) {
		t.Errorf("its host's tokens are %q, %v", of, err)
	}
	if of, err := r.TokensOf(ctx, "another"); err != nil || len(of) != 0 {
		t.Errorf("another's are %q, %v", of, err)
	}
	must(t, r.UseToken(ctx, "x", got, at))
	is(t, r.UseToken(ctx, "x", got, at), cluster.ErrConflict)
	if again, _, err := r.Token(ctx, "x"); err != nil || again.Used.IsZero() || again.UsedBy != tok.Address {
		t.Errorf("token %+v, %v", again, err)
	}
	_, _, err = r.Introduction(ctx, "h1")
	is(t, err, cluster.ErrNotFound)
}

// testRedeemRace has many redeem one token: exactly one wins.
func testRedeemRace(t *testing.T, r Rig) {
	ctx := t.Context()
	tok := token("h1", 0)
	must(t, r.PutToken(ctx, "x", tok))
	_, at, err := r.Token(ctx, "x")
	must(t, err)
	var won atomic.Value
	var wins atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			key := fmt.Sprintf("k%d", i)
			switch err := r.Redeem(ctx, "x", tok, at, introduction("h1", key)); {
			case err == nil:
				wins.Add(1)
				won.Store(key)
			case !errors.Is(err, cluster.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	in, _, err := r.Introduction(ctx, "h1")
	must(t, err)
	if wins.Load() != 1 || in.KeyHash != won.Load() {
		t.Errorf("%d won, %v at last, and the record is of %s", wins.Load(), won.Load(), in.KeyHash)
	}
}

// testSuperseded has one of two tokens of a host end the other.
func testSuperseded(t *testing.T, r Rig) {
	ctx := t.Context()
	for _, hash := range []string{"x", "y"} {
		must(t, r.PutToken(ctx, hash, token("h1", 0)))
	}
	_, atX, err := r.Token(ctx, "x")
	must(t, err)
	_, atY, err := r.Token(ctx, "y")
	must(t, err)
	must(t, r.Redeem(ctx, "x", token("h1", 0), atX, introduction("h1", "k1")))
	is(t, r.Redeem(ctx, "y", token("h1", 0), atY, introduction("h1", "k2")), cluster.ErrConflict)
}

func testRenew(t *testing.T, r Rig) {
	ctx := t.Context()
	is(t, r.Renew(ctx, introduction("h1", "k"), 99), cluster.ErrConflict)
	introduce(t, r, "h1", "k1")
	_, at, err := r.Introduction(ctx, "h1")
	must(t, err)
	must(t, r.Renew(ctx, introduction("h1", "k2"), at))
	is(t, r.Renew(ctx, introduction("h1", "k3"), at), cluster.ErrConflict)
	in, _, err := r.Introduction(ctx, "h1")
	must(t, err)
	if in.KeyHash != "k2" {
		t.Errorf("key %s", in.KeyHash)
	}
	must(t, r.ForgetNode(ctx, "h1"))
	_, _, err = r.Introduction(ctx, "h1")
	is(t, err, cluster.ErrNotFound)
	is(t, r.Renew(ctx, in, at), cluster.ErrConflict)
}

func testKeyOwner(t *testing.T, r Rig) {
	_, err := r.KeyOwner(t.Context(), "k1")
	is(t, err, cluster.ErrNotFound)
	introduce(t, r, "h1", "k1")
	if h, err := r.KeyOwner(t.Context(), "k1"); err != nil || h != "h1" {
		t.Errorf("owner %s, %v", h, err)
	}
}

func testFolder(t *testing.T, r Rig) {
	ctx := t.Context()
	if nodes, err := r.Nodes(ctx); err != nil || len(nodes) != 0 {
		t.Fatalf("%v, %v", nodes, err)
	}
	introduce(t, r, "h2", "k2")
	introduce(t, r, "h1", "k1")
	since := time.Now().UTC().Round(0)
	st := cluster.Status{At: since, Agent: "1.0", Revision: 3, Containers: []cluster.ContainerStatus{{Site: "www", Health: cluster.HealthHealthy}}}
	must(t, r.SetStatus(ctx, "h1", st))
	must(t, r.SetAlive(ctx, "h1", &cluster.Alive{Since: since, Agent: "1.0"}))
	nodes, err := r.Nodes(ctx)
	must(t, err)
	if len(nodes) != 2 || nodes[0].Host != "h1" || nodes[1].Host != "h2" {
		t.Fatalf("nodes %+v", nodes)
	}
	n := nodes[0]
	if n.Introduction == nil || n.Introduction.KeyHash != "k1" || n.IntroducedAt == 0 || n.Alive == nil || !reflect.DeepEqual(*n.Status, st) || n.Desired != nil || n.DesiredAt != 0 {
		t.Errorf("node %+v", n)
	}
	if nodes[1].Alive != nil || nodes[1].Status != nil {
		t.Errorf("node %+v", nodes[1])
	}
}

func testAlive(t *testing.T, r Rig) {
	ctx := t.Context()
	introduce(t, r, "h1", "k1")
	introduce(t, r, "h10", "k10")
	must(t, r.SetAlive(ctx, "h10", &cluster.Alive{}))
	for h, want := range map[cluster.HostName]bool{"h1": false, "h10": true, "h": false} {
		if got, err := r.Alive(ctx, h); err != nil || got != want {
			t.Errorf("%s is alive: %v, %v", h, got, err)
		}
	}
	must(t, r.SetAlive(ctx, "h10", nil))
	if got, err := r.Alive(ctx, "h10"); err != nil || got {
		t.Errorf("alive after its end: %v", err)
	}
}

func desired(site cluster.SiteName, secrets ...cluster.Version) cluster.Desired {
	return cluster.Desired{Containers: []cluster.Container{{Site: site, Service: cluster.Service{Name: "web"}, Secrets: secrets}}}
}

func testAssign(t *testing.T, r Rig) {
	ctx := t.Context()
	introduce(t, r, "h1", "k1")
	a, b := cluster.Version{Name: "a", Version: 1}, cluster.Version{Name: "b.c", Version: 12}
	must(t, r.Assign(ctx, node1(t, r, "h1"), desired("www", a, b), map[cluster.Version]json.RawMessage{a: json.RawMessage(`1`), b: json.RawMessage(`2`)}, nil))
	n := node1(t, r, "h1")
	if n.Desired == nil || !reflect.DeepEqual(*n.Desired, desired("www", a, b)) || n.DesiredAt == 0 {
		t.Fatalf("desired %+v at %d", n.Desired, n.DesiredAt)
	}
	if got := sortedVersions(n.Secrets); !reflect.DeepEqual(got, []cluster.Version{a, b}) {
		t.Errorf("secrets %v", got)
	}
	first := n.DesiredAt
	must(t, r.Assign(ctx, n, desired("other", a), nil, []cluster.Version{b}))
	n = node1(t, r, "h1")
	if n.Desired.Containers[0].Site != "other" || n.DesiredAt <= first || len(n.Secrets) != 1 || n.Secrets[0] != a {
		t.Errorf("node %+v", n)
	}
}

// testAssignGuards has what a decision was made from change before it is
// written: it is not.
func testAssignGuards(t *testing.T, r Rig) {
	ctx := t.Context()
	v := cluster.Version{Name: "a", Version: 1}
	sealed := map[cluster.Version]json.RawMessage{v: json.RawMessage(`1`)}
	introduce(t, r, "h1", "k1")
	before := node1(t, r, "h1")
	must(t, r.Assign(ctx, before, desired("www", v), sealed, nil))
	is(t, r.Assign(ctx, before, desired("late"), nil, nil), cluster.ErrConflict)

	before = node1(t, r, "h1")
	introduce(t, r, "h1", "k2") // with another key: what was sealed to the first is gone
	if n := node1(t, r, "h1"); len(n.Secrets) != 0 || n.Desired == nil {
		t.Errorf("node %+v after an introduction", n)
	}
	is(t, r.Assign(ctx, before, desired("www", v), sealed, nil), cluster.ErrConflict)
	if n := node1(t, r, "h1"); len(n.Secrets) != 0 {
		t.Errorf("secrets %v are sealed to a key that is gone", n.Secrets)
	}

	before = node1(t, r, "h1")
	must(t, r.ForgetNode(ctx, "h1"))
	is(t, r.Assign(ctx, before, desired("www"), nil, nil), cluster.ErrConflict)
	if nodes, err := r.Nodes(ctx); err != nil || len(nodes) != 0 {
		t.Errorf("%v, %v", nodes, err)
	}
}

func testForget(t *testing.T, r Rig) {
	ctx := t.Context()
	must(t, r.ForgetNode(ctx, "nobody"))
	introduce(t, r, "h1", "k1")
	introduce(t, r, "h10", "k10")
	for _, h := range []cluster.HostName{"h1", "h10"} {
		must(t, r.SetStatus(ctx, h, cluster.Status{Agent: "1"}))
		must(t, r.Assign(ctx, node1(t, r, h), desired("www"), nil, nil))
	}
	must(t, r.ForgetNode(ctx, "h1"))
	must(t, r.ForgetNode(ctx, "h1"))
	nodes, err := r.Nodes(ctx)
	must(t, err)
	if len(nodes) != 1 || nodes[0].Host != "h10" || nodes[0].Desired == nil || nodes[0].Introduction == nil {
		t.Errorf("nodes %+v", nodes)
	}
	if err := r.SetStatus(ctx, "h1", cluster.Status{}); err == nil {
		t.Error("a forgotten host wrote")
	}
	must(t, r.SetStatus(ctx, "h10", cluster.Status{Agent: "2"}))
	introduce(t, r, "h1", "k2") // it may come back
	must(t, r.SetStatus(ctx, "h1", cluster.Status{Agent: "3"}))
	if n := node1(t, r, "h1"); n.Desired != nil || n.Status == nil {
		t.Errorf("node %+v", n)
	}
}

func testNames(t *testing.T, r Rig) {
	for _, name := range []cluster.HostName{"", "h1/secrets", "/"} {
		if err := r.AllowNode(t.Context(), name); err == nil {
			t.Errorf("%q was let in", name)
		}
	}
}
