package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

const (
	maxApply  = 64 << 20
	maxSecret = 500 << 10 // as Docker's (swarmkit)
)

// Store is what the API reads and writes beside documents.
type Store interface {
	Nodes(ctx context.Context) ([]cluster.Node, error)
	SecretVersions(ctx context.Context) (map[cluster.SecretName]int, error)
	PutSecretValue(ctx context.Context, v cluster.Version, sealed json.RawMessage) error
	ForgetNode(ctx context.Context, h cluster.HostName) error
	Boots(ctx context.Context, h cluster.HostName) ([]cluster.Boot, error)
	WatchBoots(ctx context.Context, h cluster.HostName, ready func(), each func(cluster.Boot)) error
	Audit(ctx context.Context, e cluster.AuditEntry) error
	AuditLog(ctx context.Context, q cluster.AuditQuery) (cluster.AuditPage, error)
}

// Server answers operators.
type Server struct {
	Applier   Applier
	Store     Store
	Snapshot  func() *cluster.Snapshot
	Recipient string // the servers': what secrets are sealed to at rest
	Machines  Machines
	Servers   Servers
	Images    Images
	Logger    *slog.Logger
	Running   context.Context // ends when the server stops, and with it what never ends by itself; nil is for ever
}

// Machines answers from the same functions that serve machines.
type Machines interface {
	Explain(ctx context.Context, who string) (Explanation, error)
	Render(ctx context.Context, in RenderRequest) (contentType string, body []byte, err error)
	Userdata(ctx context.Context, actor string, h cluster.HostName, in UserdataRequest) (Userdata, error)
	RevokeUserdata(ctx context.Context, actor string, h cluster.HostName) (int, error)
	Discovered() []cluster.Discovered
	AddressOf(h *cluster.Host) (netip.Addr, bool) // that is lent to it now
	Install(h cluster.HostName) cluster.Install
	ChangeInstall(ctx context.Context, h cluster.HostName, next func(cluster.Install) cluster.Install) (cluster.Install, error)
}

// StatusError is an error with the HTTP status to say it with.
type StatusError struct {
	Status int
	Err    error
}

// Error implements error.
func (e *StatusError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *StatusError) Unwrap() error { return e.Err }

func fail(status int, format string, args ...any) error {
	return &StatusError{status, fmt.Errorf(format, args...)}
}

// Handler serves the API to those for whom operator returns a name.
func (s *Server) Handler(operator func(*http.Request) (string, bool)) http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, h func(r *http.Request, actor string) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			actor, ok := operator(r)
			if !ok {
				reply(w, http.StatusForbidden, errorBody{"this needs an operator's certificate; it is in DATA/operator on a server: give it with --cert, or run the command there"})
				return
			}
			out, err := h(r, actor)
			s.answer(w, r, out, err)
		})
	}
	route("POST /v1/apply", s.apply)
	route("GET /v1/documents", s.documents)
	route("GET /v1/hosts", func(r *http.Request, _ string) (any, error) { return s.Hosts(r.Context()) })
	route("POST /v1/hosts/{name}/retire", s.retire)
	route("POST /v1/hosts/{name}/reinstall", s.reinstall)
	route("POST /v1/hosts/{name}/installed", s.installed)
	route("POST /v1/hosts/{name}/userdata", s.userdata)
	route("DELETE /v1/hosts/{name}/userdata", s.revokeUserdata)
	route("GET /v1/sites", s.sites)
	route("GET /v1/secrets", s.secrets)
	route("PUT /v1/secrets/{name}", s.putSecret)
	route("GET /v1/boots", func(r *http.Request, _ string) (any, error) {
		return s.Store.Boots(r.Context(), cluster.HostName(r.FormValue("host")))
	})
	route("GET /v1/boots/watch", s.watchBoots)
	route("GET /v1/audit", func(r *http.Request, _ string) (any, error) {
		last, err := strconv.Atoi(r.FormValue("last"))
		if err != nil || last < 0 {
			return nil, fail(http.StatusBadRequest, "last=%q is no number of entries", r.FormValue("last"))
		}
		return s.Store.AuditLog(r.Context(), cluster.AuditQuery{About: r.FormValue("about"), Alarms: r.FormValue("alarms") != "", Last: last})
	})
	route("GET /v1/explain", func(r *http.Request, _ string) (any, error) {
		return s.Machines.Explain(r.Context(), r.FormValue("who"))
	})
	route("GET /v1/render", s.render)
	s.routeServers(route)
	s.routeImages(route)
	return mux
}

// raw is a body that is not JSON of ours.
type raw struct {
	contentType string
	body        []byte
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, out any, err error) {
	if err == nil {
		if write, ok := out.(stream); ok {
			write(w)
			return
		}
		if b, ok := out.(raw); ok {
			w.Header().Set("Content-Type", b.contentType)
			_, _ = w.Write(b.body) // the asker is gone when this fails
			return
		}
		reply(w, http.StatusOK, out)
		return
	}
	status := http.StatusInternalServerError
	var known *StatusError
	switch {
	case errors.As(err, &known):
		status = known.Status
	case errors.Is(err, cluster.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, cluster.ErrConflict):
		status = http.StatusConflict
	default:
		s.log().Error("API call failed", "path", r.URL.Path, "err", err)
	}
	reply(w, status, errorBody{err.Error()})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the asker is gone when this fails
}

func (s *Server) apply(r *http.Request, actor string) (any, error) {
	var in ApplyRequest
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxApply)).Decode(&in); err != nil {
		return nil, fail(http.StatusBadRequest, "the request is not an apply: %w", err)
	}
	docs := make([]cluster.Document, len(in.Documents))
	for i, body := range in.Documents {
		d, err := cluster.UnmarshalDocument(body)
		if err != nil {
			return nil, fail(http.StatusBadRequest, "%w", err)
		}
		docs[i] = d
	}
	if in.DryRun {
		return s.Applier.DryRun(r.Context(), docs, in)
	}
	return s.Applier.Apply(r.Context(), actor, docs, in.Delete)
}

// auditTime is how long writing an entry may take.
const auditTime = 5 * time.Second

// audit writes an entry. Whoever hangs up after the act is audited all the same.
func (s *Server) audit(ctx context.Context, actor, action, subject, detail string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTime)
	defer cancel()
	e := cluster.AuditEntry{At: time.Now(), Actor: actor, Action: action, Subject: subject, OK: true, Detail: detail}
	if err := s.Store.Audit(ctx, e); err != nil {
		s.log().Error("audit was not written", "err", err, "action", action, "subject", subject)
	}
}

func (s *Server) documents(r *http.Request, _ string) (any, error) {
	kinds := []cluster.Kind{}
	if k := r.FormValue("kind"); k != "" {
		kinds = append(kinds, cluster.Kind(k))
	}
	snap, err := s.Applier.Store.Load(r.Context()) // what was just applied, too
	if err != nil {
		return nil, err
	}
	out := []json.RawMessage{}
	for _, d := range snap.Documents(kinds...) {
		if name := r.FormValue("name"); name != "" && d.Ref().Name != name {
			continue
		}
		body, err := cluster.MarshalDocument(d)
		if err != nil {
			return nil, err
		}
		out = append(out, body)
	}
	return out, nil
}

func (s *Server) retire(r *http.Request, actor string) (any, error) {
	name := cluster.HostName(r.PathValue("name"))
	nodes, err := s.Store.Nodes(r.Context())
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(nodes, func(n cluster.Node) bool { return n.Host == name }) {
		return nil, fail(http.StatusNotFound, "host %s was not introduced, so there is nothing to take from it; `pilotlight host list` shows who is", name)
	}
	if err := s.Store.ForgetNode(r.Context(), name); err != nil {
		return nil, err
	}
	s.audit(r.Context(), actor, "host.retire", "host "+string(name), "")
	return struct{}{}, nil
}

func (s *Server) sites(r *http.Request, _ string) (any, error) {
	nodes, err := s.Store.Nodes(r.Context())
	if err != nil {
		return nil, err
	}
	return Services(nodes), nil
}

func (s *Server) secrets(r *http.Request, _ string) (any, error) {
	versions, err := s.Store.SecretVersions(r.Context())
	if err != nil {
		return nil, err
	}
	snap, err := s.Applier.Store.Load(r.Context())
	if err != nil {
		return nil, err
	}
	out := []SecretStatus{}
	for _, d := range snap.Documents(cluster.KindSecret) {
		doc := d.(*cluster.Secret)
		out = append(out, SecretStatus{doc.Name, versions[cluster.SecretName(doc.Name)], doc.Sites})
	}
	return out, nil
}

func (s *Server) putSecret(r *http.Request, actor string) (any, error) {
	name := cluster.SecretName(r.PathValue("name"))
	body, err := io.ReadAll(io.LimitReader(r.Body, maxSecret+1))
	switch {
	case err != nil:
		return nil, fail(http.StatusBadRequest, "the value did not arrive whole: %w", err)
	case len(body) == 0:
		return nil, fail(http.StatusBadRequest, "the value is empty; give it on standard input: pilotlight secret put %s < FILE", name)
	case len(body) > maxSecret:
		return nil, fail(http.StatusRequestEntityTooLarge, "the value is longer than %d bytes", maxSecret)
	}
	v, err := s.seal(r.Context(), name, secret.NewValue(body))
	clear(body)
	switch {
	case errors.Is(err, cluster.ErrNotFound):
		return nil, fail(http.StatusNotFound, "there is no secret %q; apply a document with kind: secret, name: %s and its sites: first", name, name)
	case err != nil:
		return nil, err
	}
	s.audit(r.Context(), actor, "secret.put", "secret "+string(name), fmt.Sprintf("version %d", v.Version))
	return v, nil
}

// seal keeps a value as the next version of a secret.
func (s *Server) seal(ctx context.Context, name cluster.SecretName, value secret.Value) (cluster.Version, error) {
	for try := 1; ; try++ {
		versions, err := s.Store.SecretVersions(ctx)
		if err != nil {
			return cluster.Version{}, err
		}
		v := cluster.Version{Name: name, Version: versions[name] + 1}
		sealed, err := secret.Seal(value, v, s.Recipient)
		if err != nil {
			return v, err
		}
		body, err := json.Marshal(sealed)
		if err != nil {
			return v, fmt.Errorf("encode secret %s: %w", name, err)
		}
		err = s.Store.PutSecretValue(ctx, v, body)
		if !errors.Is(err, cluster.ErrConflict) || try == applyTries { // somebody else put one at the same time
			return v, err
		}
	}
}

func (s *Server) render(r *http.Request, _ string) (any, error) {
	contentType, body, err := s.Machines.Render(r.Context(), RenderRequest{
		Host: r.FormValue("host"), What: r.FormValue("what"), Accept: r.FormValue("accept"), Installer: r.FormValue("installer") != "",
	})
	if err != nil {
		return nil, err
	}
	return raw{contentType, body}, nil
}

// Services lists every service on every host, by site, service and host.
func Services(nodes []cluster.Node) []ServiceStatus {
	out := []ServiceStatus{}
	for _, n := range nodes {
		if n.Status == nil {
			continue
		}
		for _, c := range containersOf(n) {
			out = append(out, ServiceStatus{n.Host, c})
		}
	}
	slices.SortFunc(out, func(a, b ServiceStatus) int {
		return compareStrings(string(a.Site), string(b.Site), string(a.Service), string(b.Service), string(a.Host), string(b.Host))
	})
	return out
}

func (s *Server) log() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}
