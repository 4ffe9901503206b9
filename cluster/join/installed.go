package join

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// PathInstalled is where an installer says that it is done: POST, its token as
// the body, so that any HTTP client can.
const PathInstalled = "/v1/installed"

// InstallTokenLife is how long the tokens hold that are given to a machine which
// is being installed: to its installer, and to the system that joins once the
// installer is done.
const InstallTokenLife = 2 * time.Hour

// Installed takes an installer's word that it is done. The same installer may say
// so again, since the answer may have been lost.
func (i *Introducer) Installed(ctx context.Context, from netip.Addr, token string) error {
	hash := hashToken(token)
	t, at, err := i.Records.Token(ctx, hash)
	if errors.Is(err, cluster.ErrNotFound) {
		return i.notInstalled(ctx, from, "", refuse(http.StatusForbidden, "this token was never made, or long ago"))
	}
	if err != nil {
		return err
	}
	again := !t.Used.IsZero() && t.UsedBy == from.Unmap()
	switch {
	case !t.Installer:
		return i.notInstalled(ctx, from, t.Host, refuse(http.StatusForbidden, "this token is not an installer's"))
	case t.Address != from.Unmap():
		return i.notInstalled(ctx, from, t.Host, refuse(http.StatusForbidden, "this token was made for %s, not for %s", t.Address, from.Unmap()))
	case again:
		return nil
	case time.Now().After(t.Expires):
		return i.notInstalled(ctx, from, t.Host, refuse(http.StatusForbidden, "this token ended at %s: the installation took longer than %s; if the system is on its disk, type on the server: pilotlight host installed %s",
			t.Expires.UTC().Format(time.RFC3339), InstallTokenLife, t.Host))
	}
	// First what it says, then that the token was used: what fails in between is
	// said again.
	if i.OnInstalled != nil {
		if err := i.OnInstalled(ctx, t); err != nil {
			return err
		}
	}
	t.Used, t.UsedBy = time.Now(), from.Unmap()
	if err := i.Records.UseToken(ctx, hash, t, at); err != nil {
		return err
	}
	i.audit(ctx, cluster.AuditEntry{Actor: from.String(), Action: "install.done", Subject: "host " + string(t.Host), OK: true})
	return nil
}

func (i *Introducer) notInstalled(ctx context.Context, from netip.Addr, h cluster.HostName, r *Refusal) error {
	i.refuseToken(ctx, from, h, "install.done", r)
	return r
}

func (i *Introducer) serveInstalled(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxToken))
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "send the installer's token, and nothing else, as the body"})
		return
	}
	respond(w, i.log(), struct{}{}, i.Installed(r.Context(), remote(r), strings.TrimSpace(string(body))))
}

const maxToken = 4 << 10
