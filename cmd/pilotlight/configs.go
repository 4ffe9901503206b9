package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/ignition"
)

const (
	ignitionType    = "application/vnd.coreos.ignition+json"
	cloudConfigType = "text/cloud-config"
)

// input is everything that the config of a host is made of.
func (b *bootServices) input(t cluster.Target, mac cluster.MAC, address netip.Addr, at boot.Server) ignition.Input {
	ca := string(b.s.data.ca.PEM())
	etcd := b.s.o.etcd
	if etcd.Addr().IsUnspecified() {
		etcd = netip.AddrPortFrom(at.Addr, etcd.Port())
	}
	return ignition.Input{
		Target: t, Address: address,
		Agent: ignition.Agent{
			URL:    at.URL + httpboot.AgentPath + b.agent.file.SHA256 + "/pilotlight-agent",
			SHA256: b.agent.file.SHA256, SHA512: b.agent.sha512,
			Config: cluster.AgentConfig{
				Host: t.Host.HostName(), Servers: []string{at.Secure}, Etcd: []string{etcd.String()},
				CA: ca, MAC: mac, UUID: t.Host.UUID,
			},
		},
		Server: ignition.Server{URL: at.URL, Secure: at.Secure, CA: ca},
	}
}

// at is where the hosts of a network find this server.
func (b *bootServices) at(n *cluster.Network) boot.Server {
	return boot.ServerAt(b.stand(n).addr, b.s.o.http.Port(), b.s.o.https.Port())
}

// config compiles the config of a machine that asks.
func (b *bootServices) config(m httpboot.Machine) (*ignition.Config, error) {
	in := b.input(m.Target, m.Identity.MAC, m.Address, m.Server)
	if m.Installer {
		in.Installer = installerAt(m.Server)
	}
	c, err := b.configs.Compile(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", httpboot.ErrNotReady, err)
	}
	return c, nil
}

// installerAt makes a config that of an installer.
func installerAt(at boot.Server) *ignition.Installer {
	return &ignition.Installer{Done: at.Secure + join.PathInstalled}
}

// refusal gives an error of package ignition the status that the client is to
// see: what an operator can put right is worth asking for again.
func refusal(err error) error {
	if errors.Is(err, ignition.ErrNotAcceptable) {
		return fmt.Errorf("%w: %w", httpboot.ErrNotAcceptable, err)
	}
	return fmt.Errorf("%w: %w", httpboot.ErrNotReady, err)
}

// mint makes the introduction token of a machine that asks.
func (b *bootServices) mint(ctx context.Context, m httpboot.Machine) (string, error) {
	who := join.Bearer{
		Host: m.Host.HostName(), MAC: m.Identity.MAC, UUID: m.Identity.UUID, Address: m.Address, Boot: m.Boot,
		Installer: m.Installer,
	}
	if m.Target.Install.Phase == cluster.InstallBegun { // it is redeemed when the installation is done
		who.Life = join.InstallTokenLife
	}
	token, err := b.s.intro.Mint(ctx, who)
	if err != nil {
		return "", fmt.Errorf("%w: %w", httpboot.ErrNotReady, err)
	}
	return token, nil
}

// Ignition implements httpboot.Configs. No token is minted for a client that
// could not be served.
func (b *bootServices) Ignition(ctx context.Context, m httpboot.Machine, accept string) (httpboot.Body, error) {
	c, err := b.config(m)
	if err != nil {
		return httpboot.Body{}, err
	}
	if _, err := c.Render(accept); err != nil {
		return httpboot.Body{}, refusal(err)
	}
	token, err := b.mint(ctx, m)
	if err != nil {
		return httpboot.Body{}, err
	}
	body, err := c.Ignition(accept, token)
	if err != nil {
		return httpboot.Body{}, refusal(err)
	}
	return httpboot.Body{Data: body, ContentType: ignitionType}, nil
}

// CloudConfig implements httpboot.Configs.
func (b *bootServices) CloudConfig(ctx context.Context, m httpboot.Machine) (httpboot.Body, error) {
	c, err := b.config(m)
	if err != nil {
		return httpboot.Body{}, err
	}
	if _, err := c.RenderCloudConfig(); err != nil {
		return httpboot.Body{}, refusal(err)
	}
	token, err := b.mint(ctx, m)
	if err != nil {
		return httpboot.Body{}, err
	}
	body, err := c.CloudConfig(token)
	if err != nil {
		return httpboot.Body{}, refusal(err)
	}
	return httpboot.Body{Data: body, ContentType: cloudConfigType}, nil
}

// compile makes the config of a host as an operator sees it, who stands nowhere:
// for the network that the host is on, or the address that it has; or that of
// its installer.
func (b *bootServices) compile(snap *cluster.Snapshot, h *cluster.Host, installer bool) (cluster.Target, *ignition.Config, error) {
	var mac cluster.MAC
	address := h.Address
	if len(h.MACs) > 0 {
		mac = h.MACs[0]
	}
	if a, ok := b.AddressOf(h); ok && !address.IsValid() {
		address = a
	}
	network, ok := snap.NetworkOf(address)
	if all := snap.Networks(); !ok && len(all) == 1 {
		network = all[0] // where else would it boot
	}
	t, err := snap.Target(h, network)
	if err != nil {
		return t, nil, err
	}
	t.Install = b.installs.Of(h.HostName())
	at := b.at(t.Network)
	in := b.input(t, mac, address, at)
	if installer {
		in.Installer = installerAt(at)
	}
	c, err := b.configs.Compile(in)
	return t, c, err
}

// verify compiles the config of every host, and returns what is wrong with any.
// Package ignition keeps what it has compiled, so a change costs what it touches.
func (b *bootServices) verify(next *cluster.Snapshot) []cluster.Problem {
	var (
		mu       sync.Mutex
		problems []cluster.Problem
		wg       sync.WaitGroup
	)
	hosts := next.Documents(cluster.KindHost)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(hosts); i += workers {
				found := b.verifyHost(next, hosts[i].(*cluster.Host))
				mu.Lock()
				problems = append(problems, found...)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.SortFunc(problems, func(a, c cluster.Problem) int { return cmp.Compare(a.String(), c.String()) })
	return slices.CompactFunc(problems, func(a, c cluster.Problem) bool { return a == c })
}

func (b *bootServices) verifyHost(next *cluster.Snapshot, h *cluster.Host) []cluster.Problem {
	t, err := next.Target(h, nil)
	if err != nil {
		return nil // Check has said so
	}
	if _, err := boot.Args(t.Profile.Boot, t, boot.Visit{Server: b.at(t.Network), Address: h.Address, Identity: identityOf(h)}); err != nil {
		return []cluster.Problem{{Ref: t.Profile.Ref(), Field: "args", Message: fmt.Sprintf("for host %s: %v", h.Name, err)}}
	}
	_, _, err = b.compile(next, h, false)
	problems := configProblems(h, err)
	if t.Profile.Boot == cluster.BootInstall {
		_, _, err = b.compile(next, h, true)
		problems = append(problems, configProblems(h, err)...)
	}
	return problems
}

// configProblems are the mistakes for which a host's config does not compile.
func configProblems(h *cluster.Host, err error) []cluster.Problem {
	var bad *ignition.Error
	switch {
	case errors.As(err, &bad):
		out := make([]cluster.Problem, len(bad.Problems))
		for i, p := range bad.Problems {
			out[i] = p.Problem
			out[i].Message = explainProblem(h, p)
		}
		return out
	case err != nil:
		return []cluster.Problem{{Ref: h.Ref(), Message: err.Error()}}
	}
	return nil
}

// explainProblem says for which host a template fails, and at which of its lines.
func explainProblem(h *cluster.Host, p ignition.Problem) string {
	message := p.Message
	if p.Path != "" {
		message = p.Path + ": " + message
	}
	if p.Line > 0 {
		message = fmt.Sprintf("line %d of the template: %s", p.Line, message)
	}
	return fmt.Sprintf("%s (for host %s)", message, h.Name)
}

func identityOf(h *cluster.Host) cluster.Identity {
	id := cluster.Identity{UUID: h.UUID, Serial: h.Serial}
	if len(h.MACs) > 0 {
		id.MAC = h.MACs[0]
	}
	return id
}
