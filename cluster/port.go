package cluster

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Octets are bytes that a device chose, as people read them: text when all of
// it can be printed, else 0x and hexadecimal digits. The same bytes are always
// written the same way, so that they can be compared.
type Octets string

// OctetsOf returns bytes as Octets.
func OctetsOf(b []byte) Octets {
	text := string(b)
	plain := strings.TrimSpace(text) == text && !strings.HasPrefix(text, "0x")
	for _, c := range b {
		plain = plain && c >= ' ' && c < 0x7f
	}
	if plain {
		return Octets(text)
	}
	return Octets("0x" + hex.EncodeToString(b))
}

const maxOctets = 255 // what an option of DHCP, or a part of one, can hold

// ParseOctets reads text, or 0x and hexadecimal digits.
func ParseOctets(s string) (Octets, error) {
	b := []byte(s)
	if digits, ok := strings.CutPrefix(s, "0x"); ok {
		var err error
		if b, err = hex.DecodeString(strings.ReplaceAll(digits, ":", "")); err != nil {
			return "", fmt.Errorf("%q is not hexadecimal; write 0x and two digits a byte: 0x0004000a0102", s)
		}
	}
	if len(b) > maxOctets {
		return "", fmt.Errorf("is %d bytes long; %d is all that a DHCP option holds", len(b), maxOctets)
	}
	return OctetsOf(b), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Octets) UnmarshalText(b []byte) (err error) {
	*o, err = ParseOctets(string(b))
	return err
}

// SwitchPort is where a machine is plugged in, as the switch or the relay says
// it in DHCP option 82 (RFC 3046). Which of the two names a port is up to its
// maker: some put all of it into one.
type SwitchPort struct {
	Circuit Octets `json:"circuit,omitempty"` // sub-option 1, circuit ID: most often the port; bytes that cannot be printed as 0x...
	Remote  Octets `json:"remote,omitempty"`  // sub-option 2, remote ID: most often the switch
}

// IsZero reports whether no port is known.
func (p SwitchPort) IsZero() bool { return p == SwitchPort{} }

// String returns "Ethernet1/7 of switch-3".
func (p SwitchPort) String() string {
	switch {
	case p.IsZero():
		return "no switch port"
	case p.Remote == "":
		return string(p.Circuit)
	case p.Circuit == "":
		return string(p.Remote)
	}
	return fmt.Sprintf("%s of %s", p.Circuit, p.Remote)
}

// takes reports whether a machine at port o is at p: what p leaves out is not
// compared.
func (p SwitchPort) takes(o SwitchPort) bool {
	return !p.IsZero() && (p.Circuit == "" || p.Circuit == o.Circuit) && (p.Remote == "" || p.Remote == o.Remote)
}

// atPort returns the host whose switch_port: takes a port. Check sees to it
// that there is one at most.
func (s *Snapshot) atPort(p SwitchPort) *Host {
	if p.IsZero() || len(s.byPort) == 0 {
		return nil
	}
	for _, key := range []SwitchPort{p, {Circuit: p.Circuit}, {Remote: p.Remote}} {
		if h, ok := s.byPort[key]; ok && !key.IsZero() {
			return h
		}
	}
	return nil
}

// Misplaced returns a host that a machine is not, because only one of its
// switch port and the rest of what it says of itself are the host's.
func (s *Snapshot) Misplaced(id Identity) (*Host, bool) {
	if _, ok := s.Identify(id); ok {
		return nil, false
	}
	if h := s.claimed(id); h != nil {
		return h, true
	}
	h := s.atPort(id.Port)
	return h, h != nil
}

// Claimed returns the host that a machine says it is, wherever it is plugged in.
func (s *Snapshot) Claimed(id Identity) (*Host, bool) {
	if h, ok := s.Identify(id); ok {
		return h, true
	}
	h := s.claimed(id)
	return h, h != nil
}

// switchPorts refuses two hosts that a machine at one port would be.
func (c *checker) switchPorts() {
	circuits, remotes := map[Octets]*Host{}, map[Octets]*Host{} // of all, to find the overlaps of those that give one
	var someCircuit, someRemote *Host                           // a host that gives this one alone
	hosts := c.snap.Documents(KindHost)
	for _, d := range hosts {
		h := d.(*Host)
		p := h.SwitchPort
		if p.IsZero() {
			continue
		}
		c.ref = h.Ref()
		c.claim("switch_port", "switch port "+p.String())
		circuits[p.Circuit], remotes[p.Remote] = other(circuits[p.Circuit], h), other(remotes[p.Remote], h)
		if p.Remote == "" {
			someCircuit = h
		}
		if p.Circuit == "" {
			someRemote = h
		}
	}
	for _, d := range hosts {
		h := d.(*Host)
		var o *Host
		switch p := h.SwitchPort; {
		case p.IsZero():
		case p.Remote == "":
			if o = circuits[p.Circuit]; o == h || o.SwitchPort == p {
				o = someRemote
			}
		case p.Circuit == "":
			if o = remotes[p.Remote]; o == h || o.SwitchPort == p {
				o = someCircuit
			}
		}
		if o != nil && o != h {
			c.ref = h.Ref()
			c.add("switch_port", "a machine at %s could be host %s too: give both circuit: and remote: in both", h.SwitchPort, o.Name)
		}
	}
}

// other keeps, of the hosts that share a circuit or a remote, one that gives
// both, since that is the one which a partial one overlaps.
func other(old, h *Host) *Host {
	if old == nil || h.SwitchPort.Circuit != "" && h.SwitchPort.Remote != "" {
		return h
	}
	return old
}
