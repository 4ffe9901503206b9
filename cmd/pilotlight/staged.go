package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/ignition"
)

// promises are the configs that machines were pointed to. A machine gets the one that
// it was promised, though the documents have changed since.
type promises struct {
	mu      sync.Mutex
	configs map[string]promised // by digest
}

type promised struct {
	config *ignition.Config
	until  time.Time
}

func (p *promises) keep(c *ignition.Config, now, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.configs == nil {
		p.configs = map[string]promised{}
	}
	if len(p.configs)%256 == 255 { // now and then
		for digest, o := range p.configs {
			if now.After(o.until) {
				delete(p.configs, digest)
			}
		}
	}
	p.configs[c.Digest()] = promised{c, until}
}

func (p *promises) of(digest string, now time.Time) (*ignition.Config, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, ok := p.configs[digest]
	return o.config, ok && now.Before(o.until)
}

// staged reports whether a machine is pointed to its config, and in which version of
// the spec it is to be: one that follows a pointer, to a server whose certificate it
// can verify. Who asks the metadata service is anything.
func (b *bootServices) staged(m httpboot.Machine, accept string) (spec string, ok bool) {
	if m.Running || b.s.certificate.Load().Leaf.VerifyHostname(m.Server.Addr.String()) != nil {
		return "", false
	}
	return ignition.Follows(accept)
}

// pointTo points a machine to its config, by a token that opens it.
func (b *bootServices) pointTo(ctx context.Context, m httpboot.Machine, c *ignition.Config, spec string) (httpboot.Body, error) {
	who := b.bearer(m)
	who.Rest = &cluster.Rest{Digest: c.Digest(), Spec: spec, URL: m.Server.Secure}
	token, err := b.mint(ctx, who)
	if err != nil {
		return httpboot.Body{}, err
	}
	now := time.Now()
	b.promises.keep(c, now, now.Add(who.Life))
	rest, _, err := c.Pointed(ignition.LanguageIgnition, spec, token)
	if err != nil {
		return httpboot.Body{}, refusal(err)
	}
	body, err := b.pointerTo(rest, ignition.LanguageIgnition, m.Server.Secure, token)
	return httpboot.Body{Data: body, ContentType: ignitionType, Pointer: true}, err
}

// opened makes the config that a token opens.
func (b *bootServices) opened(ctx context.Context, t cluster.Token, token string) (join.Config, error) {
	if t.Userdata != nil {
		return b.pointed(ctx, t, token)
	}
	c, ok := b.promises.of(t.Rest.Digest, time.Now())
	if !ok {
		var err error
		if c, err = b.compileAgain(t); err != nil {
			return join.Config{}, fmt.Errorf("%w: %w", join.ErrOutdated, err)
		}
	}
	if c.Digest() != t.Rest.Digest {
		return join.Config{}, join.ErrOutdated
	}
	body, contentType, err := c.Pointed(ignition.LanguageIgnition, t.Rest.Spec, token)
	if err != nil {
		return join.Config{}, err
	}
	b.recorder.Record(boot.Sighting{MAC: t.MAC, Host: t.Host, Event: cluster.Event{Step: cluster.StepConfig, Addr: t.Address, Detail: join.PathConfig}})
	return join.Config{Data: body, ContentType: contentType}, nil
}

// compileAgain makes the config that a server promised before it was restarted.
func (b *bootServices) compileAgain(t cluster.Token) (*ignition.Config, error) {
	snap := b.s.Snapshot()
	h, ok := snap.Host(t.Host)
	if !ok {
		return nil, fmt.Errorf("its document is deleted")
	}
	u, err := url.Parse(t.Rest.URL)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil, err
	}
	network, _ := snap.NetworkOf(t.Address)
	target, err := snap.Target(h, network)
	if err != nil {
		return nil, err
	}
	target.Install = b.installs.Of(t.Host)
	return b.config(httpboot.Machine{
		Target: target, Identity: cluster.Identity{MAC: t.MAC, UUID: t.UUID}, Address: t.Address, Installer: t.Installer,
		Server: boot.ServerAt(at, b.s.o.http.Port(), b.s.o.https.Port()),
	})
}

// renderPointer is what a machine is told over HTTP, with the placeholder for a token.
func (b *bootServices) renderPointer(t cluster.Target, c *ignition.Config, accept string) (string, []byte, error) {
	if all := c.Versions(); accept == "" && len(all) > 0 {
		accept = ignitionType + ";version=" + all[len(all)-1]
	}
	spec, ok := ignition.Follows(accept)
	switch {
	case len(c.Versions()) == 0:
		return "", nil, failed(http.StatusConflict, "profile %s has no config for Ignition, which alone is pointed to one: pilotlight render %s", t.Profile.Name, t.Host.Name)
	case !ok:
		return "", nil, failed(http.StatusConflict, "who reads no spec newer than 3.0.0 gets no pointer, but the whole config: pilotlight render %s --spec 3.0.0", t.Host.Name)
	}
	body, _, err := c.Pointed(ignition.LanguageIgnition, spec, ignition.TokenPlaceholder)
	if err == nil {
		body, err = b.pointerTo(body, ignition.LanguageIgnition, b.at(t.Network).Secure, ignition.TokenPlaceholder)
	}
	if err != nil {
		return "", nil, failed(http.StatusConflict, "%w", err)
	}
	return ignitionType, body, nil
}
