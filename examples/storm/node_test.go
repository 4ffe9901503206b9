//go:build storm || integration

package storm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/link"
)

// system is what runs on a machine that has booted: the agent's own code, with
// no containers below it.
type system struct {
	ctx      context.Context
	stop     context.CancelCauseFunc
	owned    sync.WaitGroup
	identity *agent.Identity
	uplink   *agent.Uplink

	mu    sync.Mutex
	state *agent.State  // what was told last
	fresh chan struct{} // holds one token when state is news
}

// end is a power cut: the liveness lease is not given back, and runs out.
func (s *system) end() {
	s.stop(agent.ErrRedial)
	s.owned.Wait()
}

// pointed is where the rest of a config is, and by what it is known.
type pointed struct {
	url, bearer, hash string
	roots             *x509.CertPool
}

// readPointer reads a machine's first config, which has nothing in it but that.
func readPointer(body string) (pointed, error) {
	var first struct {
		Ignition struct {
			Config struct {
				Merge []struct {
					Source       string
					HTTPHeaders  []struct{ Name, Value string }
					Verification struct{ Hash string }
				}
			}
			Security struct {
				TLS struct{ CertificateAuthorities []struct{ Source string } }
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &first); err != nil {
		return pointed{}, fmt.Errorf("first config: %w", err)
	}
	merge, authorities := first.Ignition.Config.Merge, first.Ignition.Security.TLS.CertificateAuthorities
	if len(merge) != 1 || len(merge[0].HTTPHeaders) != 1 || len(authorities) != 1 {
		return pointed{}, errors.New("the first config points to no other")
	}
	out := pointed{merge[0].Source, merge[0].HTTPHeaders[0].Value, merge[0].Verification.Hash, x509.NewCertPool()}
	if ca, err := dataURL(authorities[0].Source); err != nil || !out.roots.AppendCertsFromPEM(ca) {
		return pointed{}, errors.New("the first config has no authority")
	}
	return out, nil
}

// readConfig does what Ignition would: it writes two files.
func (m *machine) readConfig(body string) error {
	var config struct {
		Storage struct {
			Files []struct {
				Path     string
				Contents struct{ Source string }
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	files := map[string][]byte{}
	for _, f := range config.Storage.Files {
		text, err := dataURL(f.Contents.Source)
		if err != nil {
			return fmt.Errorf("config, %s: %w", f.Path, err)
		}
		files[f.Path] = text
	}
	if len(files[cluster.AgentTokenFile]) == 0 {
		return errors.New("no token in the config")
	}
	m.config = cluster.AgentConfig{}
	if err := json.Unmarshal(files[cluster.AgentConfigFile], &m.config); err != nil {
		return fmt.Errorf("config, %s: %w", cluster.AgentConfigFile, err)
	}
	if m.config.Host != m.host() {
		return fmt.Errorf("the machine is told that it is %q, and it is %q", m.config.Host, m.host())
	}
	return os.WriteFile(m.file("token"), files[cluster.AgentTokenFile], 0o600)
}

func dataURL(source string) ([]byte, error) {
	head, body, ok := strings.Cut(source, ",")
	switch {
	case !ok || !strings.HasPrefix(head, "data:"):
		return nil, nil // a file to fetch: the agent's binary
	case strings.HasSuffix(head, ";base64"):
		return base64.StdEncoding.DecodeString(body)
	}
	text, err := url.PathUnescape(body)
	return []byte(text), err
}

// counting notes each call of an introduction that failed.
type counting struct {
	agent.Introducer
	failed func(error)
}

// Introduce implements agent.Introducer.
func (c counting) Introduce(ctx context.Context, r join.Request) (join.Response, error) {
	out, err := c.Introducer.Introduce(ctx, r)
	c.note(ctx, err)
	return out, err
}

// Certificate implements agent.Introducer.
func (c counting) Certificate(ctx context.Context, keyHash string) (join.Response, error) {
	out, err := c.Introducer.Certificate(ctx, keyHash)
	c.note(ctx, err)
	return out, err
}

// Renew implements agent.Introducer.
func (c counting) Renew(ctx context.Context, present tls.Certificate, csrPEM string) (join.Response, error) {
	return c.Introducer.Renew(ctx, present, csrPEM)
}

func (c counting) note(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		c.failed(err)
	}
}

// join makes the machine's keys and redeems its token, as the agent does.
func (m *machine) join(ctx context.Context) error {
	identity, err := agent.OpenIdentity(m.file("state"))
	if err != nil {
		return err
	}
	s := m.system
	s.identity, s.fresh = identity, make(chan struct{}, 1)
	a := &agent.Admission{Identity: identity, Config: m.config, TokenFile: m.file("token")}
	client := &join.Client{Servers: func() []string { return m.config.Servers }, CA: a.Trust, Dial: m.dial}
	a.Introducer = counting{client, func(err error) { m.tell.again(stepJoin, reason(err)) }}
	changed := identity.Changed()
	s.owned.Go(func() { a.Run(s.ctx) })
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("not introduced: %w", context.Cause(ctx))
	}
}

// listen connects to etcd, counts as alive there, and waits to be told what to
// run.
func (m *machine) listen(ctx context.Context) error {
	s := m.system
	s.uplink = &agent.Uplink{Identity: s.identity, Dial: func(t *tls.Config) (agent.Link, error) {
		return link.Dial(link.Config{Host: m.config.Host, Endpoints: m.config.Etcd, TLS: t, Version: "storm", Dial: m.dial})
	}}
	s.owned.Go(func() { _ = s.uplink.Run(s.ctx, s.take) }) // it ends with ctx only
	for {
		if desired, _ := s.told(); desired != nil {
			return nil
		}
		select {
		case <-s.fresh:
		case <-ctx.Done():
			return fmt.Errorf("not told what to run: %w", context.Cause(ctx))
		}
	}
}

func (s *system) take(told agent.State) {
	s.mu.Lock()
	s.state = &told
	s.mu.Unlock()
	select {
	case s.fresh <- struct{}{}:
	default:
	}
}

func (s *system) told() (*cluster.Desired, cluster.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == nil {
		return nil, 0
	}
	return s.state.Desired, s.state.Revision
}

// report says that everything runs that is to run, and again whenever the host is
// told something else from then on.
func (m *machine) report(ctx context.Context) error {
	if err := m.reportOnce(ctx); err != nil {
		return err
	}
	s := m.system
	s.owned.Go(func() {
		for {
			select {
			case <-s.ctx.Done():
				return
			case <-s.fresh:
				_ = m.reportOnce(s.ctx) // it fails when ctx ends
			}
		}
	})
	return nil
}

func (m *machine) reportOnce(ctx context.Context) error {
	desired, revision := m.system.told()
	status := cluster.Status{At: time.Now(), Agent: "storm", Docker: "storm", Revision: revision}
	for _, c := range desired.Containers {
		status.Containers = append(status.Containers, cluster.ContainerStatus{
			Site: c.Site, Service: c.Service.Name, Image: c.Service.Image, Health: cluster.HealthHealthy, Current: true, Since: time.Now(),
		})
	}
	for wait := time.Second; ; wait = min(2*wait, 15*time.Second) { // as the agent's own
		err := m.system.uplink.PutStatus(ctx, status)
		if err == nil || ctx.Err() != nil {
			return err
		}
		m.tell.again(m.step, reason(err))
		if !agent.Sleep(ctx, m.world.paced(wait)) {
			return ctx.Err()
		}
	}
}
