package main

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
	"github.com/pilotlight/pilotlight/cluster/manifest"
	"github.com/pilotlight/pilotlight/ignition"
)

// largeSite is a network, ten profiles with a group each, and so many hosts.
func largeSite(tb testing.TB, hosts int) []cluster.Document {
	tb.Helper()
	set, err := manifest.Parse("site.yaml", []byte(largeSiteText))
	if err != nil {
		tb.Fatal(err)
	}
	docs := set.Documents
	for i := range 10 {
		docs = append(docs,
			&cluster.Profile{Meta: cluster.Meta{Name: fmt.Sprint("profile", i)}, Image: "node", Config: cluster.Config{Butane: largeSiteButane}},
			&cluster.Group{Meta: cluster.Meta{Name: fmt.Sprint("group", i)}, Profile: cluster.ProfileName(fmt.Sprint("profile", i)), Match: cluster.Match{Labels: map[string]string{"role": fmt.Sprint(i)}}})
	}
	for i := range hosts {
		docs = append(docs, largeSiteHost(i))
	}
	return docs
}

func largeSiteHost(i int) *cluster.Host {
	return &cluster.Host{
		Meta: cluster.Meta{Name: fmt.Sprint("h", i), Labels: map[string]string{"role": fmt.Sprint(i % 10)}},
		MACs: []cluster.MAC{{0x52, 0x54, 1, byte(i >> 16), byte(i >> 8), byte(i)}},
	}
}

const (
	largeSiteText   = "kind: network\nname: lan\ncidr: 10.0.0.0/8\n---\nkind: image\nname: node\nkernel: {url: \"file:///kernel\"}\n"
	largeSiteButane = "variant: fcos\nversion: 1.5.0\n"
)

// BenchmarkApply is an apply of all hosts to an empty cluster, and one that changes
// a host of so many.
func BenchmarkApply(b *testing.B) {
	for _, hosts := range []int{1_000, 10_000, 100_000} {
		docs := largeSite(b, hosts)
		b.Run(fmt.Sprintf("all of %d", hosts), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a := api.Applier{Store: new(clustertest.Memory), Verify: draftVerifier().verify}
				mustApply(b, &a, docs...)
			}
		})
		b.Run(fmt.Sprintf("1 of %d", hosts), func(b *testing.B) {
			a := api.Applier{Store: new(clustertest.Memory), Verify: draftVerifier().verify}
			mustApply(b, &a, docs...)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				h := largeSiteHost(0)
				h.Variables = map[string]any{"turn": i}
				mustApply(b, &a, h)
			}
		})
	}
}

// BenchmarkExplain is what explain decides of one of so many hosts: who it is, what it
// is made of, its config, what DHCP answers to each kind of firmware, its script.
func BenchmarkExplain(b *testing.B) {
	at := boot.ServerAt(netip.AddrFrom4([4]byte{10, 0, 0, 1}), 8080, 8443)
	for _, hosts := range []int{1, 100, 1_000, 10_000, 100_000} {
		snap := cluster.NewSnapshot(1, largeSite(b, hosts))
		configs := new(ignition.Cache)
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				id := identityOf(largeSiteHost(hosts / 2))
				h, ok := snap.Identify(id)
				if !ok {
					b.Fatal("no host has that address")
				}
				t, err := snap.Target(h, bootsOn(snap, h.Address))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := configs.Compile(draftInput(t, at, false)); err != nil {
					b.Fatal(err)
				}
				for _, f := range firmwares {
					q := f.request
					q.MAC, q.Network = id.MAC, t.Network
					_, _ = boot.Decide(q, t, boot.Policy{Server: at}) // there are no loaders, which is an answer too
				}
				mode, _ := boot.CourseOf(t)
				if _, err := boot.Script(mode, t, boot.Visit{Identity: id, Address: h.Address, Server: at}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func mustApply(tb testing.TB, a *api.Applier, docs ...cluster.Document) {
	tb.Helper()
	out, err := a.Apply(tb.Context(), "bench", docs, nil)
	if err != nil || len(out.Problems) > 0 {
		tb.Fatal(err, out.Problems)
	}
}
