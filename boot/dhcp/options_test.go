package dhcp

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
)

func one(v ...string) cluster.Option    { return cluster.Option{Value: v} }
func always(v ...string) cluster.Option { return cluster.Option{Value: v, Force: true} }

func TestOptions(t *testing.T) {
	docs := documents()
	docs[0].(*cluster.Network).Options = cluster.OptionSet{
		"interface-mtu": one("9000"), "classless-static-routes": one("default via 10.0.0.254", "10.9.0.0/16 via 10.0.0.9"),
		"43": one("0x0102aabb"), "224": always("10.0.0.7"), "domain-search": one("a.test"), "routers": one("10.0.0.99"),
	}
	docs[3].(*cluster.Host).Options = cluster.OptionSet{"26": one("1400"), "domain-name-servers": one("10.0.0.66")}
	r := start(t, nil, docs...)
	routes := []byte{0, 10, 0, 0, 254, 16, 10, 9, 10, 0, 0, 9}
	for _, row := range []struct {
		what string
		m    cluster.MAC
		mods []dhcpv4.Modifier
		want map[uint8][]byte // nil: it is not there
	}{
		{"asks for some", mac(70), []dhcpv4.Modifier{with(55, 26, 121)}, map[uint8][]byte{26: {0x23, 0x28}, 121: routes, 224: {10, 0, 0, 7}, 43: nil, 119: nil, 3: nil}},
		{"does not say", mac(71), nil, map[uint8][]byte{26: {0x23, 0x28}, 121: routes, 43: {1, 2, 0xaa, 0xbb}, 119: []byte("\x01a\x04test\x00"), 3: {10, 0, 0, 99}}},
		{"the host's own", mac(1), []dhcpv4.Modifier{with(55, 26, 6, 121)}, map[uint8][]byte{26: {5, 0x78}, 6: {10, 0, 0, 66}, 121: routes, 224: {10, 0, 0, 7}}},
		{"firmware", mac(1), []dhcpv4.Modifier{with(55, 43, 26, 67), with(60, []byte("PXEClient:Arch:00007")...), with(93, 0, 7)}, map[uint8][]byte{43: nil, 26: {5, 0x78}, 67: []byte("snponly.efi\x00"), 224: {10, 0, 0, 7}}},
	} {
		t.Run(row.what, func(t *testing.T) {
			r.t = t
			o, _ := r.ask(packetOf(discover, row.m, row.mods...))
			a, _ := r.ask(selecting(row.m, o.YourIPAddr.String(), row.mods...))
			i, _ := r.ask(packetOf(inform, row.m, append(row.mods, ciaddr(o.YourIPAddr.String()))...))
			for _, got := range []*dhcpv4.DHCPv4{o, a, i} {
				for code, want := range row.want {
					if v, ok := got.Options[code]; ok != (want != nil) || !bytes.Equal(v, want) {
						t.Errorf("%s: option %d is % x, want % x", got.MessageType(), code, v, want)
					}
				}
			}
		})
	}
}

// A packet is never longer than its client takes: 576 bytes when it does not
// say (RFC 2131, section 2). What a boot needs stays.
func TestOptionsFit(t *testing.T) {
	docs := documents()
	docs[0].(*cluster.Network).Options = cluster.OptionSet{
		"root-path": one(strings.Repeat("r", 250)), "captive-portal": one(strings.Repeat("c", 200)), "interface-mtu": one("9000"), "224": always("0x" + strings.Repeat("ab", 100)),
	}
	r, log := logged(t, nil, docs...)
	size := func(p *dhcpv4.DHCPv4) int { return len(p.ToBytes()) + packetHeaders }
	o, _ := r.ask(packetOf(discover, mac(70)))
	if size(o) > 576 || !o.Options.Has(dhcpv4.GenericOptionCode(224)) || !o.Options.Has(dhcpv4.OptionInterfaceMTU) || o.Options.Has(dhcpv4.OptionRootPath) {
		t.Errorf("%d bytes: %s", size(o), o.Summary())
	}
	if !log.says("options were left out", mac(70).String(), "options=\"[17") {
		t.Error("the log does not say so", log.b.String())
	}
	o, _ = r.ask(packetOf(discover, mac(71), with(57, 1500>>8, 1500&0xff)))
	if size(o) > 1500 || !o.Options.Has(dhcpv4.OptionRootPath) || len(o.Options[114]) != 200 {
		t.Errorf("%d bytes: %s", size(o), o.Summary())
	}
}

// The route to the metadata service is for who asks for routes, with the default
// route beside it; an operator's own routes count before it.
func TestMetadataRoute(t *testing.T) {
	host := func(a ...byte) []byte { return append([]byte{32, 169, 254, 169, 254}, a...) }
	for _, row := range []struct {
		what    string
		change  func(*cluster.Network)
		ask     []byte
		want    []byte // option 121
		windows []byte // option 249
	}{
		{"asked", func(*cluster.Network) {}, []byte{3, 121}, host(10, 0, 0, 1, 0, 10, 0, 0, 254), nil},
		{"without a word of the gateway", func(*cluster.Network) {}, []byte{121}, host(10, 0, 0, 1, 0, 10, 0, 0, 254), nil},
		{"as Windows does", func(*cluster.Network) {}, []byte{3, 249}, nil, host(10, 0, 0, 1, 0, 10, 0, 0, 254)},
		{"not asked", func(*cluster.Network) {}, []byte{3, 6}, nil, nil},
		{"nothing is asked", func(*cluster.Network) {}, nil, nil, nil},
		{"no metadata", func(n *cluster.Network) { n.Metadata = cluster.MetadataOff }, []byte{121}, nil, nil},
		{"no gateway", func(n *cluster.Network) { n.Gateway = netip.Addr{} }, []byte{3, 121}, host(10, 0, 0, 1), nil},
		{"a router of options:", func(n *cluster.Network) {
			n.Gateway, n.Options = netip.Addr{}, cluster.OptionSet{"routers": one("10.0.0.99", "10.0.0.98")}
		}, []byte{3, 121}, host(10, 0, 0, 1, 0, 10, 0, 0, 99), nil},
		{"an operator's own", func(n *cluster.Network) { n.Options = cluster.OptionSet{"121": one("default via 10.0.0.99")} }, []byte{121}, []byte{0, 10, 0, 0, 99}, nil},
		{"the server is behind a router", func(n *cluster.Network) { n.Server = netip.MustParseAddr("192.0.2.1") }, []byte{121}, host(10, 0, 0, 254, 0, 10, 0, 0, 254), nil},
		{"and there is none", func(n *cluster.Network) {
			n.Server, n.Gateway = netip.MustParseAddr("192.0.2.1"), netip.Addr{}
		}, []byte{121}, nil, nil},
	} {
		t.Run(row.what, func(t *testing.T) {
			docs := documents()
			n := docs[0].(*cluster.Network)
			n.Metadata = cluster.MetadataOptional
			row.change(n)
			var mods []dhcpv4.Modifier
			if row.ask != nil {
				mods = append(mods, with(55, row.ask...))
			}
			o, _ := start(t, nil, docs...).ask(packetOf(discover, mac(70), mods...))
			if !bytes.Equal(o.Options[121], row.want) || !bytes.Equal(o.Options[optMSRoutes], row.windows) {
				t.Errorf("121 is % x, want % x; 249 is % x, want % x", o.Options[121], row.want, o.Options[optMSRoutes], row.windows)
			}
		})
	}
}

// A machine that asks for its address has begun anew; one that renews it has not.
func TestBegan(t *testing.T) {
	r := start(t, nil)
	if !r.server.Began(mac(70)).IsZero() {
		t.Error("a machine began that was never seen")
	}
	o, _ := r.ask(packetOf(discover, mac(70)))
	r.ask(selecting(mac(70), o.YourIPAddr.String()))
	at := r.server.Began(mac(70))
	if at.IsZero() || !r.server.Began(mac(71)).IsZero() {
		t.Errorf("it began at %s, another one at %s", at, r.server.Began(mac(71)))
	}
	r.ask(packetOf(request, mac(70), ciaddr(o.YourIPAddr.String())))
	if again := r.server.Began(mac(70)); !again.Equal(at) {
		t.Errorf("by a renewal it began at %s", again)
	}
	r.ask(packetOf(discover, mac(70)))
	if again := r.server.Began(mac(70)); !again.After(at) {
		t.Errorf("it began again at %s, before at %s", again, at)
	}
}
