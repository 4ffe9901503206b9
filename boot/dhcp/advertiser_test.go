package dhcp

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// On somebody else's network only a machine that boots is answered, and alone.
func TestAdvertiserAnswers(t *testing.T) {
	booting := mac(1)
	solicitation := func(options ...byte) []byte { return append([]byte{133, 0, 0, 0, 0, 0, 0, 0}, options...) }
	by := func(m cluster.MAC) []byte { return solicitation(append([]byte{1, 1}, m[:]...)...) }
	its := &net.IPAddr{IP: net.ParseIP("fe80::5054:ff:fe00:1"), Zone: "eth0"}
	for _, row := range []struct {
		what string
		mode cluster.DHCPMode
		from *net.IPAddr
		asks []byte
		to   string // empty is nobody
	}{
		{"authoritative: all", cluster.DHCPAuthoritative, its, solicitation(), "ff02::1"},
		{"proxy: a machine that boots", cluster.DHCPProxy, its, by(booting), "fe80::5054:ff:fe00:1%eth0"},
		{"proxy: behind another option", cluster.DHCPProxy, its, solicitation(append([]byte{14, 1, 0, 0, 0, 0, 0, 0, 1, 1}, booting[:]...)...), "fe80::5054:ff:fe00:1%eth0"},
		{"proxy: one that does not", cluster.DHCPProxy, its, by(mac(2)), ""},
		{"proxy: one that does not say", cluster.DHCPProxy, its, solicitation(), ""},
		{"proxy: an option of no size", cluster.DHCPProxy, its, solicitation(1, 0, 0, 0, 0, 0, 0, 0), ""},
		{"proxy: an option that is cut off", cluster.DHCPProxy, its, solicitation(1, 2, 0, 0, 0, 0, 0, 0), ""},
		{"proxy: from no address", cluster.DHCPProxy, &net.IPAddr{IP: net.IPv6unspecified}, by(booting), ""},
		{"off", cluster.DHCPOff, its, by(booting), ""},
	} {
		docs := office()
		docs[0].(*cluster.Network).DHCP = row.mode
		snap := cluster.NewSnapshot(1, docs)
		a := &Advertiser{Snapshot: func() *cluster.Snapshot { return snap }, Boots: func(m cluster.MAC) bool { return m == booting }}
		a.places.list = func() ([]iface, error) {
			return []iface{{index: 1, name: "eth0", prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}}, nil
		}
		got := ""
		if to := a.answers(1, row.from, row.asks); to != nil {
			got = to.String()
		}
		if got != row.to {
			t.Errorf("%s: answered to %q, want %q", row.what, got, row.to)
		}
	}
	for _, short := range [][]byte{nil, {133}, {133, 0, 0, 0}, {133, 0, 0, 0, 0, 0, 0}} {
		if isSolicitation(short) {
			t.Errorf("%v is taken for a solicitation", short)
		}
	}
}

func TestBootsBeside(t *testing.T) {
	p := newProxy(t, office()...)
	p.ask(on67(packetOf(discover, mac(1), pxe(7)...)), 67)
	if p.BootsBeside(mac(1)) {
		t.Error("firmware does not ask for an IPv6 router as iPXE does")
	}
	p.ask(on67(packetOf(discover, mac(1), pxe(7, with(77, []byte("iPXE")...))...)), 67)
	if !p.BootsBeside(mac(1)) {
		t.Error("iPXE is not known to boot")
	}
}

// On an IPv6 network of ours machines are sent on to DHCPv6, whatever there is of
// IPv4 on the same link; elsewhere it is said that there is nothing.
func TestAdvertises(t *testing.T) {
	const nothing = "86000000000000000000000000000000"
	prefix := func(flags, lifetime string) string {
		return "86000000" + "00" + flags + lifetime + "0000000000000000" + "03044080" + "00015180" + "00015180" + "00000000" + "fd000000000000000000000000000000"
	}
	six := func(mode cluster.DHCPMode, pools ...cluster.Range) *cluster.Network {
		return &cluster.Network{Meta: cluster.Meta{Name: "six"}, CIDR: netip.MustParsePrefix("fd00::/64"), DHCP: mode, Pools: pools}
	}
	pool := cluster.Range{First: netip.MustParseAddr("fd00::100"), Last: netip.MustParseAddr("fd00::200")}
	routed := six(cluster.DHCPAuthoritative, pool)
	routed.Gateway = netip.MustParseAddr("fd00::1")
	behind := six(cluster.DHCPAuthoritative, pool)
	behind.Gateway = netip.MustParseAddr("fd00::ffff")
	reserved := &cluster.Host{Meta: cluster.Meta{Name: "web6"}, Address: netip.MustParseAddr("fd00::50")}
	for _, row := range []struct {
		what string
		docs []cluster.Document
		says string
		to   string
	}{
		{"with a pool", []cluster.Document{six(cluster.DHCPAuthoritative, pool)}, prefix("c0", "0000"), "ff02::1"},
		{"with a reservation", []cluster.Document{six(cluster.DHCPAuthoritative), reserved}, prefix("c0", "0000"), "ff02::1"},
		{"with no address to lend", []cluster.Document{six(cluster.DHCPAuthoritative)}, prefix("40", "0000"), "ff02::1"},
		{"we are the gateway", []cluster.Document{routed}, prefix("c0", "0708"), "ff02::1"},
		{"another is the gateway", []cluster.Document{behind}, prefix("c0", "0000"), "ff02::1"},
		{"beside an IPv4 network of ours", append(documents(), six(cluster.DHCPAuthoritative, pool)), prefix("c0", "0000"), "ff02::1"},
		{"an IPv6 network that is off", []cluster.Document{six(cluster.DHCPOff, pool)}, nothing, ""},
		{"an IPv6 network that is off beside an IPv4 network of ours", append(documents(), six(cluster.DHCPOff, pool)), nothing, "ff02::1"},
		{"an IPv4 network alone", documents(), nothing, "ff02::1"},
	} {
		snap := cluster.NewSnapshot(1, row.docs)
		a := &Advertiser{Snapshot: func() *cluster.Snapshot { return snap }}
		list := func(prefix string) func() ([]iface, error) {
			return func() ([]iface, error) {
				return []iface{{index: 1, name: "eth0", prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}}, nil
			}
		}
		a.places.list, a.places6.list, a.places6.six = list("10.0.0.1/24"), list("fd00::1/64"), true
		to := ""
		if addr := a.answers(1, &net.IPAddr{IP: net.ParseIP("fe80::1")}, []byte{133, 0, 0, 0, 0, 0, 0, 0}); addr != nil {
			to = addr.String()
		}
		if got := hex.EncodeToString(a.says(1)); got != row.says || to != row.to {
			t.Errorf("%s: says %s to %q, want\n%s to %q", row.what, got, to, row.says, row.to)
		}
	}
}
