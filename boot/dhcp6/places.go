package dhcp6

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// ifacesAge is how long what is known of the interfaces holds.
const ifacesAge = 5 * time.Second

// places finds out on which network a packet came, and what our own address
// there is. It belongs to the loop.
type places struct {
	local  netip.Addr // of the socket; zero or unspecified when it is bound to none
	list   func() ([]iface, error)
	ifaces map[int]iface
	listed time.Time
	joined map[int]bool // the interfaces on which clients are heard
}

// iface is one interface of ours.
type iface struct {
	index int
	name  string
	addrs []netip.Addr
}

// find returns the network of a message and our address on it: the network of the
// relay that is nearest to the client, or that of the interface.
func (p *places) find(m *message, snap *cluster.Snapshot) (*cluster.Network, netip.Addr, error) {
	on := p.iface(m.in.iface)
	n := p.link(on, snap)
	if m.link.IsValid() {
		var ok bool
		if n, ok = snap.NetworkOf(m.link); !ok {
			return nil, netip.Addr{}, fmt.Errorf("relay %s is on no network that is applied", m.link)
		}
	}
	switch {
	case n == nil:
		return nil, netip.Addr{}, fmt.Errorf("interface %q is on no IPv6 network that is applied", on.name)
	case !serves(n):
		return nil, netip.Addr{}, fmt.Errorf("network %s is not dhcp: authoritative", n.Name)
	case n.Server.IsValid():
		return n, n.Server, nil
	}
	for _, a := range on.addrs {
		if n.CIDR.Contains(a) {
			return n, a, nil
		}
	}
	// Where the relay found us, or what it can reach as well.
	for _, a := range append([]netip.Addr{m.in.to, p.local}, on.addrs...) {
		if a.IsValid() && a.IsGlobalUnicast() {
			return n, a, nil
		}
	}
	return nil, netip.Addr{}, fmt.Errorf("the server has no address on network %s: set server: in network %s, or give interface %q an address in %s",
		n.Name, n.Name, on.name, n.CIDR)
}

// link returns the network of an interface: the one that names it, or the one in
// which it has an address. One of several that is ours to serve comes first.
func (p *places) link(on iface, snap *cluster.Snapshot) (found *cluster.Network) {
	for _, n := range snap.Networks() {
		if !n.CIDR.Addr().Is6() {
			continue
		}
		here := n.Interface != "" && n.Interface == on.name || slices.ContainsFunc(on.addrs, n.CIDR.Contains) ||
			on.index == 0 && n.CIDR.Contains(p.local)
		if here && (found == nil || !serves(found) && serves(n)) {
			found = n
		}
	}
	return found
}

// join makes clients heard on the interfaces of networks that are ours to serve,
// also on those that come up later. It tells of each, and what was in the way.
func (p *places) join(w *wire, snap *cluster.Snapshot, tell func(name string, n *cluster.Network, err error)) {
	p.refresh()
	for index, on := range p.ifaces {
		n := p.link(on, snap)
		if p.joined[index] || n == nil || !serves(n) {
			continue
		}
		err := w.join(index)
		tell(on.name, n, err)
		if err != nil {
			continue
		}
		if p.joined == nil {
			p.joined = make(map[int]bool)
		}
		p.joined[index] = true
	}
}

func (p *places) iface(index int) iface {
	if index == 0 {
		return iface{}
	}
	p.refresh()
	return p.ifaces[index]
}

func (p *places) refresh() {
	if p.ifaces != nil && time.Since(p.listed) < ifacesAge {
		return
	}
	list := p.list
	if list == nil {
		list = interfaces
	}
	found, err := list()
	p.listed = time.Now()
	if err != nil && p.ifaces != nil {
		return // what was known is better than nothing
	}
	p.ifaces = make(map[int]iface, len(found))
	for _, i := range found {
		p.ifaces[i.index] = i
	}
	for index := range p.joined { // an interface that went away took its membership along
		if _, there := p.ifaces[index]; !there {
			delete(p.joined, index)
		}
	}
}

func interfaces() ([]iface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	out := make([]iface, 0, len(list))
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		found := iface{index: i.Index, name: i.Name}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && !p.Addr().IsLinkLocalUnicast() {
				found.addrs = append(found.addrs, p.Addr())
			}
		}
		out = append(out, found)
	}
	return out, nil
}
