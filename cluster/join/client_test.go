package join

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// server answers like a pilotlight server; its certificate is its own CA.
func server(t *testing.T, h http.HandlerFunc) (*httptest.Server, []byte) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func client(ca []byte, servers ...string) *Client {
	return &Client{Servers: func() []string { return servers }, CA: func() []byte { return ca }}
}

const answer = `{"host":"web1","certificate":"PEM","ca":"PEM2"}`

func TestClientCalls(t *testing.T) {
	var seen []string
	s, ca := server(t, func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		line := r.Method + " " + r.URL.Path
		for _, k := range []string{"token", "csr", "recipient", "mac", "uuid"} {
			if v, ok := body[k].(string); ok {
				line += " " + k + "=" + v
			}
		}
		if len(r.TLS.PeerCertificates) > 0 {
			line += " with a certificate"
		}
		seen = append(seen, line)
		_, _ = w.Write([]byte(answer))
	})
	c := client(ca, s.URL)
	ctx := t.Context()
	want := Response{Host: "web1", Certificate: "PEM", CA: "PEM2"}
	mac, _ := cluster.ParseMAC("52:54:00:12:34:56")
	for _, call := range []func() (Response, error){
		func() (Response, error) {
			return c.Introduce(ctx, Request{Token: "T", CSR: "C", Recipient: "age1x", MAC: mac, UUID: "U"})
		},
		func() (Response, error) { return c.Certificate(ctx, "abc") },
		func() (Response, error) {
			return c.Renew(ctx, tls.Certificate{Certificate: s.TLS.Certificates[0].Certificate, PrivateKey: s.TLS.Certificates[0].PrivateKey}, "C2")
		},
	} {
		if got, err := call(); err != nil || got != want {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	got := strings.Join(seen, "\n")
	if want := "POST /v1/join token=T csr=C recipient=age1x mac=52:54:00:12:34:56 uuid=U\n" +
		"GET /v1/join/certificates/abc\nPOST /v1/renew csr=C2 with a certificate"; got != want {
		t.Errorf("asked\n%s\nnot\n%s", got, want)
	}
}

func TestClientRefusals(t *testing.T) {
	status, body := 0, ""
	s, ca := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
	for _, c := range []struct {
		status        int
		body          string
		refused, used bool
		says          string
	}{
		{409, `{"error":"token was already used"}`, true, true, "(409): token was already used"},
		{403, "token has expired; reboot the host\n", true, false, "token has expired; reboot the host"},
		{404, "", true, false, "not found"},
		{429, "", false, false, "cannot answer now"},
		{503, `{"error":"no leader"}`, false, false, "no leader"},
		{302, "", true, false, "(302): found"},
		{200, "{}", false, false, "without a certificate"},
		{200, "<html>", false, false, "read the answer"},
	} {
		status, body = c.status, c.body
		_, err := client(ca, s.URL).Introduce(t.Context(), Request{})
		if err == nil || errors.Is(err, ErrRefused) != c.refused || errors.Is(err, ErrUsed) != c.used || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
	}
}

func TestClientTriesServersInTurn(t *testing.T) {
	good, ca := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) })
	busy := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	defer busy.Close()
	gone := httptest.NewServer(nil)
	gone.Close()

	if _, err := client(ca, strings.Replace(gone.URL, "http:", "https:", 1), busy.URL, good.URL).Certificate(t.Context(), "x"); err != nil {
		t.Errorf("the last of three answers, and still: %v", err)
	}
	_, err := client(ca, "http://plain", "://", busy.URL).Certificate(t.Context(), "x")
	if err == nil || !strings.Contains(err.Error(), "https://ADDRESS:PORT") || !strings.Contains(err.Error(), "cannot answer now") {
		t.Errorf("errors of all servers: %v", err)
	}
	if _, err := client(ca).Certificate(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "agent.json") {
		t.Errorf("no servers: %v", err)
	}
	if _, err := client([]byte("none"), good.URL).Certificate(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "ca in agent.json") {
		t.Errorf("no CA: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client(ca, good.URL, good.URL).Certificate(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestClientTrustsItsAuthorityOnlyAndTLS13(t *testing.T) {
	asked := false
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	s.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if _, err := client(ca, s.URL).Introduce(t.Context(), Request{Token: "T"}); err == nil {
		t.Error("spoke TLS 1.2")
	}
	other := otherCA(t)
	s2, _ := server(t, func(http.ResponseWriter, *http.Request) { asked = true })
	if _, err := client(other, s2.URL).Introduce(t.Context(), Request{Token: "T"}); err == nil {
		t.Error("trusted another authority")
	}
	if asked {
		t.Error("the token left the host")
	}
}
