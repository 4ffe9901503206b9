package main

import (
	"net/netip"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// What is said of where the server stands is true of this machine, and else says
// what to type.
func TestStandOn(t *testing.T) {
	addr := netip.MustParseAddr
	lo := card{name: "lo", up: true, addrs: []netip.Addr{addr("127.0.0.1"), addr("::1")}}
	eth0 := card{name: "eth0", up: true, addrs: []netip.Addr{addr("10.1.2.3")}}
	bare := card{name: "eth1", up: true}
	set := card{name: "eth1", up: true, addrs: []netip.Addr{addr("192.168.77.2")}}
	down := card{name: "eth1", addrs: set.addrs}
	network := func(iface, server string, pools ...string) *cluster.Network {
		n := &cluster.Network{Meta: cluster.Meta{Name: "rack"}, CIDR: netip.MustParsePrefix("192.168.77.0/24"), Interface: iface}
		if server != "" {
			n.Server = addr(server)
		}
		for _, p := range pools {
			var r cluster.Range
			if err := r.UnmarshalText([]byte(p)); err != nil {
				t.Fatal(err)
			}
			n.Pools = append(n.Pools, r)
		}
		return n
	}
	for name, c := range map[string]struct {
		n     *cluster.Network
		cards []card
		addr  string
		lack  string
	}{
		"by its card":          {network("eth1", ""), []card{lo, eth0, set}, "192.168.77.2", ""},
		"by any card":          {network("", ""), []card{lo, eth0, set}, "192.168.77.2", ""},
		"by what it names":     {network("eth1", "192.0.2.9"), []card{lo, bare}, "192.0.2.9", ""},
		"by relays":            {network("", ""), []card{lo, eth0, bare}, "10.1.2.3", ""},
		"no network":           {nil, []card{lo, eth0}, "10.1.2.3", ""},
		"another card has it":  {network("eth0", ""), []card{lo, eth0, set}, "192.168.77.1", "eth0 has no address in 192.168.77.0/24: ip addr add 192.168.77.1/24 dev eth0"},
		"no address":           {network("eth1", ""), []card{lo, eth0, bare}, "192.168.77.1", "eth1 has no address in 192.168.77.0/24: ip addr add 192.168.77.1/24 dev eth1"},
		"none that is lent":    {network("eth1", "", "192.168.77.11-192.168.77.20", "192.168.77.1-192.168.77.10"), []card{lo, bare}, "192.168.77.21", "eth1 has no address in 192.168.77.0/24: ip addr add 192.168.77.21/24 dev eth1"},
		"no interface":         {network("eth9", ""), []card{lo, eth0}, "192.168.77.1", "there is no interface eth9 on this machine, which has lo, eth0: correct interface: of network rack"},
		"no interface, server": {network("eth9", "192.0.2.9"), []card{lo}, "192.0.2.9", "there is no interface eth9 on this machine, which has lo: correct interface: of network rack"},
		"down":                 {network("eth1", ""), []card{lo, down}, "192.168.77.1", "eth1 is down: ip link set eth1 up"},
		"only loopback":        {network("", ""), []card{lo}, "192.168.77.1", "this machine has no address but that of loopback: ip addr add 192.168.77.1/24 dev CARD"},
		"nothing at all":       {nil, nil, "127.0.0.1", "this machine has no address but that of loopback"},
	} {
		if got := standOn(c.n, c.cards); got.addr != addr(c.addr) || got.lack != c.lack {
			t.Errorf("%s: %s, %q", name, got.addr, got.lack)
		}
	}
}
