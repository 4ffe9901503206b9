package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	callTimeout = 20 * time.Second // one call to one server
	dialTimeout = 5 * time.Second
	maxAnswer   = 1 << 20
)

// Sentinels on which a host branches.
var (
	ErrRefused = errors.New("refused")      // asking the same again is no use
	ErrUsed    = errors.New("already used") // the token: the answer may still be fetched by Certificate
)

// RefusedError is a server's no, in its own words.
type RefusedError struct {
	Server  string
	Status  int
	Message string
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("server %s refuses (%d): %s", e.Server, e.Status, e.Message)
}

// Is makes a RefusedError an ErrRefused, and that of a used token an ErrUsed.
func (e *RefusedError) Is(target error) bool {
	return target == ErrRefused || target == ErrUsed && e.Status == http.StatusConflict
}

// Client is a host's side of its introduction. It trusts one authority only,
// speaks TLS 1.3 only, asks one server after the other until one answers, and
// takes the first answer, be it a no.
type Client struct {
	Servers func() []string // https://ADDRESS:PORT; asked at each call, since servers join and go
	CA      func() []byte   // PEM; asked at each call, so that a new authority is taken over

	// Dial makes connections; nil leaves that to the system. A token holds from
	// one address only, so a host with several may have to say from which.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Introduce redeems a token.
func (c *Client) Introduce(ctx context.Context, r Request) (Response, error) {
	out, err := c.call(ctx, http.MethodPost, PathJoin, r, nil)
	if err != nil {
		return out, fmt.Errorf("introduce this host: %w", err)
	}
	return out, nil
}

// Certificate fetches the answer to an introduction whose answer was lost.
// keyHash is the hexadecimal SHA-256 of the public key in PKIX form.
func (c *Client) Certificate(ctx context.Context, keyHash string) (Response, error) {
	out, err := c.call(ctx, http.MethodGet, PathCertificates+url.PathEscape(keyHash), nil, nil)
	if err != nil {
		return out, fmt.Errorf("fetch the certificate of an earlier introduction: %w", err)
	}
	return out, nil
}

// Renew asks for a certificate for csrPEM in the name of the present one.
func (c *Client) Renew(ctx context.Context, present tls.Certificate, csrPEM string) (Response, error) {
	out, err := c.call(ctx, http.MethodPost, PathRenew, RenewRequest{CSR: csrPEM}, &present)
	if err != nil {
		return out, fmt.Errorf("renew the certificate: %w", err)
	}
	return out, nil
}

func (c *Client) call(ctx context.Context, method, path string, in any, present *tls.Certificate) (Response, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return Response{}, err
	}
	roots := x509.NewCertPool()
	if c.CA == nil || !roots.AppendCertsFromPEM(c.CA()) {
		return Response{}, errors.New("no CA to trust: ca in agent.json must hold the server's PEM certificate (pilotlight render HOST shows it)")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}
	if present != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return present, nil }
	}
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	transport := &http.Transport{ // no Proxy: what stands in an environment is not to be trusted with this
		TLSClientConfig:   config,
		DialContext:       dial,
		ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport: transport,
		Timeout:   callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the server redirects, which a pilotlight server never does; check servers in agent.json")
		},
	}
	var servers []string
	if c.Servers != nil {
		servers = c.Servers()
	}
	if len(servers) == 0 {
		return Response{}, errors.New("no server to ask: list https://ADDRESS:PORT under servers in agent.json")
	}
	var failed []error
	for _, server := range servers {
		out, err := ask(ctx, client, method, server, path, body)
		if err == nil || errors.Is(err, ErrRefused) || ctx.Err() != nil {
			return out, err
		}
		failed = append(failed, err)
	}
	return Response{}, errors.Join(failed...)
}

func ask(ctx context.Context, client *http.Client, method, server, path string, body []byte) (Response, error) {
	var out Response
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return out, fmt.Errorf("server %q: write it as https://ADDRESS:PORT", server)
	}
	var payload io.Reader
	if method != http.MethodGet {
		payload = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+u.Host+path, payload)
	if err != nil {
		return out, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return out, fmt.Errorf("ask server %s: %w", server, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return out, fmt.Errorf("ask server %s: %w", server, err)
	}
	if res.StatusCode >= 300 {
		return out, refusal(server, res.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("read the answer of server %s: %w", server, err)
	}
	if out.Certificate == "" || out.Host == "" {
		return out, fmt.Errorf("server %s answered without a certificate; is it a pilotlight server of this version?", server)
	}
	return out, nil
}

// refusal turns an answer that is no certificate into an error. What may be
// otherwise a moment later is no refusal.
func refusal(server string, status int, answer []byte) error {
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(answer, &said) != nil || said.Error == "" {
		said.Error = string(answer[:min(len(answer), 1<<10)])
	}
	said.Error = strings.TrimSpace(said.Error)
	if said.Error == "" {
		said.Error = strings.ToLower(http.StatusText(status))
	}
	switch {
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return fmt.Errorf("server %s cannot answer now (%d): %s", server, status, said.Error)
	}
	return &RefusedError{Server: server, Status: status, Message: said.Error}
}
