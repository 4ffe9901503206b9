package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/boot/userdata"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/ignition"
)

func failed(status int, format string, args ...any) error {
	return &api.StatusError{Status: status, Err: fmt.Errorf(format, args...)}
}

// Userdata implements api.Machines. No token is made for a host that could not use it.
func (b *bootServices) Userdata(ctx context.Context, actor string, name cluster.HostName, in api.UserdataRequest) (out api.Userdata, err error) {
	snap := b.s.Snapshot()
	h, ok := snap.Host(name)
	if !ok {
		return out, noSuchHost(snap, name)
	}
	place, err := userdata.ParsePlace(in.For)
	if err != nil {
		return out, failed(http.StatusBadRequest, "%w", err)
	}
	life := cmp.Or(in.Life, join.UserdataLife)
	if life < time.Minute || life > join.MaxUserdataLife {
		return out, failed(http.StatusBadRequest, "a life of %s is not between a minute and %s", life, join.MaxUserdataLife)
	}
	at, err := b.secureURL(snap, h, in.URL)
	if err != nil {
		return out, err
	}
	c, err := b.compileElsewhere(snap, h, at)
	var l ignition.Language
	if err == nil {
		l, err = languageFor(place, c)
	}
	if err != nil {
		return out, failed(http.StatusConflict, "%w", err)
	}
	out = api.Userdata{
		Host: name, InstanceID: h.InstanceID(), Language: string(l), URL: at, Expires: time.Now().Add(life), NetworkConfig: c.NetworkConfig(),
	}
	token, err := b.s.intro.Mint(ctx, join.Bearer{
		Host: name, UUID: h.UUID, Life: life, Userdata: &cluster.Userdata{By: actor, Digest: c.Digest(), Language: string(l), URL: at},
	})
	if errors.Is(err, join.ErrAlive) {
		return out, failed(http.StatusConflict, "%w: stop it first; if it is gone for good, pilotlight host retire %s", err, name)
	}
	if err != nil {
		return out, err
	}
	out.Pointer, err = b.pointer(c, l, at, token)
	return out, err
}

// RevokeUserdata implements api.Machines. The host's document may be deleted already.
func (b *bootServices) RevokeUserdata(ctx context.Context, actor string, name cluster.HostName) (int, error) {
	n, err := b.s.intro.RevokeUserdata(ctx, actor, name)
	if snap := b.s.Snapshot(); err == nil && n == 0 {
		if _, ok := snap.Host(name); !ok {
			return 0, noSuchHost(snap, name)
		}
	}
	return n, err
}

func noSuchHost(snap *cluster.Snapshot, name cluster.HostName) error {
	if _, ok := snap.Get(cluster.Ref{Kind: cluster.KindGroup, Name: string(name)}); ok {
		return failed(http.StatusNotFound, "%s is a group, and userdata is made for one host: name one, or all of the group's: pilotlight userdata --all-of %s -o DIR", name, name)
	}
	return failed(http.StatusNotFound, "there is no host %q; `pilotlight host list` shows the hosts", name)
}

// languageFor chooses in which of a config's languages a place hands it out. Nothing
// stands in the way of serving it then.
func languageFor(place userdata.Place, c *ignition.Config) (ignition.Language, error) {
	all := c.Languages()
	l := all[0]
	if place.Check(userdata.Language(l)) != nil && len(all) > 1 {
		l = all[1]
	}
	if _, _, err := c.Pointed(l, "", ignition.TokenPlaceholder); err != nil {
		return l, err
	}
	return l, place.Check(userdata.Language(l))
}

// pointer points to a config that holds a token. One of several parts is given whole:
// by the time that a pointer is followed cloud-init takes no more parts.
func (b *bootServices) pointer(c *ignition.Config, l ignition.Language, at, token string) ([]byte, error) {
	body, _, err := c.Pointed(l, "", token)
	if err != nil {
		return nil, err
	}
	if c.Whole(l) {
		return body, nil
	}
	return b.pointerTo(body, l, at, token)
}

func (b *bootServices) pointerTo(body []byte, l ignition.Language, at, token string) ([]byte, error) {
	sum := sha256.Sum256(body)
	p := ignition.Pointer{URL: at + join.PathConfig, Token: token, SHA256: hex.EncodeToString(sum[:]), CA: string(b.s.data.ca.PEM())}
	return p.For(l)
}

// pointed makes the config to which a pointer points, as it was when the pointer was
// made. One that does not compile any more was changed, too.
func (b *bootServices) pointed(_ context.Context, t cluster.Token, token string) (join.Config, error) {
	snap := b.s.Snapshot()
	h, ok := snap.Host(t.Host)
	if !ok {
		return join.Config{}, fmt.Errorf("%w: its document is deleted", join.ErrOutdated)
	}
	c, err := b.compileElsewhere(snap, h, t.Userdata.URL)
	if err != nil {
		return join.Config{}, fmt.Errorf("%w: %w", join.ErrOutdated, err)
	}
	if c.Digest() != t.Userdata.Digest {
		return join.Config{}, join.ErrOutdated
	}
	body, contentType, err := c.Pointed(ignition.Language(t.Userdata.Language), "", token)
	return join.Config{Data: body, ContentType: contentType}, err
}

// compileElsewhere makes the config of a host whose machine pilotlight does not boot:
// it finds the server at a URL, by HTTPS alone, and the address that it has there is
// not known.
func (b *bootServices) compileElsewhere(snap *cluster.Snapshot, h *cluster.Host, at string) (*ignition.Config, error) {
	t, err := snap.Target(h, bootsOn(snap, h.Address))
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	server := b.at(t.Network)
	server.Secure = at
	in := b.input(t, identityOf(h).MAC, h.Address, server)
	var on netip.Prefix
	if t.Network != nil {
		on = t.Network.CIDR
	}
	ways := cluster.UplinksAt(at, net.JoinHostPort(u.Hostname(), strconv.Itoa(int(b.s.o.etcd.Port()))), on, b.s.servers())
	in.Agent.URL = at + httpboot.AgentPath + b.agent.file.SHA256 + "/pilotlight-agent"
	in.Agent.Config.Servers, in.Agent.Config.Etcd = ways.Servers, ways.Etcd
	return b.configs.Compile(in)
}

// secureURL is where a machine finds the server: at the given URL, or where the
// hosts of its network do. The server's certificate has to hold for it.
func (b *bootServices) secureURL(snap *cluster.Snapshot, h *cluster.Host, given string) (string, error) {
	if given == "" {
		network := bootsOn(snap, h.Address)
		if lack := b.stand(network).lack; lack != "" {
			return "", failed(http.StatusConflict, "where host %s finds this server is not known: %s; or say it with --url https://ADDRESS:PORT", h.Name, lack)
		}
		given = b.at(network).Secure
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", failed(http.StatusBadRequest, "%q is not where a server is; write it as https://ADDRESS:PORT", given)
	}
	if leaf := b.s.certificate.Load().Leaf; leaf.VerifyHostname(u.Hostname()) != nil {
		names := slices.Clone(leaf.DNSNames)
		for _, a := range leaf.IPAddresses {
			names = append(names, a.String())
		}
		return "", failed(http.StatusConflict, "the machine would refuse this server at %s: its certificate holds for %s; for an address that it has behind a NAT, write server: %s in a network document and apply it",
			u.Host, strings.Join(names, ", "), u.Hostname())
	}
	return "https://" + u.Host, nil
}
