package dhcp

import (
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
