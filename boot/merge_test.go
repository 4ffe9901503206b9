package boot_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

func (s *saved) DropBoot(_ context.Context, b cluster.Boot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.boots, b.ID)
	return nil
}

// shared is a store that two servers watch.
type shared struct {
	saved
	watch []func(cluster.Boot)
}

func (s *shared) SaveBoot(ctx context.Context, b cluster.Boot) error {
	b.Events = slices.Clone(b.Events)
	if err := s.saved.SaveBoot(ctx, b); err != nil {
		return err
	}
	for _, told := range s.watch {
		go func() { time.Sleep(20 * time.Millisecond); told(b) }()
	}
	return nil
}

func (s *shared) all() (map[string]cluster.Boot, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.boots), s.calls
}

func steps(b cluster.Boot) (out []string) {
	for _, e := range b.Events {
		out = append(out, string(e.Step)+" "+e.Detail)
	}
	return out
}

// TestOneTimeline has two servers hear one machine: first both, then the one, then
// the other. It has one boot with all of it; and another when it is reset.
func TestOneTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(shared)
		a := &boot.Recorder{Boots: store, Server: "a"}
		b := &boot.Recorder{Boots: store, Server: "b"}
		a.Several = func() bool { return true }
		b.Several = a.Several
		store.watch = []func(cluster.Boot){a.Learn, b.Learn}
		ctx, stop := context.WithCancel(t.Context())
		go a.Run(ctx)
		time.Sleep(100 * time.Millisecond) // they save at different times
		go b.Run(ctx)
		defer synctest.Wait()
		defer stop()
		see := func(r *boot.Recorder, step cluster.Step, detail string, firmware bool) {
			r.Record(boot.Sighting{MAC: mac1, Host: "web1", Firmware: firmware, Event: cluster.Event{Step: step, Detail: detail}})
		}
		begin := func() {
			see(a, cluster.StepDHCP, "asks", true)
			time.Sleep(time.Millisecond)
			see(b, cluster.StepDHCP, "asks", true)
			time.Sleep(time.Millisecond)
			see(a, cluster.StepDHCP, "has 10.0.0.5", false)
		}
		begin()
		time.Sleep(time.Second)
		see(a, cluster.StepScript, "", false)
		time.Sleep(time.Second)
		see(b, cluster.StepKernel, "", false)
		time.Sleep(10 * time.Second)
		see(a, cluster.StepConfig, "", false)
		time.Sleep(2 * time.Second)
		want := []string{"dhcp asks", "dhcp has 10.0.0.5", "script ", "kernel ", "config "}
		kept, calls := store.all()
		if calls > 6 {
			t.Errorf("it was saved %d times", calls)
		}
		if len(kept) != 1 {
			t.Errorf("%d boots are saved of one", len(kept))
		}
		for id, is := range kept {
			if got := steps(is); !slices.Equal(got, want) || is.ID != id {
				t.Errorf("saved: %q", got)
			}
		}
		for name, r := range map[string]*boot.Recorder{"a": a, "b": b} {
			if is, _ := r.Current(mac1); !slices.Equal(steps(is), want) {
				t.Errorf("%s knows %q", name, steps(is))
			}
		}
		time.Sleep(time.Minute)
		if _, now := store.all(); now != calls {
			t.Errorf("%d more were saved with nothing new", now-calls)
		}

		begin() // it was reset; b has never seen more of the first boot than its kernel
		time.Sleep(5 * time.Second)
		if kept, _ := store.all(); len(kept) != 2 {
			t.Errorf("%d boots are saved of two", len(kept))
		}
		if is, _ := b.Current(mac1); !slices.Equal(steps(is), want[:2]) {
			t.Errorf("b knows %q of the second", steps(is))
		}
	})
}

// TestLearnsNothing tells a recorder what it is not to take over.
func TestLearnsNothing(t *testing.T) {
	r := &boot.Recorder{Server: "a"}
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(t time.Time, server cluster.ServerName, host cluster.HostName) cluster.Boot {
		return cluster.Boot{ID: t.Format("2006-01-02T15:04:05.000000000Z"), Host: host, MAC: mac1, Server: server, Events: []cluster.Event{{Step: cluster.StepDHCP, At: t}}}
	}
	r.Learn(at(now, "a", "web1")) // its own, come back
	r.Learn(at(now, "b", ""))
	r.Learn(cluster.Boot{ID: "x", Host: "web1", MAC: mac1, Server: "b"})
	if b, ok := r.Current(mac1); ok {
		t.Errorf("learnt %+v", b)
	}
	r.Learn(at(now, "b", "web1"))
	r.Learn(at(now.Add(-time.Minute), "b", "web1")) // of a boot before
	if b, _ := r.Current(mac1); !b.Events[0].At.Equal(now) {
		t.Errorf("knows %+v", b)
	}
	r.Learn(at(now.Add(time.Minute), "b", "web1"))
	if b, _ := r.Current(mac1); b.Events[0].At.Equal(now) {
		t.Errorf("still knows %+v", b)
	}
	var none *boot.Recorder
	none.Learn(at(now, "b", "web1"))
}
