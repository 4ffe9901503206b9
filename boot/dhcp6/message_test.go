package dhcp6

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// forward wraps a message as the relay next to a machine does.
func forward(link string, m cluster.MAC, inner dhcpv6.DHCPv6, options ...option) *dhcpv6.RelayMessage {
	r := &dhcpv6.RelayMessage{
		MessageType: dhcpv6.MessageTypeRelayForward, LinkAddr: net.ParseIP(link), PeerAddr: linkLocal(m).AsSlice(),
	}
	for _, o := range options {
		r.AddOption(o)
	}
	r.AddOption(dhcpv6.OptRelayMessage(inner))
	return r
}

func TestRelayed(t *testing.T) {
	r := start(t, nil)
	inner := forward("fd01::1", mac(7), messageOf(solicit, ll(mac(7)), ia(1)), dhcpv6.OptInterfaceID([]byte("port 3")))
	outer := forward("::", mac(70), inner, dhcpv6.OptInterfaceID([]byte("uplink")))
	outer.HopCount = 1
	r.send(mac(71), outer)
	a, to := r.receive()
	if to != netip.AddrPortFrom(linkLocal(mac(71)), serverPort) {
		t.Errorf("it went to %s", to)
	}
	for i, id := range []string{"uplink", "port 3"} {
		relay, ok := a.(*dhcpv6.RelayMessage)
		if !ok || relay.MessageType != dhcpv6.MessageTypeRelayReply || string(relay.Options.InterfaceID()) != id || int(relay.HopCount) != 1-i {
			t.Fatalf("relay %d gets %s", i, a.Summary())
		}
		a = relay.Options.RelayMessage()
	}
	m, ok := a.(*dhcpv6.Message)
	if got, _ := lent(m); !ok || !netip.MustParsePrefix("fd01::/64").Contains(got) {
		t.Errorf("the client gets %s", a.Summary())
	}
	for what, p := range map[string]dhcpv6.DHCPv6{
		"of a network that is off":   forward("fd02::1", mac(7), messageOf(solicit, ll(mac(7)), ia(1))),
		"of no network":              forward("fd09::1", mac(7), messageOf(solicit, ll(mac(7)), ia(1))),
		"a Relay-forward of nothing": &dhcpv6.RelayMessage{MessageType: dhcpv6.MessageTypeRelayForward},
		"a Relay-reply":              &dhcpv6.RelayMessage{MessageType: dhcpv6.MessageTypeRelayReply},
	} {
		t.Run(what, func(t *testing.T) { r.t = t; r.silence(mac(7), p) })
	}
	r.t = t
	deep := dhcpv6.DHCPv6(messageOf(solicit, ll(mac(7)), ia(1)))
	for range maxRelays + 1 {
		deep = forward("::", mac(7), deep)
	}
	r.silence(mac(7), deep)
	// RFC 8357: the relay has a port of its own.
	r.pipe.in <- datagram{forward("fd01::1", mac(7), messageOf(solicit, ll(mac(7)), ia(1)), raw(dhcpv6.OptionRelayPort, 0, 0)).ToBytes(), netip.MustParseAddrPort("[fd01::1]:10547")}
	if a, to := r.receive(); to.Port() != 10547 || a.GetOneOption(dhcpv6.OptionRelayPort) == nil {
		t.Errorf("it went to %s: %s", to, a.Summary())
	}
}

func machineUUID() option {
	return dhcpv6.OptClientID(&dhcpv6.DUIDUUID{UUID: [16]byte{0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}})
}

func TestWhoAsks(t *testing.T) {
	private := netip.MustParseAddrPort("[fe80::1234:5678:9abc:def0]:546") // made from no hardware address
	from := func(m cluster.MAC) netip.AddrPort { return netip.AddrPortFrom(linkLocal(m), clientPort) }
	seen := func(m cluster.MAC) option { return dhcpv6.OptClientLinkLayerAddress(iana.HWTypeEthernet, m[:]) }
	en := raw(dhcpv6.OptionClientID, 0, 2, 0, 0, 0x30, 0x39, 1, 2, 3, 4)
	madeUpOfEN := madeUp(value(messageOf(solicit, en), 1))
	for _, row := range []struct {
		what string
		from netip.AddrPort
		p    dhcpv6.DHCPv6
		mac  cluster.MAC
		host string
	}{
		{"DUID-LL", private, messageOf(solicit, ll(mac(1))), mac(1), "web1"},
		{"DUID-LLT", private, messageOf(solicit, llt(mac(1))), mac(1), "web1"},
		{"DUID-UUID and a link-local address, as firmware", from(mac(1)), messageOf(solicit, machineUUID()), mac(1), "web1"},
		{"by the UUID alone: the card is the one that asks", from(mac(33)), messageOf(solicit, machineUUID()), mac(33), "web3"},
		{"DUID-EN and a link-local address", from(mac(1)), messageOf(solicit, en), mac(1), "web1"},
		{"the DUID has a card of the same machine: the one that asks", from(mac(11)), messageOf(solicit, ll(mac(1))), mac(11), "web1"},
		{"the DUID was copied with the disk of another: the card that asks", from(mac(2)), messageOf(solicit, ll(mac(1))), mac(2), "web2"},
		{"only the DUID's card is in a document", from(mac(33)), messageOf(solicit, ll(mac(1))), mac(1), "web1"},
		{"a stranger: the DUID's", from(mac(33)), messageOf(solicit, ll(mac(34))), mac(34), ""},
		{"a stranger that shows nothing", private, messageOf(solicit, en), madeUpOfEN, ""},
		{"what the relay saw", private, forward("fd00::9", mac(3), messageOf(solicit, en), seen(mac(1))), mac(1), "web1"},
		{"of two relays, what the one next to it saw", private, forward("::", mac(2), forward("fd00::9", mac(3), messageOf(solicit, en), seen(mac(1))), seen(mac(2))), mac(1), "web1"},
		{"the peer of a relay", private, forward("fd00::9", mac(1), messageOf(solicit, en)), mac(1), "web1"},
		{"a group's address is nobody's", private, messageOf(solicit, ll(cluster.MAC{1, 2, 3, 4, 5, 6})), madeUp(value(messageOf(solicit, ll(cluster.MAC{1, 2, 3, 4, 5, 6})), 1)), ""},
		{"InfiniBand is no Ethernet", private, messageOf(solicit, raw(1, 0, 3, 0, 32, 1, 2, 3, 4, 5, 6)), madeUp([]byte{0, 3, 0, 32, 1, 2, 3, 4, 5, 6}), ""},
	} {
		e := begun(t, row.from, row.p)
		got := ""
		if e.host != nil {
			got = e.host.Name
		}
		if e.m.mac != row.mac || e.m.MAC != row.mac || got != row.host {
			t.Errorf("%s: %s of host %q, want %s of %q", row.what, e.m.mac, got, row.mac, row.host)
		}
	}
	if madeUpOfEN[0]&3 != 2 {
		t.Errorf("%s is not a locally administered address", madeUpOfEN)
	}
}

// begun takes a packet as far as the decision.
func begun(t testing.TB, from netip.AddrPort, p dhcpv6.DHCPv6) *exchange {
	t.Helper()
	snap := cluster.NewSnapshot(1, documents())
	s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, DUID: ourDUID, Loaders: loaders, HTTPPort: 8080}
	s.init()
	s.places.local = addr("fd00::1")
	e := s.begin(inbound{data: p.ToBytes(), from: from})
	if e == nil {
		t.Fatalf("not answered: %s", p.Summary())
	}
	e.identify()
	e.decide()
	return e
}

// Each row is what one firmware says, and what it needs said.
func TestBoot(t *testing.T) {
	vendor := func(s string) option {
		return &dhcpv6.OptVendorClass{EnterpriseNumber: intel, Data: [][]byte{[]byte(s)}}
	}
	arch := func(n iana.Arch) option { return dhcpv6.OptClientArchType(n) }
	ipxe := &dhcpv6.OptUserClass{UserClasses: [][]byte{[]byte("iPXE")}}
	for _, row := range []struct {
		what    string
		m       cluster.MAC
		options []option
		url     string
		http    bool // option 16 says HTTPClient
	}{
		{"UEFI PXE", mac(1), []option{vendor("PXEClient:Arch:00007:UNDI:003016"), arch(7)}, "tftp://[fd00::1]/snponly.efi", false},
		{"UEFI PXE that says 9", mac(1), []option{vendor("PXEClient:Arch:00009:UNDI:003016"), arch(9)}, "tftp://[fd00::1]/snponly.efi", false},
		{"UEFI PXE without option 61", mac(1), []option{vendor("PXEClient:Arch:00007:UNDI:003016")}, "tftp://[fd00::1]/snponly.efi", false},
		{"UEFI HTTP Boot", mac(1), []option{vendor("HTTPClient:Arch:00016:UNDI:003001"), arch(16)}, "http://[fd00::1]:8080/loaders/snponly.efi", true},
		{"iPXE", mac(1), []option{ipxe, arch(7)}, "http://[fd00::1]:8080/boot.ipxe", false},
		{"iPXE that says PXEClient", mac(1), []option{ipxe, arch(7), vendor("PXEClient:Arch:00007:UNDI:003010")}, "http://[fd00::1]:8080/boot.ipxe", false},
		{"a system", mac(1), nil, "", false},
		{"left to its disk: PXE", mac(2), []option{vendor("PXEClient:Arch:00007:UNDI:003016"), arch(7)}, "tftp://[fd00::1]/" + boot.LeaveFile, false},
		{"left to its disk: HTTP", mac(2), []option{vendor("HTTPClient:Arch:00016:UNDI:003001"), arch(16)}, "http://[fd00::1]:8080/loaders/" + boot.LeaveFile, true},
		{"a stranger", mac(5), []option{vendor("PXEClient:Arch:00007:UNDI:003016"), arch(7)}, "", false},
		{"an architecture that is not booted", mac(1), []option{vendor("PXEClient:Arch:00006:UNDI:003016"), arch(6)}, "", false},
	} {
		for _, kind := range []dhcpv6.MessageType{solicit, dhcpv6.MessageTypeInformationRequest} {
			e := begun(t, netip.AddrPortFrom(linkLocal(row.m), clientPort), messageOf(kind, append(row.options, machineUUIDOf(9))...))
			a := e.answer(reply)
			says := slices.ContainsFunc(a.Options.VendorClass(intel), func(b []byte) bool { return string(b) == "HTTPClient" })
			if a.Options.BootFileURL() != row.url || says != row.http {
				t.Errorf("%s, %s: %s", row.what, kind, a.Summary())
			}
		}
	}
	if got := begun(t, netip.AddrPortFrom(linkLocal(mac(5)), clientPort), messageOf(solicit, vendor("PXEClient\x00\x1b"+strings.Repeat("x", 500)), ll(mac(5)))).s.Discovered(); len(got) != 1 || len(got[0].VendorClass) > 128 || strings.ContainsAny(got[0].VendorClass, "\x00\x1b") {
		t.Errorf("strangers are %+v", got)
	}
}

func machineUUIDOf(n byte) option {
	return dhcpv6.OptClientID(&dhcpv6.DUIDUUID{UUID: [16]byte{15: n}})
}

// Nothing that a stranger sends panics; and what it is answered can be read.
func FuzzAnswer(f *testing.F) {
	for _, p := range []dhcpv6.DHCPv6{
		messageOf(solicit, ll(mac(1)), ia(1), raw(dhcpv6.OptionRapidCommit)),
		messageOf(dhcpv6.MessageTypeRenew, machineUUID(), us(), ia(1, addr("fd00::50"), addr("fd09::1")), ia(2)),
		messageOf(dhcpv6.MessageTypeConfirm, llt(mac(1)), ia(1, addr("fd00::50"))),
		messageOf(dhcpv6.MessageTypeDecline, llt(mac(1)), us(), ia(1, addr("fd00::50"))),
		messageOf(dhcpv6.MessageTypeInformationRequest, dhcpv6.OptRequestedOption(23, 24, 31, 56, 59), raw(15, 0, 4, 'i', 'P', 'X', 'E'), raw(16, 0, 0, 1, 87, 0, 2, 'P', 'X'), raw(61, 0, 7)),
		forward("fd01::1", mac(7), forward("::", mac(8), messageOf(solicit, ll(mac(7)), ia(1))), dhcpv6.OptInterfaceID([]byte("x")), raw(79, 0, 1, 2, 3, 4, 5, 6, 7), raw(135, 0, 1)),
	} {
		f.Add(p.ToBytes())
	}
	snap := cluster.NewSnapshot(1, documents())
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, Leases: new(memory), DUID: ourDUID, Loaders: loaders, HTTPPort: 8080}
		s.init()
		s.places.local = addr("fd00::1")
		c := &committer{server: s, wire: &wire{conn: newPipe()}, queue: make(chan change, 64)}
		outs := []*outbound{s.answer(inbound{data: data, from: netip.AddrPortFrom(linkLocal(mac(7)), clientPort)}, c)}
		close(c.queue)
		c.run(t.Context())
		for len(c.wire.conn.(*pipe).out) > 0 {
			outs = append(outs, &outbound{data: (<-c.wire.conn.(*pipe).out).data})
		}
		for _, o := range outs {
			if o == nil {
				continue
			}
			if _, err := dhcpv6.FromBytes(o.data); err != nil {
				t.Errorf("the answer %x cannot be read: %v", o.data, err)
			}
		}
	})
}
