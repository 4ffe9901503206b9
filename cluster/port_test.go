package cluster

import (
	"strings"
	"testing"
)

func TestOctets(t *testing.T) {
	for _, row := range []struct{ in, want, bytes string }{
		{"Ethernet1/7", "Ethernet1/7", "Ethernet1/7"},
		{"0x657468", "eth", "eth"}, // the same bytes are the same text
		{"0x0004000a0102", "0x0004000a0102", "\x00\x04\x00\x0a\x01\x02"},
		{"0x00:04:00:0A", "0x0004000a", "\x00\x04\x00\x0a"},
		{"0x30783132", "0x30783132", "0x12"}, // a text that looks like this form
		{"0x2061", "0x2061", " a"},
		{"", "", ""},
	} {
		got, err := ParseOctets(row.in)
		if err != nil || string(got) != row.want || OctetsOf([]byte(row.bytes)) != got {
			t.Errorf("%q is %q, %v; want %q, and %q of its bytes", row.in, got, err, row.want, OctetsOf([]byte(row.bytes)))
		}
	}
	for _, bad := range []string{"0x1", "0xzz", strings.Repeat("a", 256)} {
		if o, err := ParseOctets(bad); err == nil {
			t.Errorf("%q is %q", bad, o)
		}
	}
}

func TestIdentifyBySwitchPort(t *testing.T) {
	p := func(c, r Octets) SwitchPort { return SwitchPort{c, r} }
	s := NewSnapshot(0, []Document{
		&Host{Meta: named("port"), SwitchPort: p("1", "sw1")},
		&Host{Meta: named("circuit"), SwitchPort: p("9", "")},
		&Host{Meta: named("both"), MACs: []MAC{mac(2)}, UUID: "u2", SwitchPort: p("2", "sw1")},
		&Host{Meta: named("mac"), MACs: []MAC{mac(3)}},
		&Host{Meta: named("uuid"), UUID: "u4", SwitchPort: p("4", "sw1")},
	})
	for what, row := range map[string]struct {
		id              Identity
		want, misplaced string
	}{
		"any card at a port":              {Identity{MAC: mac(8), Port: p("1", "sw1")}, "port", ""},
		"another host's card at a port":   {Identity{MAC: mac(3), Port: p("1", "sw1")}, "port", ""},
		"the port on another switch":      {Identity{MAC: mac(8), Port: p("1", "sw2")}, "", ""},
		"what is left out":                {Identity{MAC: mac(8), Port: p("9", "sw2")}, "circuit", ""},
		"card and port":                   {Identity{MAC: mac(2), Port: p("2", "sw1")}, "both", ""},
		"card, another port":              {Identity{MAC: mac(2), Port: p("7", "sw1")}, "", "both"},
		"card, no port":                   {Identity{MAC: mac(2)}, "", "both"},
		"UUID, another port":              {Identity{MAC: mac(8), UUID: "u2", Port: p("7", "sw1")}, "", "both"},
		"another card at the port":        {Identity{MAC: mac(8), Port: p("2", "sw1")}, "", "both"},
		"another host's card at the port": {Identity{MAC: mac(3), Port: p("2", "sw1")}, "mac", ""},
		"a port without macs":             {Identity{MAC: mac(8), UUID: "u5", Port: p("4", "sw1")}, "uuid", ""},
		"that UUID elsewhere":             {Identity{MAC: mac(8), UUID: "u4", Port: p("5", "sw1")}, "", "uuid"},
		"nobody":                          {Identity{MAC: mac(8), Port: p("6", "sw1")}, "", ""},
	} {
		name := func(h *Host, ok bool) string {
			if !ok {
				return ""
			}
			return h.Name
		}
		if got := name(s.Identify(row.id)); got != row.want {
			t.Errorf("%s: host %q, want %q", what, got, row.want)
		}
		if got := name(s.Misplaced(row.id)); got != row.misplaced {
			t.Errorf("%s: misplaced %q, want %q", what, got, row.misplaced)
		}
	}
	if h, ok := s.Claimed(Identity{MAC: mac(2)}); !ok || h.Name != "both" {
		t.Error("a claim is one at any port", h)
	}
}

func TestCheckSwitchPorts(t *testing.T) {
	host := func(name string, c, r Octets) Document {
		return &Host{Meta: named(name), Profile: "p", SwitchPort: SwitchPort{c, r}}
	}
	for what, row := range map[string]struct {
		hosts []Document
		want  string
	}{
		"two switches":        {[]Document{host("a", "1", "x"), host("b", "1", "y"), host("c", "2", "x")}, ""},
		"circuits alone":      {[]Document{host("a", "1", ""), host("b", "2", "")}, ""},
		"one port":            {[]Document{host("a", "1", "x"), host("b", "1", "x")}, "switch port 1 of x is also that of host a"},
		"one circuit":         {[]Document{host("a", "1", ""), host("b", "1", "")}, "switch port 1 is also that of host a"},
		"a circuit, and more": {[]Document{host("a", "1", "x"), host("b", "1", "")}, "could be host a too"},
		"a remote, and more":  {[]Document{host("a", "", "x"), host("b", "1", "x")}, "could be host b too"},
		"circuit and remote":  {[]Document{host("a", "1", ""), host("b", "", "x")}, "could be host"},
	} {
		var said []string
		for _, p := range Check(append(good(t), row.hosts...)) {
			if p.Field != "switch_port" {
				t.Errorf("%s: %s", what, p)
			}
			said = append(said, p.Message)
		}
		if all := strings.Join(said, "\n"); row.want == "" && all != "" || !strings.Contains(all, row.want) {
			t.Errorf("%s: %q, want %q", what, all, row.want)
		}
	}
}

func TestGroupOfSwitchPort(t *testing.T) {
	s := NewSnapshot(0, []Document{
		&Group{Meta: named("switch"), Profile: "p", Match: Match{SwitchPort: SwitchPort{Remote: "sw1"}}},
		&Group{Meta: named("labels"), Profile: "p", Match: Match{Labels: map[string]string{"r": "1"}}},
		&Group{Meta: named("port"), Profile: "p", Match: Match{SwitchPort: SwitchPort{"1", "sw1"}}},
	})
	labels := map[string]string{"r": "1"}
	for want, h := range map[string]*Host{
		"port":   {Meta: Meta{Labels: labels}, SwitchPort: SwitchPort{"1", "sw1"}},
		"switch": {Meta: Meta{Labels: labels}, SwitchPort: SwitchPort{"2", "sw1"}},
		"labels": {Meta: Meta{Labels: labels}, SwitchPort: SwitchPort{"1", "sw2"}},
	} {
		if g, ok := s.GroupOf(h, nil); !ok || g.Name != want {
			t.Errorf("%+v, want %s", g, want)
		}
	}
}
