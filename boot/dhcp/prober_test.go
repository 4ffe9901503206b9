package dhcp

import (
	"bytes"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// town is an asker in memory: who uses which address, and answers at once.
type town struct {
	mu    sync.Mutex
	users map[netip.Addr]cluster.MAC
	asked map[netip.Addr]int
	deaf  int // questions that are lost first
	err   error
	heard func(netip.Addr, cluster.MAC)
	over  sync.WaitGroup
}

func (w *town) ask(q *trial) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if w.asked == nil {
		w.asked = make(map[netip.Addr]int)
	}
	w.asked[q.addr]++
	if w.deaf > 0 {
		w.deaf--
		return nil
	}
	if mac, ok := w.users[q.addr]; ok {
		w.over.Go(func() { w.heard(q.addr, mac) })
	}
	return nil
}

func (w *town) close() { w.over.Wait() }

// answers is what came back since, and when.
type answered struct {
	*dhcpv4.DHCPv4
	after time.Duration
}

// within runs a server that probes, in a bubble of its own time, and hands over
// a function that sends packets and returns what came back.
func within(t *testing.T, w *town, docs []cluster.Document, test func(t *testing.T, r *rig, send func(...*dhcpv4.DHCPv4) []answered)) {
	synctest.Test(t, func(t *testing.T) {
		r := prepare(t, nil, docs...)
		r.server.asker, r.server.Registerer = w, prometheus.NewRegistry()
		w.heard = func(a netip.Addr, mac cluster.MAC) { r.server.prober.heard(a, mac) }
		r.run()
		synctest.Wait()
		test(t, r, func(packets ...*dhcpv4.DHCPv4) (out []answered) {
			t.Helper()
			began := time.Now()
			for _, p := range packets {
				r.pipe.in <- p.ToBytes()
			}
			for {
				select {
				case s := <-r.pipe.out:
					a, err := dhcpv4.FromBytes(s.data)
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, answered{a, time.Since(began)})
				case <-time.After(2 * probeWait):
					return out
				}
			}
		})
	})
}

func TestProbeBeforeOffer(t *testing.T) {
	within(t, new(town), documents(), func(t *testing.T, r *rig, send func(...*dhcpv4.DHCPv4) []answered) {
		got := send(packetOf(discover, mac(70)), packetOf(discover, mac(1)), packetOf(inform, mac(9)))
		if len(got) != 3 || got[0].after != 0 || got[1].after != 0 || got[2].after != probeWait || got[2].ClientHWAddr.String() != mac(70).String() {
			t.Fatalf("a new machine's offer is to come last, after %s: %+v", probeWait, got)
		}
		a := netip.MustParseAddr(got[2].YourIPAddr.String())
		if w := r.server.asker.(*town); w.asked[a] != 2 || len(w.asked) != 1 {
			t.Errorf("asked for %v, want twice for %s and for nothing else: a reservation is its host's", w.asked, a)
		}
		if got = send(packetOf(discover, mac(70))); len(got) != 1 || got[0].after != 0 {
			t.Errorf("what was looked for lately is looked for again: %+v", got)
		}
		if got = send(selecting(mac(70), a.String())); len(got) != 1 || got[0].MessageType() != ack {
			t.Errorf("%+v", got)
		}
		time.Sleep(2 * probedTime)
		if got = send(packetOf(discover, mac(70))); len(got) != 1 || got[0].after != 0 {
			t.Errorf("its own address is looked for: %+v", got)
		}
		time.Sleep(24 * time.Hour)
		if got = send(packetOf(discover, mac(70))); len(got) != 1 || got[0].after != 0 {
			t.Errorf("the address that it last had is looked for: %+v", got)
		}
		if n := counted(t, r.server.metrics.probes.WithLabelValues("free")); n != 1 {
			t.Errorf("counted %v", n)
		}
	})
}

// A client that asks again while an address is looked for is answered once, and
// as it asked last.
func TestProbeAskedAgain(t *testing.T) {
	within(t, new(town), documents(), func(t *testing.T, r *rig, send func(...*dhcpv4.DHCPv4) []answered) {
		got := send(packetOf(discover, mac(70), xid(1)), packetOf(discover, mac(70), xid(2)))
		if len(got) != 1 || got[0].TransactionID != [4]byte{2} {
			t.Errorf("%+v", got)
		}
	})
}

func TestProbeFindsSomebody(t *testing.T) {
	user := cluster.MAC{2, 0, 0, 0, 0, 0xee}
	for what, w := range map[string]*town{"at once": {}, "the first question is lost": {deaf: 1}} {
		t.Run(what, func(t *testing.T) {
			first := hashed(documents(), mac(70))
			w.users = map[netip.Addr]cluster.MAC{first: user}
			within(t, w, documents(), func(t *testing.T, r *rig, send func(...*dhcpv4.DHCPv4) []answered) {
				got := send(packetOf(discover, mac(70)), packetOf(discover, mac(1)))
				if len(got) != 2 || got[1].MessageType() != offer || got[1].YourIPAddr.String() == first.String() {
					t.Fatalf("%+v", got)
				}
				if l, ok := r.leases.at(first.String()); !ok || !l.Declined || l.MAC != user || time.Until(l.Expires) < declineTime/2 {
					t.Errorf("the record of %s is %+v", first, l)
				}
				if _, ok := r.server.Owner(first); ok {
					t.Errorf("%s has an owner", first)
				}
				if got = send(packetOf(discover, mac(71), requested(first.String()))); len(got) != 1 || got[0].YourIPAddr.String() == first.String() {
					t.Errorf("another machine is offered it: %+v", got)
				}
				w.mu.Lock()
				clear(w.users) // it is gone
				w.mu.Unlock()
				time.Sleep(declineTime)
				if got = send(packetOf(discover, mac(72), requested(first.String()))); len(got) != 1 || got[0].YourIPAddr.String() != first.String() {
					t.Errorf("after %s it is not lent again: %+v", declineTime, got)
				}
			})
		})
	}
}

// counted is what a counter says.
func counted(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

// hashed is the address that a machine is offered first.
func hashed(docs []cluster.Document, m cluster.MAC) netip.Addr {
	snap := cluster.NewSnapshot(1, docs)
	var b book
	p := b.pool(snap, docs[0].(*cluster.Network))
	return p.at(hash(m) % p.size)
}

// The machine itself may have the address already: a system that was restarted.
func TestProbeFindsTheMachineItself(t *testing.T) {
	first := hashed(documents(), mac(70))
	within(t, &town{users: map[netip.Addr]cluster.MAC{first: mac(70)}}, documents(), func(t *testing.T, r *rig, send func(...*dhcpv4.DHCPv4) []answered) {
		if got := send(packetOf(discover, mac(70))); len(got) != 1 || got[0].YourIPAddr.String() != first.String() {
			t.Errorf("%+v", got)
		}
	})
}

// A pool of which somebody uses every address is not searched for ever, and one
// client's search is not another's wait.
func TestProbeFindsEverything(t *testing.T) {
	docs := documents()
	users := map[netip.Addr]cluster.MAC{}
	for a := netip.MustParseAddr("10.0.0.100"); a != netip.MustParseAddr("10.0.0.200"); a = a.Next() {
		users[a] = cluster.MAC{2, 0, 0, 0, 1, a.As4()[3]}
	}
	within(t, &town{users: users}, docs, func(t *testing.T, r *rig, send func(...*dhcpv4.DHCPv4) []answered) {
		got := send(packetOf(discover, mac(70)), packetOf(discover, mac(1)))
		if len(got) != 1 || got[0].YourIPAddr.String() != "10.0.0.50" || got[0].after != 0 {
			t.Errorf("%+v", got)
		}
		if n := counted(t, r.server.metrics.probes.WithLabelValues("taken")); n != 100 {
			t.Errorf("%v addresses were found in use, want 100", n)
		}
	})
}

func TestProbeIsOff(t *testing.T) {
	for what, w := range map[string]*town{"probe: false": {}, "no right to": {err: errors.New("not permitted")}} {
		t.Run(what, func(t *testing.T) {
			docs := documents()
			if w.err == nil {
				docs[0].(*cluster.Network).Probe = new(bool)
			}
			within(t, w, docs, func(t *testing.T, r *rig, send func(...*dhcpv4.DHCPv4) []answered) {
				if got := send(packetOf(discover, mac(70))); len(got) != 1 || got[0].after != 0 || len(w.asked) > 0 {
					t.Errorf("%+v; asked for %v", got, w.asked)
				}
			})
		})
	}
}

// A flood of new machines is probed as far as the limit goes, and the others
// are offered their addresses at once.
func TestProbeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		snap := bigNetwork(1)
		w := new(town)
		s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, Loaders: loaders, Leases: new(memory), HTTPPort: 8080, Recorder: new(boot.Recorder), asker: w}
		s.init()
		s.places.local = netip.MustParseAddr("10.16.0.1")
		c := &committer{server: s, queue: make(chan change, queueLimit)}
		p := newPipe()
		if err := s.startProber(c, p, false); err != nil {
			t.Fatal(err)
		}
		at := 0
		for i := range 3 * probeLimit {
			if s.answer(inbound{data: packetOf(discover, mac(i)).ToBytes()}, c) != nil {
				at++
			}
		}
		if at != 2*probeLimit {
			t.Errorf("%d were answered at once, want %d", at, 2*probeLimit)
		}
		time.Sleep(2 * probeWait)
		synctest.Wait()
		if s.prober.pending != 0 || len(s.prober.of) != 0 {
			t.Errorf("%d, %d are left", s.prober.pending, len(s.prober.of))
		}
		s.answer(inbound{data: packetOf(discover, mac(100_000)).ToBytes()}, c)
		s.prober.stopped() // one is under way
	})
}

// A fellow that looks for an address does not use it; one that has it does, and so
// does a machine that is about to take it.
func TestFellowsLookToo(t *testing.T) {
	fellow, other := mac(1), mac(2)
	s := &Server{FellowCard: func(m cluster.MAC) bool { return m == fellow }}
	for _, c := range []struct {
		by          cluster.MAC
		probe, want bool
	}{{fellow, true, false}, {fellow, false, true}, {other, true, true}, {other, false, true}} {
		if got := s.isUse(c.by, c.probe); got != c.want {
			t.Errorf("%s, probe %v: %v", c.by, c.probe, got)
		}
	}
	if !new(Server).isUse(other, true) {
		t.Error("a server that knows no fellows")
	}
}

func TestARP(t *testing.T) {
	a, me, other := netip.MustParseAddr("10.0.0.9"), mac(1), mac(2)
	want := []byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1,
		0x52, 0x54, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9,
	}
	got := arpProbe(a, me)
	if !bytes.Equal(got, want) {
		t.Errorf("% x", got)
	}
	if who, mac, probe, ok := arpUser(got); !ok || !probe || who != a || mac != me {
		t.Errorf("who probes for an address is about to use it: %s, %s, %v", who, mac, ok)
	}
	reply := append([]byte(nil), want...)
	reply[21] = 2
	copy(reply[22:], other[:])
	copy(reply[28:], []byte{10, 0, 0, 9})
	if who, mac, probe, ok := arpUser(reply); !ok || probe || who != a || mac != other {
		t.Errorf("%s, %s, %v", who, mac, ok)
	}
	for i := range reply {
		arpUser(reply[:i]) // must not panic
	}
	for _, i := range []int{12, 15, 16, 18, 19} {
		bad := append([]byte(nil), reply...)
		bad[i]++
		if _, _, _, ok := arpUser(bad); ok {
			t.Errorf("byte %d does not count", i)
		}
	}
}

// BenchmarkProbe is a DISCOVER of a new machine with a probe before its offer,
// beside one without.
func BenchmarkProbe(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(map[bool]string{false: "off", true: "on"}[on], func(b *testing.B) {
			snap := bigNetwork(1)
			s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, Loaders: loaders, Leases: new(memory), HTTPPort: 8080}
			s.init()
			s.places.local = netip.MustParseAddr("10.16.0.1")
			c := &committer{server: s, queue: make(chan change, queueLimit)}
			if on {
				s.asker = new(town)
				if err := s.startProber(c, newPipe(), false); err != nil {
					b.Fatal(err)
				}
				defer s.prober.stopped()
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m := mac(i)
				out := s.answer(inbound{data: packetOf(discover, m).ToBytes()}, c)
				if out == nil { // ended at once, where its time would end it
					s.prober.mu.Lock()
					var q *trial
					for _, q = range s.prober.of {
					}
					s.prober.mu.Unlock()
					s.prober.end(q, cluster.MAC{}, false)
				}
				if i%10_000 == 9999 {
					s.book.mu.Lock()
					s.book.pools = nil
					s.book.mu.Unlock()
				}
			}
		})
	}
}
