package netplan

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// checker finds what does not fit together.
type checker struct {
	root     *yaml.Node
	names    map[string]string // of all interfaces -> what sort they are
	inUse    map[string]string // members -> whose
	nameless map[string]bool   // ethernets of which only the address is known
	mistakes []Mistake
}

// add notes a mistake at a path of keys and indexes, or the longest part of it
// that is there.
func (c *checker) add(path []string, format string, args ...any) {
	n, line := c.root, c.root.Line
	for _, key := range path {
		var next *yaml.Node
		if i, err := strconv.Atoi(key); err == nil && n.Kind == yaml.SequenceNode && i < len(n.Content) {
			next = n.Content[i]
		} else {
			next = valueOf(n, key)
		}
		if next == nil {
			break
		}
		n, line = next, next.Line
	}
	c.mistakes = append(c.mistakes, Mistake{Line: line, Path: strings.Join(path, "."), Message: fmt.Sprintf(format, args...)})
}

func below(path []string, keys ...any) []string {
	out := slices.Clone(path)
	for _, k := range keys {
		out = append(out, fmt.Sprint(k))
	}
	return out
}

var (
	// nameForm is what Linux takes for an interface's name.
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,15}$`)
	globForm = regexp.MustCompile(`^[A-Za-z0-9_.@*?\[\]!-]*$`)

	domainForm = regexp.MustCompile(`^[A-Za-z0-9_.~-]+$`) // or ~., systemd-resolved's word for all
)

func (c *checker) config(n *Config) {
	if n.Version != 2 {
		c.add([]string{"version"}, "is not 2: write version: 2")
	}
	if n.Renderer != "" && n.Renderer != Networkd && n.Renderer != NetworkManager {
		c.add([]string{"renderer"}, "%q is neither networkd nor NetworkManager", n.Renderer)
	}
	for _, sort := range []struct {
		name string
		ids  []string
	}{
		{"ethernets", slices.Sorted(maps.Keys(n.Ethernets))}, {"bonds", slices.Sorted(maps.Keys(n.Bonds))},
		{"bridges", slices.Sorted(maps.Keys(n.Bridges))}, {"vlans", slices.Sorted(maps.Keys(n.VLANs))},
	} {
		for _, id := range sort.ids {
			if other, taken := c.names[id]; taken {
				c.add(below(nil, sort.name, id), "%s is there among %s too: rename one", id, other)
			}
			if c.names[id] = sort.name; !nameForm.MatchString(id) {
				c.add(below(nil, sort.name, id), "%q is no name of an interface: use letters and digits, at most 15", id)
			}
		}
	}
	if len(c.names) == 0 {
		c.add(nil, "it has no interface: write ethernets:")
	}
	c.nameless = map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(n.Ethernets)) {
		c.nameless[id] = n.Ethernets[id].Match != nil && n.Ethernets[id].device() == ""
		c.ethernet(below(nil, "ethernets", id), n.Ethernets[id])
	}
	for _, id := range slices.Sorted(maps.Keys(n.Bonds)) {
		c.bond(below(nil, "bonds", id), n.Bonds[id])
	}
	for _, id := range slices.Sorted(maps.Keys(n.Bridges)) {
		b := n.Bridges[id]
		c.members(below(nil, "bridges", id), b.Interfaces)
		c.common(below(nil, "bridges", id), &b.Interface)
	}
	for _, id := range slices.Sorted(maps.Keys(n.VLANs)) {
		c.vlan(below(nil, "vlans", id), n.VLANs[id])
	}
	c.idle(n)
	c.rings(n)
}

// rings refuses what is made of itself: it would never come up.
func (c *checker) rings(n *Config) {
	of := map[string][]string{}
	for id, b := range n.Bonds {
		of[id] = b.Interfaces
	}
	for id, b := range n.Bridges {
		of[id] = b.Interfaces
	}
	for id, v := range n.VLANs {
		if v.Link != id { // which has been said
			of[id] = []string{v.Link}
		}
	}
	said := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(of)) {
		way, found := wayTo(id, of[id], of, map[string]bool{})
		if !found || said[id] {
			continue
		}
		for _, w := range way {
			said[w] = true
		}
		by := ""
		if len(way) > 0 {
			by = ", by way of " + strings.Join(way, ", ")
		}
		_, sort := n.find(id)
		c.add(below(nil, sort, id), "%s is a part of itself%s: take one out of the other", id, by)
	}
}

// wayTo returns what is between an interface and a part of it by which it is a part
// of itself.
func wayTo(id string, parts []string, of map[string][]string, seen map[string]bool) (way []string, found bool) {
	for _, p := range parts {
		if p == id {
			return nil, true
		}
		if seen[p] {
			continue
		}
		seen[p] = true
		if way, found := wayTo(id, of[p], of, seen); found {
			return append([]string{p}, way...), true
		}
	}
	return nil, false
}

// idle refuses addresses of what is a part of something else.
func (c *checker) idle(n *Config) {
	for _, id := range slices.Sorted(maps.Keys(c.inUse)) {
		of := c.inUse[id]
		i, sort := n.find(id)
		if i != nil && (len(i.Addresses) > 0 || i.DHCP4 || i.DHCP6) {
			c.add(below(nil, sort, id), "%s is a part of %s, which has the addresses: write them there", id, of)
		}
	}
}

// find returns an interface and the sort that it is of.
func (n *Config) find(id string) (*Interface, string) {
	if e, ok := n.Ethernets[id]; ok {
		return &e.Interface, "ethernets"
	}
	if b, ok := n.Bonds[id]; ok {
		return &b.Interface, "bonds"
	}
	if b, ok := n.Bridges[id]; ok {
		return &b.Interface, "bridges"
	}
	if v, ok := n.VLANs[id]; ok {
		return &v.Interface, "vlans"
	}
	return nil, ""
}

func (c *checker) ethernet(at []string, e Ethernet) {
	switch {
	case e.SetName != "" && (e.Match == nil || e.Match.MACAddress == ""):
		c.add(below(at, "set-name"), "needs to know which card it is: write match: {macaddress: ...}")
	case e.Match != nil && e.Match.MACAddress == "" && e.Match.Name == "":
		c.add(below(at, "match"), "says nothing: write macaddress: in it, or name:")
	case e.Match != nil && !globForm.MatchString(e.Match.Name):
		c.add(below(at, "match", "name"), "%q is no name of a card; write it like eno1, or en*", e.Match.Name)
	case e.Match != nil && e.Match.MACAddress != "" && !isMAC(e.Match.MACAddress):
		c.add(below(at, "match", "macaddress"), "%q is no MAC address; write it like 52:54:00:12:34:56", e.Match.MACAddress)
	}
	if e.SetName != "" && !nameForm.MatchString(e.SetName) {
		c.add(below(at, "set-name"), "%q is no name of an interface", e.SetName)
	}
	c.common(at, &e.Interface)
}

var macForm = regexp.MustCompile(`^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$`)

func isMAC(s string) bool { return macForm.MatchString(s) }

func (c *checker) members(at []string, ids []string) {
	for i, id := range ids {
		where := below(at, "interfaces", i)
		switch of, taken := c.inUse[id]; {
		case c.names[id] == "":
			c.add(where, "there is no %s: write it below ethernets:", id)
		case taken:
			c.add(where, "%s is a part of %s already", id, of)
		}
		c.inUse[id] = at[len(at)-1]
	}
}

var (
	bondModes    = []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}
	hashPolicies = []string{"layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4", "vlan+srcmac"}
)

func (c *checker) bond(at []string, b Bond) {
	if len(b.Interfaces) == 0 {
		c.add(below(at, "interfaces"), "is missing: name the cards that it is made of")
	}
	c.members(at, b.Interfaces)
	if p := b.Parameters; p != nil {
		of := below(at, "parameters")
		word := func(key, got string, allowed ...string) {
			if got != "" && !slices.Contains(allowed, got) {
				c.add(below(of, key), "%q is not one of %s", got, strings.Join(allowed, ", "))
			}
		}
		word("mode", p.Mode, bondModes...)
		word("lacp-rate", p.LACPRate, "slow", "fast")
		word("transmit-hash-policy", p.TransmitHashPolicy, hashPolicies...)
		word("primary", p.Primary, b.Interfaces...)
		if c.nameless[p.Primary] {
			c.add(below(of, "primary"), "%s has no name of its own that is known: give it a set-name:", p.Primary)
		}
		if p.MIIMonitorInterval < 0 || p.MinLinks < 0 || p.UpDelay < 0 || p.DownDelay < 0 {
			c.add(of, "holds a number below 0")
		}
	}
	c.common(at, &b.Interface)
}

func (c *checker) vlan(at []string, v VLAN) {
	if v.ID < 1 || v.ID > 4094 {
		c.add(below(at, "id"), "%d is no VLAN: write 1 to 4094", v.ID)
	}
	if id := at[len(at)-1]; c.names[v.Link] == "" || v.Link == id {
		c.add(below(at, "link"), "%q is no other interface that is here: name one", v.Link)
	}
	c.common(at, &v.Interface)
}

func (c *checker) common(at []string, i *Interface) {
	for n, a := range i.Addresses {
		if p, err := netip.ParsePrefix(a); err != nil {
			c.add(below(at, "addresses", n), "%q is no address with its length; write it like 10.0.0.5/24", a)
		} else if p.Addr() == p.Masked().Addr() && p.Bits() < p.Addr().BitLen()-1 && p.Addr().Is4() {
			c.add(below(at, "addresses", n), "%s is the network itself, no address of it", a)
		}
	}
	addr := func(where []string, text string, four, six bool) {
		if a, err := netip.ParseAddr(text); err != nil || a.Is4() && !four || a.Is6() && !six {
			c.add(where, "%q is no address that fits here", text)
		}
	}
	if i.Gateway4 != "" {
		addr(below(at, "gateway4"), i.Gateway4, true, false)
	}
	if i.Gateway6 != "" {
		addr(below(at, "gateway6"), i.Gateway6, false, true)
	}
	if s := i.Nameservers; s != nil {
		for n, a := range s.Addresses {
			addr(below(at, "nameservers", "addresses", n), a, i.speaks(true), i.speaks(false))
		}
		for n, d := range s.Search {
			if !domainForm.MatchString(d) {
				c.add(below(at, "nameservers", "search", n), "%q is no domain; write it like example.org", d)
			}
		}
	}
	for n, r := range i.Routes {
		c.route(below(at, "routes", n), r)
	}
	if i.MTU != 0 && (i.MTU < 68 || i.MTU > 65535) {
		c.add(below(at, "mtu"), "%d is no MTU: write 68 to 65535", i.MTU)
	}
	if i.MACAddress != "" && !isMAC(i.MACAddress) {
		c.add(below(at, "macaddress"), "%q is no MAC address; write it like 52:54:00:12:34:56", i.MACAddress)
	}
	if i.LinkLocal != nil {
		for _, word := range *i.LinkLocal {
			if word != "ipv4" && word != "ipv6" {
				c.add(below(at, "link-local"), "%q is neither ipv4 nor ipv6", word)
			}
		}
	}
}

func (c *checker) route(at []string, r Route) {
	to, err := netip.ParsePrefix(r.To)
	if err != nil && r.To != "default" {
		c.add(below(at, "to"), "%q is no network; write default, or 10.9.0.0/16", r.To)
	}
	via, bad := netip.ParseAddr(r.Via)
	switch {
	case r.Via == "" && r.To == "default":
		c.add(at, "it goes nowhere: write via: and the router's address")
	case r.Via != "" && bad != nil:
		c.add(below(at, "via"), "%q is no address", r.Via)
	case r.Via != "" && err == nil && via.Is4() != to.Addr().Is4():
		c.add(below(at, "via"), "%s and %s are of two kinds of IP", r.Via, r.To)
	}
	if r.Metric != nil && *r.Metric < 0 {
		c.add(below(at, "metric"), "is below 0")
	}
}
