package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// anyDocument is one of few documents, in some of which something is wrong that only
// shows in a config or in kernel arguments.
func anyDocument(r *rand.Rand) cluster.Document {
	name := func() string { return fmt.Sprint("d", r.IntN(4)) }
	meta := cluster.Meta{Name: name(), Labels: map[string]string{"role": fmt.Sprint(r.IntN(3))}}
	variables := map[string]any{"x": r.IntN(3)}
	if r.IntN(3) == 0 {
		variables = nil
	}
	switch r.IntN(7) {
	case 0:
		return &cluster.Network{Meta: meta, Domain: meta.Labels["role"], CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, meta.Name[1] - '0', 0, 0}), 16)}
	case 1:
		return &cluster.Group{Meta: meta, Profile: cluster.ProfileName(name()), Variables: variables, Match: cluster.Match{Labels: meta.Labels}}
	case 2:
		return &cluster.Image{Meta: meta, Args: []string{[]string{"quiet", "x={{ .Nothing }}", "{{"}[r.IntN(3)]}}
	case 3, 4:
		p := &cluster.Profile{Meta: meta, Boot: cluster.BootLocal, Variables: variables}
		if r.IntN(2) == 0 {
			p.Image = cluster.ImageName(name())
		}
		p.Config.Butane = "variant: fcos\nversion: 1.5.0\n" + []string{"", "storag: {}\n", "# {{ .Variables.x }}\n", "# {{ .Network.Name }}\n", "# {{ .Group.Name }}\n"}[r.IntN(5)]
		return p
	}
	h := &cluster.Host{Meta: meta, Variables: variables, MACs: []cluster.MAC{{2, 0, 0, 0, 0, meta.Name[1]}}, Address: netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), 0, meta.Name[1]})}
	if r.IntN(2) == 0 {
		h.Profile = cluster.ProfileName(name())
	}
	if r.IntN(9) == 0 {
		h.MACs = nil // which is wrong
	}
	return h
}

// What is found by looking at what changed is what is found by looking at all.
func TestVerifyFindsAllAgain(t *testing.T) {
	var looked atomic.Int32
	hosts, wrongs := 0, 0
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 3))
		v := draftVerifier()
		counting := v
		counting.compile = func(next *cluster.Snapshot, h *cluster.Host, installer bool) error {
			looked.Add(1)
			return v.compile(next, h, installer)
		}
		counting.at = func(n *cluster.Network) boot.Server { return v.at(n) }
		snap := cluster.NewSnapshot(0, nil)
		for i := range 4 { // else much would be missing, which is said before configs are looked at
			name := fmt.Sprint("d", i)
			snap = snap.With(0, []cluster.Document{&cluster.Image{Meta: cluster.Meta{Name: name}}, &cluster.Profile{Meta: cluster.Meta{Name: name}, Boot: cluster.BootLocal},
				&cluster.Network{Meta: cluster.Meta{Name: name}, CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)}}, nil)
		}
		for turn := range cluster.Revision(25) {
			put, remove := []cluster.Document{anyDocument(r)}, []cluster.Ref(nil)
			if r.IntN(4) == 0 {
				put, remove = nil, []cluster.Ref{anyDocument(r).Ref()}
			}
			snap = snap.With(turn, put, remove)
			wrong := cluster.Refs(cluster.CheckSnapshot(snap))
			got, want := counting.verify(snap, wrong), draftVerifier().verify(snap, wrong)
			if !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 {
				t.Fatalf("seed %d, turn %d, put %v, removed %v:\n%v\nnot\n%v", seed, turn, put, remove, got, want)
			}
			hosts += snap.Count(cluster.KindHost)
			for _, p := range want {
				if p.For != (cluster.Ref{}) {
					wrongs++
				}
			}
		}
	}
	t.Logf("%d configs for %d times a host, %d problems", looked.Load(), hosts, wrongs)
	if wrongs < 10 {
		t.Errorf("there was little to find: %d problems of hosts", wrongs)
	}
}

// A change of one host has one config made.
func TestVerifyLooksAtWhatChanged(t *testing.T) {
	v, made := draftVerifier(), []string(nil)
	compile := v.compile
	v.compile = func(next *cluster.Snapshot, h *cluster.Host, installer bool) error {
		made = append(made, h.Name)
		return compile(next, h, installer)
	}
	snap := cluster.NewSnapshot(0, largeSite(t, 0)).With(0, []cluster.Document{largeSiteHost(0)}, nil)
	v.verify(snap, nil)
	for i := range 9 {
		made = nil
		h := largeSiteHost(1 + i%3)
		h.Profile = "profile1"
		snap = snap.With(0, []cluster.Document{h}, nil)
		if problems := v.verify(snap, nil); len(problems) > 0 || made[0] != h.Name {
			t.Errorf("made %v; %v", made, problems)
		}
		for _, name := range made[1:] {
			if name != "made-up" { // for the profiles that nobody has
				t.Errorf("%s was made anew for %s", name, h.Name)
			}
		}
	}
}
