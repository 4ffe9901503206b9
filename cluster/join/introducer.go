package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"filippo.io/age"

	"github.com/pilotlight/pilotlight/cluster"
)

// Records is where tokens and introductions are kept. Each write is one
// transaction, which fails with cluster.ErrConflict when somebody was faster.
type Records interface {
	PutToken(ctx context.Context, hash string, t cluster.Token, audit ...cluster.AuditEntry) error
	Token(ctx context.Context, hash string) (cluster.Token, cluster.Revision, error)
	Introduction(ctx context.Context, h cluster.HostName) (cluster.Introduction, cluster.Revision, error)
	Redeem(ctx context.Context, hash string, t cluster.Token, at cluster.Revision, in cluster.Introduction) error
	Renew(ctx context.Context, in cluster.Introduction, at cluster.Revision) error
	KeyOwner(ctx context.Context, keyHash string) (cluster.HostName, error)

	// TokensOf returns the hashes of a host's tokens.
	TokensOf(ctx context.Context, h cluster.HostName) ([]string, error)

	// UseToken marks a token, as it was at a revision, as used or revoked.
	UseToken(ctx context.Context, hash string, t cluster.Token, at cluster.Revision) error
}

// Nodes knows and admits hosts.
type Nodes interface {
	Alive(ctx context.Context, h cluster.HostName) (bool, error)
	AllowNode(ctx context.Context, h cluster.HostName) error
}

// Auditor keeps the audit.
type Auditor interface {
	Audit(ctx context.Context, e cluster.AuditEntry) error
}

// Introducer mints tokens, and turns one into a host's certificate.
type Introducer struct {
	CA      *CA
	Records Records
	Nodes   Nodes
	Auditor Auditor
	Logger  *slog.Logger
	OnJoin  func(cluster.Introduction) // may be nil

	// OnInstalled is told that the installer to which a token was given is done,
	// and makes it last; may be nil.
	OnInstalled func(context.Context, cluster.Token) error

	// HasHost reports whether a document names a host; nil is yes.
	HasHost func(cluster.HostName) bool

	// OnConfig makes the config that a token opens, with the token in it; nil gives
	// none.
	OnConfig func(ctx context.Context, t cluster.Token, token string) (Config, error)

	limits limits
	turns  turns
}

// Refusal is an introduction that was turned down. Its text may be shown to
// the one who asked.
type Refusal struct {
	Status int // of HTTP
	Reason string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Reason }

func refuse(status int, format string, args ...any) *Refusal {
	return &Refusal{status, fmt.Sprintf(format, args...)}
}

// Introduce redeems a token. from is the address that the request came from.
// A *Refusal says why it was turned down; any other error is ours, and the
// token still holds.
func (i *Introducer) Introduce(ctx context.Context, from netip.Addr, r Request) (Response, error) {
	hash := hashToken(r.Token)
	t, at, err := i.Records.Token(ctx, hash)
	if errors.Is(err, cluster.ErrNotFound) {
		return i.refused(ctx, from, "", refuse(http.StatusForbidden, "this token was never made, or long ago; boot the machine again to get a new one"))
	}
	if err != nil {
		return Response{}, err
	}
	if out, again, err := i.again(ctx, from, t, r); again || err != nil {
		return out, err
	}
	leave, err := i.turn(ctx)
	if err != nil {
		return Response{}, err
	}
	defer leave()
	refusal, err := i.judge(ctx, from, t, r)
	if err != nil {
		return Response{}, err
	}
	if refusal != nil {
		return i.refused(ctx, from, t.Host, refusal)
	}
	in, refusal := i.certify(t, from, r)
	if refusal != nil {
		return i.refused(ctx, from, t.Host, refusal)
	}
	t = redeemed(t, in)
	err = i.Records.Redeem(ctx, hash, t, at, in)
	if errors.Is(err, cluster.ErrConflict) {
		return i.refused(ctx, from, t.Host, refuse(http.StatusConflict, "this token was used by somebody else at this moment"))
	}
	if err != nil {
		return Response{}, err
	}
	i.audit(ctx, cluster.AuditEntry{Actor: from.String(), Action: "token.redeem", Subject: "host " + string(t.Host), OK: true, Detail: "key " + in.KeyHash + redeemer(t)})
	// Not before the token has held: the certificate of a host that was retired
	// would open etcd again. Should this fail, Certificate does it.
	if err := i.Nodes.AllowNode(ctx, t.Host); err != nil {
		return Response{}, err
	}
	if i.OnJoin != nil {
		i.OnJoin(in)
	}
	return i.response(in), nil
}

// again answers the host that redeemed this token, and asks once more because the
// answer was lost: with the server that was to give it, maybe. It shows that it
// has the key, so it gets what anybody may fetch for that key, and is no thief.
func (i *Introducer) again(ctx context.Context, from netip.Addr, t cluster.Token, r Request) (Response, bool, error) {
	if t.Used.IsZero() || t.Installer || t.UsedBy != from.Unmap() || t.MAC != r.MAC {
		return Response{}, false, nil
	}
	_, hash, refusal := askedFor(r.CSR)
	if refusal != nil {
		return Response{}, false, nil
	}
	out, err := i.Certificate(ctx, hash)
	if errors.As(err, &refusal) {
		return Response{}, false, nil
	}
	if err != nil || out.Host != t.Host {
		return out, false, err
	}
	if in, _, err := i.Records.Introduction(ctx, t.Host); err == nil && i.OnJoin != nil {
		i.OnJoin(in) // the server that was to may have died; twice does no harm
	}
	return out, true, nil
}

// judge says why a token does not do, or nil. An error is ours.
func (i *Introducer) judge(ctx context.Context, from netip.Addr, t cluster.Token, r Request) (*Refusal, error) {
	if refusal := bound(t, from, r); refusal != nil {
		return refusal, nil
	}
	_, rev, err := i.Records.Introduction(ctx, t.Host)
	if err != nil && !errors.Is(err, cluster.ErrNotFound) {
		return nil, err
	}
	if rev != t.After {
		return refuse(http.StatusForbidden, "host %s was introduced with another token, or retired, since this one was made; %s", t.Host, anew(t)), nil
	}
	alive, err := i.Nodes.Alive(ctx, t.Host)
	if err != nil {
		return nil, err
	}
	if alive {
		return refuse(http.StatusForbidden, "host %s: %v", t.Host, ErrAlive), nil
	}
	if t.Userdata != nil && i.HasHost != nil && !i.HasHost(t.Host) { // it may be days since it was made
		return refuse(http.StatusGone, "host %s is deleted", t.Host), nil
	}
	return nil, nil
}

// anew says how a host gets a new token.
func anew(t cluster.Token) string {
	if t.Userdata != nil {
		return fmt.Sprintf("type for a new one: pilotlight userdata %s", t.Host)
	}
	return "boot the machine again to get a new one"
}

// bound says why a token does not do for this request, or nil. A UUID is
// compared when both sides know it: firmware and system may not agree on one.
func bound(t cluster.Token, from netip.Addr, r Request) *Refusal {
	switch {
	case t.Installer:
		return refuse(http.StatusForbidden, "this token is an installer's, and introduces nobody")
	case !t.Revoked.IsZero():
		return refuse(http.StatusForbidden, "this token was revoked at %s; %s", t.Revoked.UTC().Format(time.RFC3339), anew(t))
	case !t.Used.IsZero():
		return refuse(http.StatusConflict, "this token was used at %s from %s; if that was this host, its certificate is at /v1/join/certificates/ and the SHA-256 of its key", t.Used.UTC().Format(time.RFC3339), t.UsedBy)
	case time.Now().After(t.Expires):
		return refuse(http.StatusForbidden, "this token ended at %s; %s", t.Expires.UTC().Format(time.RFC3339), anew(t))
	case t.Userdata == nil && t.Address != from.Unmap():
		return refuse(http.StatusForbidden, "this token was made for %s, not for %s", t.Address, from.Unmap())
	case t.Userdata == nil && t.MAC != r.MAC:
		return refuse(http.StatusForbidden, "this token was made for another MAC address than %s", r.MAC)
	case t.UUID != "" && r.UUID != "" && t.UUID != r.UUID:
		return refuse(http.StatusForbidden, "this token was made for another machine than the one with UUID %s", r.UUID)
	}
	return nil
}

// certify signs the certificate that a host asks for.
func (i *Introducer) certify(t cluster.Token, from netip.Addr, r Request) (cluster.Introduction, *Refusal) {
	if _, err := age.ParseX25519Recipient(r.Recipient); err != nil {
		return cluster.Introduction{}, refuse(http.StatusBadRequest, "recipient is not an age X25519 recipient (age1...)")
	}
	in, refusal := i.sign(t.Host, r.CSR)
	if refusal != nil {
		return in, refusal
	}
	in.Boot, in.Address, in.MAC, in.Recipient = t.Boot, from.Unmap(), r.MAC, r.Recipient
	return in, nil
}

func (i *Introducer) sign(h cluster.HostName, csrPEM string) (cluster.Introduction, *Refusal) {
	var in cluster.Introduction
	key, keyHash, refusal := askedFor(csrPEM)
	if refusal != nil {
		return in, refusal
	}
	// Nothing of the request but its key counts: the name is the token's.
	cert, err := i.CA.sign(key, Subject{CommonName: cluster.UserOf(h)}, nodeLife)
	if err != nil {
		return in, refuse(http.StatusInternalServerError, "%v", err)
	}
	now := time.Now()
	return cluster.Introduction{Host: h, At: now, KeyHash: keyHash, Certificate: string(cert), NotAfter: now.Add(nodeLife)}, nil
}

// askedFor returns the key that a certificate is asked for, and its hash.
func askedFor(csrPEM string) (*ecdsa.PublicKey, string, *Refusal) {
	block, _ := pem.Decode([]byte(csrPEM))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, "", refuse(http.StatusBadRequest, "csr is no certificate request in PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		return nil, "", refuse(http.StatusBadRequest, "csr is not signed by its own key")
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, "", refuse(http.StatusBadRequest, "csr holds no ECDSA key")
	}
	hash, err := KeyHash(key)
	if err != nil {
		return nil, "", refuse(http.StatusBadRequest, "%v", err)
	}
	return key, hash, nil
}

func (i *Introducer) response(in cluster.Introduction) Response {
	return Response{Host: in.Host, Certificate: in.Certificate, CA: string(i.CA.PEM())}
}

// Certificate returns the certificate that was signed for a key within the last
// hour to whoever asks: it is of use to the key's owner alone, whose answer may
// have been lost on the way.
func (i *Introducer) Certificate(ctx context.Context, keyHash string) (Response, error) {
	unknown := refuse(http.StatusNotFound, "no host was introduced with that key within the last hour")
	h, err := i.Records.KeyOwner(ctx, keyHash)
	if errors.Is(err, cluster.ErrNotFound) {
		return Response{}, unknown
	}
	if err != nil {
		return Response{}, err
	}
	in, _, err := i.Records.Introduction(ctx, h)
	if errors.Is(err, cluster.ErrNotFound) || err == nil && in.KeyHash != keyHash {
		return Response{}, unknown
	}
	if err != nil {
		return Response{}, err
	}
	leave, err := i.turn(ctx)
	if err != nil {
		return Response{}, err
	}
	defer leave()
	if err := i.Nodes.AllowNode(ctx, h); err != nil { // an introduction may have come no further
		return Response{}, err
	}
	return i.response(in), nil
}

// Renew signs a new certificate for a host that shows its present one,
// presented; the one before will do too, since the answer to a renewal may have
// been lost.
func (i *Introducer) Renew(ctx context.Context, from netip.Addr, presented *x509.Certificate, h cluster.HostName, csrPEM string) (Response, error) {
	in, rev, err := i.Records.Introduction(ctx, h)
	if errors.Is(err, cluster.ErrNotFound) {
		return i.refused(ctx, from, h, refuse(http.StatusForbidden, "host %s is not introduced, or was retired", h))
	}
	if err != nil {
		return Response{}, err
	}
	hash, err := KeyHash(presented.PublicKey)
	if err != nil || hash != in.KeyHash && hash != in.PreviousKey {
		return i.refused(ctx, from, h, refuse(http.StatusForbidden, "host %s was introduced again with another key since this certificate was signed", h))
	}
	next, refusal := i.sign(h, csrPEM)
	if refusal != nil {
		return i.refused(ctx, from, h, refusal)
	}
	next.Boot, next.MAC, next.Recipient, next.Address, next.PreviousKey = in.Boot, in.MAC, in.Recipient, in.Address, hash
	if err := i.Records.Renew(ctx, next, rev); err != nil {
		return Response{}, err
	}
	i.audit(ctx, cluster.AuditEntry{Actor: cluster.UserOf(h), Action: "certificate.renew", Subject: "host " + string(h), OK: true})
	return i.response(next), nil
}

// refused audits a refusal, and raises the alarm: nobody honest shows a token
// that does not do.
func (i *Introducer) refused(ctx context.Context, from netip.Addr, h cluster.HostName, r *Refusal) (Response, error) {
	i.refuseToken(ctx, from, h, "token.redeem", r)
	return Response{}, r
}

func (i *Introducer) refuseToken(ctx context.Context, from netip.Addr, h cluster.HostName, action string, r *Refusal) {
	subject, limit := "host "+string(h), &i.limits.refusals
	if h == "" {
		subject, limit = "a token of nobody", &i.limits.unknown
	}
	i.auditStranger(ctx, limit, cluster.AuditEntry{Actor: from.String(), Action: action, Subject: subject, Alarm: true, Detail: r.Reason})
}

// auditStranger audits what anybody on the network can bring about as often as
// they like: only so much of it is written.
func (i *Introducer) auditStranger(ctx context.Context, limit *limit, e cluster.AuditEntry) {
	e, ok := limit.entry(e)
	if !ok {
		return
	}
	if !e.OK {
		i.log().Warn("introduction refused", "action", e.Action, "from", e.Actor, "subject", e.Subject, "reason", e.Detail)
	}
	i.audit(ctx, e)
}

// auditTime is how long writing an entry may take.
const auditTime = 5 * time.Second

// audit writes an entry. Whoever hangs up after the act is audited all the same.
func (i *Introducer) audit(ctx context.Context, e cluster.AuditEntry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTime)
	defer cancel()
	e.At = time.Now()
	if err := i.Auditor.Audit(ctx, e); err != nil {
		i.log().Error("audit was not written", "err", err, "action", e.Action, "subject", e.Subject)
	}
}

func (i *Introducer) log() *slog.Logger {
	if i.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return i.Logger
}
