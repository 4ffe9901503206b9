package dhcp6

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// exchange is one message and everything that its answer is made from.
type exchange struct {
	s       *Server
	m       *message
	snap    *cluster.Snapshot
	network *cluster.Network
	server  boot.Server // as the client finds us
	host    *cluster.Host
	reply   boot.Reply
	now     time.Time
}

// exchange begins one for a message that is ours to answer.
func (s *Server) exchange(m *message) (*exchange, error) {
	snap := s.Snapshot()
	n, us, err := s.places.find(m, snap)
	if err != nil {
		if s.quiet.Says("place " + err.Error()) {
			s.logger().Warn("a DHCPv6 client is not answered", "mac", m.mac, "error", err)
		}
		return nil, err
	}
	m.Network = n
	return &exchange{s: s, m: m, snap: snap, network: n, now: time.Now(), server: boot.ServerAt(us, s.HTTPPort, s.HTTPSPort)}, nil
}

// identify finds the host that asks. A machine that no document names is noted.
func (e *exchange) identify() {
	m := e.m
	for _, mac := range m.macs {
		if h, ok := e.snap.Identify(cluster.Identity{MAC: mac}); ok {
			e.host, m.mac, m.MAC = h, mac, mac
			break
		}
	}
	for _, uuid := range m.uuids {
		if h, ok := e.snap.Identify(cluster.Identity{UUID: uuid}); ok && (e.host == nil || e.host == h) {
			e.host, m.UUID = h, uuid
		}
	}
	if e.host != nil {
		e.s.strangers.forget(m.mac)
		return
	}
	if e.s.strangers.see(m, e.network, e.now) && m.IsFirmware() && e.s.quiet.Says("stranger "+e.network.Name) {
		e.s.logger().Info("a machine that no document names looks for something to boot", "mac", m.mac, "uuid", m.UUID,
			"arch", m.Arch(), "network", e.network.Name, "try", fmt.Sprintf("apply a document with kind: host and macs: [%q]", m.mac))
	}
}

// isAdmitted reports whether the machine that asks is about to become a host.
func (e *exchange) isAdmitted() bool {
	if e.host != nil || !e.m.IsFirmware() || e.s.Admit == nil {
		return false
	}
	arch := boot.MachineOf(e.m.Arch())
	return arch != "" && e.s.Admit(e.m.mac, arch, e.network)
}

// decide says what the machine is to boot, if it is firmware that asks.
func (e *exchange) decide() {
	if e.host == nil || !e.m.IsFirmware() {
		return
	}
	t, err := e.snap.Target(e.host, e.network)
	if err == nil {
		t.Install = e.s.Installs.Of(e.host.HostName())
		e.reply, err = boot.Decide(e.m.request, t, boot.Policy{Server: e.server, Loaders: e.s.Loaders})
	}
	if err != nil && e.s.quiet.Says("decide "+e.host.Name) {
		e.s.logger().Warn("a machine gets nothing to boot", "host", e.host.Name, "mac", e.m.mac, "error", err)
	}
}

var (
	errSilent = errors.New("nothing to answer")
	errElse   = errors.New("the client means another server")
	errQueue  = errors.New("too many leases wait to be written")
)

// respond answers what needs no lease to be written, and hands what does to the
// committer, which then answers.
func (e *exchange) respond(c *committer) (*outbound, error) {
	if e.m.server != nil && !bytes.Equal(e.m.server, e.s.DUID) {
		return nil, errElse
	}
	switch e.m.kind {
	case dhcpv6.MessageTypeSolicit:
		e.record(e.asks(), netip.Addr{}, e.m.IsFirmware())
		if e.m.packet.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			return e.grant(c)
		}
		return e.advertise(), nil
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		return e.grant(c)
	case dhcpv6.MessageTypeConfirm:
		return e.confirm()
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return e.giveBack(c)
	case dhcpv6.MessageTypeInformationRequest:
		return e.inform(), nil
	}
	return nil, errSilent
}

func (e *exchange) claimant() claimant {
	return claimant{mac: e.m.mac, host: e.host, snap: e.snap, network: e.network, us: e.server.Addr, now: e.now}
}

// associations returns the IA_NAs of a message, as many as are looked at.
func (e *exchange) associations() []*dhcpv6.OptIANA {
	all := e.m.packet.Options.IANA()
	return all[:min(len(all), maxAddresses)]
}

// advertise says which address the client would get. Nothing is kept of it.
func (e *exchange) advertise() *outbound {
	a := e.answer(dhcpv6.MessageTypeAdvertise)
	ias := e.associations()
	if len(ias) > 0 {
		addr, err := e.choose(addresses(ias[0]))
		if err != nil {
			e.fails(a, ias, err)
		} else {
			e.lends(a, ias, addr, e.leaseTime())
		}
	}
	return e.encode(a)
}

// choose finds an address. The book's mu is not held.
func (e *exchange) choose(wanted []netip.Addr) (netip.Addr, error) {
	b := &e.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	a, busy, err := b.pool(cluster.NetworkName(e.network.Name)).choose(e.claimant(), wanted)
	if busy.IsValid() && e.s.quiet.Says("busy "+busy.String()) {
		e.s.logger().Warn("a reserved address is another machine's still, so its host gets one from the pool",
			"address", busy, "host", e.host.Name, "mac", e.m.mac, "network", e.network.Name)
	}
	return a, err
}

// grant lends an address, if it may: at once when a lease that is nearly new
// covers it, else when the committer has written it. A machine gets one address,
// for the first of its IAs.
func (e *exchange) grant(c *committer) (*outbound, error) {
	a := e.answer(dhcpv6.MessageTypeReply)
	ias := e.associations()
	if len(ias) == 0 {
		return e.encode(a), nil
	}
	wanted := addresses(ias[0])
	if e.m.kind == dhcpv6.MessageTypeRequest && !e.onLink(wanted) {
		a.AddOption(iaStatus(ias[0], iana.StatusNotOnLink, "the address is of another network"))
		return e.encode(a), nil
	}
	addr, err := e.choose(wanted)
	if err != nil {
		e.fails(a, ias, err)
		return e.encode(a), nil
	}
	name, term := cluster.NetworkName(e.network.Name), e.leaseTime()
	b := &e.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.pool(name).slots[addr]; s.lends(e.m.mac, e.now) && s.busy == 0 && s.lease.Hostname == e.hostname() && isFresh(s.lease, e.now, term) {
		e.record("has "+addr.String(), addr, false)
		e.lends(a, ias, addr, min(s.lease.Expires.Sub(e.now), term))
		return e.encode(a), nil
	}
	e.lends(a, ias, addr, term)
	ok := c.submit(change{
		lease: cluster.Lease{
			Network: name, Address: addr, MAC: e.m.mac, Hostname: e.hostname(),
			Expires: e.now.Add(term).UTC().Truncate(time.Second).Add(time.Second),
		},
		answer: e.encode(a),
		done:   func() { e.record("has "+addr.String(), addr, false) },
	})
	if !ok {
		return nil, errQueue
	}
	return nil, nil
}

// isFresh reports whether a lease is as good as one made now. One that lasts
// longer than leases do by now is not.
func isFresh(l cluster.Lease, now time.Time, term time.Duration) bool {
	left := l.Expires.Sub(now)
	return left >= time.Duration(float64(term)*freshShare) && left <= term+time.Second
}

func (e *exchange) onLink(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if !e.network.CIDR.Contains(a) {
			return false
		}
	}
	return true
}

// confirm says whether the addresses that a machine had are good where it is now;
// not whether they are its own (RFC 8415, section 18.3.3).
func (e *exchange) confirm() (*outbound, error) {
	var all []netip.Addr
	for _, ia := range e.associations() {
		all = append(all, addresses(ia)...)
	}
	if len(all) == 0 {
		return nil, errSilent
	}
	a := e.answer(dhcpv6.MessageTypeReply)
	if e.onLink(all) {
		a.AddOption(status(iana.StatusSuccess, ""))
	} else {
		a.AddOption(status(iana.StatusNotOnLink, "an address is of another network"))
	}
	return e.encode(a), nil
}

// giveBack takes addresses back that a machine needs no more, and takes those out
// of use of which it has found that somebody else uses them. The record of whose
// they were stays, so that the machine gets its own again if it can.
func (e *exchange) giveBack(c *committer) (*outbound, error) {
	b := &e.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pool(cluster.NetworkName(e.network.Name))
	a := e.answer(dhcpv6.MessageTypeReply)
	now := e.now.UTC().Truncate(time.Second)
	for _, ia := range e.associations() {
		found := false
		for _, addr := range addresses(ia) {
			s := p.slots[addr]
			if !s.lends(e.m.mac, e.now) || s.busy > 0 {
				continue
			}
			found = true
			l := s.lease
			l.Expires = now
			if e.m.kind == dhcpv6.MessageTypeDecline {
				e.noteDeclined(addr)
				l.Declined, l.Expires = true, now.Add(declineTime)
			}
			if !c.submit(change{lease: l}) {
				return nil, errQueue
			}
		}
		if !found {
			a.AddOption(iaStatus(ia, iana.StatusNoBinding, "none of its addresses is lent to this machine"))
		}
	}
	a.AddOption(status(iana.StatusSuccess, ""))
	return e.encode(a), nil
}

func (e *exchange) noteDeclined(a netip.Addr) {
	if e.s.quiet.Says("declined " + a.String()) {
		e.s.logger().Warn("an address was declined: something else uses it", "address", a, "mac", e.m.mac,
			"network", e.network.Name, "kept_out_for", declineTime)
	}
}

// inform answers who only wants to know.
func (e *exchange) inform() *outbound {
	a := e.answer(dhcpv6.MessageTypeReply)
	a.AddOption(dhcpv6.OptInformationRefreshTime(max(e.leaseTime(), refreshAtLeast)))
	return e.encode(a)
}

const refreshAtLeast = 10 * time.Minute // RFC 8415, section 7.6: IRT_MINIMUM

func (e *exchange) leaseTime() time.Duration { return time.Duration(e.network.LeaseTime()) }

// hostname returns what the document calls the machine.
func (e *exchange) hostname() string {
	if e.host == nil {
		return ""
	}
	return e.host.Name
}

// asks says in the timeline who asks, and when it is left to its disk.
func (e *exchange) asks() string {
	who := "system"
	switch {
	case e.m.IsIPXE():
		who = "iPXE on " + e.m.Arch().String()
	case e.m.IsFirmware():
		who = e.m.Arch().String()
	}
	if e.reply.Local {
		return "asks over IPv6 as " + who + ", left to its disk"
	}
	return "asks over IPv6 as " + who
}

func (e *exchange) record(detail string, a netip.Addr, firmware bool) {
	if e.host == nil {
		return
	}
	e.s.Recorder.Record(boot.Sighting{
		MAC: e.m.mac, Host: e.host.HostName(), Firmware: firmware, IPXE: e.m.IsIPXE(),
		Event: cluster.Event{Step: cluster.StepDHCP, At: time.Now(), Addr: a, Detail: detail, Local: e.reply.Local},
	})
}
