package dnsmasq

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/moving"
)

// theRest is how what dnsmasq does beside DHCP is answered.
const (
	dnsWhy  = "is about DNS, which pilotlight does not serve: keep dnsmasq for it with no dhcp-range, or another server"
	tftpWhy = "pilotlight's own TFTP serves boot loaders (--loaders) and the files of images, nothing else"
)

// quiet are settings that pilotlight does by itself, or that say nothing of
// machines.
var quiet = []string{
	"dhcp-authoritative", "enable-tftp", "dhcp-leasefile", "dhcp-lease-max", "log-dhcp", "log-facility", "log-queries", "quiet-dhcp", "user", "group",
	"pid-file", "bind-interfaces", "bind-dynamic", "no-hosts", "no-resolv", "no-poll", "dhcp-sequential-ip", "dhcp-rapid-commit", "no-ping",
	"tftp-no-blocksize", "tftp-secure", "tftp-no-fail", "tftp-max", "keep-in-foreground", "no-daemon", "dhcp-no-override", "port", "except-interface",
}

// dns are settings of DNS.
var dns = []string{
	"server", "local", "address", "cname", "host-record", "mx-host", "srv-host", "txt-record", "ptr-record", "addn-hosts", "hostsdir", "domain-needed", "bogus-priv",
	"expand-hosts", "cache-size", "resolv-file", "strict-order", "all-servers", "rebind-domain-ok", "stop-dns-rebind", "dnssec", "interface-name", "auth-zone",
	"auth-server", "localise-queries", "neg-ttl", "local-ttl", "filterwin2k", "localmx", "selfmx", "mx-target", "naptr-record", "trust-anchor", "rev-server", "dns-forward-max",
}

// profileName is the profile of hosts of whom nothing is known but their address.
const profileName = "own-disk"

// network is one in the making.
type network struct {
	doc  *cluster.Network
	tags []string // that a machine has there
	at   line
}

// tagged is a setting for machines with tags.
type tagged struct {
	line
	needs []string
	rest  []string
}

type converter struct {
	out        *moving.Result
	files      Files
	networks   []*network
	hosts      []*cluster.Host
	hostTags   map[string][]string // a host's -> set: of it
	hostLines  map[string]line     // where it stands
	options    []tagged
	boots      []line
	interfaces []string
	listens    []netip.Addr
	domain     string
	tftpRoot   line
}

func newConverter(out *moving.Result, files Files) *converter {
	return &converter{out: out, files: files, hostTags: map[string][]string{}, hostLines: map[string]line{}}
}

func (c *converter) note(l line, format string, a ...any) {
	c.out.Notef(l.file, l.number, "%s: %s", shorten(l.String()), fmt.Sprintf(format, a...))
}

func shorten(s string) string {
	const longest = 80
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	if len(s) <= longest {
		return s
	}
	return s[:longest] + "..."
}

func (c *converter) convert(lines []line) {
	for _, l := range lines { // networks first: hosts and options are of one
		if l.name == "dhcp-range" {
			c.dhcpRange(l)
		}
	}
	for _, l := range lines {
		c.setting(l)
	}
	c.place()
	for _, o := range c.options {
		c.option(o)
	}
	c.finish()
}

func (c *converter) setting(l line) {
	switch l.name {
	case "dhcp-range":
	case "dhcp-host":
		c.host(l)
	case "dhcp-option", "dhcp-option-force":
		needs, sets, rest := tags(l.fields())
		if len(sets) > 0 {
			c.note(l, "set: has no meaning in it")
			return
		}
		c.options = append(c.options, tagged{l, needs, rest})
	case "dhcp-boot", "pxe-service", "pxe-prompt":
		c.boots = append(c.boots, l)
	case "tftp-root":
		c.tftpRoot = l
	case "interface":
		c.interfaces = append(c.interfaces, l.value)
	case "listen-address":
		for _, f := range l.fields() {
			if a, err := netip.ParseAddr(f); err == nil && !a.IsLoopback() {
				c.listens = append(c.listens, a)
			}
		}
	case "domain":
		f := l.fields()
		if len(f) > 1 {
			c.note(l, "a domain for some addresses only: write domain: in the network that it is for")
			return
		}
		c.domain = strings.TrimSuffix(f[0], ".")
	case "dhcp-match", "dhcp-vendorclass", "dhcp-userclass", "dhcp-mac", "tag-if":
		c.note(l, "pilotlight finds out by itself what firmware asks (architecture, iPXE, HTTP Boot): what it is good for beyond that has no counterpart")
	case "dhcp-relay", "dhcp-script", "dhcp-luascript", "dhcp-proxy", "dhcp-circuitid", "dhcp-remoteid", "shared-network", "enable-ra", "ra-param", "dhcp-ignore", "dhcp-generate-names", "bootp-dynamic", "dhcp-broadcast":
		c.note(l, "has no counterpart")
	default:
		switch {
		case slices.Contains(quiet, l.name):
		case slices.Contains(dns, l.name):
			c.note(l, dnsWhy)
		default:
			c.note(l, "is not known here: see whether your machines need it")
		}
	}
}

// dhcpRange reads [tag:T,][set:T,]FIRST[,LAST|static|proxy][,MASK[,BROADCAST]][,LEASE].
func (c *converter) dhcpRange(l line) {
	needs, sets, f := tags(l.fields())
	if len(needs) > 0 {
		c.note(l, "its pool is for machines with tag:%s only: here every machine of the network may have its addresses", strings.Join(needs, ", tag:"))
	}
	if len(f) == 0 {
		c.note(l, "has no address")
		return
	}
	first, err := netip.ParseAddr(f[0])
	if err != nil {
		c.note(l, "%q is no address: ranges by interface (constructor:) have no counterpart; write kind: network with cidr:", f[0])
		return
	}
	n := &network{doc: &cluster.Network{DHCP: cluster.DHCPAuthoritative}, tags: sets, at: l}
	last, mode, bits, f := netip.Addr{}, "", -1, f[1:]
	for i, word := range f {
		a, err := netip.ParseAddr(word)
		switch {
		case word == "static" || word == "proxy" || word == "ra-only" || word == "slaac" || word == "ra-names" || word == "ra-stateless":
			mode = word
		case err == nil && i == 0:
			last = a
		case err == nil && bits < 0 && a.Is4():
			if bits = maskBits(a); bits < 0 {
				c.note(l, "%s is no netmask", a)
				return
			}
		case err == nil: // the broadcast address, which follows from the mask
		default:
			c.lease(l, n.doc, word, first, &bits)
		}
	}
	if bits < 0 {
		bits = map[bool]int{true: 24, false: 64}[first.Is4()]
		if first.Is4() {
			c.note(l, "has no netmask, which dnsmasq takes from its interface: /24 is taken; correct cidr: if it is another")
		}
	}
	n.doc.CIDR = netip.PrefixFrom(first, bits).Masked()
	switch {
	case mode == "proxy":
		n.doc.DHCP = cluster.DHCPProxy
	case mode == "static":
	case mode != "":
		c.note(l, "%s: addresses come by DHCPv6 from pools: here, and the advertisements that this takes with them", mode)
		if last.IsValid() && n.doc.CIDR.Contains(last) {
			n.doc.Pools = []cluster.Range{{First: first, Last: last}}
		}
	case last.IsValid() && n.doc.CIDR.Contains(last) && first.Compare(last) <= 0:
		n.doc.Pools = []cluster.Range{{First: first, Last: last}}
	case last.IsValid():
		c.note(l, "%s is not a last address of a range in %s that begins with %s: no pool is made", last, n.doc.CIDR, first)
	}
	c.join(n)
}

// lease reads what is neither an address nor a mode: 12h, 45m, infinite, or the
// length of an IPv6 prefix.
func (c *converter) lease(l line, doc *cluster.Network, word string, first netip.Addr, bits *int) {
	if n, err := strconv.Atoi(word); err == nil && first.Is6() && n <= 128 && *bits < 0 {
		*bits = n
		return
	}
	if word == "infinite" {
		doc.Lease = cluster.Duration(365 * 24 * time.Hour)
		c.note(l, "no lease is for ever here: a year is taken")
		return
	}
	d, err := duration(word)
	switch {
	case err != nil:
		c.note(l, "%q is not understood", word)
	case d < time.Minute:
		c.note(l, "a lease of %s is shorter than a minute: the usual 12h is taken", word)
	default:
		doc.Lease = cluster.Duration(d)
	}
}

// duration reads 45, 45m, 12h, 1d, 1w.
func duration(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	if s == "" {
		return 0, fmt.Errorf("is empty")
	}
	unit, ok := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 16)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is no time", s)
	}
	return time.Duration(n) * unit, nil
}

func maskBits(a netip.Addr) int {
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := 0
	for v&0x80000000 != 0 {
		n++
		v <<= 1
	}
	if v != 0 {
		return -1
	}
	return n
}

// join adds a network, or the pool of another range to one that is there.
func (c *converter) join(n *network) {
	for _, o := range c.networks {
		if o.doc.CIDR != n.doc.CIDR {
			if o.doc.CIDR.Overlaps(n.doc.CIDR) {
				c.note(n.at, "%s overlaps %s of %s:%d: it is left out; give both their netmask", n.doc.CIDR, o.doc.CIDR, o.at.file, o.at.number)
				return
			}
			continue
		}
		for _, p := range n.doc.Pools {
			if slices.ContainsFunc(o.doc.Pools, func(q cluster.Range) bool { return p.Contains(q.First) || q.Contains(p.First) }) {
				c.note(n.at, "overlaps a range before it: it is left out")
				return
			}
		}
		if len(n.doc.Pools) > 0 && o.doc.DHCP == cluster.DHCPProxy {
			c.note(n.at, "the network is with proxy in another range: no pool is made")
			return
		}
		if len(n.tags) > 0 && !slices.Equal(n.tags, o.tags) {
			c.note(n.at, "set:%s tells apart machines of one network by their pool, which has no counterpart", strings.Join(n.tags, ", set:"))
		}
		o.doc.Pools = append(o.doc.Pools, n.doc.Pools...)
		return
	}
	n.doc.Name = moving.Name("net-" + strings.Trim(strings.NewReplacer("::", "", ":", "-").Replace(n.doc.CIDR.Addr().String()), "-"))
	if len(n.tags) > 0 {
		n.doc.Name = moving.Name(n.tags[0])
	}
	if slices.ContainsFunc(c.networks, func(o *network) bool { return o.doc.Name == n.doc.Name }) {
		n.doc.Name = moving.Name(n.doc.Name + "-" + strconv.Itoa(len(c.networks)))
	}
	c.networks = append(c.networks, n)
}

// place says on which card a network is, where the settings leave no choice.
func (c *converter) place() {
	for _, n := range c.networks {
		if len(c.interfaces) == 1 && len(c.networks) == 1 {
			n.doc.Interface = c.interfaces[0]
		}
		if c.domain != "" {
			n.doc.Domain = c.domain
		}
		for _, a := range c.listens {
			if n.doc.CIDR.Contains(a) {
				n.doc.Server = a
			}
		}
	}
	if len(c.interfaces) > 1 || len(c.interfaces) == 1 && len(c.networks) > 1 {
		c.out.Notef("interface", 0, "of %s it is not said which network is on which: write interface: in the networks that are on a link of the server's", strings.Join(c.interfaces, ", "))
	}
}

// finish hands over what was made.
func (c *converter) finish() {
	for _, n := range c.networks {
		c.out.Add(n.doc)
	}
	profile := c.boot()
	if len(c.hosts) > 0 && profile == profileName {
		c.out.Add(&cluster.Profile{Meta: cluster.Meta{Name: profileName}, Boot: cluster.BootLocal})
	}
	for _, h := range c.hosts {
		for _, n := range c.networks {
			if n.doc.CIDR.Contains(h.Address) {
				if why := moving.AddressProblem(n.doc, h.Address); why != "" {
					c.note(c.hostLines[h.Name], "%s: the host has no reservation", why)
					h.Address = netip.Addr{}
				}
			}
		}
		h.Profile = cluster.ProfileName(profile)
		c.out.Add(h)
	}
}
