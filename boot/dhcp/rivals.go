package dhcp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	rivalsLimit = 64        // of one network; whoever makes up servers pushes out its own
	rivalTime   = time.Hour // one that is silent for so long is gone
	unanswered  = 2         // probes without an answer, beside the one that is on its way, say that nobody gives addresses
)

// Rival is another DHCP server that was seen to answer on a network of ours.
type Rival struct {
	Server  netip.Addr
	MAC     cluster.MAC // zero when it is not on a link of ours
	Gives   bool        // addresses
	File    string      // what it tells machines to boot
	From    netip.Addr  // and from where
	PXE     bool        // it says option 60 PXEClient
	HTTP    bool        // or HTTPClient
	Menu    bool        // and option 43 to PXE firmware
	NoProxy bool        // it tells iPXE not to wait for proxy offers: 175.176 = 1
	Last    time.Time
}

// boots reports whether it has a say in what a machine boots.
func (r *Rival) boots() bool { return r.File != "" || r.PXE || r.HTTP || r.Menu }

// Name says which server it is: 10.0.0.1 (52:54:00:12:34:56).
func (r *Rival) Name() string {
	if r.MAC.IsZero() {
		return r.Server.String()
	}
	return fmt.Sprintf("%s (%s)", r.Server, r.MAC)
}

// Harm says what a rival does to a boot, and what to do about it. Beside one
// that gives addresses OVMF 2022.11 takes a proxy's file although that one names a
// file too, until it says PXEClient: then OVMF asks it on port 4011, and only it.
// iPXE takes ours either way, by its priority (proxyOptions).
func (r *Rival) Harm(mode cluster.DHCPMode) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch {
	case mode == cluster.DHCPAuthoritative && r.Gives:
		say("it gives addresses too: a machine takes whichever offer comes first, and with that one does not boot what is applied here; turn it off, or write dhcp: proxy")
	case mode == cluster.DHCPProxy && !r.Gives && r.boots():
		say("it is a proxy as we are: firmware takes one of two, not always ours; turn it off")
	}
	if r.File != "" {
		from := ""
		if r.From.IsValid() {
			from = " from " + r.From.String()
		}
		say("it tells machines to boot %q%s, which firmware may take instead of ours; remove the boot file there (filename, option 67)", r.File, from)
	} else if r.From.IsValid() && r.From != r.Server {
		say("it tells machines to boot from %s (next-server); remove that there", r.From)
	}
	if r.Gives && (r.PXE || r.Menu) {
		say("it answers firmware as a PXE server, with option 60 or 43: UEFI asks it on port 4011 and not us; remove these options there")
	}
	if r.Gives && r.HTTP {
		say("it answers UEFI HTTP Boot, with option 60 HTTPClient; remove that option there")
	}
	if mode == cluster.DHCPProxy && r.NoProxy {
		say("it tells iPXE that there is no proxy DHCP, so iPXE does not listen to us; remove option 175.176 there")
	}
	return out
}

// traits are what a rival does, each with the time when it last did it: what an
// operator turns off there is forgotten after a while.
type traits struct {
	rival                                       Rival
	gives, file, from, pxe, http, menu, noProxy time.Time
}

// add takes over what was seen at a time.
func (t *traits) add(r Rival) {
	mark := func(seen bool, at *time.Time) {
		if seen {
			*at = r.Last
		}
	}
	mark(r.Gives, &t.gives)
	mark(r.File != "", &t.file)
	mark(r.From.IsValid(), &t.from)
	mark(r.PXE, &t.pxe)
	mark(r.HTTP, &t.http)
	mark(r.Menu, &t.menu)
	mark(r.NoProxy, &t.noProxy)
	t.rival.Server, t.rival.Last = r.Server, r.Last
	t.rival.MAC = cmp.Or(r.MAC, t.rival.MAC)
	t.rival.File, t.rival.From = cmp.Or(r.File, t.rival.File), cmp.Or(r.From, t.rival.From)
}

// at returns what holds at a time.
func (t *traits) at(now time.Time) Rival {
	holds := func(last time.Time) bool { return !last.IsZero() && now.Sub(last) < rivalTime }
	r := t.rival
	r.Gives, r.PXE, r.HTTP, r.Menu, r.NoProxy = holds(t.gives), holds(t.pxe), holds(t.http), holds(t.menu), holds(t.noProxy)
	if !holds(t.file) {
		r.File = ""
	}
	if !holds(t.from) {
		r.From = netip.Addr{}
	}
	return r
}

// rivals keeps what was seen of the other servers.
type rivals struct {
	mu    sync.Mutex
	known map[cluster.NetworkName]map[netip.Addr]*traits
	mute  map[cluster.NetworkName]int // probes since anybody offered an address
}

// saw adds what was seen of a server. It returns what holds of it now, and
// whether that is news.
func (l *rivals) saw(n cluster.NetworkName, r Rival) (Rival, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = make(map[cluster.NetworkName]map[netip.Addr]*traits)
	}
	all := l.known[n]
	if all == nil {
		all = make(map[netip.Addr]*traits)
		l.known[n] = all
	}
	if r.Gives {
		delete(l.mute, n)
	}
	t := all[r.Server]
	if t == nil {
		l.makeRoom(all)
		t = new(traits)
		all[r.Server] = t
	}
	before := t.at(r.Last)
	t.add(r)
	now := t.at(r.Last)
	before.Last = now.Last
	return now, before != now
}

func (l *rivals) makeRoom(all map[netip.Addr]*traits) {
	if len(all) < rivalsLimit {
		return
	}
	var oldest *traits
	for _, t := range all {
		if oldest == nil || t.rival.Last.Before(oldest.rival.Last) {
			oldest = t
		}
	}
	delete(all, oldest.rival.Server)
}

// asked notes that a probe went out, and reports whether by that nobody has
// answered too many of them.
func (l *rivals) asked(n cluster.NetworkName) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mute == nil {
		l.mute = make(map[cluster.NetworkName]int)
	}
	l.mute[n]++
	return l.mute[n] == unanswered+1
}

// silent reports whether nobody gives addresses: not to us when we ask, and to
// no machine that was heard to take one either.
func (l *rivals) silent(n cluster.NetworkName, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.known[n] {
		if t.at(now).Gives {
			return false
		}
	}
	return l.mute[n] > unanswered
}

// list returns those of a network that were seen of late, by address.
func (l *rivals) list(n cluster.NetworkName, now time.Time) []Rival {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Rival
	for _, t := range l.known[n] {
		if now.Sub(t.rival.Last) < rivalTime {
			out = append(out, t.at(now))
		}
	}
	slices.SortFunc(out, func(a, b Rival) int { return a.Server.Compare(b.Server) })
	return out
}

// Rivals returns the other DHCP servers that were seen on a network of late.
func (s *Server) Rivals(n *cluster.Network) []Rival {
	out := s.rivals.list(cluster.NetworkName(n.Name), time.Now())
	for i := range out {
		if out[i].MAC.IsZero() {
			out[i].MAC, _ = s.neighbours.Of(out[i].Server)
		}
	}
	return out
}

// Conflicts says what is in the way of a boot on a network: what the other
// servers there do, or that there is none where one is needed.
func (s *Server) Conflicts(n *cluster.Network) []string {
	var out []string
	for _, r := range s.Rivals(n) {
		for _, harm := range r.Harm(n.DHCP) {
			out = append(out, fmt.Sprintf("DHCP server %s: %s", r.Name(), harm))
		}
	}
	if n.DHCP == cluster.DHCPProxy && s.rivals.silent(cluster.NetworkName(n.Name), time.Now()) {
		out = append(out, errNoAddresses)
	}
	return out
}

const errNoAddresses = "no DHCP server gives addresses here, or only to machines that it knows, and with dhcp: proxy pilotlight gives none: start one, or write dhcp: authoritative and pools:"

// overhear notes the server that a client chose, when it is not us.
func (e *exchange) overhear() {
	if e.m.kind == dhcpv4.MessageTypeRequest && e.m.server.IsValid() && !e.named() {
		e.s.rival(e.network, Rival{Server: e.m.server, Gives: true, Last: e.now})
	}
}

// rival takes in what was seen of another server, and says so when it is news.
func (s *Server) rival(n *cluster.Network, r Rival) {
	if s.Fellow != nil && s.Fellow(r.Server) {
		return // it shares the store, and gives the very same
	}
	s.metrics.foreign.WithLabelValues(n.Name).Inc()
	now, news := s.rivals.saw(cluster.NetworkName(n.Name), r)
	harm := now.Harm(n.DHCP)
	if !news || !s.quiet.Says("rival "+n.Name+" "+r.Server.String()+strings.Join(harm, "")) {
		return
	}
	s.count(n)
	if now.MAC.IsZero() {
		now.MAC, _ = s.neighbours.Of(now.Server)
	}
	log := s.logger().With("server", now.Name(), "network", n.Name)
	if len(harm) == 0 && n.DHCP == cluster.DHCPProxy {
		log.Info("another DHCP server answers here, as it should with dhcp: proxy")
	}
	for _, h := range harm {
		log.Warn("another DHCP server is in the way of a boot", "what", h)
	}
}

// count brings the gauges of a network up to date.
func (s *Server) count(n *cluster.Network) {
	s.metrics.rivals.WithLabelValues(n.Name).Set(float64(len(s.rivals.list(cluster.NetworkName(n.Name), time.Now()))))
	s.metrics.harms.WithLabelValues(n.Name).Set(float64(len(s.Conflicts(n))))
}
