package clustertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// patience is how long the suite waits for what must happen.
const patience = 10 * time.Second

var documentTests = map[string]func(*testing.T, Rig){
	"empty":             testEmpty,
	"round trip":        testRoundTrip,
	"stale base":        testStaleBase,
	"concurrent":        testConcurrentApply,
	"all or nothing":    testAllOrNothing,
	"watch":             testWatch,
	"watch compacted":   testWatchCompacted,
	"watch ends":        testWatchEnds,
	"secrets go along":  testSecretsGoAlong,
	"no secret, no put": testPutSecretValue,
	"seed":              testSeed,
	"notify":            testNotify,
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, not %v", err, want)
	}
}

func host(i int) *cluster.Host {
	return &cluster.Host{
		Meta:      cluster.Meta{Name: fmt.Sprintf("h%03d", i), Labels: map[string]string{"n": fmt.Sprint(i)}},
		MACs:      []cluster.MAC{{0x52, 0x54, 0, 0, byte(i >> 8), byte(i)}},
		Variables: map[string]any{"list": []any{"a", 1.5, nil}},
	}
}

func secretDocument(name string) *cluster.Secret {
	return &cluster.Secret{Meta: cluster.Meta{Name: name}, Sites: []cluster.SiteName{"www"}}
}

func load(t *testing.T, s Store) *cluster.Snapshot {
	t.Helper()
	snap, err := s.Load(t.Context())
	must(t, err)
	return snap
}

func apply(t *testing.T, s Store, docs ...cluster.Document) {
	t.Helper()
	must(t, s.Apply(t.Context(), load(t, s), docs, nil, nil))
}

// text is what a snapshot holds, to be compared.
func text(t *testing.T, s *cluster.Snapshot) string {
	t.Helper()
	var out string
	for _, d := range s.Documents() {
		body, err := cluster.MarshalDocument(d)
		must(t, err)
		out += string(body) + "\n"
	}
	return out
}

func testEmpty(t *testing.T, r Rig) {
	if got := text(t, load(t, r)); got != "" {
		t.Errorf("an empty store holds %s", got)
	}
	// The base of somebody who never loaded will do for the first apply only.
	must(t, r.Apply(t.Context(), cluster.NewSnapshot(0, nil), []cluster.Document{host(1)}, nil, nil))
	is(t, r.Apply(t.Context(), cluster.NewSnapshot(0, nil), []cluster.Document{host(2)}, nil, nil), cluster.ErrConflict)
}

func testRoundTrip(t *testing.T, r Rig) {
	docs := []cluster.Document{
		&cluster.Network{Meta: cluster.Meta{Name: "lan"}, CIDR: netip.MustParsePrefix("10.0.0.0/24"), Lease: cluster.Duration(time.Hour)},
		&cluster.Policy{Meta: cluster.Meta{Name: "all"}, Registries: []string{"docker.io"}},
		&cluster.Site{Meta: cluster.Meta{Name: "www"}, Services: []cluster.Service{{Name: "web", Image: "docker.io/a@sha256:0"}}},
		host(1), host(2), secretDocument("tls"),
	}
	apply(t, r, docs...)
	want := text(t, cluster.NewSnapshot(0, docs))
	if got := text(t, load(t, r)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	must(t, r.Apply(t.Context(), load(t, r), []cluster.Document{host(3)}, []cluster.Ref{host(1).Ref(), {Kind: cluster.KindSite, Name: "www"}}, nil))
	want = text(t, cluster.NewSnapshot(0, []cluster.Document{docs[0], docs[1], host(2), host(3), docs[5]}))
	if got := text(t, load(t, r)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func testStaleBase(t *testing.T, r Rig) {
	base := load(t, r)
	must(t, r.Apply(t.Context(), base, []cluster.Document{host(1)}, nil, nil))
	is(t, r.Apply(t.Context(), base, []cluster.Document{host(2)}, nil, nil), cluster.ErrConflict)
	is(t, r.Apply(t.Context(), base, nil, []cluster.Ref{host(1).Ref()}, nil), cluster.ErrConflict)
	base = load(t, r)
	// What is not a document does not make a base old.
	must(t, r.Audit(t.Context(), cluster.AuditEntry{At: time.Now(), Actor: "a"}))
	must(t, r.Apply(t.Context(), base, []cluster.Document{host(2)}, nil, nil))
}

// testConcurrentApply has many raise one number: none of their steps is lost.
func testConcurrentApply(t *testing.T, r Rig) {
	const writers, steps = 4, 5
	apply(t, r, host(0))
	raise := func() error {
		for {
			base, err := r.Load(t.Context())
			if err != nil {
				return err
			}
			h, _ := base.Host("h000")
			next := *h
			n, _ := h.Variables["n"].(float64)
			next.Variables = map[string]any{"n": n + 1}
			if err = r.Apply(t.Context(), base, []cluster.Document{&next}, nil, nil); !errors.Is(err, cluster.ErrConflict) {
				return err
			}
		}
	}
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range steps {
				if err := raise(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if h, _ := load(t, r).Host("h000"); h.Variables["n"] != float64(writers*steps) {
		t.Errorf("%v of %d steps arrived", h.Variables["n"], writers*steps)
	}
}

// generation is one apply of many hosts that all say the same number; every
// second one leaves half of them out.
func generation(n int) (put []cluster.Document, remove []cluster.Ref) {
	for i := range 20 {
		h := host(i)
		h.Serial = fmt.Sprint(n)
		if n%2 == 1 && i >= 10 {
			remove = append(remove, h.Ref())
			continue
		}
		put = append(put, h)
	}
	return put, remove
}

// whole says what is wrong with a snapshot that is not one generation.
func whole(s *cluster.Snapshot) (generation string, err error) {
	docs := s.Documents(cluster.KindHost)
	for _, d := range docs {
		h := d.(*cluster.Host)
		if generation == "" {
			generation = h.Serial
		}
		if h.Serial != generation {
			return "", fmt.Errorf("snapshot %d holds hosts of generation %s and of %s", s.Revision(), generation, h.Serial)
		}
	}
	want := 20
	if generation != "" && (generation[len(generation)-1]-'0')%2 == 1 {
		want = 10
	}
	if len(docs) != want {
		return "", fmt.Errorf("snapshot %d holds %d hosts of generation %s, not %d", s.Revision(), len(docs), generation, want)
	}
	return generation, nil
}

func testAllOrNothing(t *testing.T, r Rig) {
	const generations = 30
	put, _ := generation(0)
	apply(t, r, put...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; n < generations; n++ {
			put, remove := generation(n)
			base, err := r.Load(t.Context())
			if err == nil {
				err = r.Apply(t.Context(), base, put, remove, nil)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if _, err := whole(load(t, r)); err != nil {
			t.Fatal(err)
		}
	}
}

// follower reads what Watch sends.
type follower struct {
	t      *testing.T
	ch     chan *cluster.Snapshot
	cancel context.CancelFunc
	ended  chan error
}

func follow(t *testing.T, s Store, base *cluster.Snapshot) *follower {
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{t, make(chan *cluster.Snapshot), cancel, make(chan error, 1)}
	go func() { f.ended <- s.Watch(ctx, base, f.ch) }()
	t.Cleanup(cancel)
	return f
}

func (f *follower) next() *cluster.Snapshot {
	f.t.Helper()
	select {
	case s := <-f.ch:
		return s
	case err := <-f.ended:
		f.t.Fatalf("watch ended: %v", err)
	case <-time.After(patience):
		f.t.Fatal("watch sends nothing")
	}
	return nil
}

func testWatch(t *testing.T, r Rig) {
	const generations = 12
	put, _ := generation(0)
	apply(t, r, put...)
	base := load(t, r)
	f := follow(t, r, base)
	go func() {
		for n := 1; n < generations; n++ {
			put, remove := generation(n)
			base, err := r.Load(t.Context())
			if err == nil {
				err = r.Apply(t.Context(), base, put, remove, nil)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}()
	last := base.Revision()
	for n := 1; n < generations; n++ {
		s := f.next()
		got, err := whole(s)
		must(t, err)
		if got != fmt.Sprint(n) {
			t.Fatalf("snapshot %d is of generation %s, not %d", s.Revision(), got, n)
		}
		if s.Revision() <= last {
			t.Fatalf("revision %d after %d", s.Revision(), last)
		}
		last = s.Revision()
	}
	// What Watch sent is a base to apply on.
	must(t, r.Apply(t.Context(), cluster.NewSnapshot(last, nil), []cluster.Document{host(0)}, nil, nil))
}

func testWatchCompacted(t *testing.T, r Rig) {
	apply(t, r, host(1))
	old := load(t, r)
	for i := 2; i < 6; i++ {
		apply(t, r, host(i))
	}
	r.Compact(t)
	f := follow(t, r, old)
	if n := len(f.next().Documents()); n != 5 {
		t.Fatalf("%d documents after compaction, not 5", n)
	}
	apply(t, r, host(6))
	for len(f.next().Documents()) != 6 {
	}
}

func testWatchEnds(t *testing.T, r Rig) {
	apply(t, r, host(1))
	f := follow(t, r, cluster.NewSnapshot(0, nil)) // has something to send, to nobody
	time.Sleep(10 * time.Millisecond)
	f.cancel()
	select {
	case err := <-f.ended:
		is(t, err, context.Canceled)
	case <-time.After(patience):
		t.Fatal("watch does not end with its context")
	}
}

func testSecretsGoAlong(t *testing.T, r Rig) {
	v := cluster.Version{Name: "tls", Version: 1}
	apply(t, r, secretDocument("tls"), secretDocument("tls2"))
	must(t, r.PutSecretValue(t.Context(), v, json.RawMessage(`"a"`)))
	must(t, r.PutSecretValue(t.Context(), cluster.Version{Name: "tls2", Version: 1}, json.RawMessage(`"b"`)))
	if n := len(load(t, r).Documents()); n != 2 {
		t.Errorf("%d documents: values are none", n)
	}
	must(t, r.Apply(t.Context(), load(t, r), nil, []cluster.Ref{secretDocument("tls").Ref()}, nil))
	_, err := r.SecretValue(t.Context(), v)
	is(t, err, cluster.ErrNotFound)
	versions, err := r.SecretVersions(t.Context())
	must(t, err)
	if len(versions) != 1 || versions["tls2"] != 1 {
		t.Errorf("versions %v", versions)
	}
}

func testPutSecretValue(t *testing.T, r Rig) {
	ctx := t.Context()
	v := func(n int) cluster.Version { return cluster.Version{Name: "tls", Version: n} }
	is(t, r.PutSecretValue(ctx, v(1), json.RawMessage(`"a"`)), cluster.ErrNotFound)
	apply(t, r, secretDocument("tls"))
	must(t, r.PutSecretValue(ctx, v(1), json.RawMessage(`"a"`)))
	is(t, r.PutSecretValue(ctx, v(1), json.RawMessage(`"b"`)), cluster.ErrConflict)
	for n := 2; n <= 11; n++ {
		must(t, r.PutSecretValue(ctx, v(n), json.RawMessage(`"c"`)))
	}
	raw, err := r.SecretValue(ctx, v(1))
	must(t, err)
	versions, err := r.SecretVersions(ctx)
	must(t, err)
	if string(raw) != `"a"` || versions["tls"] != 11 {
		t.Errorf("value %s, versions %v", raw, versions)
	}
}

func testSeed(t *testing.T, r Rig) {
	seeds, err := r.Seeds(t.Context())
	must(t, err)
	if len(seeds) != 0 {
		t.Errorf("seeds %v of an empty store", seeds)
	}
	must(t, r.PutSeed(t.Context(), "a", map[string]string{"k": "1", "l": "2"}))
	must(t, r.PutSeed(t.Context(), "a", map[string]string{"k": "3"}))
	must(t, r.PutSeed(t.Context(), "b", map[string]string{"k": "3"}))
	seeds, err = r.Seeds(t.Context())
	must(t, err)
	for _, seed := range seeds {
		if len(seed) != 1 || seed["k"] != "3" {
			t.Errorf("seed %v", seed)
		}
	}
	if len(seeds) != 2 {
		t.Errorf("%d seeds", len(seeds))
	}
}

func testNotify(t *testing.T, r Rig) {
	ctx, cancel := context.WithCancel(t.Context())
	ch, ended := make(chan struct{}, 1), make(chan struct{})
	go func() { r.Notify(ctx, ch); close(ended) }()
	wait := func(what string) {
		t.Helper()
		select {
		case <-ch:
		case <-time.After(patience):
			t.Fatalf("no notice of %s", what)
		}
	}
	wait("the start")
	apply(t, r, secretDocument("tls"))
	must(t, r.PutSecretValue(ctx, cluster.Version{Name: "tls", Version: 1}, json.RawMessage(`1`)))
	wait("a secret's value")
	for drained := false; !drained; {
		select {
		case <-ch:
		case <-time.After(50 * time.Millisecond):
			drained = true
		}
	}
	introduce(t, r, "h1", "k1")
	wait("an introduction")
	cancel()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("does not end with its context")
	}
}

func sortedVersions(in []cluster.Version) []cluster.Version {
	out := slices.Clone(in)
	slices.SortFunc(out, compareVersions)
	return out
}
