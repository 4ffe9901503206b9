package dhcp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
)

// bigNetwork is a /16 whose pool is all of it, with n hosts that have an
// address reserved elsewhere.
func bigNetwork(n int) *cluster.Snapshot {
	docs := []cluster.Document{
		&cluster.Network{
			Meta: cluster.Meta{Name: "big"}, CIDR: netip.MustParsePrefix("10.16.0.0/12"), DHCP: cluster.DHCPAuthoritative,
			Pools: []cluster.Range{{First: netip.MustParseAddr("10.20.0.0"), Last: netip.MustParseAddr("10.20.255.255")}},
		},
		&cluster.Image{Meta: cluster.Meta{Name: "node"}},
		&cluster.Profile{Meta: cluster.Meta{Name: "web"}, Image: "node"},
	}
	for i := range n {
		docs = append(docs, &cluster.Host{
			Meta: cluster.Meta{Name: fmt.Sprintf("host%06d", i)}, MACs: []cluster.MAC{{2, 1, 0, byte(i >> 16), byte(i >> 8), byte(i)}},
			Address: address(number(netip.MustParseAddr("10.21.0.1")) + uint32(i)), Profile: "web",
		})
	}
	return cluster.NewSnapshot(1, docs)
}

// Every address of the pool is given, to one machine each, and no other.
func TestPoolGivesAll(t *testing.T) {
	snap := bigNetwork(0)
	n := snap.Networks()[0]
	p := newPool()
	p.configure(snap, n)
	now := time.Now()
	given := map[netip.Addr]bool{}
	for i := range 1 << 16 {
		c := claimant{mac: mac(i), snap: snap, us: netip.MustParseAddr("10.20.0.7"), now: now}
		s, _, err := p.choose(c, netip.Addr{})
		if err != nil {
			if i != 1<<16-1 {
				t.Fatalf("after %d addresses: %v", i, err)
			}
			break
		}
		if given[s.addr] || !n.Pools[0].Contains(s.addr) || s.addr == c.us {
			t.Fatalf("%s was given, and should not be", s.addr)
		}
		given[s.addr] = true
		p.hold(s, now.Add(time.Minute))
	}
	if len(given) != 1<<16-1 {
		t.Errorf("%d addresses were given, want all but our own", len(given))
	}
	if _, _, err := p.choose(claimant{mac: mac(1 << 20), snap: snap, now: now}, netip.Addr{}); err == nil {
		// Our own address is somebody's who asks by another name; that is what
		// the first rule is for.
		t.Log("the server's own address is free for who does not know it")
	}
}

// What was reserved and is not any more can be given; what is reserved now
// cannot.
func TestPoolFollowsWhatIsApplied(t *testing.T) {
	docs := documents()
	lan := docs[0].(*cluster.Network)
	lan.Pools = []cluster.Range{{First: netip.MustParseAddr("10.0.0.100"), Last: netip.MustParseAddr("10.0.0.101")}}
	p := newPool()
	ask := func(snap *cluster.Snapshot, m cluster.MAC) (netip.Addr, error) {
		p.configure(snap, snap.Networks()[0])
		s, _, err := p.choose(claimant{mac: m, snap: snap, now: time.Now()}, netip.Addr{})
		if err != nil {
			return netip.Addr{}, err
		}
		p.hold(s, time.Now().Add(time.Minute))
		return s.addr, nil
	}
	reserved := cluster.NewSnapshot(1, append(documents()[:0:0], lan, &cluster.Host{Meta: cluster.Meta{Name: "r"}, MACs: []cluster.MAC{mac(5)}, Address: netip.MustParseAddr("10.0.0.100")}))
	if a, err := ask(reserved, mac(10)); err != nil || a.String() != "10.0.0.101" {
		t.Fatalf("got %s, %v", a, err)
	}
	if a, err := ask(reserved, mac(11)); err == nil {
		t.Fatalf("got %s, which is reserved", a)
	}
	free := cluster.NewSnapshot(2, []cluster.Document{lan})
	if a, err := ask(free, mac(11)); err != nil || a.String() != "10.0.0.100" {
		t.Fatalf("got %s, %v", a, err)
	}
	none := *lan
	none.Pools = nil
	if a, err := ask(cluster.NewSnapshot(3, []cluster.Document{&none}), mac(12)); err != errNoPool {
		t.Fatalf("got %s, %v", a, err)
	}
}

// A lease that lapsed outside every range leaves memory, and the store.
func TestPoolDropsWhatItNoLongerLends(t *testing.T) {
	docs := documents()
	lan := docs[0].(*cluster.Network)
	lan.Pools = []cluster.Range{{First: netip.MustParseAddr("10.0.0.100"), Last: netip.MustParseAddr("10.0.0.100")}}
	leases := new(memory)
	leases.put(lent("10.0.0.20", mac(99), time.Now().Add(-time.Hour)))
	leases.put(lent("10.0.0.100", mac(98), time.Now().Add(time.Hour)))
	r := start(t, leases, docs...)
	r.silence(packetOf(discover, mac(10)))
	r.eventually("the lease is removed", func() bool { _, there := leases.at("10.0.0.20"); return !there })
	if _, there := leases.at("10.0.0.100"); !there {
		t.Error("another lease went too")
	}
}

func TestPlaces(t *testing.T) {
	network := func(name, cidr, on, server string) *cluster.Network {
		n := &cluster.Network{Meta: cluster.Meta{Name: name}, CIDR: netip.MustParsePrefix(cidr), Interface: on}
		if server != "" {
			n.Server = netip.MustParseAddr(server)
		}
		return n
	}
	snap := cluster.NewSnapshot(1, []cluster.Document{
		network("lan", "10.0.0.0/24", "", ""), network("named", "10.1.0.0/24", "eth1", "10.1.0.9"),
		network("far", "10.9.0.0/24", "", ""), network("six", "fd00::/64", "eth2", ""),
	})
	p := &places{list: func() ([]iface, error) {
		return []iface{
			{index: 1, name: "eth0", prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
			{index: 2, name: "eth1"},
			{index: 3, name: "eth2"},
			{index: 4, name: "eth3", prefixes: []netip.Prefix{netip.MustParsePrefix("172.16.0.1/24")}},
		}, nil
	}}
	for _, row := range []struct {
		what          string
		iface         int
		to            string
		mods          []dhcpv4.Modifier
		network, addr string
	}{
		{"by the interface's address", 1, "255.255.255.255", nil, "lan", "10.0.0.1"},
		{"by the interface's name, and the network says the address", 2, "255.255.255.255", nil, "named", "10.1.0.9"},
		{"by the relay, and the address is where it sent to", 4, "172.16.0.1", []dhcpv4.Modifier{dhcpv4.WithGatewayIP(ip("10.9.0.1"))}, "far", "172.16.0.1"},
		{"who renews through a router", 4, "172.16.0.1", []dhcpv4.Modifier{ciaddr("10.9.0.7")}, "far", "172.16.0.1"},
		{"who moved and rebinds is where it is", 1, "255.255.255.255", []dhcpv4.Modifier{ciaddr("10.9.0.7")}, "lan", "10.0.0.1"},
		{"an interface on no network", 4, "255.255.255.255", nil, "", ""},
		{"an unknown interface", 77, "255.255.255.255", nil, "", ""},
		{"an IPv6 network", 3, "255.255.255.255", nil, "", ""},
		{"an unknown relay", 1, "10.0.0.1", []dhcpv4.Modifier{dhcpv4.WithGatewayIP(ip("10.66.0.1"))}, "", ""},
	} {
		t.Run(row.what, func(t *testing.T) {
			m, err := decode(inbound{data: packetOf(discover, mac(1), row.mods...).ToBytes(), iface: row.iface, to: netip.MustParseAddr(row.to)})
			if err != nil {
				t.Fatal(err)
			}
			n, us, err := p.find(m, snap)
			if row.network == "" {
				if err == nil {
					t.Errorf("found %s at %s", n.Name, us)
				}
				return
			}
			if err != nil || n.Name != row.network || us.String() != row.addr {
				t.Errorf("found %v at %s, %v", n, us, err)
			}
		})
	}
}
