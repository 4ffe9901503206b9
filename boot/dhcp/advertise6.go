package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv6"

	"github.com/pilotlight/pilotlight/cluster"
)

// What is said of an IPv6 network that is ours. A machine asks nobody for an
// address by DHCPv6 before a router has told it to, and with the address it does
// not learn which others are on its link (RFC 5942): so both are said here, the
// second by the network's prefix. Addresses are not made from it (A is 0); a real
// router beside us may say that they are.
const (
	advertiseEvery = 200 * time.Second // within MaxRtrAdvInterval's default, 600 s (RFC 4861, section 6.2.1)
	prefixLives    = 24 * time.Hour
	routerLives    = 1800 * time.Second // the default of section 6.2.1

	flagManaged = 0x80 // addresses are lent by DHCPv6
	flagOther   = 0x40 // other things are told by DHCPv6
	flagOnLink  = 0x80 // of a prefix
)

// ours6 returns the IPv6 network of an interface, if it is ours to serve.
func (a *Advertiser) ours6(index int) *cluster.Network {
	if n := a.places6.link(index, a.Snapshot()); n != nil && n.DHCP == cluster.DHCPAuthoritative {
		return n
	}
	return nil
}

// says returns what there is to say on a link.
func (a *Advertiser) says(index int) []byte {
	n := a.ours6(index)
	if n == nil {
		return advertisement
	}
	return advertisement6(n, a.managed.is(a.Snapshot(), n), n.Gateway.IsValid() && a.places6.ours(n.Gateway))
}

// advertisement6 is a router advertisement (RFC 4861, section 4.2) with the
// network's prefix (section 4.6.2). We are a router only where we are the gateway.
func advertisement6(n *cluster.Network, managed, router bool) []byte {
	b := make([]byte, 16+32)
	b[0] = byte(ipv6.ICMPTypeRouterAdvertisement)
	b[5] = flagOther
	if managed {
		b[5] |= flagManaged
	}
	if router {
		binary.BigEndian.PutUint16(b[6:], uint16(routerLives/time.Second))
	}
	o := b[16:]
	o[0], o[1], o[2], o[3] = 3, 4, byte(n.CIDR.Bits()), flagOnLink
	binary.BigEndian.PutUint32(o[4:], uint32(prefixLives/time.Second))
	binary.BigEndian.PutUint32(o[8:], uint32(prefixLives/time.Second))
	prefix := n.CIDR.Masked().Addr().As16()
	copy(o[16:], prefix[:])
	return b
}

// remind says to all, unasked, what there is to say on IPv6 networks that are
// ours: what was said before lapses.
func (a *Advertiser) remind(p *ipv6.PacketConn) {
	a.places6.refresh()
	for index := range a.places6.ifaces {
		if a.ours6(index) == nil {
			continue
		}
		if err := a.send(p, index, &net.IPAddr{IP: net.IPv6linklocalallnodes}); err != nil {
			a.logger().Debug("an IPv6 network was not advertised", "interface", index, "error", err)
		}
	}
}

// managed knows on which networks there are addresses to lend: pools, or
// reservations of hosts.
type managed struct {
	snap     *cluster.Snapshot
	reserved map[netip.Prefix]bool
}

func (m *managed) is(snap *cluster.Snapshot, n *cluster.Network) bool {
	if m.snap != snap {
		m.snap, m.reserved = snap, make(map[netip.Prefix]bool)
		for _, d := range snap.Documents(cluster.KindHost) {
			if h := d.(*cluster.Host); h.Address.Is6() {
				if on, ok := snap.NetworkOf(h.Address); ok {
					m.reserved[on.CIDR] = true
				}
			}
		}
	}
	return len(n.Pools) > 0 || m.reserved[n.CIDR]
}
