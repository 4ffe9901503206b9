package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// Client is an operator's side of the API.
type Client struct {
	server string
	http   *http.Client
}

// NewClient returns a client of the server at https://ADDRESS:PORT.
func NewClient(server string, config *tls.Config) *Client {
	return &Client{strings.TrimSuffix(server, "/"), &http.Client{
		Timeout:   2 * time.Minute,
		Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second},
	}}
}

// Apply asks for documents to be as given. Problems in the answer mean that
// nothing was written.
func (c *Client) Apply(ctx context.Context, docs []cluster.Document, remove []cluster.Ref, dryRun bool) (out ApplyResponse, err error) {
	return c.apply(ctx, docs, ApplyRequest{Delete: remove, DryRun: dryRun})
}

// Diff says what an apply of documents would change, and what becomes of the configs
// of hosts: in full of those that are named.
func (c *Client) Diff(ctx context.Context, docs []cluster.Document, hosts []cluster.HostName) (ApplyResponse, error) {
	return c.apply(ctx, docs, ApplyRequest{DryRun: true, Hosts: hosts})
}

// Check says what is wrong with documents, beside what was wrong with some of them
// already.
func (c *Client) Check(ctx context.Context, docs []cluster.Document, wrong []cluster.Ref) (ApplyResponse, error) {
	return c.apply(ctx, docs, ApplyRequest{DryRun: true, Wrong: wrong})
}

func (c *Client) apply(ctx context.Context, docs []cluster.Document, in ApplyRequest) (out ApplyResponse, err error) {
	for _, d := range docs {
		body, err := cluster.MarshalDocument(d)
		if err != nil {
			return out, err
		}
		in.Documents = append(in.Documents, body)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	return out, c.call(ctx, http.MethodPost, "/v1/apply", bytes.NewReader(body), &out)
}

// Documents returns what was applied: of one kind, or of one name, or all.
func (c *Client) Documents(ctx context.Context, kind cluster.Kind, name string) ([]cluster.Document, error) {
	var bodies []json.RawMessage
	q := url.Values{"kind": {string(kind)}, "name": {name}}
	if err := c.call(ctx, http.MethodGet, "/v1/documents?"+q.Encode(), nil, &bodies); err != nil {
		return nil, err
	}
	out := make([]cluster.Document, len(bodies))
	for i, b := range bodies {
		d, err := cluster.UnmarshalDocument(b)
		if err != nil {
			return nil, err
		}
		out[i] = d
	}
	return out, nil
}

// Hosts returns every host and every machine that was seen.
func (c *Client) Hosts(ctx context.Context) (out []HostStatus, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/hosts", nil, &out)
}

// Retire shuts a host out: its certificate opens nothing from then on.
func (c *Client) Retire(ctx context.Context, host string) error {
	return c.call(ctx, http.MethodPost, "/v1/hosts/"+url.PathEscape(host)+"/retire", nil, &struct{}{})
}

// Reinstall has a host's next network boot run its installer.
func (c *Client) Reinstall(ctx context.Context, host string) (out cluster.Install, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/hosts/"+url.PathEscape(host)+"/reinstall", nil, &out)
}

// Installed has a host boot from its disk.
func (c *Client) Installed(ctx context.Context, host string) (out cluster.Install, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/hosts/"+url.PathEscape(host)+"/installed", nil, &out)
}

// Services returns how every service fares on every host.
func (c *Client) Services(ctx context.Context) (out []ServiceStatus, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/sites", nil, &out)
}

// Secrets lists the secrets, without their values.
func (c *Client) Secrets(ctx context.Context) (out []SecretStatus, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/secrets", nil, &out)
}

// PutSecret gives a secret a new value, and returns its version.
func (c *Client) PutSecret(ctx context.Context, name string, value io.Reader) (out cluster.Version, err error) {
	return out, c.call(ctx, http.MethodPut, "/v1/secrets/"+url.PathEscape(name), value, &out)
}

// Boots returns the timelines of a host's last boots, oldest first.
func (c *Client) Boots(ctx context.Context, host string) (out []cluster.Boot, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/boots?"+url.Values{"host": {host}}.Encode(), nil, &out)
}

// Audit returns a part of the audit.
func (c *Client) Audit(ctx context.Context, q cluster.AuditQuery) (out cluster.AuditPage, err error) {
	v := url.Values{"about": {q.About}, "last": {strconv.Itoa(q.Last)}}
	if q.Alarms {
		v.Set("alarms", "1")
	}
	return out, c.call(ctx, http.MethodGet, "/v1/audit?"+v.Encode(), nil, &out)
}

// Explain says what a host or a MAC address would get, and why.
func (c *Client) Explain(ctx context.Context, who string) (out Explanation, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/explain?"+url.Values{"who": {who}}.Encode(), nil, &out)
}

// Render returns what a host is served.
func (c *Client) Render(ctx context.Context, in RenderRequest) (out []byte, err error) {
	q := url.Values{"host": {in.Host}, "what": {in.What}, "accept": {in.Accept}}
	if in.Installer {
		q.Set("installer", "1")
	}
	return out, c.call(ctx, http.MethodGet, "/v1/render?"+q.Encode(), nil, &out)
}

// call makes one call. out is filled from JSON, or, when it is a *[]byte, with
// the body as it came.
func (c *Client) call(ctx context.Context, method, path string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, body)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.server, err)
	}
	if res.StatusCode >= 300 {
		return c.refused(res, text)
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = text
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.server, err)
	}
	return nil
}

// refused is what a server said in the place of an answer.
func (c *Client) refused(res *http.Response, text []byte) error {
	var e errorBody
	if json.Unmarshal(text, &e) != nil || e.Error == "" {
		e.Error = fmt.Sprintf("%s answered %s; is it a pilotlight server?", c.server, res.Status)
	}
	return &StatusError{res.StatusCode, errors.New(e.Error)}
}

func (c *Client) unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("no answer from %s: %w; is `pilotlight serve` running there? another server is named with --server https://ADDRESS:8443", c.server, err)
}
