package httpboot_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// A host that is known by its switch port cannot say it by HTTP: the lease of
// the address that asks does.
func TestSwitchPort(t *testing.T) {
	at := func(c cluster.Octets) cluster.SwitchPort { return cluster.SwitchPort{Circuit: c, Remote: "sw1"} }
	card, stranger := cluster.MAC{2, 0, 0, 0, 0, 0x61}, cluster.MAC{2, 0, 0, 0, 0, 0x99}
	network := func(name, cidr string, mode cluster.DHCPMode) *cluster.Network {
		return &cluster.Network{Meta: cluster.Meta{Name: name}, CIDR: netip.MustParsePrefix(cidr), DHCP: mode}
	}
	snap := cluster.NewSnapshot(1, []cluster.Document{
		network("lan", "10.0.0.0/24", cluster.DHCPAuthoritative), network("office", "10.2.0.0/24", cluster.DHCPProxy),
		&cluster.Profile{Meta: cluster.Meta{Name: "web"}, Boot: cluster.BootLocal},
		&cluster.Host{Meta: cluster.Meta{Name: "port"}, SwitchPort: at("1"), Profile: "web"},
		&cluster.Host{Meta: cluster.Meta{Name: "both"}, MACs: []cluster.MAC{card}, SwitchPort: at("2"), Profile: "web"},
		&cluster.Host{Meta: cluster.Meta{Name: "plain"}, MACs: []cluster.MAC{mac1}, Profile: "web"},
	})
	for _, row := range []struct {
		what, from string
		lent       cluster.Identity // to whom the address is lent, or who was seen to take it
		arp        cluster.MAC
		asks       cluster.MAC
		code       int
		says       string // the host whose config it is, or what it is told
	}{
		{"a port", "10.0.0.5", cluster.Identity{MAC: stranger, Port: at("1")}, cluster.MAC{}, stranger, 200, "port"},
		{"a port, by another of its cards", "10.0.0.5", cluster.Identity{MAC: stranger, Port: at("1")}, cluster.MAC{}, card, 200, "port"},
		{"no port", "10.0.0.5", cluster.Identity{MAC: stranger}, cluster.MAC{}, stranger, 503, "no document names the machine"},
		{"card and port", "10.0.0.5", cluster.Identity{MAC: card, Port: at("2")}, cluster.MAC{}, card, 200, "both"},
		{"the card elsewhere", "10.0.0.5", cluster.Identity{MAC: card, Port: at("3")}, cluster.MAC{}, card, 503, "is not host both: it is plugged in at 3 of sw1"},
		{"only says that it is the card", "10.0.0.5", cluster.Identity{MAC: stranger, Port: at("3")}, cluster.MAC{}, card, 503, "is not host both"},
		{"is lent nothing, and says so", "10.0.0.5", cluster.Identity{}, cluster.MAC{}, card, 503, "is not host both: it is plugged in at no switch port"},
		{"at a host's port, says that it is another host", "10.0.0.5", cluster.Identity{MAC: stranger, Port: at("3")}, cluster.MAC{}, mac1, 403, "which is another machine"},
		{"proxy: a port, seen behind a relay", "10.2.0.5", cluster.Identity{MAC: stranger, Port: at("1")}, cluster.MAC{}, stranger, 200, "port"},
		{"proxy: card and port, and ARP agrees", "10.2.0.5", cluster.Identity{MAC: card, Port: at("2")}, card, card, 200, "both"},
		{"proxy: ARP says that it is another card", "10.2.0.5", cluster.Identity{MAC: card, Port: at("2")}, stranger, card, 503, "answers for that address"},
	} {
		t.Run(row.what, func(t *testing.T) {
			r := newRig(t)
			from := netip.MustParseAddr(row.from)
			r.handler.Snapshot = func() *cluster.Snapshot { return snap }
			r.handler.Owner = func(a netip.Addr) (cluster.Identity, bool) { return row.lent, a == from && !row.lent.MAC.IsZero() }
			r.handler.Neighbour = func(a netip.Addr) (cluster.MAC, bool) { return row.arp, a == from && !row.arp.IsZero() }
			w := r.do("GET", "/ignition?mac="+row.asks.Hyphens(), from)
			got := w.Body.String()
			if w.Code == 200 {
				got = r.configs.last.Host.Name
			}
			if w.Code != row.code || !strings.Contains(got, row.says) {
				t.Errorf("%d %q, want %d %q", w.Code, got, row.code, row.says)
			}
		})
	}
}
