package dhcp

import (
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
)

// What is wrong with a network or a document is told to the operator, with the
// machine's name; the machine has an answer, or silence, that a test knows.
func TestTrouble(t *testing.T) {
	lan := func(docs []cluster.Document) *cluster.Network { return docs[0].(*cluster.Network) }
	host := func(name string, m int, addr string) *cluster.Host {
		h := &cluster.Host{Meta: cluster.Meta{Name: name}, MACs: []cluster.MAC{mac(m)}, Profile: "web"}
		if addr != "" {
			h.Address = netip.MustParseAddr(addr)
		}
		return h
	}
	firmware := func(arch byte) []dhcpv4.Modifier {
		return []dhcpv4.Modifier{with(60, []byte("PXEClient")...), with(93, 0, arch)}
	}
	for _, row := range []struct {
		what   string
		docs   func() []cluster.Document
		before []cluster.MAC // that have leases already
		ask    *dhcpv4.DHCPv4
		answer string // the address that is offered; nothing is silence
		file   string
		says   []string // in one line of the log
	}{
		{"a full pool, and a host", func() []cluster.Document {
			d := documents()
			lan(d).Pools[0].Last = netip.MustParseAddr("10.0.0.101")
			return d
		}, []cluster.MAC{mac(70), mac(71)}, packetOf(discover, mac(2)), "", "", []string{"gets no address", "every address of the pool is lent", "host=web2", mac(2).String(), "add to pools: in network lan"}},
		{"a full pool, and a stranger", func() []cluster.Document {
			d := documents()
			lan(d).Pools[0].Last = netip.MustParseAddr("10.0.0.100")
			return d
		}, []cluster.MAC{mac(70)}, packetOf(discover, mac(72)), "", "", []string{"gets no address", mac(72).String(), "add to pools: in network lan"}},
		{"a full pool, and a reservation", func() []cluster.Document {
			d := documents()
			lan(d).Pools[0].Last = netip.MustParseAddr("10.0.0.100")
			return d
		}, []cluster.MAC{mac(70)}, packetOf(discover, mac(1)), "10.0.0.50", "", nil},
		{"no pool", func() []cluster.Document {
			d := documents()
			lan(d).Pools = nil
			return d
		}, nil, packetOf(discover, mac(2)), "", "", []string{"gets no address", "has no pool", "host=web2", "address: to the machine's host document"}},
		{"a reservation on another network", func() []cluster.Document { return branch(host("moved", 80, "10.8.0.50")) },
			nil, packetOf(discover, mac(80), firmware(7)...), "10.0.0.", "snponly.efi", []string{"asks on another network", "host=moved", mac(80).String(), "address=10.8.0.50", "network red"}},
		{"a reservation on no network", func() []cluster.Document { return documents(host("moved", 80, "10.66.0.50")) },
			nil, packetOf(discover, mac(80)), "10.0.0.", "", []string{"asks on another network", "host=moved", "no network that is applied"}},
		// cluster.Check refuses it; a store may hold it all the same.
		{"two hosts with one MAC", func() []cluster.Document {
			return documents(host("twin-b", 80, "10.0.0.62"), host("twin-a", 80, "10.0.0.61"))
		}, nil, packetOf(discover, mac(80), firmware(7)...), "10.0.0.61", "snponly.efi", nil},
		{"an architecture that nobody knows", func() []cluster.Document { return documents() },
			nil, packetOf(discover, mac(1), firmware(99)...), "10.0.0.50", "", []string{"gets nothing to boot", "host=web1", mac(1).String(), "architecture 99"}},
		{"an architecture without a loader", func() []cluster.Document { return documents() },
			nil, packetOf(discover, mac(1), firmware(11)...), "10.0.0.50", "", []string{"gets nothing to boot", "host=web1", "arm64"}},
		{"a profile that is gone", func() []cluster.Document {
			h := host("orphan", 80, "")
			h.Profile = "gone"
			return documents(h)
		}, nil, packetOf(discover, mac(80), firmware(7)...), "10.0.0.", "", []string{"gets nothing to boot", "host=orphan", "profile gone"}},
	} {
		t.Run(row.what, func(t *testing.T) {
			r, log := logged(t, nil, row.docs()...)
			for _, m := range row.before {
				r.lease(m)
			}
			if row.answer == "" {
				r.silence(row.ask)
			} else {
				o, _ := r.ask(row.ask)
				if got := o.YourIPAddr.String(); o.MessageType() != offer || len(got) < len(row.answer) || got[:len(row.answer)] != row.answer || o.BootFileName != row.file {
					t.Errorf("offered %s and %q, want %s and %q", got, o.BootFileName, row.answer, row.file)
				}
			}
			if row.says == nil && log.says("level=WARN") || row.says != nil && !log.says(row.says...) {
				t.Errorf("no line has %q:\n%s", row.says, log.b.String())
			}
		})
	}
}

// Whatever cannot be read is dropped and counted, and the next one is answered.
func TestMalformedIsCounted(t *testing.T) {
	r := start(t, nil)
	for _, b := range [][]byte{{}, {1, 1, 6, 0}, packetOf(discover, cluster.MAC{}).ToBytes()} {
		r.pipe.in <- b
	}
	r.kind(first(r.ask(packetOf(discover, mac(1)))), offer)
	if n := counted(t, r.server.metrics.drop.WithLabelValues("malformed")); n != 3 {
		t.Errorf("counted %v, want 3", n)
	}
}

func first(p *dhcpv4.DHCPv4, _ netip.AddrPort) *dhcpv4.DHCPv4 { return p }
