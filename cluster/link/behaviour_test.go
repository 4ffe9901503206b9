package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
)

// node is what a leader decides from.
func (h *house) node(t *testing.T, name cluster.HostName) cluster.Node {
	t.Helper()
	nodes, err := h.store.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Host == name {
			return n
		}
	}
	return cluster.Node{Host: name}
}

func TestToldWhatToRun(t *testing.T) {
	h := newHouse(t)
	v1, v2 := cluster.Version{Name: "key", Version: 1}, cluster.Version{Name: "key", Version: 2}
	l := h.host("web1")
	told, _ := h.run(l)
	if s := h.next(told); s.Desired != nil || s.Problem != "" || len(s.Secrets) != 0 {
		t.Errorf("before anything was decided: %+v", s)
	}
	assign := func(d cluster.Desired, put map[cluster.Version]json.RawMessage, remove ...cluster.Version) {
		t.Helper()
		if err := h.store.Assign(t.Context(), h.node(t, "web1"), d, put, remove); err != nil {
			t.Fatal(err)
		}
	}
	assign(desired("one"), map[cluster.Version]json.RawMessage{v1: sealed(t, v1)})
	first := h.next(told) // one transaction, one State
	if first.Desired == nil || first.Desired.Containers[0].Service.Image != "one" || first.Secrets[v1] == nil || first.Revision == 0 {
		t.Errorf("%+v", first)
	}
	assign(desired("two"), map[cluster.Version]json.RawMessage{v2: sealed(t, v2)}, v1)
	second := h.next(told)
	if second.Desired.Containers[0].Service.Image != "two" || second.Secrets[v1] != nil || second.Secrets[v2] == nil || second.Revision <= first.Revision {
		t.Errorf("%+v", second)
	}
	if first.Secrets[v1] == nil || first.Secrets[v2] != nil {
		t.Error("a State was changed after it was told")
	}

	h.put(cluster.DesiredKey("web1"), "{not json")
	if s := h.next(told); s.Desired.Containers[0].Service.Image != "two" || !strings.Contains(s.Problem, "what runs stays") {
		t.Errorf("of rubbish: %+v", s)
	}
	h.put(cluster.NodeSecretKey("web1", v1), string(sealed(t, v2)))
	if s := h.next(told); s.Secrets[v1] != nil || s.Problem == "" {
		t.Errorf("of a secret in another's place: %+v", s)
	}
	assign(cluster.Desired{}, nil, v1)
	if s := h.next(told); s.Desired == nil || len(s.Desired.Containers) != 0 || s.Problem != "" {
		t.Errorf("of an empty desire: %+v", s)
	}
	if _, err := h.root.Delete(t.Context(), cluster.NodeFolder("web1"), clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	if s := h.next(told); s.Desired != nil || len(s.Secrets) != 0 {
		t.Errorf("of nothing: %+v", s)
	}
	select {
	case s := <-told:
		t.Errorf("told of what is its own: %+v", s)
	case <-time.After(100 * time.Millisecond):
	}
}

func TestAliveAndStatus(t *testing.T) {
	h := newHouse(t)
	l := h.host("web1")
	_, stop := h.run(l)
	h.until("alive", func() bool { return h.alive("web1") })
	time.Sleep(3 * time.Second) // longer than the lease
	if !h.alive("web1") {
		t.Error("the lease is not kept")
	}
	if err := l.PutStatus(t.Context(), cluster.Status{Agent: "a", Message: "m"}); err != nil {
		t.Fatal(err)
	}
	got, err := h.root.Get(t.Context(), cluster.StatusKey("web1"))
	if err != nil || got.Count != 1 || !strings.Contains(string(got.Kvs[0].Value), `"message":"m"`) {
		t.Errorf("%v %v", got, err)
	}

	t.Log("deleted by hand, it comes back")
	must(h.root.Delete(t.Context(), cluster.AliveKey("web1")))(t)
	h.until("alive again", func() bool { return h.alive("web1") })

	t.Log("a lease that is lost is made anew")
	kv := must(h.root.Get(t.Context(), cluster.AliveKey("web1")))(t).Kvs[0]
	must(h.root.Revoke(t.Context(), clientv3.LeaseID(kv.Lease)))(t)
	h.until("alive under another lease", func() bool {
		now, err := h.root.Get(t.Context(), cluster.AliveKey("web1"))
		return err == nil && now.Count == 1 && now.Kvs[0].Lease != kv.Lease
	})

	t.Log("another agent of the host takes over: no moment without")
	next := h.host("web1")
	gone := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	watch := h.root.Watch(ctx, cluster.AliveKey("web1"), clientv3.WithFilterPut())
	var watching sync.WaitGroup
	watching.Go(func() {
		for r := range watch {
			if len(r.Events) > 0 {
				close(gone)
				return
			}
		}
	})
	stop(agent.ErrRedial)
	_, stop = h.run(next)
	select {
	case <-gone:
		t.Error("the host was dead for a moment")
	case <-time.After(4 * time.Second):
	}
	cancel()
	watching.Wait()

	t.Log("an orderly end is known at once")
	stop(nil)
	if h.alive("web1") {
		t.Error("still alive")
	}
}

func TestComesBackWhenEtcdDoes(t *testing.T) {
	h := newHouse(t)
	l := h.host("web1")
	told, _ := h.run(l)
	h.next(told)
	h.until("alive", func() bool { return h.alive("web1") })
	h.member.Close()
	time.Sleep(time.Second)
	if err := l.PutStatus(shortly(t), cluster.Status{}); err == nil {
		t.Error("status was put into nothing")
	}
	h.start()
	h.until("alive again", func() bool { return h.alive("web1") })
	if err := h.store.Assign(t.Context(), h.node(t, "web1"), desired("one"), nil, nil); err != nil {
		t.Fatal(err)
	}
	h.until("told what was decided meanwhile", func() bool {
		s := h.next(told)
		return s.Desired != nil
	})
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAfterCompaction(t *testing.T) {
	h := newHouse(t)
	l := h.host("web1")
	// What a watch finds that was away for long: its revision is gone.
	err := l.follow(t.Context(), func(agent.State) {
		for n := range 5 {
			h.put(cluster.DesiredKey("web1"), fmt.Sprintf(`{"containers":[{"site":"s%d"}]}`, n))
		}
		now := must(h.root.Get(t.Context(), "x"))(t).Header.Revision
		must(h.root.Compact(t.Context(), now))(t)
	})
	if !errors.Is(err, rpctypes.ErrCompacted) {
		t.Fatalf("ended with %v", err)
	}
	told, _ := h.run(l)
	if s := h.next(told); s.Desired == nil || s.Desired.Containers[0].Site != "s4" {
		t.Errorf("listed again: %+v", s)
	}
}

func TestASilentWatchIsHealthyIfItAnswers(t *testing.T) {
	h := newHouse(t)
	var log bytes.Buffer
	l := h.host("web1", func(c *Config) {
		c.Silence = time.Second
		c.TTL = time.Minute
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	told, stop := h.run(l)
	h.next(told)
	select {
	case s := <-told:
		t.Errorf("begun anew, although etcd answers: %+v", s)
	case <-time.After(4 * time.Second):
	}
	stop(nil)
	if strings.Contains(log.String(), errSilence.Error()) {
		t.Error(log.String())
	}
}

func TestSeesItsOwnOnly(t *testing.T) {
	h := newHouse(t)
	h.put(cluster.DesiredKey("db1"), "{}")
	l := h.host("web1")
	defer l.client.Close()
	for _, key := range []string{cluster.DesiredKey("db1"), cluster.NodesFolder, cluster.Folder(cluster.KindSecret), cluster.StatusKey("web10")} {
		if _, err := l.client.Get(t.Context(), key, clientv3.WithPrefix()); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("get %s: %v", key, err)
		}
		if _, err := l.client.Put(t.Context(), key, "x"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("put %s: %v", key, err)
		}
	}
}

func TestRevoked(t *testing.T) {
	h := newHouse(t)
	l := h.host("web1")
	if err := h.store.ForgetNode(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	defer l.client.Close()
	err := l.PutStatus(t.Context(), cluster.Status{})
	if err == nil || !strings.Contains(err.Error(), "node:web1") || !strings.Contains(err.Error(), "boot it again") {
		t.Errorf("%v", err)
	}
}

// Each host that joins changes etcd's users, and every call that is under way
// at that moment is refused.
func TestManyJoinAtOnce(t *testing.T) {
	h := newHouse(t)
	l := h.host("web1")
	_, stop := h.run(l)
	h.until("alive", func() bool { return h.alive("web1") })
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		for n := range 40 {
			if err := h.store.AllowNode(t.Context(), cluster.HostName(fmt.Sprintf("h%d", n))); err != nil {
				t.Error(err)
			}
		}
	}()
	puts := 0
	for done := false; !done; puts++ {
		select {
		case <-joined:
			done = true
		default:
		}
		if err := l.PutStatus(t.Context(), cluster.Status{Message: fmt.Sprint(puts)}); err != nil {
			t.Errorf("status %d: %v", puts, err)
		}
	}
	t.Logf("%d statuses beside 40 joins", puts)
	if !h.alive("web1") {
		t.Error("not alive any more")
	}
	stop(nil)
}

func TestDialNeedsAnAddress(t *testing.T) {
	if _, err := Dial(Config{Host: "web1"}); err == nil || !strings.Contains(err.Error(), "agent.json") {
		t.Errorf("%v", err)
	}
}
