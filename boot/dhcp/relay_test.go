package dhcp

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
)

// part is one part of option 82.
func part(code byte, value string) []byte {
	return append([]byte{code, byte(len(value))}, value...)
}

func parts(all ...[]byte) dhcpv4.Modifier { return with(82, bytes.Join(all, nil)...) }

func port(circuit, remote string) dhcpv4.Modifier {
	return parts(part(subCircuit, circuit), part(subRemote, remote))
}

func link(addr string) []byte   { return part(subLink, string(ip(addr))) }
func callMe(addr string) []byte { return part(subServerID, string(ip(addr))) }

func giaddr(addr string) dhcpv4.Modifier { return dhcpv4.WithGatewayIP(ip(addr)) }

// branch is two more networks, behind a relay.
func branch(more ...cluster.Document) []cluster.Document {
	network := func(name, cidr, first, last string) *cluster.Network {
		return &cluster.Network{
			Meta: cluster.Meta{Name: name}, CIDR: netip.MustParsePrefix(cidr), DHCP: cluster.DHCPAuthoritative,
			Pools: []cluster.Range{{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}},
		}
	}
	return documents(append(more, network("red", "10.8.0.0/24", "10.8.0.10", "10.8.0.19"), network("blue", "10.9.0.0/24", "10.9.0.10", "10.9.0.19"))...)
}

func TestReadRelay(t *testing.T) {
	for what, row := range map[string]struct {
		option []byte
		want   relayed
	}{
		"nothing":     {nil, relayed{}},
		"all":         {bytes.Join([][]byte{part(1, "eth1"), part(2, "\x00\x01"), link("10.9.0.1"), callMe("10.9.0.2")}, nil), relayed{cluster.SwitchPort{Circuit: "eth1", Remote: "0x0001"}, netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")}},
		"cut off":     {append(part(1, "eth1"), 2, 9, 'x'), relayed{port: cluster.SwitchPort{Circuit: "eth1"}}},
		"half a part": {[]byte{1}, relayed{}},
		"no address":  {part(subLink, "abc"), relayed{}},
		"said twice":  {bytes.Join([][]byte{part(1, "mine"), part(1, "the switch's"), part(2, "sw")}, nil), relayed{port: cluster.SwitchPort{Remote: "sw"}}},
	} {
		if got := readRelay(row.option); got != row.want {
			t.Errorf("%s: %+v, want %+v", what, got, row.want)
		}
	}
}

// Every message of a client, from several networks at once, through one relay:
// what it is answered, for which network, and that the relay gets it.
func TestSeveralNetworksBehindOneRelay(t *testing.T) {
	r := start(t, nil, branch()...)
	for _, row := range []struct {
		what, network string
		mods          []dhcpv4.Modifier
		id            string
	}{
		{"by giaddr", "10.8.0.", []dhcpv4.Modifier{giaddr("10.8.0.1")}, "10.0.0.1"},
		{"by link selection", "10.9.0.", []dhcpv4.Modifier{giaddr("10.8.0.1"), parts(part(1, "eth1"), link("10.9.0.1"))}, "10.0.0.1"},
		{"by link selection, with another server identifier", "10.9.0.", []dhcpv4.Modifier{giaddr("10.8.0.1"), parts(link("10.9.0.1"), callMe("10.9.0.1"))}, "10.9.0.1"},
	} {
		t.Run(row.what, func(t *testing.T) {
			r.t = t
			card := mac(100 + len(row.what))
			ask := func(kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
				q := packetOf(kind, card, append(mods, row.mods...)...)
				a, to := r.ask(q)
				if to.String() != "10.8.0.1:67" || a.GatewayIPAddr.String() != "10.8.0.1" || !bytes.Equal(a.Options[82], q.Options[82]) || a.ServerIdentifier().String() != row.id {
					t.Errorf("%s was answered at %s: %s", kind, to, a.Summary())
				}
				return a
			}
			o := ask(discover)
			has := o.YourIPAddr.String()
			if r.kind(o, offer); !strings.HasPrefix(has, row.network) || o.SubnetMask().String() != "ffffff00" {
				t.Fatalf("offered %s: %s", has, o.Summary())
			}
			r.silence(packetOf(request, card, append(row.mods, requested(has), serverID("10.0.0.9"))...)) // another server's
			r.kind(ask(request, requested(has), serverID(row.id)), ack)
			r.kind(ask(request, requested(has)), ack)       // INIT-REBOOT
			r.kind(ask(request, ciaddr(has)), ack)          // REBINDING
			r.kind(ask(request, ciaddr("10.0.0.150")), nak) // an address of another network
			if n := ask(request, requested("10.0.0.150")); !n.IsBroadcast() {
				t.Error("the relay may not broadcast the NAK") // RFC 2131, section 4.3.2
			}
			if a := ask(inform, ciaddr(has)); a.YourIPAddr.String() != "0.0.0.0" || a.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
				t.Errorf("INFORM is lent something: %s", a.Summary())
			}
			addr := netip.MustParseAddr(has)
			r.silence(packetOf(dhcpv4.MessageTypeRelease, card, append(row.mods, ciaddr(has), serverID("10.0.0.9"))...))
			if _, ok := r.server.Owner(addr); !ok {
				t.Error("what names another server released it")
			}
			r.silence(packetOf(dhcpv4.MessageTypeRelease, card, append(row.mods, ciaddr(has), serverID(row.id))...))
			r.eventually("it is released", func() bool { _, ok := r.server.Owner(addr); return !ok })
			r.kind(ask(request, requested(has), serverID(row.id)), ack)
			r.silence(packetOf(decline, card, append(row.mods, requested(has), serverID(row.id))...))
			r.eventually("it is declined", func() bool {
				l, _ := r.leases.on(cluster.NetworkName(map[string]string{"10.8.0.": "red", "10.9.0.": "blue"}[row.network]), has)
				return l.Declined
			})
			if again := ask(discover, requested(has)); again.YourIPAddr.String() == has || !strings.HasPrefix(again.YourIPAddr.String(), row.network) {
				t.Errorf("after %s was declined it is offered %s", has, again.YourIPAddr)
			}
		})
	}
	r.t = t
	r.silence(packetOf(discover, mac(10), giaddr("10.8.0.1"), parts(link("172.16.0.1")))) // a network that we do not know
	r.silence(packetOf(request, mac(10), giaddr("10.8.0.1"), requested("10.8.0.15"), serverID("10.9.0.1")))
}

// journal is a log that a test reads.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

// says reports whether one line has all of the words.
func (j *journal) says(words ...string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
lines:
	for line := range strings.Lines(j.b.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		return true
	}
	return false
}

// logged starts a server whose log is read.
func logged(t testing.TB, leases *memory, docs ...cluster.Document) (*rig, *journal) {
	t.Helper()
	j := new(journal)
	r := prepare(t, leases, docs...)
	r.server.Logger = slog.New(slog.NewTextHandler(j, nil))
	r.run()
	return r, j
}

func TestSwitchPort(t *testing.T) {
	at := func(c string) cluster.SwitchPort {
		return cluster.SwitchPort{Circuit: cluster.Octets(c), Remote: "sw1"}
	}
	r, log := logged(t, nil, documents(
		&cluster.Host{Meta: cluster.Meta{Name: "p1"}, SwitchPort: at("eth1"), Address: netip.MustParseAddr("10.0.0.61"), Profile: "web"},
		&cluster.Host{Meta: cluster.Meta{Name: "p2"}, MACs: []cluster.MAC{mac(62)}, SwitchPort: at("eth2"), Address: netip.MustParseAddr("10.0.0.62"), Profile: "web"},
	)...)
	bios := []dhcpv4.Modifier{with(60, []byte("PXEClient:Arch:00000")...), with(93, 0, 0)}
	boots := func(m cluster.MAC, where ...dhcpv4.Modifier) (string, bool) {
		t.Helper()
		o, _ := r.ask(packetOf(discover, m, append(where, bios...)...))
		r.kind(o, offer)
		return o.YourIPAddr.String(), o.BootFileName != ""
	}
	for _, m := range []cluster.MAC{mac(900), mac(901)} { // its card is exchanged
		if a, ok := boots(m, port("eth1", "sw1")); a != "10.0.0.61" || !ok {
			t.Errorf("%s at the port of p1 is offered %s, boots: %v", m, a, ok)
		}
	}
	if a, ok := boots(mac(900), port("eth1", "sw2")); a == "10.0.0.61" || ok {
		t.Errorf("at the same port of another switch it is offered %s, boots: %v", a, ok)
	}
	if a, ok := boots(mac(62), port("eth2", "sw1")); a != "10.0.0.62" || !ok {
		t.Errorf("p2 at its port is offered %s, boots: %v", a, ok)
	}
	for _, row := range []struct { // in this order: the log names a card once
		what string
		q    *dhcpv4.DHCPv4
	}{
		{"p2's card elsewhere", packetOf(discover, mac(62), append(bios, port("eth3", "sw1"))...)},
		{"p2's card nowhere", packetOf(discover, mac(62), bios...)},
		{"at p2's port, another", packetOf(discover, mac(63), append(bios, port("eth2", "sw1"))...)},
		{"and no address either", selecting(mac(62), "10.0.0.62")},
	} {
		if r.silence(row.q); t.Failed() {
			t.Fatal(row.what)
		}
	}
	if !log.says("only one of its switch port", mac(62).String(), "eth3 of sw1", "host=p2", "eth2 of sw1") || !log.says(mac(63).String(), "host=p2") {
		t.Errorf("the log does not say who is misplaced:\n%s", log.b.String())
	}
	var found bool
	for _, s := range r.server.Discovered() {
		found = found || s.MAC == mac(63) && s.Port == at("eth2")
	}
	if !found {
		t.Error("a misplaced machine is not among the discovered ones")
	}
}

// What asks by HTTP has no switch port to show, and what renews has none
// either: both are known by the lease, also after a restart.
func TestSwitchPortIsRemembered(t *testing.T) {
	where := cluster.SwitchPort{Circuit: "eth1", Remote: "sw1"}
	docs := documents(&cluster.Host{Meta: cluster.Meta{Name: "p1"}, MACs: []cluster.MAC{mac(61)}, SwitchPort: where, Profile: "web"})
	r := start(t, nil, docs...)
	has := r.lease(mac(61), port("eth1", "sw1"))
	a := netip.MustParseAddr(has)
	want := cluster.Identity{MAC: mac(61), Port: where}
	if id, ok := r.server.LentTo(a); !ok || id != want {
		t.Errorf("%s is lent to %+v", a, id)
	}
	l, _ := r.leases.at(has)
	if b, err := json.Marshal(l); err != nil || !strings.Contains(string(b), `"switch_port":{"circuit":"eth1","remote":"sw1"}`) {
		t.Errorf("the lease is %s, %v", b, err)
	}
	r.stop()
	r = start(t, r.leases, docs...)
	r.eventually("it is known after a restart", func() bool { id, _ := r.server.LentTo(a); return id == want })
	got, _ := r.ask(packetOf(request, mac(61), ciaddr(has)))
	if r.kind(got, ack); got.HostName() != "p1" {
		t.Errorf("who renews is called %q", got.HostName())
	}
	r.silence(packetOf(request, mac(61), ciaddr(has), port("eth9", "sw1"))) // it was moved
	if _, ok := r.server.LeaseOf(mac(61)); !ok {
		t.Error("the lease is gone")
	}
	if got, ok := r.server.AddressOf(docs[len(docs)-1].(*cluster.Host)); !ok || got != a {
		t.Errorf("host p1 has %s, %v", got, ok)
	}
}

// A machine that moves to another port gets its lease written anew, so that
// who asks by HTTP is not taken for the one that was there.
func TestMoveWritesTheLease(t *testing.T) {
	r := start(t, nil)
	has := r.lease(mac(70), port("eth1", "sw1"))
	if again := r.lease(mac(70), port("eth2", "sw1")); again != has {
		t.Errorf("it had %s, and has %s", has, again)
	}
	r.eventually("the lease says where it is", func() bool { l, _ := r.leases.at(has); return l.Port.Circuit == "eth2" })
	if l, _ := r.leases.at(has); time.Until(l.Expires) < 11*time.Hour {
		t.Errorf("it expires at %s", l.Expires)
	}
}
