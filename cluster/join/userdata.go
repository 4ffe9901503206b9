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

// PathUserdata is where a machine that has userdata fetches its host's config: GET,
// with its token in the header Authorization: Bearer TOKEN.
const PathUserdata = "/v1/userdata"

// How long a token of userdata holds. It is handed to a cloud before there is a
// machine, and lies there for whoever may read it.
const (
	UserdataLife    = time.Hour
	MaxUserdataLife = 7 * 24 * time.Hour
)

// Userdata is a host's config, ready to be sent.
type Userdata struct {
	Data        []byte
	ContentType string
}

// ErrOutdated says that a host's config is not the one any more for which its
// userdata was made. The machine would refuse it.
var ErrOutdated = errors.New("its config has changed since its userdata was made")

// Userdata returns the config of the host that a token is of, and does not redeem
// it: the agent does that, and the machine may ask as often as it must until then.
func (i *Introducer) Userdata(ctx context.Context, from netip.Addr, token string) (Userdata, error) {
	t, _, err := i.Records.Token(ctx, hashToken(token))
	if errors.Is(err, cluster.ErrNotFound) {
		return i.noUserdata(ctx, from, "", refuse(http.StatusForbidden, "this token was never made, or long ago; type for a new one: pilotlight userdata HOST"))
	}
	if err != nil {
		return Userdata{}, err
	}
	if t.Userdata == nil || i.OnUserdata == nil {
		return i.noUserdata(ctx, from, t.Host, refuse(http.StatusForbidden, "this token is not one of userdata"))
	}
	refusal, err := i.judge(ctx, from, t, Request{})
	if err != nil {
		return Userdata{}, err
	}
	if refusal != nil {
		return i.noUserdata(ctx, from, t.Host, refusal)
	}
	out, err := i.OnUserdata(ctx, t, token)
	fetch := cluster.AuditEntry{Actor: from.String(), Action: "userdata.fetch", Subject: "host " + string(t.Host), OK: err == nil}
	if errors.Is(err, ErrOutdated) {
		r := refuse(http.StatusGone, "host %s asks with userdata of %s, and %v; type for a new one: pilotlight userdata %s", t.Host, t.Minted.UTC().Format(time.RFC3339), err, t.Host)
		fetch.Detail, err = r.Reason, r
	}
	if _, told := errors.AsType[*Refusal](err); err == nil || told {
		i.auditStranger(ctx, &i.limits.fetches, fetch)
	}
	return out, err
}

func (i *Introducer) noUserdata(ctx context.Context, from netip.Addr, h cluster.HostName, r *Refusal) (Userdata, error) {
	i.refuseToken(ctx, from, h, "userdata.fetch", r)
	return Userdata{}, r
}

func (i *Introducer) serveUserdata(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || len(token) > maxToken {
		respond(w, i.log(), nil, refuse(http.StatusUnauthorized, "send the token of the userdata: Authorization: Bearer TOKEN"))
		return
	}
	out, err := i.Userdata(r.Context(), remote(r), strings.TrimSpace(token))
	if err != nil {
		respond(w, i.log(), nil, err)
		return
	}
	w.Header().Set("Content-Type", out.ContentType)
	_, _ = w.Write(out.Data) // the asker is gone when this fails
}

// redeemer says in the audit who took what was bound to nobody.
func redeemer(t cluster.Token) string {
	if t.Userdata == nil {
		return ""
	}
	return fmt.Sprintf(", by userdata of %s; MAC %s", t.Userdata.By, t.MAC)
}
