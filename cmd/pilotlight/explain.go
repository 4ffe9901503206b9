package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
)

// firmwares are the askers that explain answers for.
var firmwares = []struct {
	name    string
	request boot.Request
}{
	{"BIOS", boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{0}}},
	{"UEFI x64", boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{7}}},
	{"UEFI x64 HTTP", boot.Request{Class: boot.ClassHTTP, Archs: []boot.Arch{16}}},
	{"iPXE", boot.Request{Class: boot.ClassPXE, IPXE: true, Archs: []boot.Arch{0}}},
}

// Explain implements api.Machines, with the functions that serve.
func (b *bootServices) Explain(_ context.Context, who string) (api.Explanation, error) {
	snap := b.s.Snapshot()
	e := api.Explanation{Who: who}
	h, ok := snap.Host(cluster.HostName(who))
	if !ok {
		mac, err := cluster.ParseMAC(who)
		if err != nil {
			return e, &api.StatusError{Status: http.StatusNotFound, Err: fmt.Errorf("there is no host %q, and it is no MAC address either; `pilotlight host list` shows both", who)}
		}
		if h, ok = snap.Identify(cluster.Identity{MAC: mac}); !ok {
			e.Why = []string{fmt.Sprintf("no document names %s: it gets an address from a pool and no boot options", mac),
				fmt.Sprintf("to boot it, apply:  kind: host, name: NAME, macs: [%q], profile: PROFILE", mac)}
			return e, nil
		}
	}
	return b.explainHost(snap, h, e)
}

func (b *bootServices) explainHost(snap *cluster.Snapshot, h *cluster.Host, e api.Explanation) (api.Explanation, error) {
	t, config, err := b.compile(snap, h, false)
	e.Host = h.Name
	id := identityOf(h)
	if t.Network != nil {
		e.Network = t.Network.Name
		why := fmt.Sprintf("network %s: its %s holds the host's address", t.Network.Name, t.Network.CIDR)
		if len(snap.Networks()) == 1 {
			why = fmt.Sprintf("network %s: there is no other", t.Network.Name)
		}
		e.Why = append(e.Why, why)
	}
	if h.Address.IsValid() {
		e.Address = h.Address.String()
		e.Why = append(e.Why, "address: reserved by the host's document")
	} else if a, ok := b.dhcp.LeaseOf(id.MAC); ok {
		e.Address = a.String()
		e.Why = append(e.Why, "address: its lease")
	}
	if t.Group != nil {
		e.Group = t.Group.Name
		e.Why = append(e.Why, fmt.Sprintf("group %s: the most specific whose match takes the host", t.Group.Name))
	}
	if t.Profile != nil {
		e.Profile = t.Profile.Name
		from := "the host's document"
		if h.Profile == "" {
			from = "group " + t.Group.Name
		}
		e.Why = append(e.Why, fmt.Sprintf("profile %s: named by %s", t.Profile.Name, from))
	}
	if t.Profile != nil {
		_, why := boot.CourseOf(t)
		e.Why = append(e.Why, "boot: "+why)
	}
	if t.Image != nil {
		e.Image = t.Image.Name
		e.Why = append(e.Why, fmt.Sprintf("image %s: named by profile %s", t.Image.Name, t.Profile.Name))
	}
	if err != nil {
		e.Why = append(e.Why, "it is not booted: "+err.Error())
		return e, nil
	}
	b.explainBoot(t, id, &e)
	e.Config = fmt.Sprintf("Ignition %s", strings.Join(config.Versions(), ", "))
	if len(config.Versions()) == 0 {
		e.Config = "cloud-config"
	}
	e.Config += ", sha256 " + config.Digest()[:12]
	for _, w := range config.Warnings() {
		e.Why = append(e.Why, "config: warning: "+w.String())
	}
	return e, nil
}

// explainBoot fills in what DHCP answers to each kind of firmware, and the script.
func (b *bootServices) explainBoot(t cluster.Target, id cluster.Identity, e *api.Explanation) {
	at := b.at(t.Network)
	e.DHCP = map[string]string{}
	for _, f := range firmwares {
		q := f.request
		q.MAC, q.UUID, q.Serial, q.Network = id.MAC, id.UUID, id.Serial, t.Network
		reply, err := boot.Decide(q, t, boot.Policy{Server: at, Loaders: b.dhcp.Loaders})
		switch {
		case err != nil:
			e.DHCP[f.name] = "nothing: " + err.Error()
		case strings.HasSuffix(reply.URL+reply.Loader, boot.LeaveFile):
			e.DHCP[f.name] = fmt.Sprintf("nothing: %s (it is told to load %s, which is not there, and so goes on at once)", reply.Why, boot.LeaveFile)
		case reply.URL != "":
			e.DHCP[f.name] = reply.URL
		case reply.Loader != "":
			e.DHCP[f.name] = fmt.Sprintf("tftp://%s/%s", at.Addr, reply.Loader)
		default:
			e.DHCP[f.name] = "nothing: " + reply.Why
		}
	}
	mode, _ := boot.CourseOf(t)
	script, err := boot.Script(mode, t, boot.Visit{Identity: id, Address: t.Host.Address, Server: at})
	if err != nil {
		e.Why = append(e.Why, "no script: "+err.Error())
		return
	}
	e.Script = string(script)
}

// Render implements api.Machines.
func (b *bootServices) Render(_ context.Context, host, accept string, installer bool) (string, []byte, error) {
	snap := b.s.Snapshot()
	h, ok := snap.Host(cluster.HostName(host))
	if !ok {
		return "", nil, &api.StatusError{Status: http.StatusNotFound, Err: fmt.Errorf("there is no host %q; `pilotlight host list` shows the hosts", host)}
	}
	if t, err := snap.Target(h, nil); installer && err == nil && t.Profile.Boot != cluster.BootInstall {
		return "", nil, &api.StatusError{Status: http.StatusConflict, Err: fmt.Errorf("host %s has no installer: its profile %s installs nothing; `pilotlight render %s` prints what it is told", host, t.Profile.Name, host)}
	}
	t, c, err := b.compile(snap, h, installer)
	if err != nil {
		return "", nil, &api.StatusError{Status: http.StatusConflict, Err: err}
	}
	templates := t.Profile.Config
	if installer {
		templates = t.Profile.Install.Config
	}
	if templates.CloudConfig != "" {
		body, err := c.RenderCloudConfig()
		return cloudConfigType, body, err
	}
	body, err := c.Render(accept)
	if err != nil {
		return "", nil, &api.StatusError{Status: http.StatusConflict, Err: err}
	}
	return ignitionType, body, nil
}
