package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// someDocument is one of few documents, of which many stand in each other's way.
func someDocument(r *rand.Rand) Document {
	meta := Meta{Name: fmt.Sprint("d", r.IntN(8)), Labels: map[string]string{"role": fmt.Sprint(r.IntN(3))}}
	switch r.IntN(9) {
	case 0:
		return &Network{Meta: meta, CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), 0, 0}), 8*(1+r.IntN(3)))}
	case 1:
		return &Group{Meta: meta, Profile: ProfileName(fmt.Sprint("d", r.IntN(8))), Match: Match{Labels: meta.Labels}}
	case 2:
		return &Profile{Meta: meta, Boot: BootLocal}
	case 3:
		return &Policy{Meta: meta, Registries: []string{"docker.io"}}
	case 4:
		return &Site{Meta: meta}
	}
	h := &Host{Meta: meta, MACs: []MAC{mac(1 + r.IntN(20)), mac(1 + r.IntN(20))}[:r.IntN(3)]}
	if r.IntN(3) == 0 {
		h.UUID, h.Serial = UUID(fmt.Sprint("u", r.IntN(20))), fmt.Sprint("s", r.IntN(20))
	}
	if r.IntN(3) == 0 {
		h.Address, h.SwitchPort.Circuit = netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(20))}), Octets(fmt.Sprint(r.IntN(20)))
	}
	return h
}

// What is derived from a snapshot is the snapshot of what there is then, down to who
// has what two hosts claim.
func TestWithIsNewSnapshot(t *testing.T) {
	derived := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := NewSnapshot(0, nil)
		all := map[Ref]Document{}
		for turn := range Revision(20) {
			var put []Document
			var remove []Ref
			for range r.IntN(4) {
				put = append(put, someDocument(r))
			}
			for range r.IntN(3) {
				if d := someDocument(r); !slices.ContainsFunc(put, func(p Document) bool { return p.Ref() == d.Ref() }) {
					remove = append(remove, d.Ref())
				}
			}
			for _, d := range put {
				all[d.Ref()] = d
			}
			for _, ref := range remove {
				delete(all, ref)
			}
			want := NewSnapshot(turn, slices.Collect(maps.Values(all)))
			before := NewSnapshot(s.revision, s.Documents())
			next := s.With(turn, put, remove)
			if !reflect.DeepEqual(next, want) {
				t.Fatalf("seed %d, turn %d: put %v, remove %v:\n%+v\nnot\n%+v", seed, turn, put, remove, next, want)
			}
			if !reflect.DeepEqual(before, s) {
				t.Fatalf("seed %d, turn %d: the snapshot before changed", seed, turn)
			}
			if !s.contested && !next.contested {
				derived++
			}
			s = next
		}
	}
	if derived < 500 {
		t.Errorf("of 6000 snapshots %d were derived: the others had two hosts that claim one thing", derived)
	}
}

// Check of a snapshot is Check of its documents.
func TestCheckSnapshot(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		all := map[Ref]Document{}
		for range r.IntN(20) {
			d := someDocument(r)
			all[d.Ref()] = d
		}
		docs := slices.Collect(maps.Values(all))
		if got, want := CheckSnapshot(NewSnapshot(0, docs)), Check(docs); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %v, not %v", seed, got, want)
		}
	}
}
