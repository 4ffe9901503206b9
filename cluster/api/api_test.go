package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
	"github.com/pilotlight/pilotlight/cluster/join"
)

var (
	_ Store     = (*clustertest.Memory)(nil)
	_ Documents = (*clustertest.Memory)(nil)
)

const value = "hunter2-the-value"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func policy(name string, registries ...string) cluster.Document {
	return &cluster.Policy{Meta: cluster.Meta{Name: name}, Registries: registries}
}

func secretDoc(name string) cluster.Document {
	return &cluster.Secret{Meta: cluster.Meta{Name: name}, Sites: []cluster.SiteName{"www"}}
}

func (r *rig) audited(want ...string) {
	r.t.Helper()
	all, err := r.store.AuditLog(r.t.Context(), cluster.AuditQuery{})
	must(r.t, err)
	var got []string
	for _, e := range all.Entries {
		got = append(got, strings.TrimSpace(strings.Join([]string{e.Actor, e.Action, e.Subject, e.Detail}, " ")))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.t.Errorf("audit\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func changes(out ApplyResponse) string {
	var words []string
	for _, c := range out.Changes {
		words = append(words, c.Action+" "+c.Ref.String())
	}
	return strings.Join(words, ", ")
}

func TestOperatorsOnly(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	for name, c := range map[string]*Client{
		"no certificate": r.client(), "a host": r.client(r.certificate("node", join.Subject{CommonName: "node:web1"})), "a server": r.client(r.certificate("root", join.Subject{CommonName: "root"})),
	} {
		_, err := c.Apply(ctx, []cluster.Document{policy("a", "x")}, nil, false)
		calls := []error{err, c.Retire(ctx, "web1")}
		_, err = c.Documents(ctx, "", "")
		calls = append(calls, err)
		_, err = c.Hosts(ctx)
		calls = append(calls, err)
		_, err = c.Services(ctx)
		calls = append(calls, err)
		_, err = c.Secrets(ctx)
		calls = append(calls, err)
		_, err = c.PutSecret(ctx, "a", strings.NewReader(value))
		calls = append(calls, err)
		_, err = c.Boots(ctx, "")
		calls = append(calls, err)
		_, err = c.Audit(ctx, cluster.AuditQuery{})
		calls = append(calls, err)
		_, err = c.Explain(ctx, "web1")
		calls = append(calls, err)
		_, err = c.Render(ctx, RenderRequest{Host: "web1"})
		calls = append(calls, err)
		for i, err := range calls {
			var status *StatusError
			if !errors.As(err, &status) || status.Status != http.StatusForbidden || !strings.Contains(err.Error(), "--cert") {
				t.Errorf("%s, call %d: %v", name, i, err)
			}
		}
	}
	if n := len(r.Snapshot().Documents()); n != 0 {
		t.Errorf("%d documents were written", n)
	}
	other, err := join.OpenCA(filepath.Join(t.TempDir(), "ca"))
	must(t, err)
	must(t, other.Ensure(filepath.Join(r.dir, "evil"), join.Subject{CommonName: "admin", Organization: join.OperatorOrg}))
	evil, err := tls.LoadX509KeyPair(filepath.Join(r.dir, "evil.crt"), filepath.Join(r.dir, "evil.key"))
	must(t, err)
	if _, err := r.client(evil).Hosts(ctx); err == nil {
		t.Error("another authority's operator was let in")
	}
}

func TestApply(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	c := r.admin()
	out, err := c.Apply(ctx, []cluster.Document{secretDoc("tls"), policy("a", "x.org")}, nil, true)
	if err != nil || changes(out) != "create policy a, create secret tls" || len(r.Snapshot().Documents()) != 0 {
		t.Fatalf("dry run: %s, %v", changes(out), err)
	}
	r.audited()
	if _, err = c.Apply(ctx, []cluster.Document{secretDoc("tls"), policy("a", "x.org")}, nil, false); err != nil {
		t.Fatal(err)
	}
	out, err = c.Apply(ctx, []cluster.Document{policy("a", "y.org"), policy("b", "x.org"), secretDoc("tls")}, nil, false)
	if err != nil || changes(out) != "update policy a, create policy b, unchanged secret tls" || !bytes.Contains(out.Changes[0].Before, []byte("x.org")) || !bytes.Contains(out.Changes[0].After, []byte("y.org")) {
		t.Errorf("%s, %v", changes(out), err)
	}
	out, err = c.Apply(ctx, nil, []cluster.Ref{policy("b").Ref()}, false)
	if err != nil || changes(out) != "delete policy b" {
		t.Errorf("%s, %v", changes(out), err)
	}
	docs, err := c.Documents(ctx, cluster.KindPolicy, "")
	if err != nil || len(docs) != 1 || docs[0].(*cluster.Policy).Registries[0] != "y.org" {
		t.Errorf("%v, %v", docs, err)
	}
	if docs, err = c.Documents(ctx, "", "tls"); err != nil || len(docs) != 1 {
		t.Errorf("%v, %v", docs, err)
	}
	r.audited("operator:admin create policy a", "operator:admin create secret tls", "operator:admin update policy a", "operator:admin create policy b", "operator:admin delete policy b")
}

// A firewall that closes what a site publishes is told of when it alone is applied.
func TestApplyAdvisesOfAFirewall(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	c := r.admin()
	profile := &cluster.Profile{Meta: cluster.Meta{Name: "web"}, Boot: cluster.BootLocal}
	site := &cluster.Site{Meta: cluster.Meta{Name: "www"}, Services: []cluster.Service{{
		Name: "front", Image: "r.org/x@sha256:" + strings.Repeat("a", 64), Ports: []cluster.Port{{Host: 443, Container: 443, Protocol: "tcp"}},
	}}}
	out, err := c.Apply(ctx, []cluster.Document{
		profile, &cluster.Host{Meta: cluster.Meta{Name: "web1"}, Serial: "1", Profile: "web"}, site,
		&cluster.Policy{Meta: cluster.Meta{Name: "all"}, Registries: []string{"r.org"}},
	}, nil, false)
	if err != nil || len(out.Advice) != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	closed := *profile
	closed.Firewall = &cluster.Firewall{}
	out, err = c.Apply(ctx, []cluster.Document{&closed}, nil, true)
	if err != nil || len(out.Advice) != 1 || !strings.Contains(out.Advice[0].String(), "nobody reaches port 443/tcp of host web1") {
		t.Errorf("%+v, %v", out.Advice, err)
	}
}

func TestApplyProblems(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	c := r.admin()
	r.Applier.Verify = func(next *cluster.Snapshot, _ map[cluster.Ref]bool) []cluster.Problem {
		if _, ok := next.Get(policy("verify").Ref()); ok {
			return []cluster.Problem{{Ref: policy("verify").Ref(), Message: "does not render"}}
		}
		return nil
	}
	for name, call := range map[string]struct {
		docs   []cluster.Document
		remove []cluster.Ref
		says   string
	}{
		"check":         {[]cluster.Document{policy("good", "x.org"), policy("bad")}, nil, "policy bad: registries: is missing"},
		"verify":        {[]cluster.Document{policy("verify", "x.org")}, nil, "policy verify: does not render"},
		"none":          {nil, []cluster.Ref{policy("none").Ref()}, "policy none: there is none to delete"},
		"twice":         {[]cluster.Document{policy("a", "x.org"), policy("a", "y.org")}, nil, "is given to two documents"},
		"both":          {[]cluster.Document{policy("a", "x.org")}, []cluster.Ref{policy("a").Ref()}, "is to be written and to be deleted"},
		"deleted twice": {nil, []cluster.Ref{policy("a").Ref(), policy("a").Ref()}, "is to be deleted twice"},
	} {
		for _, dry := range []bool{true, false} {
			out, err := c.Apply(ctx, call.docs, call.remove, dry)
			if err != nil || len(out.Problems) == 0 || !strings.Contains(out.Problems[0].String(), call.says) {
				t.Errorf("%s: %v, %v", name, out.Problems, err)
			}
		}
	}
	if n := len(r.Snapshot().Documents()); n != 0 {
		t.Errorf("%d documents were written", n)
	}
	r.audited()
	post := func(body string) (int, string) {
		h := c.http
		res, err := h.Post(r.url+"/v1/apply", "application/json", strings.NewReader(body))
		must(t, err)
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text)
	}
	for body, says := range map[string]string{
		"": "not an apply", "[]": "not an apply", `{"documents":[null]}`: "not a kind", `{"documents":[{"kind":"x"}]}`: "not a kind", `{"documents":[{"kind":"host","macs":["x"]}]}`: "not a MAC address",
	} {
		if status, text := post(body); status != http.StatusBadRequest || !strings.Contains(text, says) {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
}

// racing is a store in which somebody else applies before each apply.
type racing struct {
	*clustertest.Memory
	others int
}

func (s *racing) Apply(ctx context.Context, base *cluster.Snapshot, put []cluster.Document, remove []cluster.Ref, audit []cluster.AuditEntry) error {
	if s.others > 0 {
		s.others--
		now, err := s.Load(ctx)
		if err != nil {
			return err
		}
		if err := s.Memory.Apply(ctx, now, []cluster.Document{policy(fmt.Sprintf("other%d", s.others), "x.org")}, nil, nil); err != nil {
			return err
		}
	}
	return s.Memory.Apply(ctx, base, put, remove, audit)
}

func TestApplyAgainAfterConflict(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	r.Applier.Store = &racing{r.store, applyTries - 1}
	if _, err := r.admin().Apply(ctx, []cluster.Document{policy("a", "x.org")}, nil, false); err != nil {
		t.Fatal(err)
	}
	if n := len(r.Snapshot().Documents()); n != applyTries {
		t.Errorf("%d documents", n)
	}
	r.Applier.Store = &racing{r.store, 100}
	_, err := r.admin().Apply(ctx, []cluster.Document{policy("b", "x.org")}, nil, false)
	var status *StatusError
	if !errors.As(err, &status) || status.Status != http.StatusConflict {
		t.Errorf("got %v", err)
	}
}

func TestSecrets(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	c := r.admin()
	var status *StatusError
	if _, err := c.PutSecret(ctx, "tls", strings.NewReader(value)); !errors.As(err, &status) || status.Status != 404 || !strings.Contains(err.Error(), "apply a document with kind: secret") {
		t.Errorf("no document: %v", err)
	}
	_, err := c.Apply(ctx, []cluster.Document{secretDoc("tls"), secretDoc("empty")}, nil, false)
	must(t, err)
	v, err := c.PutSecret(ctx, "tls", strings.NewReader(value))
	if err != nil || v != (cluster.Version{Name: "tls", Version: 1}) {
		t.Fatalf("%v, %v", v, err)
	}
	for name, call := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"empty": {"", 400, "secret put tls < FILE"}, "long": {strings.Repeat("x", maxSecret+1), 413, "longer than 512000 bytes"},
	} {
		if _, err := c.PutSecret(ctx, "tls", strings.NewReader(call.body)); !errors.As(err, &status) || status.Status != call.status || !strings.Contains(err.Error(), call.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v, err := c.PutSecret(ctx, "tls", strings.NewReader(strings.Repeat("x", maxSecret))); err != nil || v.Version != 2 {
		t.Errorf("%v, %v", v, err)
	}
	list, err := c.Secrets(ctx)
	if err != nil || len(list) != 2 || list[0].Version != 0 || list[1].Version != 2 || list[1].Sites[0] != "www" {
		t.Errorf("%+v, %v", list, err)
	}
	raw, err := r.store.SecretValue(ctx, cluster.Version{Name: "tls", Version: 1})
	if err != nil || bytes.Contains(raw, []byte(value)) {
		t.Errorf("the store holds %s, %v", raw, err)
	}
	r.audited("operator:admin create secret empty", "operator:admin create secret tls", "operator:admin secret.put secret tls version 1", "operator:admin secret.put secret tls version 2")

	var wg sync.WaitGroup
	var mu sync.Mutex
	versions := map[int]bool{}
	for range applyTries - 1 {
		wg.Go(func() {
			v, err := c.PutSecret(ctx, "empty", strings.NewReader(value))
			mu.Lock()
			defer mu.Unlock()
			if err != nil || versions[v.Version] {
				t.Errorf("%v, %v", v, err)
			}
			versions[v.Version] = true
		})
	}
	wg.Wait()
}

func TestRetire(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	c := r.admin()
	var status *StatusError
	for _, name := range []string{"nobody", "web1/secrets", "..", " "} {
		if err := c.Retire(ctx, name); !errors.As(err, &status) || status.Status != http.StatusNotFound {
			t.Errorf("%q: %v", name, err)
		}
	}
	must(t, r.store.AllowNode(ctx, "web1"))
	must(t, r.store.SetStatus(ctx, "web1", cluster.Status{}))
	must(t, c.Retire(ctx, "web1"))
	if r.store.Allowed("web1") {
		t.Error("it is still let in")
	}
	r.audited("operator:admin host.retire host web1")
}

// TestHangingUpIsAudited has an operator go once the act is done.
func TestHangingUpIsAudited(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	strict := &strictAudit{Memory: r.store}
	r.Store = strict
	r.audit(ctx, "operator:admin", "host.retire", "host web1", "")
	r.audited("operator:admin host.retire host web1")
}

// TestApplyIsItsAudit has a server die between an apply and whatever comes after
// it: nothing comes after it.
func TestApplyIsItsAudit(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	r.Store = deadAfterApply{r.store}
	if _, err := r.admin().Apply(ctx, []cluster.Document{policy("a", "x.org"), policy("b", "x.org")}, nil, false); err != nil {
		t.Fatal(err)
	}
	r.audited("operator:admin create policy a", "operator:admin create policy b")
}

// deadAfterApply writes nothing but documents.
type deadAfterApply struct{ *clustertest.Memory }

func (deadAfterApply) Audit(context.Context, cluster.AuditEntry) error {
	return errors.New("the server is dead")
}

// strictAudit writes nothing for those who are gone.
type strictAudit struct{ *clustertest.Memory }

func (s *strictAudit) Audit(ctx context.Context, e cluster.AuditEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.Memory.Audit(ctx, e)
}

func TestMachinesAndRecords(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	c := r.admin()
	if e, err := c.Explain(ctx, "web1"); err != nil || e.Who != "web1" || len(e.Why) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	var status *StatusError
	if _, err := c.Explain(ctx, "none"); !errors.As(err, &status) || status.Status != http.StatusNotFound {
		t.Error(err)
	}
	if body, err := c.Render(ctx, RenderRequest{Host: "web1", Accept: "a/b; c=d"}); err != nil || string(body) != "web1 for a/b; c=d" {
		t.Errorf("%s, %v", body, err)
	}
	must(t, r.store.SaveBoot(ctx, cluster.Boot{ID: "1", Host: "web1"}))
	if boots, err := c.Boots(ctx, "web1"); err != nil || len(boots) != 1 {
		t.Errorf("%v, %v", boots, err)
	}
	must(t, r.store.Audit(ctx, cluster.AuditEntry{At: time.Now(), Subject: "host web1"}))
	if entries, err := c.Audit(ctx, cluster.AuditQuery{About: "web1"}); err != nil || len(entries.Entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestUnreachable(t *testing.T) {
	r := newRig(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	_, err := NewClient(strings.Replace(gone.URL, "http:", "https:", 1), &tls.Config{}).Hosts(t.Context())
	if err == nil || !strings.Contains(err.Error(), "pilotlight serve") || !strings.Contains(err.Error(), "--server") {
		t.Errorf("nobody there: %v", err)
	}
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	_, err = NewClient(other.URL, other.Client().Transport.(*http.Transport).TLSClientConfig).Hosts(t.Context())
	if err == nil || !strings.Contains(err.Error(), "is it a pilotlight server?") {
		t.Errorf("another server: %v", err)
	}
	if err := r.admin().call(t.Context(), http.MethodGet, "/v1/none", nil, &struct{}{}); err == nil {
		t.Error("no such call")
	}
}
