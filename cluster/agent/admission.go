package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
)

// Introducer is the servers' side of an introduction. An error that is
// join.ErrRefused is final for what was asked; after any other the same may be
// asked again.
type Introducer interface {
	Introduce(ctx context.Context, r join.Request) (join.Response, error)
	Certificate(ctx context.Context, keyHash string) (join.Response, error)
	Renew(ctx context.Context, present tls.Certificate, csrPEM string) (join.Response, error)
}

// Times of an Admission.
const (
	introduceMin = time.Second
	introduceMax = 30 * time.Second
	refusedWait  = time.Minute      // until a refused token is tried again
	lookForToken = 5 * time.Second  // how soon a new token file is seen
	renewMin     = 30 * time.Second // between tries to renew
	renewMax     = 30 * time.Minute
	remind       = 10 * time.Minute // between two lines about an expired certificate
)

// Admission gets a host its certificate and keeps it valid. A token in the
// token file is always redeemed, since somebody put it there; without one a
// certificate is renewed at two thirds of its life.
type Admission struct {
	Identity   *Identity
	Introducer Introducer
	Config     cluster.AgentConfig
	TokenFile  string
	Log        *slog.Logger // nil: silent

	backoff   Backoff   // of what was asked last
	tried     string    // the token that was tried last
	again     time.Time // when to try again what failed
	renewFrom string    // the serial number that renewAt belongs to
	renewAt   time.Time
	reminded  time.Time
}

// Run keeps the host admitted until ctx ends.
func (a *Admission) Run(ctx context.Context) {
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	for Sleep(ctx, a.step(ctx)) {
	}
}

// step does the one thing that is due, and returns after how long to ask again.
func (a *Admission) step(ctx context.Context) time.Duration {
	now := time.Now()
	token, err := readToken(a.TokenFile)
	if err != nil {
		a.Log.Error("introduction token", "err", err)
		return lookForToken
	}
	if token != a.tried {
		a.tried, a.again = token, time.Time{}
		a.backoff = Backoff{Min: introduceMin, Max: introduceMax}
	}
	if wait := a.again.Sub(now); wait > 0 {
		return min(wait, lookForToken) // a new token may come meanwhile
	}
	switch c, ok := a.Identity.Certificate(); {
	case token != "":
		a.introduce(ctx, token)
	case !ok || !now.Before(c.Leaf.NotAfter):
		a.remind(now, c)
	case !now.Before(a.renewal(c)):
		a.renew(ctx, c)
	}
	if wait := time.Until(a.again); wait > 0 {
		return min(wait, lookForToken)
	}
	return lookForToken
}

func readToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the introduction token: %w; set --token-file FILE", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// introduce redeems the token. When its answer was lost, the token is used and
// the answer is fetched by the host's key.
func (a *Admission) introduce(ctx context.Context, token string) {
	r, err := a.redeem(ctx, token)
	if err == nil {
		err = a.accept(r)
	}
	switch {
	case ctx.Err() != nil:
	case err == nil:
		if err := os.Remove(a.TokenFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			a.Log.Warn("the redeemed token cannot be removed; it is worth nothing any more", "err", err)
		}
		a.tried = ""
		a.backoff.Reset()
	case errors.Is(err, join.ErrRefused):
		a.again = time.Now().Add(Jitter(refusedWait))
		a.Log.Error("this host was refused", "err", err, "todo", a.wayIn())
	default:
		wait := a.backoff.Next()
		a.again = time.Now().Add(wait)
		a.Log.Warn("not introduced yet", "err", hint(err), "again", wait.Round(time.Millisecond).String())
	}
}

func (a *Admission) redeem(ctx context.Context, token string) (join.Response, error) {
	csr, err := a.Identity.Request(a.Config.Host)
	if err != nil {
		return join.Response{}, err
	}
	r, err := a.Introducer.Introduce(ctx, join.Request{
		Token: token, CSR: csr, Recipient: a.Identity.Recipient(),
		MAC: a.Config.MAC, UUID: a.Config.UUID,
	})
	if !errors.Is(err, join.ErrUsed) {
		return r, err
	}
	hash, hashErr := a.Identity.KeyHash()
	if hashErr != nil {
		return r, hashErr
	}
	recovered, lost := a.Introducer.Certificate(ctx, hash)
	if lost == nil {
		a.Log.Info("the answer to an earlier introduction was fetched")
		return recovered, nil
	}
	if !errors.Is(lost, join.ErrRefused) {
		return r, lost // ask again: it may still be there
	}
	return r, fmt.Errorf("%w (and not by this host's key: %w)", err, lost)
}

func (a *Admission) accept(r join.Response) error {
	if a.Config.Host != "" && r.Host != a.Config.Host {
		return fmt.Errorf("the server takes this host for %s, its config says %s; render its config again: pilotlight render %s", r.Host, a.Config.Host, r.Host)
	}
	if err := a.Identity.Accept(r); err != nil {
		return err
	}
	c, _ := a.Identity.Certificate()
	a.Log.Info("certificate", "until", c.Leaf.NotAfter, "serial", c.Leaf.SerialNumber)
	a.reminded = time.Time{}
	return nil
}

// renewal returns when a certificate is to be renewed: at two thirds of its
// life, and up to a tenth of it earlier by chance.
func (a *Admission) renewal(c *tls.Certificate) time.Time {
	if serial := c.Leaf.SerialNumber.String(); serial != a.renewFrom {
		life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
		at := life * 2 / 3
		a.renewFrom = serial
		a.renewAt = c.Leaf.NotBefore.Add(at - at/10 + Jitter(at/20))
		a.backoff = Backoff{Min: renewMin, Max: renewMax}
	}
	return a.renewAt
}

func (a *Admission) renew(ctx context.Context, present *tls.Certificate) {
	csr, err := a.Identity.Request(a.Config.Host)
	if err == nil {
		var r join.Response
		if r, err = a.Introducer.Renew(ctx, *present, csr); err == nil {
			err = a.accept(r)
		}
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	left := time.Until(present.Leaf.NotAfter).Round(time.Second)
	wait := max(min(a.backoff.Next(), left/4), renewMin) // the less is left, the more often
	a.again = time.Now().Add(wait)
	if errors.Is(err, join.ErrRefused) {
		a.Log.Error("the certificate is not renewed", "err", err, "left", left.String(), "todo", a.wayIn())
		return
	}
	a.Log.Warn("the certificate is not renewed yet", "err", hint(err), "left", left.String(), "again", wait.Round(time.Second).String())
}

func (a *Admission) remind(now time.Time, c *tls.Certificate) {
	if now.Sub(a.reminded) < remind {
		return
	}
	a.reminded = now
	if c == nil {
		a.Log.Error("this host has no certificate and no introduction token", "todo", a.wayIn())
		return
	}
	a.Log.Error("this host's certificate has expired; what runs stays, and nothing new is told", "expired", c.Leaf.NotAfter, "todo", a.wayIn())
}

// wayIn says how a host that is outside gets in again.
func (a *Admission) wayIn() string {
	return fmt.Sprintf("introduce it again: boot it over the network, which brings a new token, or put one into %s; pilotlight render %s shows what its config says", a.TokenFile, a.Config.Host)
}

// hint adds what is often the reason for an error of TLS.
func hint(err error) error {
	if s := err.Error(); strings.Contains(s, "not yet valid") {
		return fmt.Errorf("%w; is this host's clock right (timedatectl)?", err)
	}
	return err
}

// Trust returns the authorities to trust when a server is asked: those that
// the servers named last, and before an introduction those of the config.
func (a *Admission) Trust() []byte {
	token, err := readToken(a.TokenFile)
	if ca := a.Identity.CA(); (err != nil || token == "") && len(ca) > 0 {
		return ca
	}
	return []byte(a.Config.CA)
}
