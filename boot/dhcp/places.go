package dhcp

import (
	"fmt"
	"net"
	"net/netip"
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
	snap   *cluster.Snapshot
	links  map[int]*cluster.Network // by interface, for snap
}

// iface is one interface of ours.
type iface struct {
	index    int
	name     string
	mac      cluster.MAC // zero when it has none, as loopback
	prefixes []netip.Prefix
}

// find returns the network of a message and our address on it.
//
// A relay's address says it, or the address that the relay selects (RFC 3527).
// A client that renews unicasts from its address,
// and may be behind a router that is no relay. Else it is the network of the
// interface: a client that moved still names its old address there.
func (p *places) find(m *message, snap *cluster.Snapshot) (*cluster.Network, netip.Addr, error) {
	if m.relay.IsValid() {
		if link := m.relayed.link; link.IsValid() {
			n, ok := snap.NetworkOf(link)
			if !ok {
				return nil, netip.Addr{}, fmt.Errorf("relay %s selects %s, which is on no network that is applied", m.relay, link)
			}
			return p.with(n, m)
		}
		n, ok := snap.NetworkOf(m.relay)
		if !ok {
			return nil, netip.Addr{}, fmt.Errorf("relay %s is on no network that is applied", m.relay)
		}
		return p.with(n, m)
	}
	if unicast := m.in.to.IsValid() && m.in.to != broadcast; unicast && m.client.IsValid() {
		if n, ok := snap.NetworkOf(m.client); ok {
			return p.with(n, m)
		}
	}
	n := p.link(m.in.iface, snap)
	if n == nil {
		return nil, netip.Addr{}, fmt.Errorf("interface %q is on no network that is applied", p.iface(m.in.iface).name)
	}
	return p.with(n, m)
}

// with adds our address to a network.
func (p *places) with(n *cluster.Network, m *message) (*cluster.Network, netip.Addr, error) {
	if !n.CIDR.Addr().Is4() {
		return nil, netip.Addr{}, fmt.Errorf("network %s is not an IPv4 network", n.Name)
	}
	if n.Server.Is4() {
		return n, n.Server, nil
	}
	for _, prefix := range p.iface(m.in.iface).prefixes {
		if n.CIDR.Contains(prefix.Addr()) {
			return n, prefix.Addr(), nil
		}
	}
	for _, a := range []netip.Addr{m.in.to, p.local} { // where the relay, or the client, found us
		if a.Is4() && !a.IsUnspecified() && a != broadcast && !a.IsMulticast() {
			return n, a, nil
		}
	}
	return nil, netip.Addr{}, fmt.Errorf("the server has no address on network %s: set server: in network %s, or give interface %q an address in %s",
		n.Name, n.Name, p.iface(m.in.iface).name, n.CIDR)
}

// link returns the network of an interface: the one that names it, or the one
// in which it has an address.
func (p *places) link(index int, snap *cluster.Snapshot) *cluster.Network {
	fresh := time.Since(p.listed) < ifacesAge
	if p.snap != snap || !fresh {
		p.snap, p.links = snap, make(map[int]*cluster.Network)
	}
	if n, known := p.links[index]; known {
		return n
	}
	on := p.iface(index)
	var found *cluster.Network
	for _, n := range snap.Networks() {
		if n.Interface != "" && n.Interface == on.name {
			found = n
			break
		}
		if found == nil && p.on(n, on) {
			found = n
		}
	}
	p.links[index] = found
	return found
}

func (p *places) on(n *cluster.Network, on iface) bool {
	if on.index == 0 {
		return n.CIDR.Contains(p.local)
	}
	for _, prefix := range on.prefixes {
		if n.CIDR.Contains(prefix.Addr()) {
			return true
		}
	}
	return false
}

// linkOf returns an interface that has an address of a network, or zero.
func (p *places) linkOf(cidr netip.Prefix) int {
	p.refresh()
	for index, i := range p.ifaces {
		for _, prefix := range i.prefixes {
			if cidr.Contains(prefix.Addr()) {
				return index
			}
		}
	}
	return 0
}

// ours reports whether an address is one of this machine's.
func (p *places) ours(a netip.Addr) bool {
	p.refresh()
	for _, i := range p.ifaces {
		for _, prefix := range i.prefixes {
			if prefix.Addr() == a {
				return true
			}
		}
	}
	return a == p.local
}

// card reports whether a hardware address is one of this machine's.
func (p *places) card(mac cluster.MAC) bool {
	p.refresh()
	for _, i := range p.ifaces {
		if i.mac == mac {
			return true
		}
	}
	return false
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
		if len(i.HardwareAddr) == len(found.mac) {
			found.mac = cluster.MAC(i.HardwareAddr)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				found.prefixes = append(found.prefixes, p)
			}
		}
		out = append(out, found)
	}
	return out, nil
}
