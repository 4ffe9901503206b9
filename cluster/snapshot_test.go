package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
)

func named(name string) Meta { return Meta{Name: name} }

func mac(i int) MAC { return MAC{0x52, 0x54, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)} }

func TestIdentify(t *testing.T) {
	const uuid1, uuid2 = "4c4c4544-0042-3510-8051-b4c04f4d3131", "4c4c4544-0042-3510-8051-b4c04f4d3132"
	s := NewSnapshot(7, []Document{
		&Host{Meta: named("a"), MACs: []MAC{mac(1), mac(2)}, UUID: uuid1, Serial: "s1", Address: netip.MustParseAddr("10.0.0.1")},
		&Host{Meta: named("b"), MACs: []MAC{mac(3)}, UUID: uuid2},
		&Host{Meta: named("c"), Serial: "s3"},
		&Host{Meta: named("d"), MACs: []MAC{mac(3)}, Serial: "s3"}, // Check refuses it; the smaller name has it
	})
	for name, c := range map[string]struct {
		id   Identity
		want string
	}{
		"nothing":            {Identity{}, ""},
		"MAC":                {Identity{MAC: mac(1)}, "a"},
		"second MAC":         {Identity{MAC: mac(2)}, "a"},
		"unknown MAC":        {Identity{MAC: mac(9)}, ""},
		"UUID":               {Identity{UUID: uuid2}, "b"},
		"serial":             {Identity{Serial: "s3"}, "c"},
		"MAC before UUID":    {Identity{MAC: mac(1), UUID: uuid2}, "a"},
		"UUID before serial": {Identity{UUID: uuid2, Serial: "s1"}, "b"},
		"new card":           {Identity{MAC: mac(9), UUID: uuid1}, "a"},
		"claimed twice":      {Identity{MAC: mac(3)}, "b"},
	} {
		h, ok := s.Identify(c.id)
		if ok != (c.want != "") || ok && h.Name != c.want {
			t.Errorf("%s: %v, %v", name, h, ok)
		}
	}
	if h, ok := s.HostByAddress(netip.MustParseAddr("10.0.0.1")); !ok || h.Name != "a" {
		t.Error("not by its address")
	}
	if _, ok := s.HostByAddress(netip.Addr{}); ok {
		t.Error("by no address")
	}
	if s.Revision() != 7 || len(s.Documents()) != 4 || len(s.Documents(KindSite)) != 0 {
		t.Error(s.Revision(), s.Documents())
	}
}

func TestNetworkOf(t *testing.T) {
	s := NewSnapshot(0, []Document{
		&Network{Meta: named("wide"), CIDR: netip.MustParsePrefix("10.0.0.0/8")},
		&Network{Meta: named("narrow"), CIDR: netip.MustParsePrefix("10.1.0.0/16")},
		&Network{Meta: named("six"), CIDR: netip.MustParsePrefix("fd00::/64")},
	})
	for a, want := range map[string]string{"10.1.2.3": "narrow", "10.2.2.3": "wide", "fd00::1": "six", "11.0.0.1": ""} {
		n, ok := s.NetworkOf(netip.MustParseAddr(a))
		if ok != (want != "") || ok && n.Name != want {
			t.Errorf("%s: %v", a, n)
		}
	}
	if _, ok := s.NetworkOf(netip.Addr{}); ok {
		t.Error("no address is in a network")
	}
}

func TestMatchTakes(t *testing.T) {
	const uuid = "4c4c4544-0042-3510-8051-b4c04f4d3131"
	h := &Host{Meta: Meta{Name: "h", Labels: map[string]string{"a": "1", "b": "2"}}, MACs: []MAC{mac(1), {0xaa, 0xbb, 0xcc}}, UUID: uuid, Serial: "s"}
	n := &Network{Meta: named("lan")}
	for _, c := range []struct {
		m    Match
		want bool
	}{
		{Match{}, true},
		{Match{Labels: map[string]string{"a": "1"}}, true},
		{Match{Labels: map[string]string{"a": "1", "b": "2"}}, true},
		{Match{Labels: map[string]string{"a": "2"}}, false},
		{Match{Labels: map[string]string{"c": ""}}, false},
		{Match{MAC: "52:54"}, true},
		{Match{MAC: "AA-BB-CC"}, true},
		{Match{MAC: "aa:bb:cc:00:00:00"}, true},
		{Match{MAC: "aa:bc"}, false},
		{Match{UUID: uuid}, true},
		{Match{UUID: "x"}, false},
		{Match{Serial: "s"}, true},
		{Match{Serial: "S"}, false},
		{Match{Network: "lan"}, true},
		{Match{Network: "wan"}, false},
		{Match{Arch: X86_64}, true},
		{Match{Arch: AArch64}, false},
		{Match{Serial: "s", Arch: AArch64}, false},
	} {
		if got := c.m.takes(h, n); got != c.want {
			t.Errorf("%+v takes: %v", c.m, got)
		}
	}
	if (Match{Network: "lan"}).takes(h, nil) {
		t.Error("takes a host whose network is not known")
	}
}

// TestSpecificity lists matches from the most specific to the least; those on
// one line are equally specific.
func TestSpecificity(t *testing.T) {
	label := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint(i)] = ""
		}
		return m
	}
	order := [][]Match{
		{{UUID: "u", Serial: "s"}, {UUID: "u", MAC: "52:54:00:00:00:01"}},
		{{UUID: "u", Arch: X86_64}},
		{{UUID: "u"}, {Serial: "s"}, {MAC: "52-54-00-00-00-01"}},
		{{MAC: "52:54:00:01"}},
		{{MAC: "52:54", Labels: label(3)}},
		{{MAC: "52:54"}, {MAC: "52-55"}},
		{{Labels: label(2)}},
		{{Labels: label(1), Network: "lan", Arch: X86_64}},
		{{Labels: label(1), Network: "lan"}},
		{{Labels: label(1)}},
		{{Network: "lan"}, {Network: "wan"}},
		{{Arch: X86_64}},
		{{}},
	}
	for i, line := range order {
		for _, a := range line {
			for j, other := range order {
				for _, b := range other {
					ga, gb := &Group{Meta: named("g"), Match: a}, &Group{Meta: named("g"), Match: b}
					if got := moreSpecific(ga, gb); (got < 0) != (i < j) || (got == 0) != (i == j) {
						t.Errorf("%+v and %+v: %d", a, b, got)
					}
				}
			}
		}
	}
}

func TestTarget(t *testing.T) {
	lan := &Network{Meta: named("lan"), CIDR: netip.MustParsePrefix("10.0.0.0/24")}
	wan := &Network{Meta: named("wan"), CIDR: netip.MustParsePrefix("10.1.0.0/24")}
	docs := []Document{
		lan, wan, &Image{Meta: named("img")},
		&Profile{Meta: named("p"), Image: "img", Variables: map[string]any{"a": 1, "b": 1, "c": 1}, SSHKeys: []string{"k1", "k2"}},
		&Profile{Meta: named("q"), Boot: BootLocal}, &Profile{Meta: named("broken"), Image: "gone"},
		&Group{Meta: named("all"), Profile: "q"},
		&Group{Meta: named("rack"), Match: Match{Labels: map[string]string{"r": "1"}}, Profile: "p", Variables: map[string]any{"b": 2, "c": 2}, SSHKeys: []string{"k2", "k3"}},
		&Group{Meta: named("onwan"), Match: Match{Network: "wan", Labels: map[string]string{"r": "1"}}, Profile: "q"},
		&Group{Meta: named("missing"), Match: Match{Serial: "m"}, Profile: "none"},
	}
	s := NewSnapshot(0, docs)
	rack := &Host{Meta: Meta{Name: "h", Labels: map[string]string{"r": "1"}}, Address: netip.MustParseAddr("10.0.0.5"), Variables: map[string]any{"c": 3}, SSHKeys: []string{"k1", "k4"}}
	got, err := s.Target(rack, nil)
	if err != nil || got.Profile.Name != "p" || got.Group.Name != "rack" || got.Image.Name != "img" || got.Network != lan {
		t.Fatalf("%+v, %v", got, err)
	}
	if !reflect.DeepEqual(got.Variables, map[string]any{"a": 1, "b": 2, "c": 3}) || !reflect.DeepEqual(got.SSHKeys, []string{"k1", "k2", "k3", "k4"}) {
		t.Errorf("%v, %v", got.Variables, got.SSHKeys)
	}
	got.Variables["a"], got.SSHKeys[0] = 9, "x" // they are the caller's
	if again, _ := s.Target(rack, nil); again.Variables["a"] != 1 || again.SSHKeys[0] != "k1" {
		t.Error("a snapshot was changed")
	}
	if got, err := s.Target(rack, wan); err != nil || got.Profile.Name != "q" || got.Image != nil || got.Network != wan || got.Variables == nil {
		t.Errorf("on wan: %+v, %v", got, err)
	}
	own := &Host{Meta: named("own"), Profile: "p"}
	if got, err := s.Target(own, nil); err != nil || got.Profile.Name != "p" || got.Group.Name != "all" || got.Network != nil {
		t.Errorf("its own profile: %+v, %v", got, err)
	}
	var missing *MissingError
	for _, h := range []*Host{{Meta: named("m"), Serial: "m"}, {Meta: named("m"), Profile: "broken"}} {
		if _, err := s.Target(h, nil); !errors.As(err, &missing) || !errors.Is(err, ErrNotFound) {
			t.Errorf("%+v: %v", h, err)
		}
	}
	var none *NoProfileError
	if _, err := NewSnapshot(0, nil).Target(own, nil); !errors.As(err, &missing) {
		t.Error(err)
	}
	if _, err := NewSnapshot(0, nil).Target(rack, nil); !errors.As(err, &none) || none.Host != "h" {
		t.Error(err)
	}
}

func TestPlacementFits(t *testing.T) {
	h := &Host{Meta: Meta{Name: "h", Labels: map[string]string{"a": "1"}}}
	for _, c := range []struct {
		p    Placement
		want bool
	}{
		{Placement{}, true},
		{Placement{Hosts: []HostName{"x", "h"}}, true},
		{Placement{Hosts: []HostName{"x"}}, false},
		{Placement{Labels: map[string]string{"a": "1"}}, true},
		{Placement{Labels: map[string]string{"a": "1", "b": ""}}, false},
		{Placement{Labels: map[string]string{"a": "2"}, Hosts: []HostName{"h"}}, false},
	} {
		if c.p.Fits(h) != c.want {
			t.Errorf("%+v fits: %v", c.p, !c.want)
		}
	}
}

func TestDocuments(t *testing.T) {
	for _, k := range Kinds {
		d, err := New(k)
		if err != nil || d.Ref().Kind != k {
			t.Fatalf("%s: %v, %v", k, d, err)
		}
		for _, body := range []string{`{"kind":"` + string(k) + `","name":"x","labels":{"a":"b"},"field_of_a_later_version":1}`, `{"kind":"` + string(k) + `"}`} {
			d, err := UnmarshalDocument([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			text, err := MarshalDocument(d)
			if err != nil || !json.Valid(text) {
				t.Fatalf("%s, %v", text, err)
			}
			again, err := UnmarshalDocument(text)
			if err != nil || !reflect.DeepEqual(d, again) {
				t.Errorf("%s: %+v, %v", text, again, err)
			}
		}
	}
	for _, bad := range []string{"", "[]", "{}", `{"kind":"machine"}`, `{"kind":"host","macs":["x"]}`, `{"kind":1}`} {
		if d, err := UnmarshalDocument([]byte(bad)); err == nil {
			t.Errorf("%s: %v", bad, d)
		}
	}
	if KindPolicy.Plural() != "policies" || KindHost.Plural() != "hosts" {
		t.Error(KindPolicy.Plural())
	}
}

func fleet(n int) []Document {
	docs := []Document{&Network{Meta: named("lan"), CIDR: netip.MustParsePrefix("10.0.0.0/8")}, &Profile{Meta: named("p"), Boot: BootLocal}, &Group{Meta: named("all"), Profile: "p"}}
	for i := range n {
		docs = append(docs, &Host{
			Meta: Meta{Name: fmt.Sprintf("h%06d", i), Labels: map[string]string{"rack": fmt.Sprint(i % 40)}}, MACs: []MAC{mac(i + 1)},
			UUID: UUID(fmt.Sprintf("4c4c4544-0042-3510-8051-%012x", i)), Address: netip.AddrFrom4([4]byte{10, byte((i + 1) >> 16), byte((i + 1) >> 8), byte(i + 1)}),
		})
	}
	return docs
}

var sizes = []int{1, 1_000, 100_000}

func BenchmarkNewSnapshot(b *testing.B) {
	for _, n := range sizes {
		docs := fleet(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				NewSnapshot(0, docs)
			}
		})
	}
}

func BenchmarkIdentify(b *testing.B) {
	for _, n := range sizes {
		s := NewSnapshot(0, fleet(n))
		id := Identity{MAC: MAC{9}, UUID: UUID(fmt.Sprintf("4c4c4544-0042-3510-8051-%012x", n/2))}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, ok := s.Identify(id); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range sizes {
		docs := fleet(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if p := Check(docs); len(p) > 2*n+2 {
					b.Fatal(p[0])
				}
			}
		})
	}
}

func BenchmarkWith(b *testing.B) {
	for _, n := range sizes {
		s := NewSnapshot(0, fleet(n))
		h := *s.kinds[KindHost][n/2].(*Host)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				s.With(1, []Document{&h}, nil)
			}
		})
	}
}
