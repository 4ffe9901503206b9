package dhcp

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// goesWhere says what is wrong with where an answer goes (RFC 2131, section 4.1):
// a relay's answer to the relay, any other to the client's own address, to the
// one it is given, or to all on the link.
func goesWhere(to netip.AddrPort, question, answer *dhcpv4.DHCPv4) string {
	relay, has, gets := addr4(question.GatewayIPAddr), addr4(question.ClientIPAddr), addr4(answer.YourIPAddr)
	switch {
	case relay.IsValid() && to == netip.AddrPortFrom(relay, serverPort):
	case !relay.IsValid() && to.Port() == clientPort && (to.Addr() == broadcast || has.IsValid() && to.Addr() == has || gets.IsValid() && to.Addr() == gets):
	default:
		return "the answer goes to " + to.String()
	}
	return ""
}

// What a client, or a relay in its name, puts into options: the answer can be
// read, is about the same client, goes where it may, and gives a machine that no
// document names nothing to boot.
func FuzzOptions(f *testing.F) {
	f.Add(true, false, []byte("PXEClient:Arch:00007"), []byte{0, 7}, []byte("iPXE"), []byte{0x13, 1, 1}, []byte{1, 3, 'e', '/', '1', 5, 4, 10, 0, 0, 0}, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Add(false, true, []byte("HTTPClient"), []byte{0, 16, 0}, []byte{4, 'i', 'P', 'X', 'E'}, []byte{0, 0x18, 9}, []byte{11, 4, 9, 9, 9, 9, 1, 0, 1, 0}, []byte{})
	snap := cluster.NewSnapshot(1, documents())
	s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, Loaders: loaders, Leases: new(memory), HTTPPort: 8080, Recorder: new(boot.Recorder)}
	s.init()
	s.places.local = netip.MustParseAddr("10.0.0.1")
	w, err := newWire(newPipe())
	if err != nil {
		f.Fatal(err)
	}
	c := &committer{server: s, wire: w, queue: make(chan change, queueLimit)}
	n := 0
	f.Fuzz(func(t *testing.T, known, relayed bool, class, archs, user, features, agent, id []byte) {
		m := mac(1)
		if n++; !known {
			m = mac(1000 + n%(4*strangersLimit))
		}
		q := packetOf(discover, m, with(60, class...), with(93, archs...), with(77, user...), with(175, features...), with(82, agent...), with(97, id...))
		if relayed {
			q.GatewayIPAddr = ip("10.0.0.200")
		}
		out := s.answer(inbound{data: q.ToBytes()}, c)
		if len(s.Discovered()) > strangersLimit {
			t.Fatalf("%d strangers are remembered", len(s.Discovered()))
		}
		for len(c.queue) > 0 {
			c.commit(context.Background(), c.gather())
		}
		if out == nil {
			return
		}
		a, err := dhcpv4.FromBytes(out.data)
		if err != nil {
			t.Fatalf("our own answer cannot be read: %v", err)
		}
		if wrong := goesWhere(out.to, q, a); wrong != "" {
			t.Error(wrong)
		}
		if a.TransactionID != q.TransactionID || !bytes.Equal(a.ClientHWAddr, m[:]) {
			t.Errorf("another client's: %s", a.Summary())
		}
		if !known && (a.BootFileName != "" || a.Options.Has(dhcpv4.OptionBootfileName) || addr4(a.ServerIPAddr).IsValid()) {
			t.Errorf("a stranger gets something to boot: %s", a.Summary())
		}
		if len(agent) > 0 && len(agent) < 256 && !bytes.Equal(a.Options[82], agent) {
			t.Errorf("option 82 comes back as %x, and was %x (RFC 3046, section 2.2)", a.Options[82], agent)
		}
	})
}

// What is heard on a link: ARP, and who looks for an IPv6 router.
func FuzzLink(f *testing.F) {
	f.Add(append(make([]byte, 12), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 2, 2, 2, 2, 2, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2))
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2})
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if a, _, _, ok := arpUser(frame); ok && (!a.Is4() || a.IsUnspecified()) {
			t.Errorf("%s uses an address", a)
		}
		if isSolicitation(frame) {
			if m, ok := solicitor(frame); ok && !bytes.Contains(frame, m[:]) {
				t.Errorf("%s asks", m)
			}
		}
	})
}

// However many machines are made up, what is kept of them is bounded.
func TestStrangersAreBounded(t *testing.T) {
	snap := cluster.NewSnapshot(1, office())
	w, _ := listener(t, office()...)
	for i := range 3 * strangersLimit {
		q := packetOf(discover, mac(10_000+i), pxe(7)...)
		w.heard(q.ToBytes(), 1, time.Now())
	}
	s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, Leases: new(memory)}
	s.init()
	s.places.local = netip.MustParseAddr("10.0.0.1")
	for i := range 3 * strangersLimit {
		s.answer(inbound{data: packetOf(discover, mac(10_000+i), pxe(7)...).ToBytes()}, nil)
	}
	if n := len(s.Discovered()); n == 0 || n > strangersLimit {
		t.Errorf("%d strangers are remembered", n)
	}
	if n := s.quiet.Len(); n > boot.QuietMost {
		t.Errorf("of %d it is remembered what was said of them", n)
	}
}
