package dhcp

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	discover = dhcpv4.MessageTypeDiscover
	request  = dhcpv4.MessageTypeRequest
	decline  = dhcpv4.MessageTypeDecline
	offer    = dhcpv4.MessageTypeOffer
	ack      = dhcpv4.MessageTypeAck
	nak      = dhcpv4.MessageTypeNak
)

func requested(addr string) dhcpv4.Modifier { return with(50, ip(addr)...) }
func serverID(addr string) dhcpv4.Modifier  { return with(54, ip(addr)...) }
func ciaddr(addr string) dhcpv4.Modifier    { return dhcpv4.WithClientIP(ip(addr)) }

func TestLease(t *testing.T) {
	r := start(t, nil)
	if got := r.lease(mac(1)); got != "10.0.0.50" {
		t.Errorf("the reserved address is 10.0.0.50, got %s", got)
	}
	first := r.lease(mac(77))
	if again := r.lease(mac(77), with(61, 1, 2, 3)); again != first {
		t.Errorf("got %s at first, and %s with another client id", first, again)
	}
	if l, ok := r.leases.at("10.0.0.50"); !ok || l.MAC != mac(1) || l.Hostname != "web1" || time.Until(l.Expires) < 11*time.Hour {
		t.Errorf("what is stored is %+v", l)
	}
	if got := r.lease(mac(78), requested("10.0.0.142")); got != "10.0.0.142" {
		t.Errorf("asked for 10.0.0.142, got %s", got)
	}
	for _, not := range []string{"10.0.0.142", "10.0.0.51", "10.0.0.50", "10.0.0.254", "10.0.0.255", "192.168.1.1"} {
		if o, _ := r.ask(packetOf(discover, mac(79), requested(not))); o.YourIPAddr.String() == not {
			t.Errorf("asked for %s, which is not to be had, and got it", not)
		}
	}
}

func TestParameters(t *testing.T) {
	r := start(t, nil)
	o, _ := r.ask(packetOf(discover, mac(1)))
	for _, row := range []struct {
		what      string
		got, want any
	}{
		{"mask", o.SubnetMask().String(), "ffffff00"},
		{"router", o.Router()[0].String(), "10.0.0.254"},
		{"dns", o.DNS()[0].String(), "10.0.0.53"},
		{"domain", o.DomainName(), "example.test"},
		{"hostname", o.HostName(), "web1"},
		{"broadcast", o.BroadcastAddress().String(), "10.0.0.255"},
		{"server", o.ServerIdentifier().String(), "10.0.0.1"},
		{"lease", o.IPAddressLeaseTime(0), 12 * time.Hour},
		{"T1", o.IPAddressRenewalTime(0), 6 * time.Hour},
		{"T2", o.IPAddressRebindingTime(0), 10*time.Hour + 30*time.Minute},
		{"file", o.BootFileName, ""},
	} {
		if row.got != row.want {
			t.Errorf("%s is %v, want %v", row.what, row.got, row.want)
		}
	}
	o, _ = r.ask(packetOf(discover, mac(1), with(55, 6)))
	if o.DNS() == nil || o.Router() != nil || o.HostName() != "" || o.SubnetMask() == nil {
		t.Errorf("a client that asks for DNS alone gets\n%s", o.Summary())
	}
	o, _ = r.ask(packetOf(discover, mac(5)))
	if o.HostName() != "" {
		t.Errorf("a machine that no document names is called %q", o.HostName())
	}
}

func TestSelecting(t *testing.T) {
	r := start(t, nil)
	o, _ := r.ask(packetOf(discover, mac(10)))
	r.silence(packetOf(request, mac(10), requested(o.YourIPAddr.String()), serverID("10.0.0.2")))
	if a, _ := r.ask(packetOf(discover, mac(11), requested(o.YourIPAddr.String()))); !a.YourIPAddr.Equal(o.YourIPAddr) {
		t.Errorf("%s was withdrawn, but is not to be had", o.YourIPAddr)
	}
	a, to := r.ask(selecting(mac(12), "10.0.0.50"))
	r.kind(a, nak)
	if !strings.Contains(a.Message(), "reserved") || to.String() != "255.255.255.255:68" || !a.YourIPAddr.IsUnspecified() {
		t.Errorf("the NAK went to %s and says %q", to, a.Message())
	}
	r.silence(packetOf(request, mac(12), serverID("10.0.0.1"))) // asks for nothing
	r.silence(packetOf(request, mac(12)))
}

func TestInitReboot(t *testing.T) {
	r := start(t, nil)
	has := r.lease(mac(10))
	a, _ := r.ask(packetOf(request, mac(10), requested(has)))
	r.kind(a, ack)
	for _, wrong := range []string{"192.168.1.5", "10.0.0.199"} {
		a, to := r.ask(packetOf(request, mac(10), requested(wrong)))
		r.kind(a, nak)
		if to.String() != "255.255.255.255:68" {
			t.Errorf("the NAK went to %s", to)
		}
	}
	r.silence(packetOf(request, mac(66), requested("10.0.0.150"))) // nobody that we know
	a, _ = r.ask(packetOf(request, mac(1), requested("10.0.0.50")))
	r.kind(a, ack) // reserved, and that is record enough
}

func TestRenew(t *testing.T) {
	r := start(t, nil)
	has := r.lease(mac(10))
	a, to := r.ask(packetOf(request, mac(10), ciaddr(has)))
	r.kind(a, ack)
	if to.String() != has+":68" || a.ClientIPAddr.String() != has || a.YourIPAddr.String() != has {
		t.Errorf("the ACK went to %s: %s", to, a.Summary())
	}
	for _, wrong := range []string{"192.168.1.5", "10.0.0.50", "10.0.0.20"} { // of another network, another's, in no pool
		a, to := r.ask(packetOf(request, mac(10), ciaddr(wrong)))
		r.kind(a, nak)
		if to.String() != "255.255.255.255:68" {
			t.Errorf("the NAK went to %s", to)
		}
	}
	a, _ = r.ask(packetOf(request, mac(20), ciaddr("10.0.0.160")))
	r.kind(a, ack) // we know nothing of it, but nobody else has it
	a, _ = r.ask(packetOf(request, mac(21), ciaddr("10.0.0.160")))
	r.kind(a, nak)
}

func TestRelease(t *testing.T) {
	r := start(t, nil)
	has := r.lease(mac(10))
	free := func() bool { l, _ := r.leases.at(has); return !l.Expires.After(time.Now()) }
	r.silence(packetOf(dhcpv4.MessageTypeRelease, mac(11), ciaddr(has), serverID("10.0.0.1"))) // another's
	r.silence(packetOf(dhcpv4.MessageTypeRelease, mac(10), ciaddr(has), serverID("10.0.0.2"))) // another server's
	time.Sleep(20 * time.Millisecond)
	if free() {
		t.Fatal("it was released by somebody else")
	}
	r.silence(packetOf(dhcpv4.MessageTypeRelease, mac(10), ciaddr(has), serverID("10.0.0.1")))
	r.eventually("the lease is over", free)
	r.eventually("it has no owner", func() bool { _, ok := r.server.Owner(netip.MustParseAddr(has)); return !ok })
	if again := r.lease(mac(10)); again != has {
		t.Errorf("it had %s and now gets %s", has, again)
	}
}

func TestDecline(t *testing.T) {
	r := start(t, nil)
	has := r.lease(mac(10))
	out := func() bool { l, _ := r.leases.at(has); return l.Declined }
	r.silence(packetOf(decline, mac(11), requested(has), serverID("10.0.0.1")))
	time.Sleep(20 * time.Millisecond)
	if out() {
		t.Fatal("it was declined by somebody who does not have it")
	}
	r.silence(packetOf(decline, mac(10), requested(has), serverID("10.0.0.1")))
	r.eventually("the address is out of use", out)
	r.eventually("it has no owner", func() bool { _, ok := r.server.Owner(netip.MustParseAddr(has)); return !ok })
	if o, _ := r.ask(packetOf(discover, mac(10), requested(has))); o.YourIPAddr.String() == has {
		t.Error("the machine is offered the declined address again")
	}
	a, _ := r.ask(selecting(mac(10), has))
	r.kind(a, nak)
}

func TestInform(t *testing.T) {
	r := start(t, nil)
	a, to := r.ask(packetOf(dhcpv4.MessageTypeInform, mac(1), ciaddr("10.0.0.9")))
	r.kind(a, ack)
	if to.String() != "10.0.0.9:68" || !a.YourIPAddr.IsUnspecified() || a.Options.Has(dhcpv4.OptionIPAddressLeaseTime) || a.DNS() == nil {
		t.Errorf("the ACK went to %s: %s", to, a.Summary())
	}
	if len(r.leases.leases) != 0 {
		t.Error("an INFORM makes a lease")
	}
}

func TestRelayed(t *testing.T) {
	far := &cluster.Network{
		Meta: cluster.Meta{Name: "far"}, CIDR: netip.MustParsePrefix("10.9.0.0/24"), DHCP: cluster.DHCPAuthoritative,
		Pools: []cluster.Range{{First: netip.MustParseAddr("10.9.0.10"), Last: netip.MustParseAddr("10.9.0.19")}},
	}
	r := start(t, nil, documents(far)...)
	circuit := []byte{1, 4, 'e', 't', 'h', '7'}
	relayed := []dhcpv4.Modifier{dhcpv4.WithGatewayIP(ip("10.9.0.1")), with(82, circuit...), with(61, 9, 9)}
	o, to := r.ask(packetOf(discover, mac(10), relayed...))
	r.kind(o, offer)
	if to.String() != "10.9.0.1:67" || o.GatewayIPAddr.String() != "10.9.0.1" || !strings.HasPrefix(o.YourIPAddr.String(), "10.9.0.1") {
		t.Errorf("the offer went to %s: %s", to, o.Summary())
	}
	if !bytes.Equal(o.Options[82], circuit) || !bytes.Equal(o.Options[61], []byte{9, 9}) {
		t.Errorf("the relay's and the client's own words came back as %v and %v", o.Options[82], o.Options[61])
	}
	if b := o.ToBytes(); !bytes.Contains(b, append(append([]byte{82, 6}, circuit...), 255)) {
		t.Error("option 82 is not the last (RFC 3046, section 2.2)")
	}
	a, to := r.ask(packetOf(request, mac(10), append(relayed, requested("10.0.0.150"))...))
	r.kind(a, nak)
	if to.String() != "10.9.0.1:67" || !a.IsBroadcast() {
		t.Errorf("the NAK went to %s, to be broadcast: %v", to, a.IsBroadcast())
	}
	r.silence(packetOf(discover, mac(10), dhcpv4.WithGatewayIP(ip("172.16.0.1")))) // a relay of no network that we know
}

func TestDestination(t *testing.T) {
	r := start(t, nil)
	_, to := r.ask(packetOf(discover, mac(10), dhcpv4.WithBroadcast(true)))
	if to.String() != "255.255.255.255:68" {
		t.Errorf("who asks for a broadcast is answered at %s", to)
	}
	// Without an interface to send a raw frame on, it is broadcast as well.
	if _, to = r.ask(packetOf(discover, mac(10))); to.String() != "255.255.255.255:68" {
		t.Errorf("who has no address is answered at %s", to)
	}
}

func TestNotOurs(t *testing.T) {
	off := documents()
	off[0].(*cluster.Network).DHCP = cluster.DHCPOff
	r := start(t, nil, off...)
	r.pipe.in <- packetOf(discover, mac(10)).ToBytes()
	select {
	case s := <-r.pipe.out:
		t.Errorf("on a network with dhcp: off it answers %v", s)
	case <-time.After(50 * time.Millisecond):
	}
}

func TestMalformed(t *testing.T) {
	r := start(t, nil)
	good := packetOf(discover, mac(10)).ToBytes()
	long := packetOf(discover, mac(10))
	long.ClientHWAddr = make([]byte, 16)
	reply := packetOf(discover, mac(10))
	reply.OpCode = dhcpv4.OpcodeBootReply
	bootp := packetOf(discover, mac(10))
	delete(bootp.Options, 53)
	group := cluster.MAC{1, 0, 0x5e, 0, 0, 1}
	for what, b := range map[string][]byte{
		"empty": {}, "short": good[:100], "no cookie": append(append([]byte(nil), good[:236]...), 1, 2, 3, 4, 255),
		"no end": good[:243], "noise": bytes.Repeat([]byte{0xff}, 300), "16-byte hardware address": long.ToBytes(), "a reply": reply.ToBytes(),
		"BOOTP": bootp.ToBytes(), "a group's address": packetOf(discover, group).ToBytes(), "nobody's address": packetOf(discover, cluster.MAC{}).ToBytes(),
		"a type that is none": packetOf(99, mac(10)).ToBytes(), "a server's type": packetOf(offer, mac(10)).ToBytes(),
	} {
		t.Run(what, func(t *testing.T) {
			r.pipe.in <- b
			if a, _ := r.ask(packetOf(dhcpv4.MessageTypeInform, mac(9999), xid(0x77))); a.TransactionID != [4]byte{0x77} {
				t.Errorf("answered with %s", a.Summary())
			}
		})
	}
}

func TestDiscovered(t *testing.T) {
	r := start(t, nil)
	r.lease(mac(30), with(60, []byte("PXEClient:Arch:00007:UNDI:003016")...), with(93, 0, 7),
		with(97, append([]byte{0}, 0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 1, 2, 3, 4, 5, 6, 7, 8)...))
	r.lease(mac(30), with(12, []byte("ubuntu\x1b[31m")...))
	list := r.server.Discovered()
	if len(list) != 1 {
		t.Fatalf("%d machines were discovered, want 1: %v", len(list), list)
	}
	if s := list[0]; s.MAC != mac(30) || s.UUID != "12345678-9abc-def0-0102-030405060708" || s.Arch != "UEFI x64" ||
		s.Vendor != "PXEClient:Arch:00007:UNDI:003016" || s.Name != "ubuntu[31m" || s.Network != "lan" || s.Last.Before(s.First) {
		t.Errorf("it is %+v", s)
	}
	for i := range 2 * strangersLimit {
		m, _ := decode(inbound{data: packetOf(discover, mac(1000+i)).ToBytes()})
		r.server.strangers.see(m, &cluster.Network{}, time.Now())
	}
	if n := len(r.server.Discovered()); n != strangersLimit {
		t.Errorf("%d are remembered, want %d", n, strangersLimit)
	}
}

func TestTimeline(t *testing.T) {
	r := start(t, nil)
	r.lease(mac(1), with(60, []byte("PXEClient:Arch:00000")...), with(93, 0, 0))
	r.lease(mac(1), with(60, []byte("PXEClient:Arch:00000")...), with(77, []byte("iPXE")...))
	r.lease(mac(1))
	r.eventually("the whole exchange is in the timeline", func() bool {
		b, _ := r.server.Recorder.Current(mac(1))
		var got []string
		for _, e := range b.Events {
			got = append(got, e.Detail)
		}
		return strings.Join(got, ", ") == "asks as BIOS, has 10.0.0.50, asks as iPXE on BIOS, has 10.0.0.50, asks as system, has 10.0.0.50"
	})
}

// eventually waits for what the committer brings about.
func (r *rig) eventually(what string, is func() bool) {
	r.t.Helper()
	for range 200 {
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Errorf("it never came to pass that %s", what)
}

// Firmware that is about to become a host is answered when it is one; whoever
// else asks is answered as ever.
func TestAdmitted(t *testing.T) {
	var asked []cluster.MAC
	r := start(t, nil)
	r.server.Admit = func(m cluster.MAC, arch cluster.Arch, n *cluster.Network) bool {
		asked = append(asked, m)
		return m == mac(77) && arch == cluster.X86_64 && n.Name == "lan"
	}
	pxe := with(60, []byte("PXEClient")...)
	r.offered(packetOf(discover, mac(76), pxe)) // its group admits nobody
	r.offered(packetOf(discover, mac(77)))      // an operating system
	r.offered(packetOf(discover, mac(78), pxe, with(93, 0, 99)))
	r.offered(packetOf(discover, mac(1), pxe)) // a host already
	r.silence(packetOf(discover, mac(77), pxe))
	if len(asked) != 2 || asked[0] != mac(76) || asked[1] != mac(77) {
		t.Errorf("asked for %v", asked)
	}
}

func (r *rig) offered(p *dhcpv4.DHCPv4) {
	r.t.Helper()
	o, _ := r.ask(p)
	r.kind(o, offer)
}
