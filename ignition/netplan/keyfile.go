package netplan

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// keyfiles returns connections of NetworkManager (nm-settings-keyfile(5)), and what
// udev reads of names that cards are to have.
func (c *Config) keyfiles() (files []File) {
	members := c.members()
	for _, id := range c.ids() {
		if e, ok := c.Ethernets[id]; ok {
			if link := e.link(); link != "" {
				files = append(files, File{"/etc/systemd/network/10-pilotlight-" + id + ".link", 0o644, link})
			}
		}
		files = append(files, File{"/etc/NetworkManager/system-connections/pilotlight-" + id + ".nmconnection", 0o600, c.connection(id, members[id])})
	}
	return files
}

// connectionID is the same for the same entry, whatever else changes.
func connectionID(id string) string {
	return uuid.NewSHA1(uuid.NameSpaceDNS, []byte(id+".network.pilotlight")).String()
}

func (c *Config) connection(id string, in *member) string {
	i, _ := c.find(id)
	head, match, more, hardware := &section{name: "connection"}, &section{name: "match"}, &section{}, &section{name: "ethernet"}
	head.set("id", "pilotlight-"+id)
	head.set("uuid", connectionID(id))
	device := id
	if e, ok := c.Ethernets[id]; ok {
		head.set("type", "ethernet")
		if e.Match != nil {
			device = ""
			if e.Match.MACAddress != "" {
				hardware.set("mac-address", strings.ToUpper(e.Match.MACAddress))
			} else {
				match.set("interface-name", e.Match.Name+";")
			}
		}
	}
	if b, ok := c.Bonds[id]; ok {
		head.set("type", "bond")
		more = b.Parameters.keyfile(c)
	}
	if b, ok := c.Bridges[id]; ok {
		head.set("type", "bridge")
		more.name = "bridge"
		stp, delay := b.Parameters.spanning()
		more.lines = append(more.lines, fmt.Sprintf("stp=%t", stp))
		if delay != nil {
			more.lines = append(more.lines, fmt.Sprintf("forward-delay=%d", *delay))
		}
	}
	if v, ok := c.VLANs[id]; ok {
		head.set("type", "vlan")
		more.name = "vlan"
		more.set("id", v.ID)
		more.set("parent", connectionID(v.Link))
		more.set("flags", 1)
	}
	head.set("interface-name", device)
	hardware.set("cloned-mac-address", strings.ToUpper(i.MACAddress))
	hardware.set("mtu", i.MTU)
	switch {
	case in.bond != "":
		head.set("master", in.bond)
		head.set("slave-type", "bond")
	case in.bridge != "":
		head.set("master", in.bridge)
		head.set("slave-type", "bridge")
	default:
		return write(head, match, hardware, more, i.ip(true), i.ip(false))
	}
	return write(head, match, hardware, more)
}

// keyfile says parameters in the kernel's words, which are NetworkManager's.
func (p *BondParameters) keyfile(c *Config) *section {
	s := &section{name: "bond"}
	if p == nil {
		s.set("mode", "balance-rr")
		return s
	}
	mode := p.Mode
	if mode == "" {
		mode = "balance-rr"
	}
	s.set("mode", mode)
	s.set("lacp_rate", p.LACPRate)
	s.set("miimon", p.MIIMonitorInterval)
	s.set("min_links", p.MinLinks)
	s.set("xmit_hash_policy", p.TransmitHashPolicy)
	s.set("updelay", p.UpDelay)
	s.set("downdelay", p.DownDelay)
	if e, ok := c.Ethernets[p.Primary]; ok && e.Match != nil {
		s.set("primary", e.device())
	} else {
		s.set("primary", p.Primary)
	}
	return s
}

// ip is what is said of one kind of IP.
func (i *Interface) ip(four bool) *section {
	s := &section{name: "ipv6"}
	if four {
		s.name = "ipv4"
	}
	var addresses []string
	for _, a := range i.Addresses {
		if strings.Contains(a, ":") != four {
			addresses = append(addresses, a)
		}
	}
	auto := i.DHCP4
	if !four {
		auto = i.DHCP6 || i.AcceptRA != nil && *i.AcceptRA
	}
	switch {
	case auto:
		s.set("method", "auto")
	case len(addresses) > 0:
		s.set("method", "manual")
	case i.hasLinkLocal(s.name):
		s.set("method", "link-local")
	default:
		s.set("method", "disabled")
	}
	for n, a := range addresses {
		s.set(fmt.Sprintf("address%d", n+1), a)
	}
	if four {
		s.set("gateway", i.Gateway4)
	} else {
		s.set("gateway", i.Gateway6)
	}
	i.names(s, four)
	n := 0
	for _, r := range i.Routes {
		if r.four() != four {
			continue
		}
		n++
		line := r.destination()
		if r.Via != "" || r.Metric != nil {
			line += "," + r.Via
		}
		if r.Metric != nil {
			line += fmt.Sprintf(",%d", *r.Metric)
		}
		s.set(fmt.Sprintf("route%d", n), line)
		if r.OnLink {
			s.set(fmt.Sprintf("route%d_options", n), "onlink=true")
		}
	}
	return s
}

// names adds the name servers of one kind of IP, and once where to look for names.
func (i *Interface) names(s *section, four bool) {
	if i.Nameservers == nil {
		return
	}
	var servers []string
	for _, a := range i.Nameservers.Addresses {
		if strings.Contains(a, ":") != four {
			servers = append(servers, a)
		}
	}
	list := func(words []string) string {
		if len(words) == 0 {
			return ""
		}
		return strings.Join(words, ";") + ";"
	}
	s.set("dns", list(servers))
	if i.speaks(four) && (four || !i.speaks(true)) {
		s.set("dns-search", list(i.Nameservers.Search))
	}
}
