package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// Documents is where documents are kept.
type Documents interface {
	Load(ctx context.Context) (*cluster.Snapshot, error)
	Apply(ctx context.Context, base *cluster.Snapshot, put []cluster.Document, remove []cluster.Ref, audit []cluster.AuditEntry) error
}

// Applier writes documents, all of them or none.
type Applier struct {
	Store Documents

	// Verify finds what cluster.Check cannot know: whether configs render. wrong are
	// the documents in which there are mistakes already. It may be nil.
	Verify func(next *cluster.Snapshot, wrong map[cluster.Ref]bool) []cluster.Problem

	// Advise finds what cluster.Advise cannot know, of documents that are given. It may
	// be nil.
	Advise func(next *cluster.Snapshot, given func(cluster.Ref) bool) []cluster.Problem

	// Compare says how what hosts are told would change: those that are named, or
	// all. It may be nil.
	Compare func(base, next *cluster.Snapshot, named []cluster.HostName) []ConfigChange
}

const applyTries = 5

// NothingToDelete is what is wrong with deleting a document that is not there.
const NothingToDelete = "there is none to delete"

// Apply brings the store to where docs are as given and those of remove are
// gone, and says in the audit that actor did. Problems are mistakes of the
// operator's, and nothing was written.
func (a *Applier) Apply(ctx context.Context, actor string, docs []cluster.Document, remove []cluster.Ref) (ApplyResponse, error) {
	for try := 1; ; try++ {
		base, err := a.Store.Load(ctx)
		if err != nil {
			return ApplyResponse{}, err
		}
		out, put, gone, err := a.plan(base, docs, remove, nil)
		if err != nil || len(out.Problems) > 0 || len(put)+len(gone) == 0 {
			return out, err
		}
		err = a.Store.Apply(ctx, base, put, gone, auditOf(actor, out.Changes, time.Now()))
		if errors.Is(err, cluster.ErrConflict) && try < applyTries {
			continue // somebody else applied: look at the whole again
		}
		return out, err
	}
}

// auditOf has one entry for each document that changes.
func auditOf(actor string, changes []Change, at time.Time) (out []cluster.AuditEntry) {
	for _, c := range changes {
		if c.Action != Unchanged {
			out = append(out, cluster.AuditEntry{At: at, Actor: actor, Action: c.Action, Subject: c.Ref.String(), OK: true})
		}
	}
	return out
}

// DryRun says what Apply would do, and what becomes of the hosts' configs: of those
// that are named, or of all.
func (a *Applier) DryRun(ctx context.Context, docs []cluster.Document, in ApplyRequest) (ApplyResponse, error) {
	base, err := a.Store.Load(ctx)
	if err != nil {
		return ApplyResponse{}, err
	}
	out, put, gone, err := a.plan(base, docs, in.Delete, in.Wrong)
	if err == nil && len(in.Wrong) == 0 && a.Compare != nil && len(out.Problems) == 0 && len(put)+len(gone) > 0 {
		out.Configs = a.Compare(base, base.With(base.Revision(), put, gone), in.Hosts)
	}
	return out, err
}

// plan says what would change, and what is wrong with it, beside the documents in
// which something is known to be.
func (a *Applier) plan(base *cluster.Snapshot, docs []cluster.Document, remove, wrong []cluster.Ref) (out ApplyResponse, put []cluster.Document, gone []cluster.Ref, err error) {
	out.Problems = clashes(docs, remove)
	if len(out.Problems) > 0 {
		return out, nil, nil, nil
	}
	for _, d := range docs {
		c, err := change(base, d)
		if err != nil {
			return out, nil, nil, err
		}
		out.Changes = append(out.Changes, c)
		if c.Action != Unchanged {
			put = append(put, d)
		}
	}
	for _, r := range remove {
		old, ok := base.Get(r)
		if !ok {
			out.Problems = append(out.Problems, cluster.Problem{Ref: r, Message: NothingToDelete})
			continue
		}
		before, err := cluster.MarshalDocument(old)
		if err != nil {
			return out, nil, nil, err
		}
		out.Changes = append(out.Changes, Change{Ref: r, Action: Delete, Before: before})
		gone = append(gone, r)
	}
	whole := base.With(base.Revision(), put, gone)
	out.Problems = append(out.Problems, cluster.CheckSnapshot(whole)...)
	given := func(r cluster.Ref) bool {
		return slices.ContainsFunc(docs, func(d cluster.Document) bool { return d.Ref() == r })
	}
	for _, a := range cluster.Advise(whole) {
		if a.Of(given) {
			out.Advice = append(out.Advice, a.Problem)
		}
	}
	if a.Advise != nil && len(out.Problems) == 0 {
		out.Advice = append(out.Advice, a.Advise(whole, given)...)
	}
	if a.Verify != nil && len(put)+len(gone) > 0 {
		known := cluster.Refs(out.Problems)
		for _, ref := range wrong {
			known[ref] = true
		}
		out.Problems = append(out.Problems, a.Verify(whole, known)...)
	}
	slices.SortStableFunc(out.Changes, func(x, y Change) int {
		return slices.Index(cluster.Kinds, x.Ref.Kind) - slices.Index(cluster.Kinds, y.Ref.Kind)
	})
	return out, put, gone, nil
}

// clashes says what one apply may not ask for: two things of one document.
func clashes(docs []cluster.Document, remove []cluster.Ref) (out []cluster.Problem) {
	seen := map[cluster.Ref]bool{}
	for _, d := range docs {
		if seen[d.Ref()] {
			out = append(out, cluster.Problem{Ref: d.Ref(), Field: "name", Message: fmt.Sprintf("is given to two documents of kind %s; rename one", d.Ref().Kind)})
		}
		seen[d.Ref()] = true
	}
	gone := map[cluster.Ref]bool{}
	for _, r := range remove {
		switch {
		case seen[r]:
			out = append(out, cluster.Problem{Ref: r, Message: "is to be written and to be deleted; ask for one"})
		case gone[r]:
			out = append(out, cluster.Problem{Ref: r, Message: "is to be deleted twice; name it once"})
		}
		gone[r] = true
	}
	return out
}

func change(base *cluster.Snapshot, d cluster.Document) (Change, error) {
	c := Change{Ref: d.Ref(), Action: Create}
	var err error
	if c.After, err = cluster.MarshalDocument(d); err != nil {
		return c, err
	}
	if old, ok := base.Get(d.Ref()); ok {
		c.Action = Update
		if c.Before, err = cluster.MarshalDocument(old); err != nil {
			return c, err
		}
		if bytes.Equal(c.Before, c.After) {
			c.Action = Unchanged
		}
	}
	return c, nil
}
