// Package matchboxrpc answers matchbox's gRPC API, so that its command line and
// its Terraform provider go on working.
//
// An object is kept as it came (a document of kind matchbox), and what it comes to
// with the others is written with it, in one transaction: package matchbox converts,
// as it does for the import. What cannot be converted is refused with why. What
// names something that is not there yet waits for it, since Terraform writes a
// profile before its templates; and what is replaced, which is deleted and written
// again, does not take its hosts away meanwhile.
//
// It is the only importer of matchbox's own packages, of which it uses the messages.
package matchboxrpc

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/poseidon/matchbox/matchbox/storage/storagepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/moving"
	"github.com/pilotlight/pilotlight/cluster/moving/matchbox"
)

// Documents is where documents are kept.
type Documents interface {
	Load(ctx context.Context) (*cluster.Snapshot, error)
	// Apply writes all or nothing. Problems say why nothing was.
	Apply(ctx context.Context, actor string, put []cluster.Document, remove []cluster.Ref) ([]cluster.Problem, error)
}

// Server answers the API's calls.
type Server struct {
	Documents Documents
	Pin       func(ctx context.Context, raw string) (cluster.File, error) // which file a kernel's URL stands for, with its digest
	Operator  func(*x509.Certificate) (string, bool)                      // who may call
	Logger    *slog.Logger                                                // nil is silence

	writing sync.Mutex
}

// Label is on documents that were made by the API, which alone changes them.
const (
	Label = "made-by"
	Maker = "matchbox-api"
)

// tries is how often another server may be faster.
const tries = 5

func (s *Server) log() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

// actor returns who calls, by the certificate that TLS has verified.
func (s *Server) actor(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
			if name, ok := s.Operator(info.State.PeerCertificates[0]); ok {
				return name, nil
			}
		}
	}
	return "", status.Error(codes.PermissionDenied, "this needs an operator's certificate: `pilotlight matchbox client DIR` makes one, on a server")
}

// guard lets operators through. What a call of theirs trips over ends that call, and
// not the server: machines boot by it.
func (s *Server) guard(ctx context.Context, in any, call *grpc.UnaryServerInfo, next grpc.UnaryHandler) (out any, err error) {
	defer func() {
		if what := recover(); what != nil {
			s.log().Error("a call of matchbox's API panicked", "call", call.FullMethod, "panic", what, "stack", string(debug.Stack()))
			out, err = nil, status.Error(codes.Internal, "the server tripped over this call; its log says where")
		}
	}()
	if _, err := s.actor(ctx); err != nil {
		return nil, err
	}
	return next(ctx, in)
}

// objects are those that are kept, by their documents.
func objects(snap *cluster.Snapshot) (out []*cluster.Matchbox) {
	for _, d := range snap.Documents(cluster.KindMatchbox) {
		out = append(out, d.(*cluster.Matchbox))
	}
	return out
}

func refOf(t cluster.MatchboxType, id string) cluster.Ref {
	return cluster.Ref{Kind: cluster.KindMatchbox, Name: string(t) + "-" + moving.Digest(id)[:24]}
}

// get returns an object.
func (s *Server) get(ctx context.Context, t cluster.MatchboxType, id string) (*cluster.Matchbox, error) {
	snap, err := s.Documents.Load(ctx)
	if err != nil {
		return nil, failed(err)
	}
	d, ok := snap.Get(refOf(t, id))
	if !ok {
		return nil, status.Errorf(codes.NotFound, "there is no %s %q", t, id)
	}
	return d.(*cluster.Matchbox), nil
}

func failed(err error) error {
	if errors.Is(err, cluster.ErrConflict) {
		return status.Error(codes.Aborted, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}

// put keeps an object, and what it comes to.
func (s *Server) put(ctx context.Context, d *cluster.Matchbox) error {
	if d.ID == "" || len(d.ID) > 1024 || strings.ContainsAny(d.ID, "/\x00") {
		return status.Errorf(codes.InvalidArgument, "%q is no id of a %s: it is a file's name", d.ID, d.Type)
	}
	if !utf8.ValidString(d.Body) {
		return status.Errorf(codes.InvalidArgument, "%s %q is no text: it has bytes that are not UTF-8", d.Type, d.ID)
	}
	d.Name = refOf(d.Type, d.ID).Name
	return s.change(ctx, d.Ref(), d)
}

// remove takes an object away, and what came of it alone.
func (s *Server) remove(ctx context.Context, t cluster.MatchboxType, id string) error {
	return s.change(ctx, refOf(t, id), nil)
}

// change writes or, when it is nil, removes one object.
func (s *Server) change(ctx context.Context, ref cluster.Ref, d *cluster.Matchbox) error {
	actor, err := s.actor(ctx)
	if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	for try := 1; ; try++ {
		snap, err := s.Documents.Load(ctx)
		if err != nil {
			return failed(err)
		}
		p, err := planFor(snap, ref, d, try > 1)
		if err != nil {
			return err
		}
		problems, err := s.Documents.Apply(ctx, actor, p.put, p.remove)
		if err != nil {
			return failed(err)
		}
		if len(problems) > 0 {
			return status.Error(codes.FailedPrecondition, refusal(problems))
		}
		for _, n := range p.notes {
			s.log().Warn("what matchbox's API wrote does not do quite the same", "object", n.File, "why", n.Text)
		}
		// Another server may have written one between our look and our transaction:
		// what both come to together is then still to be written.
		after, err := s.Documents.Load(ctx)
		if err != nil {
			return failed(err)
		}
		if sameObjects(objects(after), p.objects) {
			return nil
		}
		if try == tries {
			return status.Error(codes.Aborted, "others write at the same time, again and again: it is written, and what follows from it may not be; put it again")
		}
	}
}

func sameObjects(a, b []*cluster.Matchbox) bool {
	return slices.EqualFunc(a, b, func(x, y *cluster.Matchbox) bool { return x.Name == y.Name && x.Body == y.Body })
}

func refusal(problems []cluster.Problem) string {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// plan is what a change comes to.
type plan struct {
	objects []*cluster.Matchbox // as they are then
	put     []cluster.Document
	remove  []cluster.Ref
	notes   []moving.Note
}

// planFor is pure: it says what follows from a change of one object. again is for a
// change that is written already, beside another: then all that follows is.
func planFor(snap *cluster.Snapshot, ref cluster.Ref, d *cluster.Matchbox, again bool) (p plan, err error) {
	before := objects(snap)
	_, there := snap.Get(ref)
	p.objects = slices.DeleteFunc(slices.Clone(before), func(o *cluster.Matchbox) bool { return o.Ref() == ref })
	switch {
	case d != nil:
		p.objects = append(p.objects, d)
		p.put = append(p.put, d)
	case !there && again:
	case !there:
		return p, status.Error(codes.NotFound, "there is none to delete")
	default:
		p.remove = append(p.remove, ref)
	}
	slices.SortFunc(p.objects, func(a, b *cluster.Matchbox) int { return strings.Compare(a.Name, b.Name) })
	was, err := convert(before)
	if err != nil {
		return p, err
	}
	is, err := convert(p.objects)
	if err != nil {
		return p, err
	}
	var lost []string
	for _, n := range is.Notes {
		switch {
		case slices.Contains(was.Notes, n):
		case n.Sort == moving.Lost && d != nil:
			lost = append(lost, n.String())
		case n.Sort == moving.Differs:
			p.notes = append(p.notes, n)
		}
	}
	if len(lost) > 0 {
		return p, status.Error(codes.InvalidArgument, strings.Join(lost, "\n"))
	}
	return p, p.documents(snap, was.Documents, is.Documents, again)
}

// documents adds to a plan what has changed in what the objects come to. What an
// operator changed since stays, until the object that it was made of changes.
func (p *plan) documents(snap *cluster.Snapshot, was, is []cluster.Document, again bool) error {
	old := map[cluster.Ref]cluster.Document{}
	for _, d := range was {
		old[d.Ref()] = d
	}
	want := map[cluster.Ref]bool{}
	for _, d := range is {
		want[d.Ref()] = true
		applied, there := snap.Get(d.Ref())
		if there && labelsOf(applied)[Label] != Maker {
			return status.Errorf(codes.FailedPrecondition, "there is a %s already, which was not made by this API: rename one, or delete that (pilotlight delete %s %s)", d.Ref(), d.Ref().Kind, d.Ref().Name)
		}
		if !equal(old[d.Ref()], d) || again && !(there && equal(applied, d)) {
			p.put = append(p.put, d)
		}
	}
	// A document that only has the label, a copy that an operator made of one of ours,
	// is not ours.
	kept, waited := p.kept(want), (&plan{objects: objects(snap)}).kept(nil)
	for _, d := range snap.Documents() {
		r := d.Ref()
		ours := labelsOf(d)[Label] == Maker && (old[r] != nil || waited[r])
		if ours && !want[r] && !kept[r] {
			p.remove = append(p.remove, r)
		}
	}
	return nil
}

// kept are documents of objects that wait: what a host is, and runs, stays while
// its profile is being replaced.
func (p *plan) kept(want map[cluster.Ref]bool) map[cluster.Ref]bool {
	out := map[cluster.Ref]bool{}
	keep := func(name string, kinds ...cluster.Kind) {
		if slices.ContainsFunc(kinds, func(k cluster.Kind) bool { return want[cluster.Ref{Kind: k, Name: name}] }) {
			return
		}
		for _, k := range kinds {
			out[cluster.Ref{Kind: k, Name: name}] = true
		}
	}
	for _, o := range p.objects {
		switch o.Type {
		case cluster.MatchboxProfile:
			keep(moving.Name(o.ID), cluster.KindProfile, cluster.KindImage)
		case cluster.MatchboxGroup:
			keep(moving.Name(o.ID), cluster.KindHost, cluster.KindGroup)
			var g storagepb.Group
			if json.Unmarshal([]byte(o.Body), &g) == nil {
				keep(moving.Name(g.Profile), cluster.KindProfile, cluster.KindImage)
			}
		}
	}
	return out
}

func equal(a, b cluster.Document) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, errX := cluster.MarshalDocument(a)
	y, errY := cluster.MarshalDocument(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// convert is matchbox.Convert of objects as they are kept.
func convert(kept []*cluster.Matchbox) (moving.Result, error) {
	o := matchbox.Objects{Ignition: map[string]string{}, Generic: map[string]string{}}
	pins := matchbox.Pins{}
	for _, k := range kept {
		switch k.Type {
		case cluster.MatchboxGroup:
			g, err := groupOf(k)
			if err != nil {
				return moving.Result{}, err
			}
			o.Groups = append(o.Groups, g)
		case cluster.MatchboxProfile:
			p, err := profileOf(k)
			if err != nil {
				return moving.Result{}, err
			}
			for i, raw := range matchbox.Wants(p) {
				if i < len(k.Pins) {
					pins[raw] = k.Pins[i]
				}
			}
			o.Profiles = append(o.Profiles, p)
		case cluster.MatchboxIgnition:
			o.Ignition[k.ID] = k.Body
		case cluster.MatchboxGeneric:
			o.Generic[k.ID] = k.Body
		}
	}
	r := matchbox.Convert(o, pins)
	for _, d := range r.Documents {
		mark(d)
	}
	return r, nil
}

func mark(d cluster.Document) {
	m := metaOf(d)
	labels := map[string]string{Label: Maker}
	for k, v := range m.Labels {
		labels[k] = v
	}
	m.Labels = labels
}

func labelsOf(d cluster.Document) map[string]string {
	if m := metaOf(d); m != nil {
		return m.Labels
	}
	return nil
}

func metaOf(d cluster.Document) *cluster.Meta {
	switch d := d.(type) {
	case *cluster.Image:
		return &d.Meta
	case *cluster.Profile:
		return &d.Meta
	case *cluster.Group:
		return &d.Meta
	case *cluster.Host:
		return &d.Meta
	}
	return nil
}

// pins finds out which files a profile boots, and says so in the answer and the log.
func (s *Server) pins(ctx context.Context, p matchbox.Profile) (out []cluster.File, err error) {
	var wrong []string
	for _, raw := range matchbox.Wants(p) {
		f, err := s.Pin(ctx, raw)
		if err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		out = append(out, f)
		s.log().Info("a file is pinned as it is now", "profile", p.ID, "url", f.URL, "sha256", f.SHA256)
		_ = grpc.SetHeader(ctx, metadata.Pairs("pilotlight-pinned", fmt.Sprintf("%q sha256:%s", f.URL, f.SHA256))) // no more than a courtesy
	}
	if len(wrong) > 0 {
		return nil, status.Error(codes.InvalidArgument, strings.Join(wrong, "\n"))
	}
	return out, nil
}
