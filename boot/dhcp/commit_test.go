package dhcp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
)

func lent(addr string, m cluster.MAC, until time.Time) cluster.Lease {
	return cluster.Lease{Network: "lan", Address: netip.MustParseAddr(addr), MAC: m, Expires: until.UTC().Truncate(time.Second)}
}

// No acknowledgement leaves before its lease is durable.
func TestDurableFirst(t *testing.T) {
	var there atomic.Bool
	leases := new(memory)
	leases.before = func() { time.Sleep(30 * time.Millisecond); there.Store(true) }
	r := start(t, leases)
	a, _ := r.ask(selecting(mac(10), "10.0.0.150"))
	r.kind(a, ack)
	if !there.Load() {
		t.Error("the ACK left first")
	}
	if _, ok := leases.at("10.0.0.150"); !ok {
		t.Error("the ACK left, and there is no lease")
	}
}

func TestStoreDown(t *testing.T) {
	leases := &memory{err: errors.New("no leader")}
	r := start(t, leases)
	r.silence(selecting(mac(10), "10.0.0.150"))
	if _, ok := r.server.Owner(netip.MustParseAddr("10.0.0.150")); ok {
		t.Error("an address that is not durably lent has an owner")
	}
	leases.mu.Lock()
	leases.err = nil
	leases.mu.Unlock()
	a, _ := r.ask(selecting(mac(10), "10.0.0.150"))
	r.kind(a, ack)
}

// While one transaction is under way the next one gathers.
func TestGroupCommit(t *testing.T) {
	const clients = 50
	gate := make(chan struct{})
	var first atomic.Bool
	leases := new(memory)
	leases.before = func() {
		if first.CompareAndSwap(false, true) {
			<-gate
		}
	}
	r := start(t, leases)
	for i := range clients {
		r.pipe.in <- selecting(mac(100+i), address(number(netip.MustParseAddr("10.0.0.100"))+uint32(i)).String()).ToBytes()
	}
	r.silence(packetOf(request, mac(9000))) // all of them have been read
	close(gate)
	for range clients {
		select {
		case <-r.pipe.out:
		case <-time.After(5 * time.Second):
			t.Fatal("an ACK is missing")
		}
	}
	if leases.commits > 3 {
		t.Errorf("%d leases took %d transactions", clients, leases.commits)
	}
}

// A REQUEST that is sent again while its lease is being written must not put
// one address twice into a transaction.
func TestSentAgain(t *testing.T) {
	gate := make(chan struct{})
	var first atomic.Bool
	leases := new(memory)
	leases.before = func() {
		if first.CompareAndSwap(false, true) {
			<-gate
		}
	}
	r := start(t, leases)
	for range 5 {
		r.pipe.in <- selecting(mac(10), "10.0.0.150").ToBytes()
	}
	close(gate)
	for range 5 {
		select {
		case <-r.pipe.out:
		case <-time.After(5 * time.Second):
			t.Fatal("an ACK is missing")
		}
	}
}

func TestFreshLeaseIsNotWrittenAgain(t *testing.T) {
	r := start(t, nil)
	has := r.lease(mac(10))
	before := r.leases.commits
	for range 3 {
		if again := r.lease(mac(10)); again != has {
			t.Errorf("got %s, then %s", has, again)
		}
	}
	if r.leases.commits != before {
		t.Errorf("%d more transactions", r.leases.commits-before)
	}
	l, _ := r.leases.at(has)
	a, _ := r.ask(selecting(mac(10), has))
	if given := time.Now().Add(a.IPAddressLeaseTime(0)); given.After(l.Expires) {
		t.Errorf("the client may use the address until %s, which is lent until %s", given, l.Expires)
	}
}

func TestAnotherServer(t *testing.T) {
	for _, terse := range []bool{false, true} {
		t.Run(fmt.Sprintf("terse=%v", terse), func(t *testing.T) { testAnotherServer(t, terse) })
	}
}

func testAnotherServer(t *testing.T, terse bool) {
	t.Run("was faster", func(t *testing.T) {
		r := start(t, &memory{terse: terse})
		o, _ := r.ask(packetOf(discover, mac(10)))
		taken := o.YourIPAddr.String()
		r.leases.put(lent(taken, mac(500), time.Now().Add(time.Hour)))
		a, _ := r.ask(selecting(mac(10), taken))
		r.kind(a, nak)
		if next := r.lease(mac(10)); next == taken {
			t.Errorf("%s is another machine's and was given again", next)
		}
		if owner, _ := r.server.Owner(netip.MustParseAddr(taken)); owner != mac(500) {
			t.Errorf("%s is owned by %s", taken, owner)
		}
	})
	t.Run("renewed the same lease", func(t *testing.T) {
		r := start(t, &memory{terse: terse})
		has := r.lease(mac(10))
		l, _ := r.leases.at(has)
		r.leases.put(lent(has, mac(10), time.Now().Add(time.Minute)))
		r.server.Learn(cluster.Lease{Network: "lan", Address: l.Address, MAC: mac(10), Expires: time.Now().Add(2 * time.Minute)}) // old news
		a, _ := r.ask(packetOf(request, mac(10), ciaddr(has)))
		r.kind(a, ack)
		if l, _ := r.leases.at(has); time.Until(l.Expires) < time.Hour {
			t.Errorf("it was acknowledged, but is stored as %+v", l)
		}
	})
	t.Run("removed the lease", func(t *testing.T) {
		r := start(t, &memory{terse: terse})
		has := r.lease(mac(10))
		r.leases.mu.Lock()
		clear(r.leases.leases)
		r.leases.mu.Unlock()
		r.server.Learn(lent(has, mac(10), time.Now().Add(time.Minute)))
		a, _ := r.ask(packetOf(request, mac(10), ciaddr(has)))
		r.kind(a, ack)
		if l, ok := r.leases.at(has); !ok || l.MAC != mac(10) {
			t.Errorf("it was acknowledged, but is stored as %+v", l)
		}
	})
	t.Run("had lent it once, and that lapsed", func(t *testing.T) {
		r := start(t, &memory{terse: terse})
		o, _ := r.ask(packetOf(discover, mac(10)))
		r.leases.put(lent(o.YourIPAddr.String(), mac(500), time.Now().Add(-time.Hour)))
		a, _ := r.ask(selecting(mac(10), o.YourIPAddr.String()))
		r.kind(a, ack)
	})
}

// What waits behind a change that meets a conflict was asked for before the
// conflict was known: it must not be written over the other server's lease.
func TestQueuedBehindAConflict(t *testing.T) {
	leases := new(memory)
	r := start(t, leases)
	o, _ := r.ask(packetOf(discover, mac(77)))
	r.kind(o, offer)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	leases.before = func() { once.Do(func() { close(entered); <-release }) }
	wants := selecting(mac(77), o.YourIPAddr.String()).ToBytes()
	r.pipe.in <- wants
	<-entered
	r.pipe.in <- wants // sent again, since no answer came
	r.ask(packetOf(dhcpv4.MessageTypeInform, mac(9999)))
	theirs := cluster.Lease{Network: "lan", Address: netip.MustParseAddr(o.YourIPAddr.String()), MAC: mac(78), Expires: time.Now().Add(time.Hour)}
	leases.put(theirs)
	close(release)
	for range 2 {
		a, err := dhcpv4.FromBytes((<-r.pipe.out).data)
		if err != nil {
			t.Fatal(err)
		}
		r.kind(a, nak)
	}
	if l, _ := leases.at(o.YourIPAddr.String()); l.MAC != theirs.MAC {
		t.Errorf("the other server's lease is overwritten: %+v", l)
	}
}

// One conflict costs only its own client, and the others some transactions.
func TestConflictInABatch(t *testing.T) {
	gate := make(chan struct{})
	var first atomic.Bool
	leases := new(memory)
	leases.before = func() {
		if first.CompareAndSwap(false, true) {
			<-gate
		}
	}
	r := start(t, leases)
	const clients = 60
	for i := range clients {
		r.pipe.in <- selecting(mac(10+i), fmt.Sprintf("10.0.0.%d", 110+i)).ToBytes()
	}
	r.silence(packetOf(request, mac(9000)))
	leases.put(lent("10.0.0.112", mac(500), time.Now().Add(time.Hour)))
	close(gate)
	r.eventually("the others are written", func() bool {
		leases.mu.Lock()
		defer leases.mu.Unlock()
		return len(leases.leases) == clients
	})
	if leases.commits > 8 {
		t.Errorf("for one conflict, %d leases took %d transactions", clients, leases.commits)
	}
	if l, _ := leases.at("10.0.0.112"); l.MAC != mac(500) {
		t.Errorf("the other server's lease is now %+v", l)
	}
}

func TestRestart(t *testing.T) {
	leases := new(memory)
	r := start(t, leases)
	had := map[int]string{}
	for i := range 20 {
		had[i] = r.lease(mac(1000 + i))
	}
	r.stop()
	r = start(t, leases)
	for i := range 20 {
		if got := r.lease(mac(1000 + i)); got != had[i] {
			t.Errorf("it had %s and now gets %s", had[i], got)
		}
	}
}

// What waits to be written when the server is stopped is written.
func TestStop(t *testing.T) {
	gate := make(chan struct{})
	leases := new(memory)
	leases.before = func() { <-gate }
	r := start(t, leases)
	r.pipe.in <- selecting(mac(10), "10.0.0.150").ToBytes()
	r.silence(packetOf(request, mac(9000)))
	time.AfterFunc(20*time.Millisecond, func() { close(gate) })
	r.stop()
	if _, ok := leases.at("10.0.0.150"); !ok {
		t.Error("a lease was lost")
	}
}

func TestPoolIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docs := documents()
		lan := docs[0].(*cluster.Network)
		lan.Pools = []cluster.Range{{First: netip.MustParseAddr("10.0.0.100"), Last: netip.MustParseAddr("10.0.0.102")}}
		lan.Lease = cluster.Duration(time.Hour)
		r := start(t, nil, docs...)
		defer r.stop()
		var had []string
		for i := range 3 {
			had = append(had, r.lease(mac(10+i)))
			time.Sleep(time.Minute)
		}
		r.silence(packetOf(discover, mac(13)))

		// The first lease lapses first, and is reused first.
		time.Sleep(57*time.Minute + 2*time.Second)
		if got := r.lease(mac(13)); got != had[0] {
			t.Errorf("got %s, want %s, whose lease ended first", got, had[0])
		}
		r.silence(packetOf(discover, mac(14)))
		time.Sleep(time.Minute)
		if got := r.lease(mac(14)); got != had[1] {
			t.Errorf("got %s, want %s", got, had[1])
		}
		// The third machine comes back late, and has its address still.
		time.Sleep(30 * time.Minute)
		if got := r.lease(mac(12)); got != had[2] {
			t.Errorf("got %s, had %s", got, had[2])
		}
		a, _ := r.ask(packetOf(request, mac(10), ciaddr(had[0])))
		r.kind(a, nak) // the first machine renews too late
	})
}

func TestOfferLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docs := documents()
		docs[0].(*cluster.Network).Pools = []cluster.Range{{First: netip.MustParseAddr("10.0.0.100"), Last: netip.MustParseAddr("10.0.0.100")}}
		r := start(t, nil, docs...)
		defer r.stop()
		r.ask(packetOf(discover, mac(10)))
		r.silence(packetOf(discover, mac(11)))
		time.Sleep(offerTime + time.Second)
		if got := r.lease(mac(11)); got != "10.0.0.100" {
			t.Errorf("got %s", got)
		}
	})
}

// A store that takes longer than an offer is kept must not have one address
// given twice.
func TestSlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docs := documents()
		docs[0].(*cluster.Network).Pools = []cluster.Range{{First: netip.MustParseAddr("10.0.0.100"), Last: netip.MustParseAddr("10.0.0.100")}}
		leases := new(memory)
		leases.before = func() { time.Sleep(time.Minute) }
		r := start(t, leases, docs...)
		defer r.stop()
		r.silence(selecting(mac(10), "10.0.0.100"))
		time.Sleep(offerTime + time.Second)
		r.silence(packetOf(discover, mac(11)))
		a, _ := r.ask(selecting(mac(11), "10.0.0.100"))
		r.kind(a, nak)
		time.Sleep(time.Minute)
		if l, _ := leases.at("10.0.0.100"); l.MAC != mac(10) {
			t.Errorf("it is stored as %+v", l)
		}
	})
}

func TestDeclinedComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		docs := documents()
		docs[0].(*cluster.Network).Pools = []cluster.Range{{First: netip.MustParseAddr("10.0.0.100"), Last: netip.MustParseAddr("10.0.0.100")}}
		r := start(t, nil, docs...)
		defer r.stop()
		r.lease(mac(10))
		r.silence(packetOf(decline, mac(10), requested("10.0.0.100"), serverID("10.0.0.1")))
		time.Sleep(time.Second)
		r.silence(packetOf(discover, mac(10)))
		time.Sleep(declineTime)
		if got := r.lease(mac(11)); got != "10.0.0.100" {
			t.Errorf("got %s", got)
		}
	})
}

func TestReservation(t *testing.T) {
	t.Run("its address is another machine's still", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			docs := documents()
			docs[3].(*cluster.Host).Address = netip.MustParseAddr("10.0.0.150") // in the pool
			leases := new(memory)
			leases.put(lent("10.0.0.150", mac(77), time.Now().Add(time.Hour)))
			r := start(t, leases, docs...)
			defer r.stop()
			if got := r.lease(mac(1)); got == "10.0.0.150" {
				t.Error("it got an address that another machine uses")
			}
			a, _ := r.ask(packetOf(request, mac(77), ciaddr("10.0.0.150")))
			r.kind(a, nak) // it may not stay
			time.Sleep(2 * time.Hour)
			if got := r.lease(mac(1)); got != "10.0.0.150" {
				t.Errorf("the address is free and the host gets %s", got)
			}
			if n := len(leases.leases); n != 1 {
				t.Errorf("%d leases are stored, want 1: its old one is given up", n)
			}
		})
	})
	t.Run("its network card was exchanged", func(t *testing.T) {
		leases := new(memory)
		leases.put(lent("10.0.0.50", mac(99), time.Now().Add(time.Hour))) // in no pool
		r := start(t, leases)
		if got := r.lease(mac(1)); got != "10.0.0.50" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("of a host known by its UUID", func(t *testing.T) {
		docs := documents(&cluster.Host{Meta: cluster.Meta{Name: "u"}, UUID: "12345678-9abc-def0-0102-030405060708", Address: netip.MustParseAddr("10.0.0.60")})
		r := start(t, nil, docs...)
		for _, raw := range [][]byte{ // as SMBIOS 2.6 has it, and as older ones have it
			{0, 0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 1, 2, 3, 4, 5, 6, 7, 8},
			{0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8},
		} {
			if o, _ := r.ask(packetOf(discover, mac(90), with(97, raw...))); o.YourIPAddr.String() != "10.0.0.60" {
				t.Errorf("offered %s", o.YourIPAddr)
			}
		}
	})
}

func TestOwner(t *testing.T) {
	r := start(t, nil)
	has := r.lease(mac(77))
	for addr, want := range map[string]cluster.MAC{has: mac(77), "10.0.0.50": mac(1), "10.0.0.51": {}, "192.168.1.1": {}} {
		if got, ok := r.server.Owner(netip.MustParseAddr(addr)); got != want || ok == want.IsZero() {
			t.Errorf("%s is owned by %s, want %s", addr, got, want)
		}
	}
}

// A write that is lost with a member of the store that died is made again, before
// the client asks again.
func TestWriteIsLost(t *testing.T) {
	store := new(memory)
	tries := 0
	store.before = func() {
		tries++
		store.delay = 0
		if tries == 1 {
			store.delay = time.Minute
		}
	}
	r := start(t, store)
	if r.lease(mac(10)); tries != 2 {
		t.Errorf("it was written %d times, want 2", tries)
	}
}
