package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"

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
	ways := b.waysFrom(t.Network, at.Secure, etcd.String())
	return ignition.Input{
		Target: t, Address: address,
		Agent: ignition.Agent{
			URL:    at.URL + httpboot.AgentPath + b.agent.file.SHA256 + "/pilotlight-agent",
			SHA256: b.agent.file.SHA256, SHA512: b.agent.sha512,
			Config: cluster.AgentConfig{
				Host: t.Host.HostName(), Servers: ways.Servers, Etcd: ways.Etcd,
				CA: ca, MAC: mac, UUID: t.Host.UUID,
			},
		},
		Server:   ignition.Server{URL: at.URL, Secure: at.Secure, CA: ca},
		SetupURL: factsOf(t, cluster.Identity{MAC: mac, UUID: t.Host.UUID}, at).SetupURL,
	}
}

// factsOf are where a machine finds what, in the boot that its profile has it go
// through.
func factsOf(t cluster.Target, who cluster.Identity, at boot.Server) boot.Facts {
	mode := t.Profile.Boot
	if mode == cluster.BootInstall && t.Profile.Install == nil {
		mode = "" // it is a mistake, which is told
	}
	return boot.FactsOf(mode, t, boot.Visit{Identity: who, Server: at})
}

// waysFrom is where a host finds the servers: this one first, at secure and etcd. While it has no vote
// in etcd, that of the others.
func (b *bootServices) waysFrom(n *cluster.Network, secure, etcd string) cluster.Uplinks {
	var on netip.Prefix
	if n != nil {
		on = n.CIDR
	}
	own := cluster.Uplinks{Servers: []string{secure}, Etcd: []string{etcd}}
	all := cluster.UplinksFrom(on, b.s.servers(), b.s.place.Name)
	if !b.s.member.Votes() && len(all.Etcd) > 0 {
		own.Etcd = nil
	}
	return own.Or(all)
}

// at is where the hosts of a network find this server.
func (b *bootServices) at(n *cluster.Network) boot.Server {
	return boot.ServerAt(b.stand(n).addr, b.s.o.http.Port(), b.s.o.https.Port())
}

// config compiles the config of a machine that asks.
func (b *bootServices) config(m httpboot.Machine) (*ignition.Config, error) {
	in := b.input(m.Target, m.Identity.MAC, m.Address, m.Server)
	if m.Installer {
		in.Installer = installerOf(m.Target, m.Identity, m.Server)
	}
	c, err := b.configs.Compile(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", httpboot.ErrNotReady, err)
	}
	return c, nil
}

// installerOf makes a config that of a machine's installer. Flatcar has none that
// kernel arguments start.
func installerOf(t cluster.Target, who cluster.Identity, at boot.Server) *ignition.Installer {
	out := &ignition.Installer{Done: at.Secure + join.PathInstalled}
	if t.Image == nil || t.Image.OS() != cluster.Flatcar || t.Profile.Install == nil {
		return out
	}
	out.Flatcar = &ignition.FlatcarInstall{
		Device: t.Profile.Install.Device, Release: t.Image.Release, Channel: t.Image.Channel(),
		Config: factsOf(t, who, at).SystemConfigURL,
	}
	if t.Image.Disk != nil {
		out.Flatcar.Base = at.URL + boot.ImagePath + url.PathEscape(t.Image.Name) + "/disk"
	}
	return out
}

// refusal gives an error of package ignition the status that the client is to
// see: what an operator can put right is worth asking for again.
func refusal(err error) error {
	if errors.Is(err, ignition.ErrNotAcceptable) {
		return fmt.Errorf("%w: %w", httpboot.ErrNotAcceptable, err)
	}
	return fmt.Errorf("%w: %w", httpboot.ErrNotReady, err)
}

// bearer is who the introduction token of a machine that asks is made for.
func (b *bootServices) bearer(m httpboot.Machine) join.Bearer {
	who := join.Bearer{
		Host: m.Host.HostName(), MAC: m.Identity.MAC, UUID: m.Identity.UUID, Address: m.Address, Boot: m.Boot,
		Installer: m.Installer, Life: join.TokenLife,
	}
	if m.Target.Install.Phase == cluster.InstallBegun { // it is redeemed when the installation is done
		who.Life = join.InstallTokenLife
	}
	return who
}

// token makes the introduction token of a machine that asks for its whole config.
func (b *bootServices) token(ctx context.Context, m httpboot.Machine) (string, error) {
	who := b.bearer(m)
	if settled := m.Running && (m.Target.Profile.Boot == cluster.BootLocal || m.Target.Profile.Boot == cluster.BootInstall); settled {
		// The metadata service is asked at any time, and a host that is in has no use for a token.
		if alive, err := b.s.store.Alive(ctx, who.Host); err == nil && alive {
			return ignition.TokenPlaceholder, nil
		}
	}
	return b.mint(ctx, who)
}

func (b *bootServices) mint(ctx context.Context, who join.Bearer) (string, error) {
	token, err := b.s.intro.Mint(ctx, who)
	if err != nil {
		return "", fmt.Errorf("%w: %w", httpboot.ErrNotReady, err)
	}
	return token, nil
}

// Ignition implements httpboot.Configs: who follows a pointer gets one, and its config
// by HTTPS. No token is minted for a client that could not be served.
func (b *bootServices) Ignition(ctx context.Context, m httpboot.Machine, accept string) (httpboot.Body, error) {
	c, err := b.config(m)
	if err != nil {
		return httpboot.Body{}, err
	}
	return b.ignitionOf(ctx, m, c, accept)
}

func (b *bootServices) ignitionOf(ctx context.Context, m httpboot.Machine, c *ignition.Config, accept string) (httpboot.Body, error) {
	if err := c.Acceptable(accept); err != nil {
		return httpboot.Body{}, refusal(err)
	}
	if spec, ok := b.staged(m, accept); ok {
		return b.pointTo(ctx, m, c, spec)
	}
	token, err := b.token(ctx, m)
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
	return b.cloudConfigOf(ctx, m, c)
}

func (b *bootServices) cloudConfigOf(ctx context.Context, m httpboot.Machine, c *ignition.Config) (httpboot.Body, error) {
	if body, err := c.Text(); err == nil { // an autoinstall, as the user-data of a seed
		return httpboot.Body{Data: body, ContentType: cloudConfigType}, nil
	}
	if _, err := c.RenderCloudConfig(); err != nil {
		return httpboot.Body{}, refusal(err)
	}
	token, err := b.token(ctx, m)
	if err != nil {
		return httpboot.Body{}, err
	}
	body, err := c.CloudConfig(token)
	if err != nil {
		return httpboot.Body{}, refusal(err)
	}
	return httpboot.Body{Data: body, ContentType: c.CloudType()}, nil
}

// UserData implements httpboot.Configs.
func (b *bootServices) UserData(ctx context.Context, m httpboot.Machine, accept string) (httpboot.Body, error) {
	c, err := b.config(m)
	if err != nil {
		return httpboot.Body{}, err
	}
	if c.LanguageFor(accept) == ignition.LanguageIgnition {
		return b.ignitionOf(ctx, m, c, accept)
	}
	return b.cloudConfigOf(ctx, m, c)
}

// NetworkConfig implements httpboot.Configs. There is no token in it.
func (b *bootServices) NetworkConfig(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	c, err := b.config(m)
	if err != nil {
		return httpboot.Body{}, err
	}
	return httpboot.Body{Data: c.NetworkConfig(), ContentType: "text/yaml"}, nil
}

// Text implements httpboot.Configs. There is no token in it.
func (b *bootServices) Text(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	c, err := b.config(m)
	if err != nil {
		return httpboot.Body{}, err
	}
	body, err := c.Text()
	if err != nil {
		return httpboot.Body{}, refusal(err)
	}
	return httpboot.Body{Data: body, ContentType: ignition.TextType}, nil
}

// Setup implements httpboot.Configs. Where an installer asks it gets a token to say
// that it is done, beside the system's.
func (b *bootServices) Setup(ctx context.Context, m httpboot.Machine) (httpboot.Body, error) {
	var said *ignition.Said
	if m.Installer {
		token, err := b.token(ctx, m)
		if err != nil {
			return httpboot.Body{}, err
		}
		said = &ignition.Said{Token: token, URL: m.Server.Secure + join.PathInstalled}
	}
	m.Installer = false
	token, err := b.token(ctx, m)
	if err != nil {
		return httpboot.Body{}, err
	}
	body, err := ignition.Setup(b.input(m.Target, m.Identity.MAC, m.Address, m.Server), token, said)
	if err != nil {
		return httpboot.Body{}, refusal(err)
	}
	return httpboot.Body{Data: body, ContentType: ignition.TextType}, nil
}

// Generic implements httpboot.Configs.
func (b *bootServices) Generic(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	c, err := b.config(m)
	if err != nil {
		return httpboot.Body{}, err
	}
	return httpboot.Body{Data: c.Generic(), ContentType: "text/plain; charset=utf-8"}, nil
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
	network := bootsOn(snap, address)
	t, err := snap.Target(h, network)
	if err != nil {
		return t, nil, err
	}
	t.Install = b.installs.Of(h.HostName())
	at := b.at(t.Network)
	in := b.input(t, mac, address, at)
	if installer {
		in.Installer = installerOf(t, identityOf(h), at)
	}
	c, err := b.configs.Compile(in)
	return t, c, err
}

// bootsOn is the network of a host that has an address, or none.
func bootsOn(snap *cluster.Snapshot, address netip.Addr) *cluster.Network {
	network, ok := snap.NetworkOf(address)
	if all := snap.Networks(); !ok && len(all) == 1 {
		network = all[0] // where else would it boot
	}
	return network
}

func identityOf(h *cluster.Host) cluster.Identity {
	id := cluster.Identity{UUID: h.UUID, Serial: h.Serial}
	if len(h.MACs) > 0 {
		id.MAC = h.MACs[0]
	}
	return id
}
