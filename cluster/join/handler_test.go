package join

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// serve serves a rig as a server does, and returns its URL.
func (r *rig) serve(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(r.Handler())
	s.TLS = serverTLS(t, r.CA)
	s.TLS.MinVersion, s.TLS.ClientAuth, s.TLS.ClientCAs = tls.VersionTLS12, tls.VerifyClientCertIfGiven, r.CA.Pool()
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func (r *rig) mintFor(t *testing.T, host cluster.HostName) string {
	t.Helper()
	token, err := r.Mint(t.Context(), Bearer{Host: host, MAC: hostMAC, UUID: hostUUID, Address: loopback})
	if err != nil {
		t.Fatal(err)
	}
	r.tokens = append(r.tokens, token)
	return token
}

func pair(t *testing.T, out Response, key *ecdsa.PrivateKey) tls.Certificate {
	t.Helper()
	text, err := encodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair([]byte(out.Certificate), text)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestHandlerServesClient goes the whole way by the host's own client.
func TestHandlerServesClient(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	c := client(r.CA.PEM(), r.serve(t))
	key := newKey(t)
	in := request(t, r.mintFor(t, "web1"), key)
	out, err := c.Introduce(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.Introduce(ctx, in); err != nil || again != out { // the answer was lost
		t.Errorf("a second time: %+v, %v", again, err)
	}
	other := in
	other.CSR = csrOf(t, newKey(t))
	if _, err := c.Introduce(ctx, other); !errors.Is(err, ErrUsed) {
		t.Errorf("a second time, by another key: %v", err)
	}
	if again, err := c.Certificate(ctx, keyHash(t, key)); err != nil || again != out {
		t.Errorf("fetched: %+v, %v", again, err)
	}
	if _, err := c.Certificate(ctx, "none"); !errors.Is(err, ErrRefused) || errors.Is(err, ErrUsed) {
		t.Errorf("of nobody: %v", err)
	}
	next := newKey(t)
	renewed, err := c.Renew(ctx, pair(t, out, key), csrOf(t, next))
	if err != nil || renewed.Host != "web1" {
		t.Fatalf("%+v, %v", renewed, err)
	}
	r.live("web1")
	if _, err := c.Introduce(ctx, request(t, "made up", newKey(t))); !errors.Is(err, ErrRefused) || errors.Is(err, ErrUsed) {
		t.Errorf("made up: %v", err)
	}
}

// TestRenewNeedsAHost tries renewal with certificates that are not a host's.
func TestRenewNeedsAHost(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	url := r.serve(t)
	key := newKey(t)
	if _, err := client(r.CA.PEM(), url).Introduce(ctx, request(t, r.mintFor(t, "web1"), key)); err != nil {
		t.Fatal(err)
	}
	signed := func(ca *CA, name string) *tls.Certificate {
		k := newKey(t)
		crt, err := ca.sign(k.Public(), Subject{CommonName: name}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		cert := pair(t, Response{Certificate: string(crt)}, k)
		return &cert
	}
	for name, c := range map[string]struct {
		cert   *tls.Certificate
		status int
	}{
		"none":        {nil, 401},
		"an operator": {signed(r.CA, "admin"), 403},
		"etcd's root": {signed(r.CA, "root"), 403},
		"no host":     {signed(r.CA, "node:"), 403},
		"a stranger":  {signed(r.CA, "node:web2"), 403},
		"other key":   {signed(r.CA, "node:web1"), 403},
		"another CA":  {signed(openCA(t, t.TempDir()), "node:web1"), 0},
	} {
		config := &tls.Config{RootCAs: r.CA.Pool()}
		if c.cert != nil {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert, nil }
		}
		h := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		res, err := h.Post(url+PathRenew, "application/json", strings.NewReader(`{"csr":"x"}`))
		if c.status == 0 {
			if err == nil {
				t.Errorf("%s: %s", name, res.Status)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != c.status || !bytes.Contains(body, []byte(`"error":"`)) {
			t.Errorf("%s: %s %s", name, res.Status, body)
		}
	}
}

func TestHandlerRefusesNonsense(t *testing.T) {
	r := newRig(t)
	url := r.serve(t)
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.CA.Pool()}}}
	token := r.mintFor(t, "web1")
	for body, status := range map[string]int{
		"": 400, "{": 400, "[]": 400, `{"token":1}`: 400, `{"token":"` + token + `","mac":"xx"}`: 400,
		`{"mac":"` + token + `"}`:                          400,
		`{"token":"` + strings.Repeat("x", 70<<10) + `"}`:  400,
		`{"token":"x","extra":{"a":[1]}}`:                  403,
		`{"token":"` + token + `","forwarded":"10.0.0.5"}`: 403,
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, url+PathJoin, strings.NewReader(body))
		req.Header.Set("X-Forwarded-For", "10.0.0.5")
		res, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("%.40s: %s %s", body, res.Status, text)
		}
		if bytes.Contains(text, []byte(token)) {
			t.Errorf("%.40s: the answer shows the token: %s", body, text)
		}
	}
	for _, path := range []string{PathJoin, PathRenew, PathCertificates, PathCertificates + "a/b"} {
		res, err := h.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode < 400 || res.StatusCode >= 500 {
			t.Errorf("GET %s: %s", path, res.Status)
		}
	}
}

// TestOurFaultsAreRetried has etcd be away: the client is told to ask again.
func TestOurFaultsAreRetried(t *testing.T) {
	r := newRig(t)
	f := &faulty{Memory: r.store, fail: "alive"}
	token := r.mintFor(t, "web1")
	r.Nodes = f
	c := client(r.CA.PEM(), r.serve(t))
	in := request(t, token, newKey(t))
	_, err := c.Introduce(context.Background(), in)
	if err == nil || errors.Is(err, ErrRefused) || strings.Contains(err.Error(), errDown.Error()) || !strings.Contains(err.Error(), "try again") {
		t.Errorf("got %v", err)
	}
	f.fail = ""
	if _, err := c.Introduce(context.Background(), in); err != nil {
		t.Error(err)
	}
}
