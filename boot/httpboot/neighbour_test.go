package httpboot_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// Where another server lends addresses, a config goes to whom ARP, or what was
// seen of DHCP, says that the address is.
func TestWhoseAddress(t *testing.T) {
	const blade = "uuid=12345678-9abc-def0-1122-334455667788&"
	stranger := cluster.MAC{2, 0, 0, 0, 0, 8}
	none := cluster.MAC{}
	for _, row := range []struct {
		what  string
		from  string
		arp   cluster.MAC // zero: not on a link of ours
		taken cluster.MAC // zero: nobody was seen to take it
		asks  string
		code  int
		says  string // of the answer, or the MAC that the config was made for
	}{
		{"proxy: ARP says so", "10.2.0.5", mac1, none, "mac=" + mac1.Hyphens(), 200, mac1.String()},
		{"proxy: ARP says so, DHCP too", "10.2.0.5", mac1, mac1, "mac=" + mac1.Hyphens(), 200, mac1.String()},
		{"proxy: by its other card, the one that it booted from counts", "10.2.0.5", mac1, mac1b, "mac=" + mac1.Hyphens(), 200, mac1b.String()},
		{"proxy: ARP outweighs a packet that anybody can send", "10.2.0.5", mac1, mac2, "mac=" + mac1.Hyphens(), 200, mac1.String()},
		{"proxy: another host's", "10.2.0.5", mac2, mac1, "mac=" + mac1.Hyphens(), 503, "52:54:00:00:00:02 answers for that address, which is host web2"},
		{"proxy: a stranger's", "10.2.0.5", stranger, mac1, "mac=" + mac1.Hyphens(), 503, "add it to macs: there"},
		{"proxy: behind a relay, seen to take it", "10.2.0.5", none, mac1, "mac=" + mac1.Hyphens(), 200, mac1.String()},
		{"proxy: behind a relay, another's", "10.2.0.5", none, mac2, "mac=" + mac1.Hyphens(), 503, "was seen to take that address, which is another machine"},
		{"proxy: behind a relay, nobody's", "10.2.0.5", none, none, "mac=" + mac1.Hyphens(), 503, "nobody was seen to take that address"},
		{"proxy: known by its UUID alone, its card is what it says", "10.2.0.5", stranger, none, blade + "mac=" + stranger.Hyphens(), 200, stranger.String()},
		{"proxy: known by its UUID alone, its card is another's", "10.2.0.5", mac2, none, blade + "mac=" + stranger.Hyphens(), 503, "which is host web2"},
		{"off: ARP knows nothing", "10.1.0.5", none, none, "mac=" + mac1.Hyphens(), 200, mac1.String()},
		{"off: ARP says so", "10.1.0.5", mac1, none, "mac=" + mac1.Hyphens(), 200, mac1.String()},
		{"off: a card that nobody named, as a cloud's router", "10.1.0.5", stranger, none, "mac=" + mac1.Hyphens(), 200, mac1.String()},
		{"off: another host's", "10.1.0.5", mac2, none, "mac=" + mac1.Hyphens(), 503, "which is host web2"},
		{"authoritative: a stranger that has read a host's UUID", "10.0.0.51", none, stranger, "uuid=22345678-9abc-def0-1122-334455667788&mac=" + stranger.Hyphens(), 503, "add it to macs: there"},
		{"proxy: the same", "10.2.0.5", stranger, none, "uuid=22345678-9abc-def0-1122-334455667788&mac=" + stranger.Hyphens(), 503, "add it to macs: there"},
		{"authoritative: known by its UUID alone", "10.0.0.51", none, stranger, blade + "mac=" + stranger.Hyphens(), 200, stranger.String()},
		{"authoritative: the lease counts, whatever ARP says", "10.0.0.51", mac2, mac1, "mac=" + mac1.Hyphens(), 200, mac1.String()},
	} {
		t.Run(row.what, func(t *testing.T) {
			r := newRig(t)
			from := netip.MustParseAddr(row.from)
			answer := func(mac cluster.MAC) func(netip.Addr) (cluster.MAC, bool) {
				return func(a netip.Addr) (cluster.MAC, bool) { return mac, a == from && !mac.IsZero() }
			}
			r.handler.Neighbour = answer(row.arp)
			r.handler.Owner = func(a netip.Addr) (cluster.Identity, bool) {
				mac, ok := answer(row.taken)(a)
				return cluster.Identity{MAC: mac}, ok
			}
			w := r.do("GET", "/ignition?"+row.asks, from)
			got := w.Body.String()
			if w.Code == 200 {
				got = r.configs.last.Identity.MAC.String()
			}
			if w.Code != row.code || !strings.Contains(got, row.says) {
				t.Errorf("%d %q, want %d %q", w.Code, got, row.code, row.says)
			}
			if w.Code != 200 && r.configs.made.Load() > 0 {
				t.Error("a config was made, and with it a token")
			}
		})
	}
}
