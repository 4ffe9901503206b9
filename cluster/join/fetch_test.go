package join

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// point mints the token of a machine that was pointed to its config.
func (r *rig) point(b Bearer) string {
	r.t.Helper()
	r.OnConfig = func(_ context.Context, t cluster.Token, token string) (Config, error) {
		return Config{Data: []byte(t.Rest.Digest + " " + token), ContentType: "text/plain"}, nil
	}
	b.Host, b.MAC, b.UUID, b.Address, b.Rest = "web1", hostMAC, hostUUID, hostAddr, &cluster.Rest{Digest: "d1", Spec: "3.3.0", URL: "https://10.0.0.1:8443"}
	token, err := r.Mint(r.t.Context(), b)
	if err != nil {
		r.t.Fatal(err)
	}
	r.tokens = append(r.tokens, token)
	return token
}

// TestConfigOfABoot: the machine that was pointed to its config gets it as often as it
// must, until it has joined; whoever else has the pointer gets nothing, and is seen.
func TestConfigOfABoot(t *testing.T) {
	r := newRig(t)
	token := r.point(Bearer{})
	for range 3 {
		if out, err := r.Config(t.Context(), hostAddr, token); err != nil || string(out.Data) != "d1 "+token {
			t.Fatalf("%s, %v", out.Data, err)
		}
	}
	if n := len(r.audit("web1")); n != 1 { // that the token was made
		t.Errorf("a boot's fetches are %d entries of the audit", n-1)
	}
	_, err := r.Config(t.Context(), elsewhere, token)
	r.refusal(err, http.StatusForbidden, "was made for")
	if all := r.audit("web1"); all[len(all)-1].Action != "config.fetch" {
		t.Errorf("%+v", all)
	}
	if _, err := r.Introduce(t.Context(), hostAddr, request(t, token, newKey(t))); err != nil {
		t.Fatal(err)
	}
	_, err = r.Config(t.Context(), hostAddr, token)
	r.refusal(err, http.StatusConflict, "was used")
}

// TestConfigOfAnInstaller: an installer's token opens its config, and introduces
// nobody.
func TestConfigOfAnInstaller(t *testing.T) {
	r := newRig(t)
	token := r.point(Bearer{Installer: true, Life: InstallTokenLife})
	if _, err := r.Config(t.Context(), hostAddr, token); err != nil {
		t.Error(err)
	}
	_, err := r.Introduce(t.Context(), hostAddr, request(t, token, newKey(t)))
	r.refusal(err, http.StatusForbidden, "an installer's")
}

// TestConfigEnds: a token opens its config as long as it would introduce.
func TestConfigEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		token := r.point(Bearer{})
		time.Sleep(TokenLife + time.Second) // of a clock that is not real
		_, err := r.Config(t.Context(), hostAddr, token)
		r.refusal(err, http.StatusForbidden, "ended")
	})
}

// TestConfigOutdated: where the config is another by now, it is told from a theft.
func TestConfigOutdated(t *testing.T) {
	r := newRig(t)
	token := r.point(Bearer{})
	r.OnConfig = func(context.Context, cluster.Token, string) (Config, error) { return Config{}, ErrOutdated }
	_, err := r.Config(t.Context(), hostAddr, token)
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok || refusal.Status != http.StatusGone || !strings.Contains(refusal.Reason, "boot the machine again") {
		t.Error(err)
	}
	if all := r.audit("web1"); all[len(all)-1].Alarm || all[len(all)-1].Detail != refusal.Reason {
		t.Errorf("%+v", all)
	}
}

// TestConfigTroubles: what is not the asker's fault is asked for again.
func TestConfigTroubles(t *testing.T) {
	r := newRig(t)
	token := r.point(Bearer{})
	r.OnConfig = func(context.Context, cluster.Token, string) (Config, error) {
		return Config{}, context.DeadlineExceeded
	}
	ask := httptest.NewRequest(http.MethodGet, PathConfig, nil)
	ask.RemoteAddr = netip.AddrPortFrom(hostAddr, 4711).String()
	ask.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, ask)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), token) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
