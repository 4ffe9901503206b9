package ignition

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/ignition/netplan"
)

// addNetwork reads how the host sets up its network.
func (a *additions) addNetwork(in *Input) []Problem {
	p := in.Target.Profile
	if p.NetworkConfig == "" {
		return nil
	}
	t := newText(p, networkField, p.NetworkConfig)
	if p.NetworkConfig == cluster.StaticNetwork {
		config, err := staticNetwork(&in.Target)
		if err != nil {
			return []Problem{t.problem(0, "", "%v", err)}
		}
		a.Network = config
		return nil
	}
	rendered, at, problems := render(t, in.data())
	if problems != nil {
		return problems
	}
	config, mistakes := netplan.Parse(rendered)
	for _, m := range mistakes {
		problems = append(problems, t.problem(at.of(m.Line), m.Path, "%s", m.Message))
	}
	a.Network = config
	return problems
}

// staticNetwork is the host's reserved address, with what DHCP would tell it beside.
func staticNetwork(t *cluster.Target) (*netplan.Config, error) {
	h, n := t.Host, t.Network
	switch {
	case len(h.MACs) == 0:
		return nil, fmt.Errorf("static: host %s has no macs: of the card that is to have the address", h.Name)
	case !h.Address.IsValid():
		return nil, fmt.Errorf("static: host %s has no address: write it in the host", h.Name)
	case n == nil || !n.CIDR.Contains(h.Address):
		return nil, fmt.Errorf("static: %s of host %s is in no network that is applied", h.Address, h.Name)
	}
	card := netplan.Interface{Addresses: []string{fmt.Sprintf("%s/%d", h.Address, n.CIDR.Bits())}}
	if n.Gateway.IsValid() {
		card.Routes = []netplan.Route{{To: "default", Via: n.Gateway.String()}}
	}
	if names := (netplan.Nameservers{}); len(n.DNS) > 0 || n.Domain != "" {
		for _, a := range n.DNS {
			names.Addresses = append(names.Addresses, a.String())
		}
		if n.Domain != "" {
			names.Search = []string{n.Domain}
		}
		card.Nameservers = &names
	}
	return &netplan.Config{Version: 2, Ethernets: map[string]netplan.Ethernet{
		"lan0": {Match: &netplan.Match{MACAddress: h.MACs[0].String()}, Interface: card},
	}}, nil
}

// renderer returns what sets up the network on a host that reads Ignition: its
// system's, of which the image knows, or the rendered Butane config.
func (in *Input) renderer(of *netplan.Config, rendered string) (netplan.Renderer, error) {
	if of.Renderer != "" {
		return of.Renderer, nil
	}
	var system string
	if in.Target.Image != nil {
		system = string(in.Target.Image.OS())
	}
	if system == "" {
		var head struct{ Variant string }
		_ = yaml.Unmarshal([]byte(rendered), &head) // when it is no YAML Butane says so
		system = map[string]string{"fcos": string(cluster.FedoraCoreOS), "flatcar": string(cluster.Flatcar)}[strings.TrimSpace(head.Variant)]
	}
	switch cluster.OS(system) {
	case cluster.FedoraCoreOS:
		return netplan.NetworkManager, nil
	case cluster.Flatcar:
		return netplan.Networkd, nil
	}
	return "", fmt.Errorf("what sets up the network on this host is not known: write renderer: networkd, or renderer: NetworkManager, in it; or stream: in the image")
}

// forIgnition returns the additions with the network as files.
func (a *additions) forIgnition(in *Input, rendered string) (*additions, []Problem) {
	if a.Network == nil {
		return a, nil
	}
	r, err := in.renderer(a.Network, rendered)
	if err != nil {
		return a, []Problem{newText(in.Target.Profile, networkField, "").problem(0, "", "%v", err)}
	}
	return a.withNetworkFiles(r), nil
}

// forCoreOS returns the additions with the network as files, which coreos-cloudinit
// writes when networkd runs already.
func (a *additions) forCoreOS() *additions {
	if a.Network == nil {
		return a
	}
	a = a.withNetworkFiles(netplan.Networkd)
	a.Units = append(slices.Clone(a.Units), addedUnit{cluster.CommonUnit{Name: "systemd-networkd.service"}, networkField})
	return a
}

func (a *additions) withNetworkFiles(r netplan.Renderer) *additions {
	out := *a
	out.Network = nil
	out.Files = slices.Clone(a.Files)
	for _, f := range a.Network.Files(r) {
		out.Files = append(out.Files, addedFile{cluster.CommonFile{Path: f.Path, Mode: fmt.Sprintf("%04o", f.Mode), Contents: f.Contents}, networkField})
	}
	return &out
}
