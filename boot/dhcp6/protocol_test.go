package dhcp6

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	solicit   = dhcpv6.MessageTypeSolicit
	advertise = dhcpv6.MessageTypeAdvertise
	reply     = dhcpv6.MessageTypeReply
)

// lease goes through a whole exchange and returns the address.
func (r *rig) lease(m cluster.MAC, more ...option) netip.Addr {
	r.t.Helper()
	a := r.ask(m, messageOf(solicit, append(more, ll(m), ia(1))...))
	offered, _ := lent(a)
	if a.MessageType != advertise || !offered.IsValid() {
		r.t.Fatalf("Solicit was answered with %s", a.Summary())
	}
	a = r.ask(m, messageOf(dhcpv6.MessageTypeRequest, append(more, ll(m), us(), ia(1, offered))...))
	got, _ := lent(a)
	if a.MessageType != reply || got != offered {
		r.t.Fatalf("advertised %s, then answered with %s", offered, a.Summary())
	}
	return got
}

func TestLease(t *testing.T) {
	r := start(t, nil)
	pool := cluster.Range{First: addr("fd00::1:0:0"), Last: addr("fd00::1:ffff:ffff")}
	fromPool := r.lease(mac(7))
	if !pool.Contains(fromPool) {
		t.Errorf("%s is not of the pool", fromPool)
	}
	if again := r.lease(mac(7), llt(mac(7))); again != fromPool {
		t.Errorf("at first %s, then %s", fromPool, again)
	}
	if got := r.lease(mac(1)); got != addr("fd00::50") {
		t.Errorf("a reservation is not kept: %s", got)
	}
	l, ok := r.leases.at(fromPool)
	if left := time.Until(l.Expires); !ok || l.MAC != mac(7) || l.Network != "lan" || left < time.Hour || left > 2*time.Hour+time.Second {
		t.Errorf("the store has %+v", l)
	}
	if m, ok := r.server.Owner(addr("fd00::50")); !ok || m != mac(1) {
		t.Errorf("fd00::50 is %v's", m)
	}
	if a, ok := r.server.LeaseOf(mac(7)); !ok || a != fromPool {
		t.Errorf("%v is lent to MAC 7", a)
	}
	if r.leases.commits != 2 {
		t.Errorf("%d transactions; a lease that is nearly new needs none", r.leases.commits)
	}
	r.stop()
	again := start(t, r.leases)
	if got := again.lease(mac(7)); got != fromPool || r.leases.commits != 2 {
		t.Errorf("after a restart %s, and not %s", got, fromPool)
	}
}

func TestAnswersAreWhatTheClientAsksFor(t *testing.T) {
	r := start(t, nil)
	all := r.ask(mac(7), messageOf(solicit, ll(mac(7)), ia(1)))
	if dns, d := all.Options.DNS(), all.Options.DomainSearchList(); len(dns) != 1 || d == nil || d.Labels[0] != "example.test" || len(all.Options.NTPServers()) != 1 {
		t.Errorf("not all is said to who lists nothing: %s", all.Summary())
	}
	if all.Options.Preference() != 255 {
		t.Error("the client would wait for a better server")
	}
	some := r.ask(mac(7), messageOf(solicit, ll(mac(7)), ia(1), dhcpv6.OptRequestedOption(dhcpv6.OptionSNTPServerList)))
	if some.Options.DNS() != nil || some.Options.NTPServers() != nil || !bytes.Equal(value(some, dhcpv6.OptionSNTPServerList), addr("fd00::123").AsSlice()) {
		t.Errorf("SNTP alone was asked for: %s", some.Summary())
	}
	info := r.ask(mac(7), messageOf(dhcpv6.MessageTypeInformationRequest))
	if info.MessageType != reply || len(info.Options.DNS()) != 1 || info.Options.InformationRefreshTime(0) != 2*time.Hour || info.Options.OneIANA() != nil {
		t.Errorf("who only wants to know gets %s", info.Summary())
	}
	if first := all.Options.OneIANA(); first.T1 != time.Hour || first.T2 != 96*time.Minute || first.IaId != [4]byte{1} {
		t.Errorf("T1 is %s, T2 %s", first.T1, first.T2)
	}
	two := r.ask(mac(7), messageOf(solicit, ll(mac(7)), ia(1), ia(2), raw(dhcpv6.OptionIAPD, make([]byte, 12)...)))
	if code(two, 1) != iana.StatusNoAddrsAvail || two.Options.OneIAPD().Options.Status().StatusCode != iana.StatusNoPrefixAvail {
		t.Errorf("the second IA and the prefix are answered with %s", two.Summary())
	}
}

func TestRapidCommit(t *testing.T) {
	r := start(t, nil)
	a := r.ask(mac(7), messageOf(solicit, ll(mac(7)), ia(1), raw(dhcpv6.OptionRapidCommit)))
	got, _ := lent(a)
	if _, saved := r.leases.at(got); a.MessageType != reply || a.GetOneOption(dhcpv6.OptionRapidCommit) == nil || !saved {
		t.Errorf("answered with %s, saved %v", a.Summary(), saved)
	}
}

func TestRenewRebindConfirm(t *testing.T) {
	r := start(t, nil)
	has := r.lease(mac(7))
	stray := addr("fd09::9")
	for _, row := range []struct {
		what string
		p    *dhcpv6.Message
		a    netip.Addr
		gone []netip.Addr
	}{
		{"renew", messageOf(dhcpv6.MessageTypeRenew, ll(mac(7)), us(), ia(1, has)), has, nil},
		{"rebind", messageOf(dhcpv6.MessageTypeRebind, ll(mac(7)), ia(1, has)), has, nil},
		{"rebind from another network", messageOf(dhcpv6.MessageTypeRebind, ll(mac(7)), ia(1, stray)), has, []netip.Addr{stray}},
		{"renew what a reservation replaces", messageOf(dhcpv6.MessageTypeRenew, ll(mac(1)), us(), ia(1, has)), addr("fd00::50"), []netip.Addr{has}},
	} {
		m := mac(7)
		if bytes.Equal(value(row.p, 1), ll(mac(1)).ToBytes()) {
			m = mac(1)
		}
		if a, gone := lent(r.ask(m, row.p)); a != row.a || !slices.Equal(gone, row.gone) {
			t.Errorf("%s: %s, and %s no more", row.what, a, gone)
		}
	}
	confirm := func(a ...netip.Addr) *dhcpv6.Message {
		return messageOf(dhcpv6.MessageTypeConfirm, ll(mac(7)), ia(1, a...))
	}
	if got := code(r.ask(mac(7), confirm(has)), -1); got != iana.StatusSuccess {
		t.Errorf("an address of the link: %s", got)
	}
	if got := code(r.ask(mac(7), confirm(has, stray)), -1); got != iana.StatusNotOnLink {
		t.Errorf("an address of another link: %s", got)
	}
	r.silence(mac(7), confirm())
	if got := code(r.ask(mac(8), messageOf(dhcpv6.MessageTypeRequest, ll(mac(8)), us(), ia(1, stray))), 0); got != iana.StatusNotOnLink {
		t.Errorf("a Request for an address of another link: %s", got)
	}
}

func TestReleaseAndDecline(t *testing.T) {
	r := start(t, nil)
	has := r.lease(mac(7))
	back := func(kind dhcpv6.MessageType, m cluster.MAC) *dhcpv6.Message {
		return r.ask(m, messageOf(kind, ll(m), us(), ia(1, has)))
	}
	if a := back(dhcpv6.MessageTypeRelease, mac(8)); code(a, 0) != iana.StatusNoBinding || code(a, -1) != iana.StatusSuccess {
		t.Errorf("another machine may release it: %s", a.Summary())
	}
	if a := back(dhcpv6.MessageTypeDecline, mac(8)); code(a, 0) != iana.StatusNoBinding {
		t.Errorf("another machine may decline it: %s", a.Summary())
	}
	if a := back(dhcpv6.MessageTypeRelease, mac(7)); code(a, -1) != iana.StatusSuccess || len(a.Options.IANA()) != 0 {
		t.Errorf("a release is answered with %s", a.Summary())
	}
	r.settled()
	if _, ok := r.server.Owner(has); ok {
		t.Error("it is lent still")
	}
	if got := r.lease(mac(7)); got != has {
		t.Errorf("released %s, and got %s", has, got)
	}
	back(dhcpv6.MessageTypeDecline, mac(7))
	r.settled()
	if got := r.lease(mac(7)); got == has {
		t.Error("it gets what it declined")
	}
	if l, _ := r.leases.at(has); !l.Declined || time.Until(l.Expires) < 50*time.Minute {
		t.Errorf("the store has %+v", l)
	}
}

// settled waits for what was handed to the committer before: the Reply to a
// Request, which needs the store, comes behind it.
func (r *rig) settled() {
	r.t.Helper()
	r.lease(mac(500 + r.leases.count()))
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commits
}

func TestSilence(t *testing.T) {
	r := start(t, nil)
	other := raw(dhcpv6.OptionServerID, otherDUID...)
	for what, p := range map[string]*dhcpv6.Message{
		"a Solicit without a client":       messageOf(solicit, ia(1)),
		"a Solicit that names a server":    messageOf(solicit, ll(mac(7)), us(), ia(1)),
		"a Request without a server":       messageOf(dhcpv6.MessageTypeRequest, ll(mac(7)), ia(1)),
		"a Request to another server":      messageOf(dhcpv6.MessageTypeRequest, ll(mac(7)), other, ia(1)),
		"a Renew to another server":        messageOf(dhcpv6.MessageTypeRenew, ll(mac(7)), other, ia(1)),
		"an Information-request to others": messageOf(dhcpv6.MessageTypeInformationRequest, other),
		"a Rebind that names a server":     messageOf(dhcpv6.MessageTypeRebind, ll(mac(7)), us(), ia(1)),
		"a Reply":                          messageOf(reply, ll(mac(7)), us()),
		"a Reconfigure":                    messageOf(dhcpv6.MessageTypeReconfigure, ll(mac(7)), us()),
		"a type of the future":             messageOf(200, ll(mac(7))),
	} {
		t.Run(what, func(t *testing.T) { r.t = t; r.silence(mac(7), p) })
	}
	r.t = t
}

// Nothing is told before it is durable.
func TestNothingIsToldThatIsNotSaved(t *testing.T) {
	leases := &memory{err: errors.New("no disk"), failed: make(chan struct{}, 1)}
	r := start(t, leases)
	a, _ := lent(r.ask(mac(7), messageOf(solicit, ll(mac(7)), ia(1))))
	r.silence(mac(7), messageOf(dhcpv6.MessageTypeRequest, ll(mac(7)), us(), ia(1, a)))
	<-leases.failed
	leases.mu.Lock()
	leases.err = nil
	leases.mu.Unlock()
	r.settled()
	if got := r.lease(mac(7)); got != a {
		t.Errorf("%s, and then %s", a, got)
	}
}

func TestAnotherServerWasFaster(t *testing.T) {
	for _, terse := range []bool{false, true} {
		leases := &memory{terse: terse}
		r := start(t, leases)
		a, _ := lent(r.ask(mac(7), messageOf(solicit, ll(mac(7)), ia(1))))
		// Another server lends the address to another machine, and one of its own
		// to this machine, behind our back.
		leases.mu.Lock()
		leases.put(cluster.Lease{Network: "lan", Address: a, MAC: mac(8), Expires: time.Now().Add(time.Hour).UTC().Truncate(time.Second)})
		leases.mu.Unlock()
		r.silence(mac(7), messageOf(dhcpv6.MessageTypeRequest, ll(mac(7)), us(), ia(1, a)))
		r.settled()
		got := r.lease(mac(7))
		if got == a {
			t.Errorf("terse %v: %s is lent twice", terse, a)
		}
		// It rebinds, here, what it had from the other server.
		leases.mu.Lock()
		other := leases.leases[a]
		other.MAC, other.Address = mac(9), addr("fd00::1:0:9")
		leases.put(other)
		leases.mu.Unlock()
		rebind := messageOf(dhcpv6.MessageTypeRebind, ll(mac(9)), ia(1, other.Address))
		if got, _ := lent(r.ask(mac(9), rebind)); got != other.Address {
			t.Errorf("terse %v: rebound to %s", terse, got)
		}
		r.stop()
	}
}

func TestAPoolIsUsedUp(t *testing.T) {
	r := start(t, nil)
	relay := func(n int, options ...option) *dhcpv6.Message {
		p := forward("fd01::1", mac(n), messageOf(solicit, append(options, ll(mac(n)), ia(1), raw(dhcpv6.OptionRapidCommit))...))
		r.send(mac(n), p)
		a, _ := r.receive()
		inner, err := a.GetInnerMessage()
		if err != nil {
			t.Fatal(err)
		}
		return inner
	}
	seen := map[netip.Addr]bool{}
	for n := range 4 {
		a, _ := lent(relay(100 + n))
		if seen[a] || !a.IsValid() {
			t.Fatalf("the %d. of 4 addresses is %s", n+1, a)
		}
		seen[a] = true
	}
	if a := relay(200); code(a, 0) != iana.StatusNoAddrsAvail {
		t.Errorf("the fifth of four addresses: %s", a.Summary())
	}
	// One lapses, and is the next machine's; then its first machine gets none.
	var lapsed cluster.Lease
	for _, l := range r.leases.leases {
		lapsed = l
	}
	was := lapsed
	lapsed.Expires = time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	r.leases.mu.Lock()
	r.leases.put(lapsed)
	r.leases.mu.Unlock()
	r.server.Learn(lapsed)
	if a, _ := lent(relay(200)); a != was.Address {
		t.Errorf("%s lapsed, and the next machine got %s", was.Address, a)
	}
}
