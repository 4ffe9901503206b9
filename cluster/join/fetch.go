package join

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// PathConfig is where a machine that was given a pointer fetches its host's config:
// GET, with the pointer's token in the header Authorization: Bearer TOKEN.
const PathConfig = "/v1/config"

// How long a token of userdata holds. It is handed to a cloud before there is a
// machine, and lies there for whoever may read it.
const (
	UserdataLife    = time.Hour
	MaxUserdataLife = 7 * 24 * time.Hour
)

// Config is a host's config, ready to be sent.
type Config struct {
	Data        []byte
	ContentType string
}

// ErrOutdated says that a host's config is not the one any more that its pointer was
// made for. The machine would refuse it.
var ErrOutdated = errors.New("its config has changed since")

// Config returns the config that a token opens, and does not redeem it: the agent
// does that, and the machine may ask as often as it must until then. The token of a
// boot opens it to its machine alone.
func (i *Introducer) Config(ctx context.Context, from netip.Addr, token string) (Config, error) {
	t, _, err := i.Records.Token(ctx, hashToken(token))
	if errors.Is(err, cluster.ErrNotFound) {
		return i.noConfig(ctx, from, t, refuse(http.StatusForbidden, "this token was never made, or long ago; boot the machine again, or type for new userdata: pilotlight userdata HOST"))
	}
	if err != nil {
		return Config{}, err
	}
	if t.Userdata == nil && t.Rest == nil || i.OnConfig == nil {
		return i.noConfig(ctx, from, t, refuse(http.StatusForbidden, "this token opens no config"))
	}
	asks := t
	asks.Installer = false // whose token introduces nobody, but has a config
	refusal, err := i.judge(ctx, from, asks, Request{MAC: t.MAC})
	if err != nil {
		return Config{}, err
	}
	if refusal != nil {
		return i.noConfig(ctx, from, t, refusal)
	}
	out, err := i.OnConfig(ctx, t, token)
	fetch := cluster.AuditEntry{Actor: from.String(), Action: fetchAction(t), Subject: "host " + string(t.Host), OK: err == nil}
	if errors.Is(err, ErrOutdated) {
		r := refuse(http.StatusGone, "host %s asks for its config as it was at %s, and %v; %s", t.Host, t.Minted.UTC().Format(time.RFC3339), err, anew(t))
		fetch.Detail, err = r.Reason, r
	}
	_, told := errors.AsType[*Refusal](err)
	if told || err == nil && t.Userdata != nil { // that of a boot is in its timeline
		i.auditStranger(ctx, &i.limits.fetches, fetch)
	}
	return out, err
}

func (i *Introducer) noConfig(ctx context.Context, from netip.Addr, t cluster.Token, r *Refusal) (Config, error) {
	i.refuseToken(ctx, from, t.Host, fetchAction(t), r)
	return Config{}, r
}

// fetchAction is the audit's word for a config that is fetched.
func fetchAction(t cluster.Token) string {
	if t.Userdata != nil {
		return "userdata.fetch"
	}
	return "config.fetch"
}

func (i *Introducer) serveConfig(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || len(token) > maxToken {
		respond(w, i.log(), nil, refuse(http.StatusUnauthorized, "send the token of the pointer: Authorization: Bearer TOKEN"))
		return
	}
	out, err := i.Config(r.Context(), remote(r), strings.TrimSpace(token))
	if err != nil {
		respond(w, i.log(), nil, err)
		return
	}
	w.Header().Set("Content-Type", out.ContentType)
	_, _ = w.Write(out.Data) // the asker is gone when this fails
}

// redeemed is a token once it is. What was bound to nobody is bound to who did it.
func redeemed(t cluster.Token, in cluster.Introduction) cluster.Token {
	t.Used, t.UsedBy = in.At, in.Address
	if t.Userdata != nil {
		t.MAC, t.Address = in.MAC, in.Address
	}
	return t
}

// redeemer says in the audit who took what was bound to nobody.
func redeemer(t cluster.Token) string {
	if t.Userdata == nil {
		return ""
	}
	return fmt.Sprintf(", by userdata of %s; MAC %s", t.Userdata.By, t.MAC)
}
