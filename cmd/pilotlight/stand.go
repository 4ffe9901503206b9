package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// stand is where the machines of a network find this server.
type stand struct {
	addr netip.Addr
	lack string // why nobody finds it there yet, and what to type; addr is then as it would be
}

// standOn finds the server's address for the hosts of a network: the one that the
// network names, that of its interface, or that of any card there. A network that
// none of them is on is reached by relays, and any address will do for those.
func standOn(n *cluster.Network, cards []card) stand {
	switch {
	case n == nil:
		return standAnywhere(cards)
	case n.Interface != "":
		return standBy(n, cards)
	case n.Server.IsValid():
		return stand{addr: n.Server}
	}
	for _, a := range addresses(cards) {
		if n.CIDR.Contains(a) {
			return stand{addr: a}
		}
	}
	for _, a := range addresses(cards) {
		if a.Is6() == n.CIDR.Addr().Is6() && !a.IsLoopback() {
			return stand{addr: a}
		}
	}
	s := standAnywhere(cards)
	if s.lack != "" {
		s.lack += fmt.Sprintf(": ip addr add %s dev CARD", freeOn(n))
		s.addr = freeOn(n).Addr()
	}
	return s
}

// standBy is for a network that names an interface.
func standBy(n *cluster.Network, cards []card) stand {
	i := slices.IndexFunc(cards, func(c card) bool { return c.name == n.Interface })
	free := freeOn(n)
	s := stand{addr: n.Server}
	if !s.addr.IsValid() {
		s.addr = free.Addr()
	}
	if i < 0 {
		var names []string
		for _, c := range cards {
			names = append(names, c.name)
		}
		s.lack = fmt.Sprintf("there is no interface %s on this machine, which has %s: correct interface: of network %s", n.Interface, strings.Join(names, ", "), n.Name)
		return s
	}
	own := slices.IndexFunc(cards[i].addrs, n.CIDR.Contains)
	switch {
	case !cards[i].up:
		s.lack = fmt.Sprintf("%s is down: ip link set %s up", n.Interface, n.Interface)
	case n.Server.IsValid():
	case own < 0:
		s.lack = fmt.Sprintf("%s has no address in %s: ip addr add %s dev %s", n.Interface, n.CIDR, free, n.Interface)
	default:
		s.addr = cards[i].addrs[own]
	}
	return s
}

func standAnywhere(cards []card) stand {
	if all := addresses(cards); len(all) > 0 && !all[0].IsLoopback() {
		return stand{addr: all[0]}
	}
	return stand{addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}), lack: "this machine has no address but that of loopback"}
}

// freeOn is an address that the server could have on a network: the first that
// is not lent.
func freeOn(n *cluster.Network) netip.Prefix {
	a := n.CIDR.Addr().Next()
	pools := slices.SortedFunc(slices.Values(n.Pools), func(p, q cluster.Range) int { return p.First.Compare(q.First) })
	for _, p := range pools {
		if p.Contains(a) {
			a = p.Last.Next()
		}
	}
	return netip.PrefixFrom(a, n.CIDR.Bits())
}

// stand is where the hosts of a network find this server.
func (b *bootServices) stand(n *cluster.Network) stand { return standOn(n, *b.s.cards.Load()) }

// silent says why no machine of a network is answered by DHCP; "" when they are.
func (b *bootServices) silent(n *cluster.Network) string {
	switch off := b.offFor(n); {
	case off != "":
		return "dhcp off (" + off + ")"
	case n == nil:
		return b.stand(n).lack
	case n.DHCP == "" || n.DHCP == cluster.DHCPOff:
		return fmt.Sprintf("network %s is dhcp: off", n.Name)
	}
	return b.stand(n).lack
}

// offFor is the flag by which DHCP was turned off for a network; "" when it was not.
func (b *bootServices) offFor(n *cluster.Network) string {
	switch six := n != nil && n.CIDR.Addr().Is6(); {
	case six && b.s.o.dhcp6 == "":
		return "--dhcp6="
	case !six && b.s.o.dhcp == "":
		return "--dhcp="
	}
	return ""
}

// describeNetwork is a network's line of what is served.
func (b *bootServices) describeNetwork(n *cluster.Network) string {
	line := fmt.Sprintf("dhcp   %s  %s, ", n.Name, n.CIDR)
	at := b.stand(n)
	switch {
	case n.DHCP == "" || n.DHCP == cluster.DHCPOff:
		return line + "off"
	case b.offFor(n) != "":
		return line + "off (" + b.offFor(n) + ")"
	case at.lack != "":
		return line + string(n.DHCP) + ", nobody is answered: " + at.lack
	case !n.Server.IsValid() && !n.CIDR.Contains(at.addr):
		return line + string(n.DHCP) + ", for relays: no card of this machine has an address there"
	}
	return line + string(n.DHCP) + ", from " + at.addr.String()
}
