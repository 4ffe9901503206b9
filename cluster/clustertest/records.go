package clustertest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

var recordTests = map[string]func(*testing.T, Rig){
	"leases":          testLeases,
	"many leases":     testManyLeases,
	"lease conflicts": testLeaseConflicts,
	"lease race":      testLeaseRace,
	"audit":           testAudit,
	"audit of apply":  testAuditOfApply,
	"boots":           testBoots,
	"watch boots":     testWatchBoots,
}

func lease(i int, mac byte) cluster.Lease {
	return cluster.Lease{
		Network: "lan", Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), MAC: cluster.MAC{2, 0, 0, byte(i >> 8), byte(i), mac},
		Hostname: fmt.Sprintf("h%d", i), Expires: time.Date(2030, 1, 2, 3, 4, 5, 678, time.UTC),
	}
}

func leases(t *testing.T, s Store) map[netip.Addr]cluster.Lease {
	t.Helper()
	all, _, err := s.Leases(t.Context())
	must(t, err)
	out := map[netip.Addr]cluster.Lease{}
	for _, l := range all {
		out[l.Address] = l
	}
	if len(out) != len(all) {
		t.Fatalf("%d leases of %d addresses", len(all), len(out))
	}
	return out
}

// commit writes leases, which bear the revision that comes back from then on.
func commit(t *testing.T, s Store, put, remove []cluster.Lease) {
	t.Helper()
	rev, err := s.Commit(t.Context(), put, remove)
	must(t, err)
	there := leases(t, s)
	for _, l := range put {
		if got := there[l.Address]; got.Revision != rev || rev == 0 {
			t.Errorf("written at revision %d: %+v", rev, got)
		}
	}
}

func testLeases(t *testing.T, r Rig) {
	commit(t, r, nil, nil)
	a, b := lease(1, 1), lease(2, 1)
	commit(t, r, []cluster.Lease{a, b}, nil)
	renewed := a
	renewed.Expires = a.Expires.Add(time.Hour)
	commit(t, r, []cluster.Lease{renewed}, []cluster.Lease{a, b})
	got := leases(t, r)
	if len(got) != 1 || !got[a.Address].Equal(renewed) {
		t.Errorf("leases %+v", got)
	}
	// The same moment in another zone is the same lease.
	elsewhere := renewed
	elsewhere.Expires = renewed.Expires.In(time.FixedZone("there", 3600))
	commit(t, r, nil, []cluster.Lease{elsewhere})
	if got := leases(t, r); len(got) != 0 {
		t.Errorf("leases %+v", got)
	}
}

func testManyLeases(t *testing.T, r Rig) {
	const n = 500
	var all []cluster.Lease
	for i := range n {
		all = append(all, lease(i, 1))
	}
	commit(t, r, all, nil)
	if got := leases(t, r); len(got) != n {
		t.Errorf("%d leases", len(got))
	}
	commit(t, r, nil, all)
	if got := leases(t, r); len(got) != 0 {
		t.Errorf("%d leases", len(got))
	}
}

// testLeaseConflicts has another server be faster: nothing is written, and the
// error holds what is there.
func testLeaseConflicts(t *testing.T, r Rig) {
	ctx := t.Context()
	theirs, ours, free := lease(1, 1), lease(1, 2), lease(2, 2)
	commit(t, r, []cluster.Lease{theirs}, nil)
	for name, c := range map[string]struct {
		put, remove []cluster.Lease
		there       cluster.Lease
	}{
		"taken":   {[]cluster.Lease{free, ours}, nil, theirs},
		"changed": {[]cluster.Lease{free, ours}, []cluster.Lease{ours}, theirs},
		"release": {[]cluster.Lease{free}, []cluster.Lease{ours}, theirs},
		"gone":    {nil, []cluster.Lease{theirs, lease(3, 2)}, cluster.Lease{Network: "lan", Address: lease(3, 2).Address}},
	} {
		_, err := r.Commit(ctx, c.put, c.remove)
		is(t, err, cluster.ErrConflict)
		var conflict *cluster.LeaseConflictError
		if !errors.As(err, &conflict) || len(conflict.Leases) != 1 || !conflict.Leases[0].Equal(c.there) {
			t.Errorf("%s: %v", name, err)
		}
		if got := leases(t, r); len(got) != 1 || !got[theirs.Address].Equal(theirs) {
			t.Errorf("%s: leases %+v", name, got)
		}
	}
	commit(t, r, []cluster.Lease{free, ours}, []cluster.Lease{theirs})
}

// testLeaseRace has servers give one address away at once: one of them does.
func testLeaseRace(t *testing.T, r Rig) {
	var won atomic.Int32
	var wg sync.WaitGroup
	for mac := range byte(8) {
		wg.Go(func() {
			switch _, err := r.Commit(t.Context(), []cluster.Lease{lease(1, mac), lease(10+int(mac), mac)}, nil); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, cluster.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := leases(t, r); won.Load() != 1 || len(got) != 2 {
		t.Errorf("%d won; leases %+v", won.Load(), got)
	}
}

func testAudit(t *testing.T, r Rig) {
	ctx := t.Context()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(i int) time.Time { return start.Add(time.Duration(i) * 100 * time.Nanosecond) }
	for i := range 20 {
		e := cluster.AuditEntry{At: at(i), Actor: fmt.Sprintf("operator:%d", i%2), Action: "apply", Subject: fmt.Sprintf("host h%d", i), OK: true}
		must(t, r.Audit(ctx, e))
	}
	check := func(q cluster.AuditQuery, want string) {
		t.Helper()
		p, err := r.AuditLog(ctx, q)
		must(t, err)
		subjects := make([]string, len(p.Entries))
		for i, e := range p.Entries {
			subjects[i] = e.Subject
		}
		if got := fmt.Sprint(subjects, p.Older, p.OlderRefusals); got != want || p.Entries == nil {
			t.Errorf("%+v: %s, not %s", q, got, want)
		}
	}
	check(cluster.AuditQuery{Last: 3}, "[host h17 host h18 host h19] 17 0")
	check(cluster.AuditQuery{About: "operator:1", Last: 2}, "[host h17 host h19] 8 0")
	check(cluster.AuditQuery{About: "1", Last: 1}, "[host h19] 9 0") // operator:1, and none of h1, h10 ...
	check(cluster.AuditQuery{About: "h1"}, "[host h1] 0 0")
	check(cluster.AuditQuery{About: "host h5", Last: 10}, "[host h5] 0 0")
	check(cluster.AuditQuery{About: "nobody", Last: 10}, "[] 0 0")
	// What strangers are refused takes nobody's place.
	for i := range 5 {
		e := cluster.AuditEntry{At: at(20 + i), Actor: "10.0.0.9", Action: "token.redeem", Subject: fmt.Sprintf("host s%d", i), Alarm: i > 0}
		must(t, r.Audit(ctx, e))
	}
	check(cluster.AuditQuery{Last: 2}, "[host h18 host h19 host s3 host s4] 18 3")
	check(cluster.AuditQuery{Alarms: true, Last: 3}, "[host s2 host s3 host s4] 1 0")
	check(cluster.AuditQuery{About: "10.0.0.9", Last: 1}, "[host s4] 0 4")
}

// testAuditOfApply has the audit and what it tells of written together or not at all.
func testAuditOfApply(t *testing.T, r Rig) {
	ctx := t.Context()
	base := load(t, r)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var docs []cluster.Document
	var audit []cluster.AuditEntry
	for i := range 3 {
		docs = append(docs, host(i))
		audit = append(audit, cluster.AuditEntry{At: at, Actor: "operator:a", Action: "create", Subject: host(i).Ref().String(), OK: true})
	}
	must(t, r.Apply(ctx, base, docs, nil, audit))
	is(t, r.Apply(ctx, base, []cluster.Document{host(9)}, nil, []cluster.AuditEntry{{At: at, Actor: "operator:b", Subject: "host h009"}}), cluster.ErrConflict)
	must(t, r.Apply(ctx, load(t, r), nil, []cluster.Ref{host(0).Ref()}, []cluster.AuditEntry{{At: at.Add(time.Second), Actor: "operator:c", Action: "delete", Subject: "host h000", OK: true}}))
	p, err := r.AuditLog(ctx, cluster.AuditQuery{})
	must(t, err)
	var got []string
	for _, e := range p.Entries {
		got = append(got, e.Actor+" "+e.Action+" "+e.Subject)
	}
	want := "[operator:a create host h000 operator:a create host h001 operator:a create host h002 operator:c delete host h000]"
	if fmt.Sprint(got) != want {
		t.Errorf("%s", got)
	}
	if p, err = r.AuditLog(ctx, cluster.AuditQuery{About: "h000", Last: 1}); err != nil || len(p.Entries) != 1 || p.Entries[0].Action != "delete" || p.Older != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

func testBoots(t *testing.T, r Rig) {
	ctx := t.Context()
	boot := func(h cluster.HostName, i int, steps ...cluster.Step) cluster.Boot {
		b := cluster.Boot{ID: fmt.Sprintf("2026-01-02T03:04:%02dZ", i), Host: h, MAC: cluster.MAC{2, 0, 0, 0, 0, 1}}
		for _, s := range steps {
			b.Events = append(b.Events, cluster.Event{Step: s})
		}
		return b
	}
	must(t, r.SaveBoot(ctx, boot("h10", 1)))
	must(t, r.SaveBoot(ctx, boot("", 1)))
	for i := range 13 {
		must(t, r.SaveBoot(ctx, boot("h1", i, cluster.StepDHCP)))
	}
	must(t, r.SaveBoot(ctx, boot("h1", 12, cluster.StepDHCP, cluster.StepJoin)))
	got, err := r.Boots(ctx, "h1")
	must(t, err)
	if len(got) != 10 || got[0].ID != boot("", 3).ID || len(got[9].Events) != 2 {
		t.Errorf("boots %+v", got)
	}
	for h, want := range map[cluster.HostName]int{"h10": 1, "02-00-00-00-00-01": 1, "h": 0, "": 12} {
		if got, err := r.Boots(ctx, h); err != nil || len(got) != want {
			t.Errorf("%d boots of %q, not %d: %v", len(got), h, want, err)
		}
	}
}

func testWatchBoots(t *testing.T, r Rig) {
	ctx, stop := context.WithCancel(t.Context())
	boot := cluster.Boot{ID: "2026-01-02T03:04:05Z", Host: "h1", Events: []cluster.Event{{Step: cluster.StepDHCP}}}
	must(t, r.SaveBoot(ctx, boot)) // before anybody watches
	type watch struct {
		ready chan struct{}
		got   chan cluster.Boot
		done  chan error
	}
	begin := func(h cluster.HostName) watch {
		w := watch{make(chan struct{}), make(chan cluster.Boot, 8), make(chan error, 1)}
		go func() {
			w.done <- r.WatchBoots(ctx, h, func() { close(w.ready) }, func(b cluster.Boot) { w.got <- b })
		}()
		<-w.ready
		return w
	}
	all, one := begin(""), begin("h1")
	other := cluster.Boot{ID: "2026-01-02T03:04:06Z", Host: "h10"}
	must(t, r.SaveBoot(ctx, other))
	boot.Events = append(boot.Events, cluster.Event{Step: cluster.StepScript})
	must(t, r.SaveBoot(ctx, boot))
	if b := <-all.got; b.Host != "h10" {
		t.Errorf("of all %+v", b)
	}
	for _, w := range []watch{all, one} {
		if b := <-w.got; b.Host != "h1" || len(b.Events) != 2 {
			t.Errorf("%+v", b)
		}
	}
	stop()
	for _, w := range []watch{all, one} {
		is(t, <-w.done, context.Canceled)
	}
}
