package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
)

// servers is the other side of an introduction, in memory.
type servers struct {
	mu    sync.Mutex
	ca    *authority
	host  cluster.HostName
	life  time.Duration
	fail  error // of every call
	used  bool  // the token was used before
	lost  *join.Response
	more  string // appended to the authorities
	calls []string
	at    []time.Time
}

func (s *servers) call(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.at = append(s.calls, name), append(s.at, time.Now())
	return s.fail
}

func (s *servers) answer(csr string) (join.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.ca.sign(csr, s.host, s.life)
	r.CA += s.more
	return r, nil
}

func (s *servers) isUsed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// change changes the servers while they are asked.
func (s *servers) change(do func(s *servers)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(s)
}

func (s *servers) Introduce(_ context.Context, r join.Request) (join.Response, error) {
	if err := s.call("introduce " + r.Token); err != nil {
		return join.Response{}, err
	}
	if s.isUsed() {
		return join.Response{}, &join.RefusedError{Server: "s", Status: 409, Message: "token was used"}
	}
	return s.answer(r.CSR)
}

func (s *servers) Certificate(_ context.Context, _ string) (join.Response, error) {
	if err := s.call("certificate"); err != nil {
		return join.Response{}, err
	}
	if s.lost == nil {
		return join.Response{}, &join.RefusedError{Server: "s", Status: 404, Message: "no such key"}
	}
	return *s.lost, nil
}

func (s *servers) Renew(_ context.Context, _ tls.Certificate, csr string) (join.Response, error) {
	if err := s.call("renew"); err != nil {
		return join.Response{}, err
	}
	return s.answer(csr)
}

type gate struct {
	*testing.T
	*servers
	a     *Admission
	token string
	log   *syncBuffer
	stop  func()
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func atGate(t *testing.T, f func(g *gate)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{T: t, servers: &servers{ca: newAuthority(t), host: "web1", life: 24 * time.Hour}, token: filepath.Join(dir, "token"), log: &syncBuffer{}}
		g.a = &Admission{
			Identity: openIdentity(t, dir), Introducer: g.servers, TokenFile: g.token,
			Config: cluster.AgentConfig{Host: "web1", CA: "CONFIG"},
			Log:    slog.New(slog.NewTextHandler(g.log, nil)),
		}
		defer func() {
			if g.stop != nil {
				g.stop()
			}
			if t.Failed() {
				t.Logf("calls %q\n%s", g.calls, g.log)
			}
		}()
		f(g)
	})
}

func (g *gate) begin() {
	ctx, cancel := context.WithCancel(g.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); g.a.Run(ctx) }()
	g.stop = func() { cancel(); <-ended }
	synctest.Wait()
}

func (g *gate) give(token string) {
	if err := os.WriteFile(g.token, []byte(token+"\n"), 0o600); err != nil {
		g.Fatal(err)
	}
}

func (g *gate) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (g *gate) in(want bool) {
	g.Helper()
	if got := g.a.Identity.Valid(time.Now()); got != want {
		g.Errorf("admitted: %t", got)
	}
}

func (g *gate) called(want string) {
	g.Helper()
	if got := strings.Join(g.calls, ", "); got != want {
		g.Errorf("called %q, not %q", got, want)
	}
}

func TestIntroduced(t *testing.T) {
	atGate(t, func(g *gate) {
		g.give("T0K3N")
		g.begin()
		g.wait(time.Minute)
		g.in(true)
		g.called("introduce T0K3N")
		if _, err := os.Stat(g.token); !os.IsNotExist(err) {
			g.Errorf("the token is still there: %v", err)
		}
		if strings.Contains(g.log.String(), "T0K3N") {
			g.Error("the token is in the log")
		}
		g.stop()
		g.stop = nil
		if wait := g.a.step(g.Context()); wait < time.Second {
			g.Errorf("with nothing to do it looks again after %s", wait)
		}
	})
}

func TestIntroducedWhenTheServersCome(t *testing.T) {
	atGate(t, func(g *gate) {
		if g.fail = errors.New("connection refused"); string(g.a.Trust()) != "CONFIG" {
			g.Errorf("trusts %q", g.a.Trust())
		}
		g.give("T")
		g.begin()
		g.wait(10 * time.Minute)
		if n := len(g.calls); n < 15 || n > 60 {
			g.Errorf("asked %d times in ten minutes", n)
		}
		g.in(false)
		g.change(func(s *servers) { s.fail = nil })
		g.wait(time.Minute)
		g.in(true)
	})
}

func TestRefusedIsSlowAndANewTokenIsNot(t *testing.T) {
	atGate(t, func(g *gate) {
		g.fail = &join.RefusedError{Server: "s", Status: 403, Message: "token has expired"}
		g.give("OLD")
		g.begin()
		g.wait(10 * time.Minute)
		if n := len(g.calls); n < 8 || n > 15 {
			g.Errorf("asked %d times in ten minutes", n)
		}
		for i := 1; i < len(g.at); i++ {
			if gap := g.at[i].Sub(g.at[i-1]); gap < 45*time.Second {
				g.Errorf("asked again after %s", gap)
			}
		}
		if log := g.log.String(); !strings.Contains(log, "token has expired") || !strings.Contains(log, "introduce it again") {
			g.Errorf("what to do is not said:\n%s", log)
		}
		g.change(func(s *servers) { s.fail, s.calls = nil, nil })
		g.give("NEW")
		g.wait(6 * time.Second)
		g.in(true)
		g.called("introduce NEW")
	})
}

func TestLostAnswerIsFetched(t *testing.T) {
	atGate(t, func(g *gate) {
		csr, err := g.a.Identity.Request("web1")
		if err != nil {
			g.Fatal(err)
		}
		lost := g.ca.sign(csr, "web1", time.Hour)
		g.used, g.lost = true, &lost
		g.give("T")
		g.begin()
		g.wait(time.Second)
		g.in(true)
		g.called("introduce T, certificate")
	})
}

func TestUsedByAnother(t *testing.T) {
	atGate(t, func(g *gate) {
		g.used = true
		g.give("T")
		g.begin()
		g.wait(30 * time.Second)
		g.in(false)
		g.called("introduce T, certificate")
		if !strings.Contains(g.log.String(), "token was used") {
			g.Errorf("log:\n%s", g.log)
		}
	})
}

func TestRenewedInTime(t *testing.T) {
	atGate(t, func(g *gate) {
		g.life = time.Hour
		g.give("T")
		g.begin()
		g.wait(time.Second)
		for range 9 * 12 {
			g.wait(5 * time.Minute)
			g.in(true)
		}
		renewals := len(g.calls) - 1
		if renewals < 12 || renewals > 16 {
			g.Errorf("renewed %d times in nine hours", renewals)
		}
		first := g.at[1].Sub(g.at[0])
		if first > 40*time.Minute || first < 35*time.Minute {
			g.Errorf("a certificate for 1 h was renewed after %s", first)
		}
	})
}

func TestRenewalThatFailsUntilTheEnd(t *testing.T) {
	atGate(t, func(g *gate) {
		g.life = time.Hour
		g.give("T")
		g.begin()
		g.wait(time.Second)
		g.change(func(s *servers) { s.fail = errors.New("no route to host") })
		g.wait(65 * time.Minute)
		g.in(false)
		if n := len(g.calls); n < 4 || n > 30 {
			g.Errorf("asked %d times", n)
		}
		g.change(func(s *servers) { s.fail, s.calls = nil, nil })
		g.wait(time.Hour) // nothing is asked that must be refused
		g.called("")
		if n := strings.Count(g.log.String(), "has expired; what runs stays"); n < 5 || n > 15 {
			g.Errorf("said %d times in an hour", n)
		}
		g.give("NEW")
		g.wait(6 * time.Second)
		g.in(true)
		g.called("introduce NEW")
	})
}

func TestRenewalOutlivesAnOutage(t *testing.T) {
	atGate(t, func(g *gate) {
		g.life = time.Hour
		g.give("T")
		g.begin()
		g.wait(time.Second)
		g.change(func(s *servers) { s.fail = errors.New("no route to host") })
		g.wait(50 * time.Minute)
		g.change(func(s *servers) { s.fail = nil })
		g.wait(8 * time.Minute)
		g.in(true)
		if c, _ := g.a.Identity.Certificate(); time.Until(c.Leaf.NotAfter) < 50*time.Minute {
			g.Errorf("not renewed: until %s", c.Leaf.NotAfter)
		}
	})
}

func TestAuthoritiesAreTakenOver(t *testing.T) {
	atGate(t, func(g *gate) {
		g.change(func(s *servers) { s.life = time.Hour })
		g.give("T")
		g.begin()
		g.wait(time.Second)
		if string(g.a.Trust()) != g.ca.pem() {
			g.Error("trusts others than the server named")
		}
		old := g.ca.pem()
		g.change(func(s *servers) { s.ca, s.more = newAuthority(g.T), old }) // the new one signs, both are trusted
		g.wait(45 * time.Minute)
		if got := string(g.a.Identity.CA()); got != g.ca.pem()+old || string(g.a.Trust()) != got {
			g.Error("the new authority was not taken over")
		}
		g.in(true)
	})
}

func TestAnotherHostsCertificate(t *testing.T) {
	atGate(t, func(g *gate) {
		g.host = "db1"
		g.give("T")
		g.begin()
		g.wait(time.Minute)
		g.in(false)
		if !strings.Contains(g.log.String(), "pilotlight render db1") {
			g.Errorf("log:\n%s", g.log)
		}
	})
}

func TestNoTokenNoCertificate(t *testing.T) {
	atGate(t, func(g *gate) {
		g.begin()
		g.wait(time.Hour)
		g.called("")
		if n := strings.Count(g.log.String(), "no certificate and no introduction token"); n < 5 || n > 7 {
			g.Errorf("said %d times in an hour:\n%s", n, g.log)
		}
	})
}

func TestANewTokenIsRedeemedByALiveIdentity(t *testing.T) {
	atGate(t, func(g *gate) {
		g.give("T")
		g.begin()
		g.wait(time.Hour)
		before, _ := g.a.Identity.Certificate()
		g.give("AGAIN")
		g.wait(6 * time.Second)
		g.called("introduce T, introduce AGAIN")
		if after, _ := g.a.Identity.Certificate(); after.Leaf.SerialNumber.Cmp(before.Leaf.SerialNumber) == 0 {
			g.Error("the certificate is the old one")
		}
	})
}
