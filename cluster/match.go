package cluster

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// IsZero reports whether every host is taken, also where labels are there and are none.
func (m Match) IsZero() bool {
	return len(m.Labels) == 0 && m.MAC == "" && m.UUID == "" && m.Serial == "" && m.SwitchPort.IsZero() && m.Network == "" && m.Arch == ""
}

// String says which hosts are taken, as match: has it.
func (m Match) String() string {
	var out []string
	add := func(name, value string) {
		if value != "" {
			out = append(out, name+" "+value)
		}
	}
	add("uuid", string(m.UUID))
	add("serial", m.Serial)
	add("mac", m.MAC)
	if !m.SwitchPort.IsZero() {
		add("switch_port", m.SwitchPort.String())
	}
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		add("label", k+"="+m.Labels[k])
	}
	add("network", string(m.Network))
	add("arch", string(m.Arch))
	if len(out) == 0 {
		return "every host"
	}
	return strings.Join(out, " and ")
}

// takes reports whether every field of m that is set holds for h on network n.
func (m Match) takes(h *Host, n *Network) bool {
	for k, v := range m.Labels {
		if got, ok := h.Labels[k]; !ok || got != v {
			return false
		}
	}
	return (m.MAC == "" || m.takesMAC(h)) &&
		(m.UUID == "" || m.UUID == h.UUID) &&
		(m.Serial == "" || m.Serial == h.Serial) &&
		(m.SwitchPort.IsZero() || m.SwitchPort.takes(h.SwitchPort)) &&
		(m.Network == "" || n != nil && string(m.Network) == n.Name) &&
		(m.Arch == "" || m.Arch == h.Architecture())
}

func (m Match) takesMAC(h *Host) bool {
	for _, mac := range h.MACs {
		if strings.HasPrefix(mac.String(), strings.ToLower(strings.ReplaceAll(m.MAC, "-", ":"))) {
			return true
		}
	}
	return false
}

// specificity orders matches: what names one machine before what names a
// maker's range before a switch before labels before a network before an
// architecture; more labels before fewer.
func (m Match) specificity() [6]int {
	var s [6]int
	full := len(MAC{}.String())
	for _, one := range []bool{m.UUID != "", m.Serial != "", len(m.MAC) == full, m.SwitchPort.Circuit != "" && m.SwitchPort.Remote != ""} {
		if one {
			s[0]++
		}
	}
	if len(m.MAC) < full {
		s[1] = len(m.MAC)
	}
	if p := m.SwitchPort; (p.Circuit == "") != (p.Remote == "") {
		s[2] = 1
	}
	s[3] = len(m.Labels)
	if m.Network != "" {
		s[4] = 1
	}
	if m.Arch != "" {
		s[5] = 1
	}
	return s
}

// moreSpecific sorts the most specific group first, and groups that are equally
// specific, between which Check refuses to choose, by name.
func moreSpecific(a, b *Group) int {
	sa, sb := a.Match.specificity(), b.Match.specificity()
	for i := range sa {
		if c := cmp.Compare(sb[i], sa[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(a.Name, b.Name)
}

// Architecture returns the host's architecture with its default filled in.
func (d *Host) Architecture() Arch {
	if d.Arch == "" {
		return X86_64
	}
	return d.Arch
}

// Fits reports whether a host may run what is placed so.
func (p Placement) Fits(h *Host) bool {
	for k, v := range p.Labels {
		if got, ok := h.Labels[k]; !ok || got != v {
			return false
		}
	}
	if len(p.Hosts) == 0 {
		return true
	}
	for _, name := range p.Hosts {
		if name == h.HostName() {
			return true
		}
	}
	return false
}
