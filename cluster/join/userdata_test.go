package join

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

var elsewhere = netip.MustParseAddr("203.0.113.9")

// carry mints a token of userdata, which opens a config that holds it.
func (r *rig) carry(life time.Duration) string {
	r.t.Helper()
	if r.OnConfig == nil {
		r.OnConfig = func(_ context.Context, t cluster.Token, token string) (Config, error) {
			return Config{Data: []byte(t.Userdata.Digest + " " + token), ContentType: "text/plain"}, nil
		}
	}
	token, err := r.Mint(r.t.Context(), Bearer{Host: "web1", UUID: hostUUID, Life: life, Userdata: &cluster.Userdata{By: "operator:ann", Digest: "d1", URL: "https://10.0.0.1:8443"}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.tokens = append(r.tokens, token)
	return token
}

// TestUserdata: the config may be fetched as often as it must, from anywhere, until
// the token is redeemed; then the token is bound to who did.
func TestUserdata(t *testing.T) {
	r := newRig(t)
	token := r.carry(UserdataLife)
	for _, from := range []netip.Addr{elsewhere, hostAddr, elsewhere} {
		out, err := r.Config(t.Context(), from, token)
		if err != nil || string(out.Data) != "d1 "+token {
			t.Fatalf("%s, %v", out.Data, err)
		}
	}
	key := newKey(t)
	in := request(t, token, key)
	out, err := r.Introduce(t.Context(), elsewhere, in)
	if err != nil || out.Host != "web1" {
		t.Fatalf("%+v, %v", out, err)
	}
	if rec, _, err := r.store.Token(t.Context(), hashToken(token)); err != nil || rec.MAC != hostMAC || rec.Address != elsewhere || rec.UsedBy != elsewhere {
		t.Errorf("%+v, %v", rec, err)
	}
	if _, err := r.Introduce(t.Context(), elsewhere, in); err != nil {
		t.Errorf("the answer was lost: %v", err)
	}
	_, err = r.Introduce(t.Context(), hostAddr, in)
	r.refusal(err, http.StatusConflict, "was used")
	_, err = r.Introduce(t.Context(), elsewhere, request(t, token, newKey(t)))
	r.refusal(err, http.StatusConflict, "was used")
	_, err = r.Config(t.Context(), elsewhere, token)
	r.refusal(err, http.StatusConflict, "was used")

	var said []string
	for _, e := range r.audit("web1") {
		said = append(said, e.Actor+" "+e.Action+" "+e.Detail)
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"operator:ann userdata.mint for 1h0m0s, at https://10.0.0.1:8443, config d1", "203.0.113.9 userdata.fetch", "by userdata of operator:ann; MAC " + hostMAC.String()} {
		if !strings.Contains(all, want) {
			t.Errorf("the audit does not say %q:\n%s", want, all)
		}
	}
}

// TestUserdataRefused: what opens no config.
func TestUserdataRefused(t *testing.T) {
	r := newRig(t)
	_, err := r.Config(t.Context(), elsewhere, "bm90LWEtdG9rZW4")
	r.refusal(err, http.StatusForbidden, "never made")
	r.carry(UserdataLife)
	_, err = r.Config(t.Context(), hostAddr, r.mint())
	r.refusal(err, http.StatusForbidden, "opens no config")

	other := r.carry(UserdataLife)
	in := request(t, other, newKey(t))
	in.UUID = "0ca1b3a2-5a0e-4b5d-9c2f-0000000000ff"
	_, err = r.Introduce(t.Context(), elsewhere, in)
	r.refusal(err, http.StatusForbidden, "another machine")

	r.HasHost = func(cluster.HostName) bool { return false }
	_, err = r.Config(t.Context(), elsewhere, other)
	r.refusal(err, http.StatusGone, "is deleted")
	_, err = r.Introduce(t.Context(), elsewhere, request(t, other, newKey(t)))
	r.refusal(err, http.StatusGone, "is deleted")
	r.HasHost = nil

	first, second := r.carry(UserdataLife), r.carry(UserdataLife)
	if _, err := r.Introduce(t.Context(), elsewhere, request(t, first, newKey(t))); err != nil {
		t.Fatal(err)
	}
	_, err = r.Config(t.Context(), elsewhere, second)
	r.refusal(err, http.StatusForbidden, "pilotlight userdata web1")
	_, err = r.Introduce(t.Context(), elsewhere, request(t, second, newKey(t)))
	r.refusal(err, http.StatusForbidden, "pilotlight userdata web1")
}

func TestUserdataEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		token := r.carry(MaxUserdataLife)
		time.Sleep(MaxUserdataLife - time.Minute) // of a clock that is not real
		if _, err := r.Config(t.Context(), elsewhere, token); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		_, err := r.Config(t.Context(), elsewhere, token)
		r.refusal(err, http.StatusForbidden, "type for a new one: pilotlight userdata web1")
	})
}

// TestUserdataOutdated: userdata of an older config is told from a theft, and the
// operator finds what to type.
func TestUserdataOutdated(t *testing.T) {
	r := newRig(t)
	token := r.carry(UserdataLife)
	r.OnConfig = func(context.Context, cluster.Token, string) (Config, error) { return Config{}, ErrOutdated }
	_, err := r.Config(t.Context(), elsewhere, token)
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Status != http.StatusGone {
		t.Fatal(err)
	}
	all := r.audit("web1")
	if e := all[len(all)-1]; e.OK || e.Alarm || !strings.Contains(e.Detail, "pilotlight userdata web1") {
		t.Errorf("%+v", e)
	}
	if !strings.Contains(r.log.String(), "pilotlight userdata web1") {
		t.Error("the log does not say what to type")
	}
}

// TestUserdataAlive: a host that is alive gets none, and what it had opens nothing.
func TestUserdataAlive(t *testing.T) {
	r := newRig(t)
	token := r.carry(UserdataLife)
	r.live("web1")
	_, err := r.Mint(t.Context(), Bearer{Host: "web1", Life: UserdataLife, Userdata: &cluster.Userdata{By: "operator:ann"}})
	if !errors.Is(err, ErrAlive) {
		t.Error(err)
	}
	_, err = r.Config(t.Context(), elsewhere, token)
	r.refusal(err, http.StatusForbidden, "alive")
}

func TestUserdataHTTP(t *testing.T) {
	r := newRig(t)
	s := httptest.NewServer(r.Handler())
	defer s.Close()
	token := r.carry(UserdataLife)
	for header, want := range map[string]string{"": "401", "Basic " + token: "401", "Bearer x": "403", "Bearer " + token: "200"} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+PathConfig, nil)
		req.Header.Set("Authorization", header)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if !strings.HasPrefix(res.Status, want) || want == "200" != strings.Contains(string(body), token) || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%.6s: %s %s", header, res.Status, body)
		}
	}
}
