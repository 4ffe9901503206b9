package dhcp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

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
	places  *places
	reply   boot.Reply
	now     time.Time
	port    cluster.SwitchPort
	on      int  // the interface that it is on the link of; zero when it is on none
	pxe     bool // it came on port 4011
}

// exchange begins one for a message that is ours to answer.
func (s *Server) exchange(m *message, at *places) (*exchange, error) {
	snap := s.Snapshot()
	n, us, err := at.find(m, snap)
	if err != nil {
		if s.quiet.Says("place " + err.Error()) {
			s.logger().Warn("a DHCP client is not answered", "mac", m.mac, "error", err)
		}
		return nil, err
	}
	if !serves(n) {
		return nil, fmt.Errorf("network %s is neither dhcp: authoritative nor proxy", n.Name)
	}
	m.request.Network = n
	return &exchange{
		s: s, m: m, snap: snap, network: n, places: at, now: time.Now(),
		server: boot.ServerAt(us, s.HTTPPort, s.HTTPSPort),
	}, nil
}

// identify finds the host that asks. A machine that no document names is noted.
// It reports whether the machine may be answered.
func (e *exchange) identify() bool {
	for _, uuid := range e.m.uuids {
		id := e.identity(uuid)
		e.port = id.Port
		if h, ok := e.snap.Identify(id); ok {
			e.host = h
			e.m.request.UUID = uuid
			e.s.strangers.forget(e.m.mac)
			return true
		}
		if h, ok := e.snap.Misplaced(id); ok {
			e.misplaced(h, id)
			return false
		}
	}
	e.stranger()
	return true
}

// stranger notes a machine that no document names.
func (e *exchange) stranger() {
	switch {
	case isProbe(e.m):
		return // another pilotlight that looks who is here
	case e.network.DHCP == cluster.DHCPProxy && !e.m.request.IsFirmware():
		return // somebody else's network is full of machines that nobody means to boot
	}
	if e.s.strangers.see(e.m, e.network, e.now) && e.m.request.IsFirmware() && e.s.quiet.Says("stranger "+e.network.Name) {
		e.s.logger().Info("a machine that no document names looks for something to boot", "mac", e.m.mac,
			"uuid", e.m.request.UUID, "arch", e.m.request.Arch(), "network", e.network.Name,
			"try", fmt.Sprintf("apply a document with kind: host and macs: [%q]", e.m.mac))
	}
}

// isAdmitted reports whether the machine that asks is about to become a host.
func (e *exchange) isAdmitted() bool {
	q := &e.m.request
	if e.host != nil || !q.IsFirmware() || e.s.Admit == nil {
		return false
	}
	arch := boot.MachineOf(q.Arch())
	return arch != "" && e.s.Admit(e.m.mac, arch, e.network)
}

// decide says what the machine is to boot, if it is firmware that asks.
func (e *exchange) decide() {
	if e.host == nil || !e.m.request.IsFirmware() {
		return
	}
	t, err := e.snap.Target(e.host, e.network)
	if err == nil {
		t.Install = e.s.Installs.Of(e.host.HostName())
		e.m.request.Chained = e.s.chained.Before(e.m.request, e.m.transaction(), e.now)
		e.reply, err = boot.Decide(e.m.request, t, boot.Policy{Server: e.server, Loaders: e.s.Loaders})
	}
	if e.m.kind == dhcpv4.MessageTypeRequest {
		e.s.chained.Note(e.m.request, e.reply, e.m.transaction(), e.now)
	}
	if err != nil && e.s.quiet.Says("decide "+e.host.Name) {
		e.s.logger().Warn("a machine gets nothing to boot", "host", e.host.Name, "mac", e.m.mac, "error", err)
	}
}

var (
	errSilent  = errors.New("nothing to answer")
	errElse    = errors.New("the client chose another server")
	errUnknown = errors.New("no record of the client: RFC 2131 section 4.3.2 asks for silence")
	errQueue   = errors.New("too many leases wait to be written")
	errOdd     = errors.New("neither an address nor a server is named")
)

// respond answers what needs no lease to be written, and hands what does to the
// committer, which then answers.
func (e *exchange) respond(c *committer) (*outbound, error) {
	switch e.m.kind {
	case dhcpv4.MessageTypeDiscover:
		if e.s.prober != nil {
			e.findLink()
		}
		return e.discover(c)
	case dhcpv4.MessageTypeRequest:
		return e.requested(c)
	case dhcpv4.MessageTypeRelease:
		return nil, e.release(c)
	case dhcpv4.MessageTypeDecline:
		return nil, e.decline(c)
	case dhcpv4.MessageTypeInform:
		return e.encode(dhcpv4.MessageTypeAck, e.m.client, 0), nil
	}
	return nil, errSilent
}

func (e *exchange) claimant() claimant {
	return claimant{mac: e.m.mac, host: e.host, snap: e.snap, us: e.server.Addr, now: e.now}
}

// discover offers an address, and keeps it for a moment.
func (e *exchange) discover(c *committer) (*outbound, error) {
	b := &e.s.book
	b.mu.Lock()
	p := b.pool(e.snap, e.network)
	s, busy, err := p.choose(e.claimant(), e.m.requested)
	if err == nil && !s.held.After(e.now.Add(offerTime)) {
		p.hold(s, e.now.Add(offerTime))
	}
	if err == nil {
		s.asked = e.now
	}
	for _, l := range p.stale {
		c.submit(change{pool: p, lease: l, remove: true})
	}
	p.stale = nil
	untried := err == nil && e.isUntried(s)
	b.mu.Unlock()
	if busy.IsValid() && e.s.quiet.Says("busy "+busy.String()) {
		e.s.logger().Warn("a reserved address is another machine's still, so its host gets one from the pool",
			"address", busy, "host", e.host.Name, "mac", e.m.mac, "network", e.network.Name)
	}
	e.elsewhere()
	if err != nil {
		return nil, err
	}
	if untried && e.s.prober.begin(e, s.addr) {
		return nil, nil
	}
	return e.offer(s.addr), nil
}

// elsewhere says that a host asks on another network than its reservation is of:
// it was moved, or is wired otherwise than its document has it.
func (e *exchange) elsewhere() {
	h := e.host
	if h == nil || !h.Address.Is4() || e.network.CIDR.Contains(h.Address) || !e.s.quiet.Says("elsewhere "+h.Name) {
		return
	}
	of := "no network that is applied"
	if n, ok := e.snap.NetworkOf(h.Address); ok {
		of = "network " + n.Name
	}
	e.s.logger().Warn("a host asks on another network than its address is of, so it gets one from the pool there, if there is one", "host", h.Name, "mac", e.m.mac,
		"network", e.network.Name, "address", h.Address, "which_is_of", of, "try", "connect the machine to the network of its address, or correct address: in the document of host "+h.Name)
}

// requested answers a REQUEST by the state that the client is in, which is told
// by the fields that it fills (RFC 2131, section 4.3.2).
func (e *exchange) requested(c *committer) (*outbound, error) {
	m := e.m
	switch {
	case m.server.IsValid(): // SELECTING
		if !e.named() {
			e.withdraw()
			return nil, errElse
		}
		if !m.requested.IsValid() {
			return nil, errOdd
		}
		return e.grant(c, m.requested)
	case m.requested.IsValid() && !m.client.IsValid(): // INIT-REBOOT
		if !e.network.CIDR.Contains(m.requested) {
			return e.refuse("the address is of another network"), nil
		}
		switch has, known := e.lastAddress(); {
		case !known:
			return nil, errUnknown
		case has != m.requested:
			return e.refuse("another address is the machine's"), nil
		}
		return e.grant(c, m.requested)
	case m.client.IsValid(): // RENEWING or REBINDING
		if !e.network.CIDR.Contains(m.client) {
			return e.refuse("the address is of another network"), nil
		}
		return e.grant(c, m.client)
	}
	return nil, errOdd
}

// lastAddress returns the address that is reserved for the machine, or that it
// has or last had.
func (e *exchange) lastAddress() (netip.Addr, bool) {
	b := &e.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pool(e.snap, e.network)
	if h := e.host; h != nil && h.Address.IsValid() && p.check(e.claimant(), h.Address) == nil {
		return h.Address, true
	}
	if s := p.byMAC[e.m.mac]; s != nil {
		return s.addr, true
	}
	return netip.Addr{}, false
}

// withdraw takes an offer back that the client did not take.
func (e *exchange) withdraw() {
	b := &e.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pool(e.snap, e.network)
	if s := p.byMAC[e.m.mac]; s != nil && s.busy == 0 {
		p.hold(s, time.Time{})
	}
}

// grant lends an address, if it may: at once when a lease that is nearly new
// covers it, else when the committer has written it.
func (e *exchange) grant(c *committer, a netip.Addr) (*outbound, error) {
	b := &e.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pool(e.snap, e.network)
	if err := p.check(e.claimant(), a); err != nil {
		return e.refuse(err.Error()), nil
	}
	s := p.take(e.claimant(), a)
	term, port := e.leaseTime(), e.port
	if left := min(s.lease.Expires.Sub(e.now), term); s.lends() && s.busy == 0 && s.left == nil &&
		s.lease.Hostname == e.hostname() && s.lease.Port == port && isFresh(s.lease, e.now, term) {
		e.record("has "+a.String(), a, false)
		return e.encode(dhcpv4.MessageTypeAck, a, left.Truncate(time.Second)), nil
	}
	p.hold(s, e.now.Add(offerTime))
	ok := c.submit(change{
		pool: p, slot: s,
		lease: cluster.Lease{
			Network: cluster.NetworkName(e.network.Name), Address: a, MAC: e.m.mac, Hostname: e.hostname(), Port: port,
			Expires: e.now.Add(term).UTC().Truncate(time.Second).Add(time.Second),
		},
		ack:  e.encode(dhcpv4.MessageTypeAck, a, term),
		nak:  func() *outbound { return e.refuse("another server gave the address away") },
		done: func() { e.record("has "+a.String(), a, false) },
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

// release gives an address back. The record of whose it was stays, so that the
// machine gets it again if it can (RFC 2131, section 4.3.4).
func (e *exchange) release(c *committer) error {
	b := &e.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pool(e.snap, e.network)
	s := p.slots[e.m.client]
	if s == nil || s.mac != e.m.mac || !s.lends() || e.m.server.IsValid() && !e.isUs(e.m.server) {
		return errSilent
	}
	l := s.lease
	if now := e.now.UTC().Truncate(time.Second); l.Expires.After(now) {
		l.Expires = now
	}
	if !c.submit(change{pool: p, slot: s, lease: l}) {
		return errQueue
	}
	return nil
}

// decline takes an address out of use of which the machine that got it has
// found that somebody else uses it.
func (e *exchange) decline(c *committer) error {
	b := &e.s.book
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pool(e.snap, e.network)
	s := p.slots[e.m.requested]
	if s == nil || s.mac != e.m.mac || !s.lends() {
		return errSilent
	}
	if e.s.quiet.Says("declined " + s.addr.String()) {
		e.s.logger().Warn("an address was declined: something else uses it", "address", s.addr, "mac", e.m.mac,
			"network", e.network.Name, "kept_out_for", declineTime)
	}
	l := s.lease
	l.Declined, l.Expires = true, e.now.Add(declineTime).UTC().Truncate(time.Second)
	if !c.submit(change{pool: p, slot: s, lease: l}) {
		return errQueue
	}
	return nil
}

func (e *exchange) leaseTime() time.Duration { return time.Duration(e.network.LeaseTime()) }

// hostname returns what the client is told that it is called: its document's
// name, or nothing.
func (e *exchange) hostname() string {
	if e.host == nil {
		return ""
	}
	return e.host.Name
}

// what says who asks, for a timeline: "iPXE on UEFI x64".
func (e *exchange) what() string {
	q := &e.m.request
	switch {
	case !q.IsFirmware():
		return "system"
	case q.IsIPXE():
		return "iPXE on " + q.Arch().String()
	}
	return q.Arch().String()
}

// asks says in the timeline who asks, and when it is left to its disk.
func (e *exchange) asks() string {
	s := "asks as " + e.what()
	if e.reply.Local {
		s += ", left to its disk"
	}
	return s
}

func (e *exchange) record(detail string, a netip.Addr, firmware bool) {
	if e.host == nil {
		return
	}
	e.s.Recorder.Record(boot.Sighting{
		MAC: e.m.mac, Host: e.host.HostName(), Firmware: firmware, IPXE: e.m.request.IsIPXE(),
		Event: cluster.Event{Step: cluster.StepDHCP, At: time.Now(), Addr: a, Detail: detail, Local: e.reply.Local},
	})
}

// refused notes why a client got no answer.
func (s *Server) refused(e *exchange, err error) {
	if err == errSilent {
		return
	}
	s.metrics.dropped("refused")
	log := s.logger().With("mac", e.m.mac, "network", e.network.Name)
	if e.host != nil {
		log = log.With("host", e.host.Name)
	}
	full := errors.Is(err, errFull)
	if !full && !errors.Is(err, errNoPool) && !errors.Is(err, errQueue) {
		log.Debug("a DHCP client is not answered", "type", e.m.kind, "error", err)
		return
	}
	key := err.Error() + e.network.Name
	if e.host != nil { // hosts are named each, strangers are too many
		key += " " + e.host.Name
	}
	if !s.quiet.Says(key) {
		return
	}
	try := "wait; the store is slow"
	switch {
	case full:
		try = fmt.Sprintf("add to pools: in network %s, or shorten its lease:", e.network.Name)
	case errors.Is(err, errNoPool):
		try = fmt.Sprintf("add pools: to network %s, or address: to the machine's host document", e.network.Name)
	}
	log.Warn("a machine gets no address", "error", err, "try", try)
}

// notSaved notes that leases could not be made durable.
func (s *Server) notSaved(batch []change, err error) {
	s.metrics.failed.Add(float64(len(batch)))
	if s.quiet.Says("commit") {
		s.logger().Error("DHCP leases could not be written, so their machines are not answered; they will ask again",
			"leases", len(batch), "first", batch[0].lease.MAC, "network", batch[0].lease.Network, "error", err)
	}
}

// send sends answers, and notes what came of it.
func (s *Server) send(w *wire, answers ...outbound) {
	err := w.send(answers...)
	for _, a := range answers {
		s.metrics.answered(a.kind)
	}
	if err == nil {
		return
	}
	s.metrics.dropped("send-error")
	if s.quiet.Says("send") {
		s.logger().Warn("a DHCP answer could not be sent", "error", err)
	}
}
