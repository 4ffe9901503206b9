package dhcp6

import (
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/pilotlight/pilotlight/cluster"
)

// A Solicit takes the same time whether nobody or everybody has an address.
func BenchmarkSolicit(b *testing.B) {
	for _, bench := range []struct {
		name   string
		leases int
	}{{"empty", 0}, {"50000", 50_000}} {
		b.Run(bench.name, func(b *testing.B) {
			snap := cluster.NewSnapshot(1, documents())
			s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, DUID: ourDUID, Loaders: loaders, HTTPPort: 8080}
			s.init()
			s.places.local = addr("fd00::1")
			lan, _ := snap.NetworkOf(addr("fd00::1"))
			for n := range bench.leases {
				m := mac(1000 + n)
				a := at(lan.Pools, hash(m, 0)%sizeOf(lan.Pools))
				s.Learn(cluster.Lease{Network: "lan", Address: a, MAC: m, Expires: time.Now().Add(time.Hour)})
			}
			in := inbound{from: netip.AddrPortFrom(linkLocal(mac(7)), clientPort), data: messageOf(dhcpv6.MessageTypeSolicit, ll(mac(7)), ia(1)).ToBytes()}
			b.ReportAllocs()
			for b.Loop() {
				if s.answer(in, nil) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}

// What strangers make up takes no more than its room: with all of it lent they get
// nothing, and what lapses makes room again.
func TestStrangersTakeNoMoreThanTheirRoom(t *testing.T) {
	snap := cluster.NewSnapshot(1, documents())
	s := &Server{Snapshot: func() *cluster.Snapshot { return snap }}
	s.init()
	lan, _ := snap.NetworkOf(addr("fd00::1"))
	now := time.Now()
	for n := range keepLimit {
		s.Learn(cluster.Lease{Network: "lan", Address: at(lan.Pools, uint64(n)), MAC: mac(1000 + n), Expires: now.Add(time.Minute)})
	}
	web1, _ := snap.Host("web1")
	p := s.book.pool("lan")
	c := claimant{mac: mac(7), snap: snap, network: lan, now: now}
	if _, _, err := p.choose(c, nil); err != errFull {
		t.Errorf("a stranger: %v", err)
	}
	if a, _, err := p.choose(claimant{mac: mac(1), host: web1, snap: snap, network: lan, now: now}, nil); err != nil || a != web1.Address {
		t.Errorf("a host: %s, %v", a, err)
	}
	if n := len(s.book.stale(now)); n != 0 {
		t.Errorf("%d leases that hold are taken out", n)
	}
	later := now.Add(2 * time.Minute)
	cm := &committer{server: s, queue: make(chan change, queueLimit)}
	cm.discard(later)
	if n := len(cm.queue); n < queueLimit/2 {
		t.Errorf("%d lapsed leases are taken out at a time", n)
	}
	gone := s.book.stale(later)
	for i := range gone {
		gone[i].MAC = cluster.MAC{}
	}
	s.Learn(gone...)
	if got := len(p.slots) + len(p.byMAC); got > 2*queueLimit {
		t.Errorf("%d are remembered", got)
	}
	if _, _, err := p.choose(c, nil); err != nil {
		t.Errorf("then, a stranger: %v", err)
	}
}

func TestPoolsAcrossBorders(t *testing.T) {
	for _, row := range []struct {
		pool string
		size uint64
		last string // that is used
	}{
		{"fd00::1-fd00::1", 1, "fd00::1"},
		{"fd00::1-fd00::10", 16, "fd00::10"},
		{"fd00::ffff:ffff:ffff:fffe-fd00:0:0:1::1", 4, "fd00:0:0:1::1"},
		{"fd00::-fd00::ffff:ffff:ffff:ffff", mostOf, "fd00::ffff:ffff:ffff"},
		{"fd00::5-fd00:0:0:1::5", mostOf, "fd00::1:0:0:4"},
		{"fd00::-fdff::", mostOf, "fd00::ffff:ffff:ffff"},
		{"10.0.0.1-10.0.0.9", 0, ""},
	} {
		r, err := cluster.ParseRange(row.pool)
		if err != nil {
			t.Fatal(err)
		}
		pools := []cluster.Range{r}
		if got := sizeOf(pools); got != row.size {
			t.Errorf("%s has %d addresses, want %d", row.pool, got, row.size)
		} else if got > 0 {
			if last := at(pools, got-1); last != addr(row.last) || !r.Contains(last) {
				t.Errorf("the last one of %s is %s", row.pool, last)
			}
		}
	}
}
