package join

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// PathServer is where a server joins those that there are: POST a ServerRequest.
const PathServer = "/v1/join/server"

// InviteLife is how long an invitation holds.
const InviteLife = time.Hour

// Invites keeps the hashes of invitations, each of which is good for one server.
type Invites interface {
	PutInvite(ctx context.Context, hash, by string, life time.Duration) error

	// Invite returns who gave an invitation, and TakeInvite uses it up; or
	// cluster.ErrNotFound.
	Invite(ctx context.Context, hash string) (by string, err error)
	TakeInvite(ctx context.Context, hash string) error
}

// Inviter lets other servers join this one. What a server gets are the keys to
// everything, so an invitation is as secret as they are.
type Inviter struct {
	CA      *CA
	Secrets func() string // the key that secrets are sealed to at rest
	Invites Invites
	Auditor Auditor
	Logger  *slog.Logger

	// Add makes room for a member of etcd, and returns all of them as etcd takes
	// them. An error of it that is a *Refusal, or a cluster.ErrConflict, is told.
	Add func(ctx context.Context, name cluster.ServerName, peer netip.AddrPort) (string, error)

	unknown limit // entries of made-up invitations
}

// ServerRequest is what a server says that joins.
type ServerRequest struct {
	Token string             `json:"token"`
	Name  cluster.ServerName `json:"name"`
	Peer  netip.AddrPort     `json:"peer"` // where other members of etcd reach it
}

// ServerResponse is all that a server needs to be one.
type ServerResponse struct {
	CA      string `json:"ca"`      // PEM
	Key     string `json:"key"`     // PEM, the authority's
	Secrets string `json:"secrets"` // the key that secrets are sealed to at rest
	Members string `json:"members"` // of etcd, NAME=URL,NAME=URL
}

// invitation is what an operator carries from one server to the other: where to
// ask, whom to trust there, and what to say.
type invitation struct {
	Servers []string `json:"servers"` // https://ADDRESS:PORT
	CA      []byte   `json:"ca"`      // DER
	Token   []byte   `json:"token"`
}

// Invite returns an invitation for one server, which finds this one at any of
// servers. Only its hash is kept.
func (i *Inviter) Invite(ctx context.Context, by string, servers []string) (string, error) {
	token := make([]byte, 32)
	_, _ = rand.Read(token) // never fails
	if err := i.Invites.PutInvite(ctx, hashToken(string(token)), by, InviteLife); err != nil {
		return "", err
	}
	if err := i.Auditor.Audit(ctx, cluster.AuditEntry{At: time.Now(), Actor: by, Action: "server.invite", OK: true}); err != nil {
		return "", err
	}
	text, err := json.Marshal(invitation{servers, i.CA.cert.Raw, token})
	if err != nil {
		return "", fmt.Errorf("encode an invitation: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(text), nil
}

// Admit lets a server join.
func (i *Inviter) Admit(ctx context.Context, from netip.Addr, r ServerRequest) (ServerResponse, error) {
	entry := cluster.AuditEntry{At: time.Now(), Actor: from.String(), Action: "server.join", Subject: "server " + string(r.Name)}
	token, err := base64.RawURLEncoding.DecodeString(r.Token)
	if err != nil || !ValidServerName(r.Name) || !r.Peer.IsValid() {
		return ServerResponse{}, refuse(http.StatusBadRequest, "that is no request of a server that joins; is it of this version?")
	}
	hash := hashToken(string(token))
	by, err := i.Invites.Invite(ctx, hash)
	if errors.Is(err, cluster.ErrNotFound) {
		entry.Detail = "no such invitation"
		if entry, ok := i.unknown.entry(entry); ok {
			_ = i.Auditor.Audit(ctx, entry) // the refusal stands all the same
		}
		return ServerResponse{}, refuse(http.StatusForbidden, "this invitation was used, or is older than %s: make another with `pilotlight server invite`", InviteLife)
	}
	if err != nil {
		return ServerResponse{}, err
	}
	out := ServerResponse{CA: string(i.CA.PEM()), Secrets: i.Secrets()}
	key, err := i.CA.keyPEM()
	if err != nil {
		return ServerResponse{}, err
	}
	out.Key = string(key)
	if out.Members, err = i.Add(ctx, r.Name, r.Peer); err != nil {
		if errors.Is(err, cluster.ErrConflict) {
			return ServerResponse{}, refuse(http.StatusConflict, "%s", err)
		}
		return ServerResponse{}, err
	}
	// Last, so that who has to correct something may ask again. Of two with the same
	// invitation one gets no further.
	if err := i.Invites.TakeInvite(ctx, hash); err != nil {
		return ServerResponse{}, err
	}
	entry.OK, entry.Detail = true, "invited by "+by
	return out, i.Auditor.Audit(ctx, entry)
}

// Handler serves PathServer.
func (i *Inviter) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"error": "POST what `pilotlight server join` sends"})
			return
		}
		var in ServerRequest
		if !read(w, r, &in) {
			return
		}
		out, err := i.Admit(r.Context(), remote(r), in)
		respond(w, i.Logger, out, err)
	})
}

// ValidServerName reports whether a name can be a server's: that of a host in DNS.
func ValidServerName(n cluster.ServerName) bool {
	for _, r := range string(n) {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.') {
			return false
		}
	}
	return n != "" && len(n) <= 253
}

// AskToJoin takes an invitation to the server that gave it.
func AskToJoin(ctx context.Context, invite string, r ServerRequest) (out ServerResponse, err error) {
	var v invitation
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(invite))
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil || len(v.Servers) == 0 { // err's text may quote it
		return out, errors.New("that is no invitation: give what `pilotlight server invite` printed on a server, all of it")
	}
	ca, err := x509.ParseCertificate(v.CA)
	if err != nil {
		return out, fmt.Errorf("the invitation's authority: %w", err)
	}
	r.Token = base64.RawURLEncoding.EncodeToString(v.Token)
	body, err := json.Marshal(r)
	if err != nil {
		return out, fmt.Errorf("encode the request: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots},
		DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: callTimeout}
	var failed []error
	for _, server := range v.Servers {
		out, err := postServer(ctx, client, server, body)
		if err == nil || errors.Is(err, ErrRefused) || ctx.Err() != nil {
			return out, err
		}
		failed = append(failed, err)
	}
	return out, fmt.Errorf("%w\nno server that the invitation names answers: see that one runs and that this machine reaches its HTTPS port, then try the same invitation again", errors.Join(failed...))
}

func postServer(ctx context.Context, client *http.Client, server string, body []byte) (out ServerResponse, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server+PathServer, bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	res, err := client.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return out, fmt.Errorf("ask server %s: %w", server, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return out, fmt.Errorf("read the answer of server %s: %w", server, err)
	}
	if res.StatusCode >= 300 {
		return out, refusal(server, res.StatusCode, answer)
	}
	if json.Unmarshal(answer, &out) != nil || out.CA == "" || out.Key == "" || out.Secrets == "" || out.Members == "" {
		return ServerResponse{}, fmt.Errorf("server %s answered without all that a server needs; is it of this version?", server)
	}
	return out, nil
}
