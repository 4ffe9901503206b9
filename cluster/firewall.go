package cluster

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Firewall says who may reach which port of a host, be it the host's own or one
// that a container publishes. What nothing allows is dropped.
type Firewall struct {
	Allow   []FirewallRule `json:"allow,omitempty"`   // who may come in
	Trusted []string       `json:"trusted,omitempty"` // interfaces of the host that are not filtered: a VPN's, a bridge's of virtual machines
}

// FirewallRule lets some in.
type FirewallRule struct {
	Ports    []PortRange `json:"ports"`              // 443, or 8000-8100
	Protocol Protocol    `json:"protocol,omitempty"` // tcp (the default) or udp
	From     []Source    `json:"from,omitempty"`     // 10.0.0.0/8, or one address; default: everybody
}

// Protocol is what ports are of.
type Protocol string

// The protocols with ports.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Of returns the protocol with its default filled in.
func (r *FirewallRule) Of() Protocol {
	if r.Protocol == "" {
		return TCP
	}
	return r.Protocol
}

// PortRange is a run of ports, first and last included. It is written 8000-8100; a
// single port is a range of one.
type PortRange struct{ First, Last uint16 }

// ParsePortRange reads FIRST-LAST or a single port.
func ParsePortRange(s string) (PortRange, error) {
	first, last, found := strings.Cut(s, "-")
	if !found {
		last = first
	}
	a, errA := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	b, errB := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	if errA != nil || errB != nil || a == 0 || b < a {
		return PortRange{}, fmt.Errorf("%q is neither a port nor a range of ports; write 443, or 8000-8100", s)
	}
	return PortRange{uint16(a), uint16(b)}, nil
}

// Contains reports whether port is one of the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// String returns FIRST-LAST, or the single port.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// MarshalText implements encoding.TextMarshaler.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *PortRange) UnmarshalText(b []byte) (err error) {
	*r, err = ParsePortRange(string(b))
	return err
}

// Source is a network from which a host may be reached. One address is a network
// of one.
type Source struct{ netip.Prefix }

// ParseSource reads ADDRESS/BITS or an address.
func ParseSource(s string) (Source, error) {
	p, err := netip.ParsePrefix(s)
	if a, bad := netip.ParseAddr(s); bad == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return Source{}, fmt.Errorf("%q is neither a network nor an address; write 10.0.0.0/8, or 192.0.2.7", s)
	case p.Masked() != p:
		return Source{}, fmt.Errorf("%s has bits set beyond its length; write %s", p, p.Masked())
	}
	return Source{p}, nil
}

// MarshalText implements encoding.TextMarshaler.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Source) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSource(string(b))
	return err
}

// Lets reports whether somebody may reach the port.
func (f *Firewall) Lets(of Protocol, port uint16) bool {
	for _, r := range f.Allow {
		for _, p := range r.Ports {
			if r.Of() == of && p.Contains(port) {
				return true
			}
		}
	}
	return false
}

// interfaceForm is what Linux takes for an interface's name.
var interfaceForm = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,15}$`)

func (c *checker) firewall(p *Profile) {
	if p.Firewall == nil {
		return
	}
	for i, r := range p.Firewall.Allow {
		at := fmt.Sprintf("firewall.allow[%d]", i)
		if len(r.Ports) == 0 {
			c.add(at+".ports", "is missing; write ports: [443]")
		}
		oneOf(c, at+".protocol", r.Protocol, TCP, UDP)
		for j, s := range r.From {
			if !s.IsValid() {
				c.add(fmt.Sprintf("%s.from[%d]", at, j), "is missing; write a network, 10.0.0.0/8")
			}
		}
	}
	for i, name := range p.Firewall.Trusted {
		if !interfaceForm.MatchString(name) {
			c.add(fmt.Sprintf("firewall.trusted[%d]", i), "%q is not an interface's name; write it like wg0", name)
		}
	}
	if p.Config.Text != "" {
		c.add("firewall", "is not put into a text of which pilotlight does not know the language: take it out, or take config.text out")
	}
}
