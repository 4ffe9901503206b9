package netplan

import (
	"strconv"
	"strings"
)

// networkd returns files for systemd-networkd (systemd.network(5),
// systemd.netdev(5), systemd.link(5)), as netplan itself writes them.
func (c *Config) networkd() (files []File) {
	members := c.members()
	for _, id := range c.ids() {
		add := func(kind, contents string) {
			if contents != "" {
				files = append(files, File{"/etc/systemd/network/10-pilotlight-" + id + "." + kind, 0o644, contents})
			}
		}
		if e, ok := c.Ethernets[id]; ok {
			add("link", e.link())
		}
		add("netdev", c.netdev(id))
		add("network", c.network(id, members[id]))
	}
	return files
}

// link is read by udev, whatever sets up the network.
func (e Ethernet) link() string {
	if e.SetName == "" {
		return ""
	}
	match, link := e.match(), &section{name: "Link"}
	link.set("Name", e.SetName)
	return write(match, link)
}

// match says which card is meant. Where its address is known its name is not asked
// for: what a card is called by set-name it may be called later, or never, when its
// driver is in use at once, and the network has to come up all the same.
func (e Ethernet) match() *section {
	s := &section{name: "Match"}
	if e.Match.MACAddress != "" {
		s.set("PermanentMACAddress", strings.ToLower(e.Match.MACAddress)) // a VLAN or a bond on top has the same MACAddress=
	} else {
		s.set("Name", e.Match.Name)
	}
	return s
}

func (c *Config) netdev(id string) string {
	dev, more := &section{name: "NetDev"}, &section{}
	dev.set("Name", id)
	kind, of := "", &Interface{}
	if b, ok := c.Bonds[id]; ok {
		kind, of, more = "bond", &b.Interface, b.Parameters.netdev()
	}
	if b, ok := c.Bridges[id]; ok {
		kind, of, more.name = "bridge", &b.Interface, "Bridge"
		stp, delay := b.Parameters.spanning()
		more.lines = append(more.lines, "STP="+strconv.FormatBool(stp))
		if delay != nil {
			more.lines = append(more.lines, "ForwardDelaySec="+strconv.Itoa(*delay))
		}
	}
	if v, ok := c.VLANs[id]; ok {
		kind, of, more.name = "vlan", &v.Interface, "VLAN"
		more.set("Id", v.ID)
	}
	if kind == "" {
		return ""
	}
	dev.set("MTUBytes", of.MTU)
	dev.set("Kind", kind)
	dev.set("MACAddress", of.MACAddress)
	return write(dev, more)
}

func (p *BondParameters) netdev() *section {
	s := &section{name: "Bond"}
	if p == nil {
		return s
	}
	ms := func(key string, n int) {
		if n > 0 {
			s.set(key, strconv.Itoa(n)+"ms")
		}
	}
	s.set("Mode", p.Mode)
	s.set("LACPTransmitRate", p.LACPRate)
	ms("MIIMonitorSec", p.MIIMonitorInterval)
	s.set("MinLinks", p.MinLinks)
	s.set("TransmitHashPolicy", p.TransmitHashPolicy)
	ms("UpDelaySec", p.UpDelay)
	ms("DownDelaySec", p.DownDelay)
	return s
}

// spanning returns what is said of the spanning tree, with netplan's default.
func (p *BridgeParameters) spanning() (stp bool, delay *int) {
	if p == nil {
		return true, nil
	}
	return p.STP == nil || *p.STP, p.ForwardDelay
}

func (c *Config) network(id string, in *member) string {
	i, sort := c.find(id)
	match, link, network := &section{name: "Match"}, &section{name: "Link"}, &section{name: "Network"}
	if e, ok := c.Ethernets[id]; ok && e.Match != nil {
		match = e.match()
	} else {
		match.set("Name", id)
	}
	link.set("MTUBytes", i.MTU)
	if sort == "ethernets" {
		link.set("MACAddress", i.MACAddress)
	}
	if i.Optional {
		link.set("RequiredForOnline", "no")
	}
	sections := append([]*section{match, link, network}, i.networkd(network, in, sort != "ethernets")...)
	return write(sections...)
}

// networkd fills in [Network], and returns a section for each route.
func (i *Interface) networkd(s *section, in *member, virtual bool) (routes []*section) {
	switch {
	case i.DHCP4 && i.DHCP6:
		s.set("DHCP", "yes")
	case i.DHCP4:
		s.set("DHCP", "ipv4")
	case i.DHCP6:
		s.set("DHCP", "ipv6")
	}
	s.set("LinkLocalAddressing", i.linkLocal(in))
	if i.AcceptRA != nil {
		s.set("IPv6AcceptRA", strconv.FormatBool(*i.AcceptRA))
	}
	for _, a := range i.Addresses {
		s.set("Address", a)
	}
	s.set("Gateway", i.Gateway4)
	s.set("Gateway", i.Gateway6)
	if n := i.Nameservers; n != nil {
		for _, a := range n.Addresses {
			s.set("DNS", a)
		}
		s.set("Domains", strings.Join(n.Search, " "))
	}
	for _, v := range in.vlans {
		s.set("VLAN", v)
	}
	if virtual {
		s.set("ConfigureWithoutCarrier", "yes")
	}
	s.set("Bond", in.bond)
	if in.primary {
		s.set("PrimarySlave", "true")
	}
	s.set("Bridge", in.bridge)
	for _, r := range i.Routes {
		route := &section{name: "Route"}
		route.set("Destination", r.destination())
		route.set("Gateway", r.Via)
		if r.OnLink {
			route.set("GatewayOnLink", "true")
		}
		if r.Metric != nil {
			route.lines = append(route.lines, "Metric="+strconv.Itoa(*r.Metric))
		}
		routes = append(routes, route)
	}
	return routes
}

// linkLocal is networkd's word; what is part of something else has no addresses.
func (i *Interface) linkLocal(in *member) string {
	if in.bond != "" || in.bridge != "" {
		return "no"
	}
	if i.LinkLocal == nil {
		return "ipv6"
	}
	switch four, six := i.hasLinkLocal("ipv4"), i.hasLinkLocal("ipv6"); {
	case four && six:
		return "yes"
	case four:
		return "ipv4"
	case six:
		return "ipv6"
	}
	return "no"
}

func (i *Interface) hasLinkLocal(kind string) bool {
	if i.LinkLocal == nil {
		return kind == "ipv6"
	}
	for _, word := range *i.LinkLocal {
		if word == kind {
			return true
		}
	}
	return false
}

// four reports whether a route is one of IPv4.
func (r Route) four() bool {
	if r.To == "default" {
		return !strings.Contains(r.Via, ":")
	}
	return !strings.Contains(r.To, ":")
}

func (r Route) destination() string {
	switch {
	case r.To != "default":
		return r.To
	case r.four():
		return "0.0.0.0/0"
	}
	return "::/0"
}
