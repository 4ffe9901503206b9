package cluster

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Check returns every mistake in docs taken together: what a document may not
// say by itself, names of things that are not there, and claims that two
// documents make on one thing. It is what serve, apply and the API all ask
// before anything is written.
func Check(docs []Document) []Problem {
	c := newChecker(NewSnapshot(0, docs))
	c.duplicates(docs)
	return c.check()
}

// CheckSnapshot is Check of all that a snapshot holds.
func CheckSnapshot(s *Snapshot) []Problem { return newChecker(s).check() }

func newChecker(s *Snapshot) *checker {
	return &checker{snap: s, claims: map[string]Ref{}, names: map[Kind][]string{}, said: map[Problem]bool{}}
}

func (c *checker) check() []Problem {
	for _, d := range c.snap.Documents() {
		c.ref = d.Ref()
		c.name(d.Ref().Name)
		switch d := d.(type) {
		case *Network:
			c.network(d)
		case *Image:
			c.image(d)
		case *Profile:
			c.profile(d)
		case *Group:
			c.group(d)
		case *Host:
			c.host(d)
		case *Site:
			c.site(d)
		case *Secret:
			c.secret(d)
		case *Policy:
			c.policy(d)
		case *Matchbox:
			c.matchbox(d)
		}
	}
	c.hostPorts()
	c.switchPorts()
	slices.SortStableFunc(c.problems, func(a, b Problem) int { return compareRefs(a.Ref, b.Ref) })
	return c.problems
}

type checker struct {
	snap     *Snapshot
	ref      Ref // the document that is being checked
	problems []Problem
	said     map[Problem]bool
	claims   map[string]Ref // what only one document may claim -> who did
	names    map[Kind][]string
}

func (c *checker) add(field, format string, args ...any) {
	p := Problem{Ref: c.ref, Field: field, Message: fmt.Sprintf(format, args...)}
	if !c.said[p] { // a tie is found again on each network
		c.said[p] = true
		c.problems = append(c.problems, p)
	}
}

func (c *checker) duplicates(docs []Document) {
	seen := map[Ref]bool{}
	for _, d := range docs {
		if r := d.Ref(); seen[r] {
			c.ref = r
			c.add("name", "is given to two documents of kind %s; rename one", r.Kind)
		}
		seen[d.Ref()] = true
	}
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$`)

func (c *checker) name(name string) {
	switch {
	case name == "":
		c.add("name", "is missing")
	case !nameForm.MatchString(name) || strings.Contains(name, ".."):
		c.add("name", "%q is not a name: use a to z, 0 to 9, - and ., at most 63, as in a DNS name", name)
	}
}

// claim notes that this document alone may have the thing.
func (c *checker) claim(field, what string) {
	if other, taken := c.claims[what]; taken && other != c.ref {
		c.add(field, "%s is also that of %s; a machine could not be told from the other: remove one", what, other)
		return
	}
	c.claims[what] = c.ref
}

// needs notes that a document must be there.
func (c *checker) needs(field string, kind Kind, name string) bool {
	if _, ok := c.snap.Get(Ref{kind, name}); ok {
		return true
	}
	c.add(field, "there is no %s %q%s", kind, name, c.didYouMean(kind, name))
	return false
}

func (c *checker) didYouMean(kind Kind, name string) string {
	if _, known := c.names[kind]; !known {
		for _, d := range c.snap.Documents(kind) {
			c.names[kind] = append(c.names[kind], d.Ref().Name)
		}
	}
	best := Nearest(name, c.names[kind])
	if best == "" {
		return fmt.Sprintf("; apply a document with kind: %s and name: %s", kind, name)
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// Nearest returns the word that was meant, most likely, where another is
// written; "" when none is close.
func Nearest(word string, words []string) (best string) {
	at := min(3, max(2, len(word))) // a short word is close to any other
	for _, other := range words {
		if n := distance(word, other); n < at {
			best, at = other, n
		}
	}
	return best
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func oneOf[T ~string](c *checker, field string, value T, allowed ...T) {
	if value != "" && !slices.Contains(allowed, value) {
		words := make([]string, len(allowed))
		for i, a := range allowed {
			words[i] = string(a)
		}
		c.add(field, "%q is not one of %s", value, strings.Join(words, ", "))
	}
}

func (c *checker) network(n *Network) {
	if !n.CIDR.IsValid() {
		c.add("cidr", "is missing; write it like 10.0.0.0/24")
		return
	}
	if n.CIDR.Masked() != n.CIDR {
		c.add("cidr", "%s has bits set beyond its length; write %s", n.CIDR, n.CIDR.Masked())
	}
	for _, o := range c.snap.Networks() {
		if o.Name < n.Name && o.CIDR.Overlaps(n.CIDR) {
			c.add("cidr", "%s overlaps %s of network %s", n.CIDR, o.CIDR, o.Name)
		}
	}
	oneOf(c, "dhcp", n.DHCP, DHCPAuthoritative, DHCPProxy, DHCPOff)
	oneOf(c, "metadata", n.Metadata, MetadataRequired, MetadataOptional, MetadataOff)
	if n.CIDR.Addr().Is6() {
		c.network6(n)
	}
	if n.DHCP == DHCPProxy && len(n.Pools) > 0 {
		c.add("pools", "are not lent with dhcp: proxy, where another server gives the addresses; remove them, or write dhcp: authoritative")
	}
	within := func(field string, a netip.Addr) {
		if a.IsValid() && !n.CIDR.Contains(a) {
			c.add(field, "%s is not in %s", a, n.CIDR)
		}
	}
	within("gateway", n.Gateway)
	within("server", n.Server)
	for i, p := range n.Pools {
		if p.First.IsValid() && !(n.CIDR.Contains(p.First) && n.CIDR.Contains(p.Last)) {
			c.add(fmt.Sprintf("pools[%d]", i), "%s is not within %s", p, n.CIDR)
		}
		for j, q := range n.Pools[:i] {
			if p.Contains(q.First) || q.Contains(p.First) {
				c.add(fmt.Sprintf("pools[%d]", i), "%s overlaps pools[%d], %s", p, j, q)
			}
		}
	}
	c.options(n.Options, n, true)
	if l := n.LeaseTime(); l < Duration(60e9) {
		c.add("lease", "%s is shorter than a minute; clients could not renew in time", l)
	}
}

var sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (c *checker) file(field string, f File) {
	if f.URL == "" {
		c.add(field+".url", "is missing; write file:///path, http:// or https://, or a path beside the manifest")
	}
	if f.SHA256 != "" && !sha256Form.MatchString(f.SHA256) {
		c.add(field+".sha256", "is not 64 hexadecimal digits in lower case; sha256sum FILE prints them")
	}
	if f.SHA256 == "" && strings.HasPrefix(f.URL, "http") {
		c.add(field+".sha256", "is missing: what comes over a network is pinned; sha256sum FILE prints it")
	}
}

// streamForm is SYSTEM/STREAM.
var (
	streamForm  = regexp.MustCompile(`^(fedora-coreos|flatcar)/[a-z0-9][a-z0-9-]*$`)
	releaseForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]*$`)
)

func (c *checker) image(i *Image) {
	oneOf(c, "arch", i.Arch, X86_64, AArch64)
	c.stream(i)
	if i.Stream != "" && i.Kernel.URL == "" {
		c.add("kernel", "is missing: the files of stream: %s are not pinned yet; type: pilotlight image resolve -f FILE -w PINNED.yaml, and apply that", i.Stream)
		return
	}
	for _, f := range i.Files() {
		c.file(f.Field, f.File)
	}
	if (i.Disk == nil) != (i.DiskSignature == nil) {
		c.add("disk", "goes with disk_signature, which flatcar-install verifies: write both, or neither")
	}
}

// stream checks what says where an image's files come from.
func (c *checker) stream(i *Image) {
	if i.Stream != "" && !streamForm.MatchString(i.Stream) {
		c.add("stream", "%q is no stream that is known; write it like fedora-coreos/stable or flatcar/stable", i.Stream)
	}
	if i.Stream == "" && i.Release != "" {
		c.add("release", "is a release of a stream: write stream: fedora-coreos/stable or flatcar/stable, or take it out")
	}
	if i.Stream == "" && i.Mirror != "" {
		c.add("mirror", "is a mirror of a stream: write stream: fedora-coreos/stable or flatcar/stable, or take it out")
	}
	if i.Release != "" && !releaseForm.MatchString(i.Release) {
		c.add("release", "%q is no release; write it like 44.20260802.3.1", i.Release)
	}
	if u, err := url.Parse(i.Mirror); i.Mirror != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil) {
		c.add("mirror", "is no plain URL of a mirror; write it like https://mirror.example.org/fcos, without a name and a password")
	}
}

var macPrefixForm = regexp.MustCompile(`(?i)^[0-9a-f]{2}([:-][0-9a-f]{2}){0,5}$`)

func (c *checker) group(g *Group) {
	if g.Profile == "" {
		c.add("profile", "is missing")
	} else {
		c.needs("profile", KindProfile, string(g.Profile))
	}
	if g.Match.MAC != "" && !macPrefixForm.MatchString(g.Match.MAC) {
		c.add("match.mac", "%q is neither a MAC address nor the beginning of one; write 52:54:00", g.Match.MAC)
	}
	if g.Match.Network != "" {
		c.needs("match.network", KindNetwork, string(g.Match.Network))
	}
	oneOf(c, "match.arch", g.Match.Arch, X86_64, AArch64)
	switch m := g.Match; {
	case g.Admit < 0:
		c.add("admit", "%d is less than 0", g.Admit)
	case g.Admit > 0 && (len(m.Labels) > 0 || m.UUID != "" || m.Serial != "" || !m.SwitchPort.IsZero()):
		c.add("admit", "a machine that no document names is known by its mac, network and arch only: take labels, uuid, serial and switch_port out of match:")
	}
	c.sshKeys(g.SSHKeys)
}

func (c *checker) host(h *Host) {
	if len(h.MACs) == 0 && h.UUID == "" && h.Serial == "" && h.SwitchPort.IsZero() && !h.Userdata {
		c.add("macs", "is missing: a host is known by macs:, uuid:, serial: or switch_port:, or by userdata: true and what `pilotlight userdata %s` gives its machine", h.Name)
	}
	for i, m := range h.MACs {
		if m.IsZero() || m[0]&1 == 1 {
			c.add(fmt.Sprintf("macs[%d]", i), "%s is no machine's address", m)
		}
		c.claim(fmt.Sprintf("macs[%d]", i), "MAC "+m.String())
	}
	if h.UUID != "" {
		c.claim("uuid", "UUID "+string(h.UUID))
	}
	if h.Serial != "" {
		c.claim("serial", "serial "+h.Serial)
	}
	oneOf(c, "arch", h.Arch, X86_64, AArch64)
	c.address(h)
	on, _ := c.snap.NetworkOf(h.Address)
	c.options(h.Options, on, false)
	c.sshKeys(h.SSHKeys)
	if h.Profile != "" && !c.needs("profile", KindProfile, string(h.Profile)) {
		return
	}
	c.target(h)
}

func (c *checker) address(h *Host) {
	if !h.Address.IsValid() {
		return
	}
	c.claim("address", "address "+h.Address.String())
	n, ok := c.snap.NetworkOf(h.Address)
	switch {
	case !ok:
		c.add("address", "%s is in no network that is applied", h.Address)
	case h.Address == n.Gateway:
		c.add("address", "%s is the gateway of network %s", h.Address, n.Name)
	case h.Address == n.Server:
		c.add("address", "%s is the server's own address on network %s", h.Address, n.Name)
	case h.Address.Is4() && (h.Address == n.CIDR.Addr() || h.Address == broadcast(n.CIDR)) && n.CIDR.Bits() < 31:
		c.add("address", "%s is the network's own or its broadcast address", h.Address)
	}
}

func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
