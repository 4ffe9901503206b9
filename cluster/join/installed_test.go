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

func (r *rig) mintInstaller() string {
	r.t.Helper()
	token, err := r.Mint(r.t.Context(), Bearer{Host: "db1", MAC: hostMAC, Address: hostAddr, Boot: "b1", Installer: true, Life: InstallTokenLife})
	if err != nil {
		r.t.Fatal(err)
	}
	r.tokens = append(r.tokens, token)
	return token
}

func TestInstalled(t *testing.T) {
	r := newRig(t)
	var told []cluster.Token
	broken := true
	r.OnInstalled = func(_ context.Context, tok cluster.Token) error {
		if broken {
			return errors.New("etcd is away")
		}
		told = append(told, tok)
		return nil
	}
	token := r.mintInstaller()
	if err := r.Installed(t.Context(), hostAddr, token); err == nil || errors.As(err, new(*Refusal)) {
		t.Errorf("while etcd is away: %v", err)
	}
	broken = false
	for range 2 { // the answer may have been lost
		if err := r.Installed(t.Context(), hostAddr, token); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || told[0].Host != "db1" || told[0].Boot != "b1" {
		t.Errorf("told %+v", told)
	}
	elsewhere := netip.MustParseAddr("10.0.0.6")
	r.refusal(r.Installed(t.Context(), elsewhere, token), http.StatusForbidden, "made for 10.0.0.5")
	r.refusal(r.Installed(t.Context(), elsewhere, r.mintInstaller()), http.StatusForbidden, "made for 10.0.0.5")
	r.refusal(r.Installed(t.Context(), hostAddr, "made-up"), http.StatusForbidden, "never made")
	if len(told) != 1 {
		t.Errorf("told %+v", told)
	}
}

// Neither kind of token does what the other is for.
func TestInstalledIsNoIntroduction(t *testing.T) {
	r := newRig(t)
	r.OnInstalled = func(context.Context, cluster.Token) error { t.Error("installed"); return nil }
	_, err := r.Introduce(t.Context(), hostAddr, request(t, r.mintInstaller(), newKey(t)))
	r.refusal(err, http.StatusForbidden, "introduces nobody")
	r.refusal(r.Installed(t.Context(), hostAddr, r.mint()), http.StatusForbidden, "not an installer's")
}

func TestInstalledTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		token := r.mintInstaller()
		time.Sleep(InstallTokenLife - time.Second)
		if err := r.Installed(t.Context(), hostAddr, token); err != nil {
			t.Error(err)
		}
		token = r.mintInstaller()
		time.Sleep(InstallTokenLife + time.Second)
		r.refusal(r.Installed(t.Context(), hostAddr, token), http.StatusForbidden, "the installation took longer than 2h0m0s")
	})
}

func TestInstalledByHTTP(t *testing.T) {
	r := newRig(t)
	token := r.mintInstaller()
	post := func(body string) int {
		q := httptest.NewRequest(http.MethodPost, PathInstalled, strings.NewReader(body))
		q.RemoteAddr = netip.AddrPortFrom(hostAddr, 4711).String()
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, q)
		if strings.Contains(w.Body.String(), token) {
			t.Error("the token comes back")
		}
		return w.Code
	}
	for body, want := range map[string]int{token + "\n": 200, "": 403, "x": 403, strings.Repeat("x", maxToken+1): 400} {
		if got := post(body); got != want {
			t.Errorf("%.10q is answered with %d, not %d", body, got, want)
		}
	}
}
