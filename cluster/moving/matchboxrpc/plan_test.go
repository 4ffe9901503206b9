package matchboxrpc

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pilotlight/pilotlight/cluster"
)

// world applies plans in memory.
type world struct {
	t    *testing.T
	docs map[cluster.Ref]cluster.Document
}

func (w *world) snapshot() *cluster.Snapshot {
	var all []cluster.Document
	for _, d := range w.docs {
		all = append(all, d)
	}
	return cluster.NewSnapshot(1, all)
}

// change plans and applies, and returns why not.
func (w *world) change(typ cluster.MatchboxType, id, body string) error {
	w.t.Helper()
	ref := refOf(typ, id)
	var d *cluster.Matchbox
	if body != "" {
		d = &cluster.Matchbox{Meta: cluster.Meta{Name: ref.Name}, Type: typ, ID: id, Body: body}
		if typ == cluster.MatchboxProfile && strings.Contains(body, "/assets/k") {
			d.Pins = []cluster.File{{URL: "file:///assets/k", SHA256: strings.Repeat("a", 64)}}
		}
	}
	p, err := planFor(w.snapshot(), ref, d, false)
	if err != nil {
		return err
	}
	for _, r := range p.remove {
		delete(w.docs, r)
	}
	for _, d := range p.put {
		w.docs[d.Ref()] = d
	}
	var all []cluster.Document
	for _, d := range w.docs {
		all = append(all, d)
	}
	for _, problem := range cluster.Check(all) {
		w.t.Errorf("after %s %s: %s", typ, id, problem)
	}
	return nil
}

func (w *world) must(typ cluster.MatchboxType, id, body string) {
	w.t.Helper()
	if err := w.change(typ, id, body); err != nil {
		w.t.Fatalf("%s %s: %v", typ, id, err)
	}
}

func (w *world) has(kind cluster.Kind, name string) bool {
	return w.docs[cluster.Ref{Kind: kind, Name: name}] != nil
}

const (
	aProfile = `{"id":"p","boot":{"kernel":"/assets/k"},"ignition_id":"t"}`
	aGroup   = `{"id":"g","profile":"p","selector":{"mac":"52:54:00:00:00:01"}}`
	aButane  = "variant: fcos\nversion: 1.4.0\n"
)

// Every order in which Terraform may write leads to the same, and no way through
// leaves documents that do not fit together.
func TestAnyOrder(t *testing.T) {
	type step struct {
		typ      cluster.MatchboxType
		id, body string
	}
	steps := []step{{cluster.MatchboxProfile, "p", aProfile}, {cluster.MatchboxGroup, "g", aGroup}, {cluster.MatchboxIgnition, "t", aButane}}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		w := &world{t: t, docs: map[cluster.Ref]cluster.Document{}}
		for i, n := range order {
			if w.has(cluster.KindHost, "g") {
				t.Errorf("%v: the host is there before step %d", order, i)
			}
			w.must(steps[n].typ, steps[n].id, steps[n].body)
		}
		for _, k := range []cluster.Kind{cluster.KindImage, cluster.KindProfile} {
			if !w.has(k, "p") {
				t.Errorf("%v: no %s", order, k)
			}
		}
		if !w.has(cluster.KindHost, "g") || len(w.docs) != 6 {
			t.Errorf("%v: %d documents", order, len(w.docs))
		}
	}
}

func TestReplacedAndDeleted(t *testing.T) {
	w := &world{t: t, docs: map[cluster.Ref]cluster.Document{}}
	w.must(cluster.MatchboxIgnition, "t", aButane)
	w.must(cluster.MatchboxProfile, "p", aProfile)
	w.must(cluster.MatchboxGroup, "g", aGroup)
	w.must(cluster.MatchboxProfile, "p", "")
	if !w.has(cluster.KindHost, "g") || !w.has(cluster.KindProfile, "p") {
		t.Error("a host goes away while its profile is replaced")
	}
	w.must(cluster.MatchboxProfile, "p", aProfile)
	w.must(cluster.MatchboxGroup, "g", "")
	if w.has(cluster.KindHost, "g") {
		t.Error("the host of a deleted group is there")
	}
	w.must(cluster.MatchboxProfile, "p", "")
	w.must(cluster.MatchboxIgnition, "t", "")
	if len(w.docs) != 0 {
		t.Errorf("%d documents are left", len(w.docs))
	}
	if err := w.change(cluster.MatchboxGroup, "g", ""); status.Code(err) != codes.NotFound {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestRefused(t *testing.T) {
	w := &world{t: t, docs: map[cluster.Ref]cluster.Document{}}
	mine := &cluster.Profile{Meta: cluster.Meta{Name: "mine"}, Boot: cluster.BootLocal}
	w.docs[mine.Ref()] = mine
	w.must(cluster.MatchboxProfile, "p", `{"id":"p"}`)
	w.must(cluster.MatchboxProfile, "q", `{"id":"q","ignition_id":"r"}`)
	w.must(cluster.MatchboxGroup, "g", aGroup)
	for _, row := range []struct {
		typ      cluster.MatchboxType
		id, body string
		code     codes.Code
		why      string
	}{
		{cluster.MatchboxProfile, "mine", `{"id":"mine"}`, codes.FailedPrecondition, "was not made by this API"},
		{cluster.MatchboxGroup, "h", `{"id":"h","profile":"p","selector":{"mac":"52:54:00:00:00:01","os":"installed"}}`, codes.InvalidArgument, "is that of group g already"},
		{cluster.MatchboxGroup, "h", `{"id":"h","profile":"p","selector":{"uuid":"nonsense"}}`, codes.InvalidArgument, "is not a UUID"},
		{cluster.MatchboxProfile, "P", `{"id":"P"}`, codes.InvalidArgument, "already that of another profile"},
		{cluster.MatchboxIgnition, "r", "passwd: {}\n", codes.InvalidArgument, "without variant:"},
		{cluster.MatchboxIgnition, "r", "variant: fcos\n# {{ .request.query.os }}\n", codes.InvalidArgument, "says in its request"},
	} {
		before := len(w.docs)
		err := w.change(row.typ, row.id, row.body)
		if status.Code(err) != row.code || !strings.Contains(err.Error(), row.why) {
			t.Errorf("%s %s: %v, want %s with %q", row.typ, row.id, err, row.code, row.why)
		}
		if len(w.docs) != before {
			t.Errorf("%s %s was refused, and written", row.typ, row.id)
		}
	}
}

// What an operator changed since stays, until the object changes that it was made of.
func TestOperatorsChangeStays(t *testing.T) {
	w := &world{t: t, docs: map[cluster.Ref]cluster.Document{}}
	w.must(cluster.MatchboxProfile, "p", `{"id":"p"}`)
	w.must(cluster.MatchboxGroup, "g", aGroup)
	edited := *w.docs[cluster.Ref{Kind: cluster.KindHost, Name: "g"}].(*cluster.Host)
	edited.Serial = "S1"
	w.docs[edited.Ref()] = &edited
	w.must(cluster.MatchboxProfile, "other", `{"id":"other"}`)
	if w.docs[edited.Ref()].(*cluster.Host).Serial != "S1" {
		t.Error("another object's change took an operator's back")
	}
}
