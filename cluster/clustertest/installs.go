package clustertest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

var installTests = map[string]func(*testing.T, Rig){
	"life":  testInstallLife,
	"race":  testInstallRace,
	"watch": testInstallWatch,
}

func change(t *testing.T, s Store, h cluster.HostName, next func(cluster.Install) cluster.Install) cluster.Install {
	t.Helper()
	i, err := s.ChangeInstall(t.Context(), h, next)
	must(t, err)
	return i
}

func begin(boot string) func(cluster.Install) cluster.Install {
	return func(i cluster.Install) cluster.Install { return i.Begin(boot, time.Now()) }
}

// testInstallLife takes a host from its first boot to its disk. What changes
// nothing writes nothing.
func testInstallLife(t *testing.T, r Rig) {
	var first cluster.Install
	begun := change(t, r, "web1", func(i cluster.Install) cluster.Install { first = i; return i.Begin("b1", time.Now()) })
	if first.Host != "web1" || first.Phase != cluster.InstallWanted || begun.Phase != cluster.InstallBegun || begun.Booted != 1 || begun.Revision == 0 {
		t.Errorf("from %+v to %+v", first, begun)
	}
	if same := change(t, r, "web1", begin("b1")); same.Revision != begun.Revision || same.Booted != 1 {
		t.Errorf("the same boot again: %+v", same)
	}
	done := change(t, r, "web1", func(i cluster.Install) cluster.Install { return i.Done("10.0.0.1", time.Now()) })
	if done.Phase != cluster.InstallDone || done.By != "10.0.0.1" || done.Revision <= begun.Revision {
		t.Errorf("done: %+v", done)
	}
	if again := change(t, r, "web1", begin("b2")); again.Phase != cluster.InstallDone || again.Revision != done.Revision {
		t.Errorf("a boot of an installed host: %+v", again)
	}
	if other := change(t, r, "web2", func(i cluster.Install) cluster.Install { return i }); other.Phase != cluster.InstallWanted || other.Revision != 0 {
		t.Errorf("another host: %+v", other)
	}
}

// testInstallRace has servers give a host its installer at once: each boot is
// counted.
func testInstallRace(t *testing.T, r Rig) {
	var wg sync.WaitGroup
	for _, boot := range []string{"a", "b", "c", "d", "e"} {
		wg.Go(func() {
			if _, err := r.ChangeInstall(t.Context(), "web1", begin(boot)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if i := change(t, r, "web1", func(i cluster.Install) cluster.Install { return i }); i.Phase != cluster.InstallFailed || i.Booted != cluster.MaxInstalls {
		t.Errorf("after five boots: %+v", i)
	}
}

func testInstallWatch(t *testing.T, r Rig) {
	before := change(t, r, "web1", begin("b1"))
	ctx, stop := context.WithCancel(t.Context())
	all, one := make(chan []cluster.Install, 1), make(chan cluster.Install, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.WatchInstalls(ctx, func(l []cluster.Install) { all <- l }, func(i cluster.Install) { one <- i })
	}()
	if got := <-all; len(got) != 1 || got[0].Host != "web1" || got[0].Phase != before.Phase || got[0].Revision != before.Revision {
		t.Errorf("at the start %+v", got)
	}
	after := change(t, r, "web2", begin("b1"))
	if got := <-one; got.Host != "web2" || got.Revision != after.Revision || got.Boot != "b1" {
		t.Errorf("then %+v", got)
	}
	stop()
	<-done
}
