package cluster

import (
	"fmt"
	"net/netip"
)

// network6 checks what is different on an IPv6 network.
func (c *checker) network6(n *Network) {
	if n.DHCP == DHCPProxy {
		c.add("dhcp", "proxy works on IPv4 networks only; write dhcp: authoritative or off for %s", n.CIDR)
	}
	if n.ServesMetadata() {
		c.add("metadata", "is served on IPv4 networks only; take it out of %s, and write it for the IPv4 network of these machines", n.CIDR)
	}
	if n.CIDR.Addr().IsLinkLocalUnicast() || n.CIDR.Addr().IsMulticast() {
		c.add("cidr", "%s is on every link; write a network of your own, like fd00:10::/64", n.CIDR)
	}
	if n.Server.IsLinkLocalUnicast() {
		c.add("server", "%s is good on its link only; write a global or a unique local address", n.Server)
	}
	if n.DHCP != DHCPAuthoritative {
		return
	}
	for i, a := range n.DNS {
		if !a.Is6() {
			c.notTold(fmt.Sprintf("dns[%d]", i), a, n)
		}
	}
	for i, a := range n.NTP {
		if !a.Is6() {
			c.notTold(fmt.Sprintf("ntp[%d]", i), a, n)
		}
	}
}

func (c *checker) notTold(field string, a netip.Addr, n *Network) {
	c.add(field, "%s is an IPv4 address, which DHCPv6 cannot tell to machines on %s; write an IPv6 address", a, n.CIDR)
}
