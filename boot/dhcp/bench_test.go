package dhcp

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
)

// BenchmarkDORA is a whole exchange in memory, DISCOVER to ACK, for machines
// that are new each, with so many known hosts beside.
func BenchmarkDORA(b *testing.B) {
	for _, hosts := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) { benchmarkDORA(b, bigNetwork(hosts), 0) })
	}
	for _, leases := range []int{1000, 50_000} {
		b.Run(fmt.Sprintf("leases=%d", leases), func(b *testing.B) { benchmarkDORA(b, bigNetwork(1), leases) })
	}
}

func benchmarkDORA(b *testing.B, snap *cluster.Snapshot, leases int) {
	s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, Loaders: loaders, Leases: new(memory), HTTPPort: 8080}
	s.init()
	s.places.local = netip.MustParseAddr("10.16.0.1")
	w, err := newWire(newPipe())
	if err != nil {
		b.Fatal(err)
	}
	c := &committer{server: s, wire: w, queue: make(chan change, queueLimit)}
	dora := func(i int) {
		m := mac(i % (1 << 15)) // never more than the pool has
		out := s.answer(inbound{data: packetOf(discover, m).ToBytes()}, c)
		if out == nil {
			b.Fatal("no offer")
		}
		o, err := dhcpv4.FromBytes(out.data)
		if err != nil {
			b.Fatal(err)
		}
		s.answer(inbound{data: packetOf(request, m, with(50, o.YourIPAddr...), with(54, 10, 16, 0, 1)).ToBytes()}, c)
		if len(c.queue) >= 50 {
			c.commit(context.Background(), c.gather())
		}
	}
	for i := range leases {
		m := cluster.MAC{2, 9, 0, byte(i >> 16), byte(i >> 8), byte(i)}
		a := address(number(netip.MustParseAddr("10.20.0.0")) + uint32(i))
		s.answer(inbound{data: packetOf(request, m, with(50, a.AsSlice()...), with(54, 10, 16, 0, 1)).ToBytes()}, c)
		for len(c.queue) >= 50 {
			c.commit(context.Background(), c.gather())
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if leases > 0 {
			i %= 10_000
		}
		dora(i)
	}
}

// BenchmarkBeside is what a firmware's DISCOVER costs beside another server.
func BenchmarkBeside(b *testing.B) {
	for _, hosts := range []int{1, 100_000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			docs := office()
			for i := range hosts {
				docs = append(docs, &cluster.Host{Meta: cluster.Meta{Name: fmt.Sprintf("h%d", i)}, MACs: []cluster.MAC{{2, 7, 0, byte(i >> 16), byte(i >> 8), byte(i)}}, Profile: "web"})
			}
			p := newProxy(b, docs...)
			in := on67(packetOf(discover, mac(1), pxe(7)...))
			b.ReportAllocs()
			for b.Loop() {
				if p.answer(in, nil) == nil {
					b.Fatal("silence")
				}
			}
		})
	}
}

// BenchmarkNeighbour is what it costs to ask the kernel whose an address is.
func BenchmarkNeighbour(b *testing.B) {
	var n Neighbours
	a := netip.MustParseAddr("127.0.0.2")
	for b.Loop() {
		n.Of(a)
	}
}
