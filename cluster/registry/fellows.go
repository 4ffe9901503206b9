package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
)

// Fellows are the registries of the other servers. What this one does not have is
// asked of them by its digest, verified, and kept. A fellow that asks is told only
// what is here.
type Fellows struct {
	Client *http.Client
	At     func() []string // https://ADDRESS:PORT of each
	Log    *slog.Logger    // nil means silence

	Patience time.Duration // how long one may send nothing; default 30 s

	flights singleflight.Group
}

// byDigest is what can be asked of others: what a tag means differs.
var byDigest = regexp.MustCompile(`^/v2/([a-z0-9][a-z0-9._/-]{0,254})/(blobs|manifests)/(sha256:[0-9a-f]{64})$`)

const (
	maxManifest  = 8 << 20
	maxDepth     = 4 // of manifests that name manifests
	fellowsTime  = 30 * time.Minute
	manifestKind = "manifests"
)

// errAbsent: no fellow has it.
var errAbsent = errors.New("no other server has it")

// thing is a blob or a manifest of a repository.
type thing struct{ name, kind, digest string }

func (t thing) path() string { return Prefix + t.name + "/" + t.kind + "/" + t.digest }

// ensure brings what a request asks for, when it is not here and a fellow has it.
func (f *Fellows) ensure(r *http.Request, here http.Handler) {
	m := byDigest.FindStringSubmatch(r.URL.Path)
	if f == nil || f.Client == nil || m == nil || len(f.At()) == 0 {
		return
	}
	t := thing{m[1], m[2], m[3]}
	err := f.bring(r.Context(), here, t, 0)
	if err != nil && !errors.Is(err, errAbsent) && f.Log != nil {
		f.Log.Warn("a part of an image is not to be had from the other servers", "image", t.name, "digest", t.digest, "err", err)
	}
}

// bring keeps t here, unless it is. Who asks for it at the same time waits.
func (f *Fellows) bring(ctx context.Context, here http.Handler, t thing, depth int) error {
	if has(ctx, here, t) {
		return nil
	}
	done := f.flights.DoChan(t.path(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fellowsTime)
		defer cancel()
		if has(ctx, here, t) {
			return nil, nil
		}
		errs := []error{errAbsent}
		for _, at := range f.At() {
			err := f.from(ctx, at, here, t, depth)
			if err == nil {
				return nil, nil
			}
			errs = append(errs, err)
		}
		for _, err := range errs {
			if !errors.Is(err, errAbsent) {
				return nil, err
			}
		}
		return nil, errAbsent
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case r := <-done:
		return r.Err
	}
}

// from takes t over from one fellow, for as long as something comes: the next may
// have it, too.
func (f *Fellows) from(ctx context.Context, at string, here http.Handler, t thing, depth int) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	stalled := time.AfterFunc(f.patience(), func() { stop(fmt.Errorf("%s stopped answering in the middle", at)) })
	defer stalled.Stop()
	err := f.take(ctx, at, here, t, depth, func(end bool) {
		if stalled.Stop(); !end { // at its end what it names is yet to come, or it is to be written
			stalled.Reset(f.patience())
		}
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// patience is how long a fellow may send nothing.
func (f *Fellows) patience() time.Duration {
	if f.Patience > 0 {
		return f.Patience
	}
	return 30 * time.Second
}

// lively is a body that says when something came, and whether it was the end.
type lively struct {
	io.ReadCloser
	came func(end bool)
}

// Read implements io.Reader.
func (l lively) Read(b []byte) (int, error) {
	n, err := l.ReadCloser.Read(b)
	l.came(err != nil)
	return n, err
}

func (f *Fellows) take(ctx context.Context, at string, here http.Handler, t thing, depth int, came func(end bool)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at+t.path(), http.NoBody)
	if err != nil {
		return err
	}
	for _, kind := range []string{
		"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	} {
		req.Header.Add("Accept", kind)
	}
	res, err := f.Client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	res.Body = lively{res.Body, came}
	switch {
	case res.StatusCode == http.StatusNotFound:
		return errAbsent
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answered %s", at, res.Status)
	case t.kind == manifestKind:
		return f.keepManifest(ctx, here, t, res, depth)
	}
	return keepBlob(ctx, here, t, res)
}

// parts are what a manifest, or a list of manifests, names.
type parts struct {
	Config    part   `json:"config"`
	Layers    []part `json:"layers"`
	Manifests []part `json:"manifests"`
}

type part struct {
	Digest string `json:"digest"`
}

// keepManifest keeps a manifest once all that it names is here: without that it
// would be an image that cannot be pulled.
func (f *Fellows) keepManifest(ctx context.Context, here http.Handler, t thing, res *http.Response, depth int) error {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxManifest+1))
	if err != nil {
		return err
	}
	var p parts
	switch sum := sha256.Sum256(body); {
	case fmt.Sprintf("sha256:%x", sum) != t.digest:
		return fmt.Errorf("what another server sent is not %s", t.digest)
	case json.Unmarshal(body, &p) != nil:
		return fmt.Errorf("%s is no manifest", t.digest)
	case depth >= maxDepth:
		return fmt.Errorf("%s: manifests name each other more than %d deep", t.digest, maxDepth)
	}
	want := make([]thing, 0, len(p.Layers)+len(p.Manifests)+1)
	for _, l := range append(p.Layers, p.Config) {
		want = append(want, thing{t.name, "blobs", l.Digest})
	}
	for _, m := range p.Manifests {
		want = append(want, thing{t.name, manifestKind, m.Digest})
	}
	for _, w := range want {
		if !byDigest.MatchString(w.path()) { // an index has no config
			continue
		}
		if err := f.bring(ctx, here, w, depth+1); err != nil {
			return fmt.Errorf("%s of %s: %w", w.digest, t.digest, err)
		}
	}
	put, err := http.NewRequestWithContext(ctx, http.MethodPut, t.path(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	put.Header.Set("Content-Type", res.Header.Get("Content-Type"))
	return wanted(answer(here, put), http.StatusCreated)
}

// keepBlob keeps a blob as a push does, which verifies its digest.
func keepBlob(ctx context.Context, here http.Handler, t thing, res *http.Response) error {
	begin, err := http.NewRequestWithContext(ctx, http.MethodPost, Prefix+t.name+"/blobs/uploads/", http.NoBody)
	if err != nil {
		return err
	}
	started := answer(here, begin)
	if err := wanted(started, http.StatusAccepted); err != nil {
		return err
	}
	to, err := url.Parse(started.header.Get("Location"))
	if err != nil {
		return err
	}
	q := to.Query()
	q.Set("digest", t.digest)
	put, err := http.NewRequestWithContext(ctx, http.MethodPut, to.Path+"?"+q.Encode(), res.Body)
	if err != nil {
		return err
	}
	put.ContentLength = res.ContentLength
	put.Header.Set("Content-Type", "application/octet-stream")
	return wanted(answer(here, put), http.StatusCreated)
}

// has reports whether a thing is here.
func has(ctx context.Context, here http.Handler, t thing) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, t.path(), http.NoBody)
	if err != nil {
		return false
	}
	r.Header.Set("Accept", "*/*")
	return answer(here, r).status == http.StatusOK
}

// answered is what the registry says to a call from within.
type answered struct {
	header http.Header
	status int
	text   strings.Builder
}

// answer makes a call from within.
func answer(here http.Handler, r *http.Request) *answered {
	r.Host, r.RequestURI, r.RemoteAddr = "registry", r.URL.RequestURI(), "127.0.0.1:0"
	w := &answered{header: http.Header{}}
	here.ServeHTTP(w, r)
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w
}

// wanted is an error unless the answer has a status.
func wanted(w *answered, status int) error {
	if w.status == status {
		return nil
	}
	return fmt.Errorf("the registry answered %d: %s", w.status, strings.TrimSpace(w.text.String()))
}

// Header implements http.ResponseWriter.
func (w *answered) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *answered) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements io.Writer: no more is kept than a line to log.
func (w *answered) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.text.Write(b[:min(len(b), max(0, 300-w.text.Len()))])
	return len(b), nil
}
