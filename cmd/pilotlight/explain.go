package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/boot/dhcp"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/ignition"
)

// firmwares are the askers that explain answers for.
var firmwares = []struct {
	name    string
	request boot.Request
}{
	{"BIOS", boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{boot.ArchBIOS}}},
	{"UEFI x64", boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{boot.ArchX64}}},
	{"UEFI x64 HTTP", boot.Request{Class: boot.ClassHTTP, Archs: []boot.Arch{boot.ArchX64HTTP}}},
	{"UEFI IA32", boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{boot.ArchIA32}}},
	{"UEFI IA32 HTTP", boot.Request{Class: boot.ClassHTTP, Archs: []boot.Arch{boot.ArchIA32HTTP}}},
	{"UEFI arm64", boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{boot.ArchARM64}}},
	{"UEFI arm64 HTTP", boot.Request{Class: boot.ClassHTTP, Archs: []boot.Arch{boot.ArchARM64HTTP}}},
	{"U-Boot x86", boot.Request{Class: boot.ClassUBoot, Archs: []boot.Arch{boot.ArchBIOS}}},
	{"U-Boot arm64", boot.Request{Class: boot.ClassUBoot, Archs: []boot.Arch{boot.ArchUBoot64}}},
	{"Raspberry Pi", boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{boot.ArchPi}}},
	{"iPXE of before HTTP", boot.Request{Class: boot.ClassPXE, IPXE: true, Features: []boot.Feature{boot.FeatureBzImage}, Archs: []boot.Arch{boot.ArchBIOS}}},
	{"iPXE", boot.Request{Class: boot.ClassPXE, IPXE: true, Archs: []boot.Arch{0}}},
	{"iPXE on arm64", boot.Request{Class: boot.ClassPXE, IPXE: true, Archs: []boot.Arch{boot.ArchARM64}}},
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
		id := b.seen(mac)
		if h, ok = snap.Misplaced(id); ok {
			return explainMisplaced(h, id, e), nil
		}
		if h, ok = snap.Identify(id); !ok {
			return b.explainStranger(snap, mac, e), nil
		}
	}
	return b.explainHost(snap, h, e)
}

// seen returns what was seen of a machine: where it is plugged in, when a relay
// or its lease says so.
func (b *bootServices) seen(mac cluster.MAC) cluster.Identity {
	for _, s := range b.dhcp.Discovered() {
		if s.MAC == mac {
			return cluster.Identity{MAC: mac, UUID: s.UUID, Port: s.Port}
		}
	}
	if a, ok := b.dhcp.LeaseOf(mac); ok {
		if id, ok := b.dhcp.LentTo(a); ok && id.MAC == mac {
			return id
		}
	}
	return cluster.Identity{MAC: mac}
}

// explainMisplaced says why a machine gets nothing that has only the card, or
// only the switch port, of a host.
func explainMisplaced(h *cluster.Host, id cluster.Identity, e api.Explanation) api.Explanation {
	at := "it was not seen at any switch port since it last had an address"
	if !id.Port.IsZero() {
		at = "it was seen at switch port " + id.Port.String()
	}
	e.Why = append(e.Why,
		fmt.Sprintf("it is not answered: host %s has macs: and switch_port: %s, and a machine is that host only when both are its own", h.Name, h.SwitchPort), at,
		fmt.Sprintf("if it was moved, or its card exchanged: correct the document of host %s; `pilotlight explain %s` says what that host gets", h.Name, h.Name))
	return e
}

// explainStranger says what a machine gets that no document names.
func (b *bootServices) explainStranger(snap *cluster.Snapshot, mac cluster.MAC, e api.Explanation) api.Explanation {
	gets := "it gets an address from a pool and no boot options"
	if b.s.o.dhcp == "" {
		gets = "it gets nothing from here; " + b.silent(nil)
	}
	var conflicts []string
	if n := b.networkOf(snap, mac); n != nil {
		e.Network = n.Name
		silent := b.silent(n)
		if silent == "" && n.DHCP == cluster.DHCPProxy {
			silent = "network " + n.Name + " is dhcp: proxy, where another server gives the addresses"
		}
		if silent != "" {
			gets = "it gets nothing from here; " + silent
		}
		conflicts = b.conflicts(n)
	}
	if a, ok := b.LeaseOf(mac); ok {
		e.Address = a.String()
	}
	e.Why = append([]string{fmt.Sprintf("no document names %s: %s", mac, gets),
		fmt.Sprintf("to boot it, apply:  kind: host, name: NAME, macs: [%q], profile: PROFILE", mac)}, conflicts...)
	return e
}

// networkOf returns where a machine was seen: the only network there is, when
// it was not.
func (b *bootServices) networkOf(snap *cluster.Snapshot, mac cluster.MAC) *cluster.Network {
	for _, seen := range b.Discovered() {
		if d, ok := snap.Get(cluster.Ref{Kind: cluster.KindNetwork, Name: string(seen.Network)}); ok && seen.MAC == mac {
			return d.(*cluster.Network)
		}
	}
	if all := snap.Networks(); len(all) == 1 {
		return all[0]
	}
	return nil
}

// conflicts says what other DHCP servers do to the boots on a network.
func (b *bootServices) conflicts(n *cluster.Network) []string {
	out := b.dhcp.Conflicts(n)
	for i := range out {
		out[i] = "conflict: " + out[i]
	}
	return out
}

// explainNetwork says on which network a host boots, and what others do there.
func (b *bootServices) explainNetwork(snap *cluster.Snapshot, n *cluster.Network, e *api.Explanation) {
	e.Network = n.Name
	why := fmt.Sprintf("network %s: its %s holds the host's address", n.Name, n.CIDR)
	if len(snap.Networks()) == 1 {
		why = fmt.Sprintf("network %s: there is no other", n.Name)
	}
	e.Why = append(e.Why, why)
	if lack := b.stand(n).lack; lack != "" {
		e.Why = append(e.Why, "server: "+lack)
	}
	if n.DHCP == cluster.DHCPProxy {
		who := "another DHCP server"
		for _, r := range b.dhcp.Rivals(n) {
			if r.Gives {
				who = "DHCP server " + r.Name()
			}
		}
		e.Why = append(e.Why, fmt.Sprintf("dhcp: proxy: %s gives the address; firmware gets from here what to boot, an operating system nothing", who))
	}
	if n.ServesMetadata() {
		e.Why = append(e.Why, fmt.Sprintf("metadata: %s: as on EC2, below %s/latest/%s", n.Metadata, b.at(n).URL, b.usualMetadata(n)))
	}
	e.Why = append(e.Why, b.conflicts(n)...)
}

// usualMetadata says whether a network's machines find the metadata service where
// they look for it.
func (b *bootServices) usualMetadata(n *cluster.Network) string {
	switch {
	case b.s.o.metadata == "":
		return " only (--metadata=)"
	case n.DHCP != cluster.DHCPAuthoritative:
		return fmt.Sprintf(" and at %s, to which they need a route of their own", b.s.o.metadata)
	}
	return fmt.Sprintf(" and at %s, to which DHCP tells them the way", b.s.o.metadata)
}

func (b *bootServices) explainHost(snap *cluster.Snapshot, h *cluster.Host, e api.Explanation) (api.Explanation, error) {
	t, config, err := b.compile(snap, h, false)
	e.Host = h.Name
	id := identityOf(h)
	switch p := h.SwitchPort; {
	case p.IsZero():
	case len(h.MACs) > 0:
		e.Why = append(e.Why, fmt.Sprintf("switch_port %s: with one of macs: it is this host there, and nowhere else", p))
	default:
		e.Why = append(e.Why, fmt.Sprintf("switch_port %s: whatever is plugged in there is this host", p))
	}
	if t.Network != nil {
		b.explainNetwork(snap, t.Network, &e)
	}
	if h.Address.IsValid() {
		e.Address = h.Address.String()
		e.Why = append(e.Why, "address: "+reserved(t.Network))
	} else if a, ok := b.AddressOf(h); ok {
		e.Address = a.String()
		why := "address: its lease"
		if t.Network != nil && t.Network.DHCP == cluster.DHCPProxy {
			why = "address: seen when it took it from the other server"
		}
		e.Why = append(e.Why, why)
	}
	if t.Group != nil {
		e.Group = t.Group.Name
		e.Why = append(e.Why, explainGroup(snap, t))
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
		for _, lack := range b.lacking(t.Image) {
			e.Why = append(e.Why, fmt.Sprintf("image %s: %s", t.Image.Name, lack))
		}
	}
	if err != nil {
		e.Why = append(e.Why, "it is not booted: "+err.Error())
		return e, nil
	}
	b.explainBoot(t, id, &e)
	var told []string
	for _, l := range config.Languages() {
		switch l {
		case ignition.LanguageIgnition:
			told = append(told, "Ignition "+strings.Join(config.Versions(), ", "))
		case ignition.LanguageText:
			told = append(told, "text")
		default:
			told = append(told, "cloud-config")
		}
	}
	e.Config = strings.Join(told, "; ") + ", sha256 " + config.Digest()[:12]
	for _, w := range config.Warnings() {
		e.Why = append(e.Why, "config: warning: "+w.String())
	}
	return e, nil
}

// explainGroup says why a group counts, and which others would take the host.
func explainGroup(snap *cluster.Snapshot, t cluster.Target) string {
	why := fmt.Sprintf("group %s: the most specific whose match takes the host: %s", t.Group.Name, t.Group.Match)
	for i, g := range snap.GroupsOf(t.Host, t.Network)[1:] {
		if i == 0 {
			why += "; less specific"
		} else {
			why += ","
		}
		why += fmt.Sprintf(" %s (%s)", g.Name, g.Match)
	}
	return why
}

func reserved(n *cluster.Network) string {
	if n != nil && n.DHCP == cluster.DHCPProxy {
		return "as the host's document has it; reserve it at the other DHCP server too"
	}
	return "reserved by the host's document"
}

// explainBoot fills in what DHCP answers to each kind of firmware, and the script.
func (b *bootServices) explainBoot(t cluster.Target, id cluster.Identity, e *api.Explanation) {
	at := b.at(t.Network)
	e.DHCP = map[string]string{}
	for _, f := range firmwares {
		q := f.request
		if over6 := t.Network != nil && t.Network.CIDR.Addr().Is6(); over6 && !boots6(q) {
			continue // there is no such firmware
		}
		if t.Image != nil && boot.MachineOf(q.Arch()) != boot.ImageArch(t.Image) {
			continue // a machine that the image is not for
		}
		q.MAC, q.UUID, q.Serial, q.Network = id.MAC, id.UUID, id.Serial, t.Network
		e.DHCP[f.name] = b.explainFirmware(q, t, at)
	}
	mode, _ := boot.CourseOf(t)
	script, err := boot.Script(mode, t, boot.Visit{Identity: id, Address: t.Host.Address, Server: at})
	if err != nil {
		e.Why = append(e.Why, "no script: "+err.Error())
		return
	}
	e.Script = string(script)
}

// boots6 reports whether firmware of a kind boots over IPv6: UEFI, and iPXE.
func boots6(q boot.Request) bool {
	if q.IsIPXE() {
		return len(q.Features) == 0
	}
	return q.Class != boot.ClassUBoot && q.Arch() != boot.ArchBIOS && q.Arch() != boot.ArchPi
}

// explainFirmware says what DHCP answers to one asker.
func (b *bootServices) explainFirmware(q boot.Request, t cluster.Target, at boot.Server) string {
	reply, err := boot.Decide(q, t, boot.Policy{Server: at, Loaders: b.dhcp.Loaders})
	leaves := strings.HasSuffix(reply.URL+reply.Loader, boot.LeaveFile)
	silent := b.silent(t.Network)
	says := reply.URL
	switch {
	case err != nil:
		return "nothing: " + err.Error()
	case reply.IsZero():
		return "nothing: " + reply.Why
	case silent != "" && !leaves:
		return "nothing: " + silent
	case leaves:
		says = fmt.Sprintf("nothing: %s (it is told to load %s, which is not there, and so goes on at once)", reply.Why, boot.LeaveFile)
	case reply.Loader != "" && b.s.o.tftp == "":
		return fmt.Sprintf("%s, which it cannot fetch: tftp off (--tftp=)", reply.Loader)
	case reply.Loader != "":
		says = at.TFTP(reply.Loader)
	}
	if t.Network != nil && t.Network.DHCP == cluster.DHCPProxy {
		says += "  (" + dhcp.ProxyWay(q) + ")"
	}
	return says
}

// Render implements api.Machines.
func (b *bootServices) Render(_ context.Context, in api.RenderRequest) (string, []byte, error) {
	refuse := func(status int, format string, args ...any) (string, []byte, error) {
		return "", nil, &api.StatusError{Status: status, Err: fmt.Errorf(format, args...)}
	}
	snap := b.s.Snapshot()
	h, ok := snap.Host(cluster.HostName(in.Host))
	if !ok {
		return refuse(http.StatusNotFound, "there is no host %q; `pilotlight host list` shows the hosts", in.Host)
	}
	if t, err := snap.Target(h, nil); in.Installer && err == nil && t.Profile.Boot != cluster.BootInstall {
		return refuse(http.StatusConflict, "host %s has no installer: its profile %s installs nothing; `pilotlight render %s` prints what it is told", in.Host, t.Profile.Name, in.Host)
	}
	t, c, err := b.compile(snap, h, in.Installer)
	if err != nil {
		return refuse(http.StatusConflict, "%w", err)
	}
	if in.What == toldScript {
		body, err := b.scriptOf(t, h)
		if err != nil {
			return refuse(http.StatusConflict, "%w", err)
		}
		return ignition.TextType, body, nil
	}
	if in.What == toldPointer {
		return b.renderPointer(t, c, in.Accept)
	}
	told := c.Told()
	var there []string
	for _, one := range told {
		if there = append(there, one.What); one.What != in.What && in.What != "" {
			continue
		}
		if one.What == ignition.ToldIgnition {
			if one.Body, err = c.Render(in.Accept); err != nil {
				return refuse(http.StatusConflict, "%w", err)
			}
		}
		return one.ContentType, one.Body, nil
	}
	return refuse(http.StatusConflict, "host %s is told no %q; it is told: %s", in.Host, in.What, strings.Join(append(there, toldScript, toldPointer), ", "))
}
