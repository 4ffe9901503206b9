package etcd

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

func TestTurnsAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		var inside [kinds]atomic.Int32
		var most [kinds]int32
		var mu sync.Mutex
		var all sync.WaitGroup
		for n := range 200 {
			k := kind(n % 2)
			all.Go(func() {
				time.Sleep(time.Duration(n/20) * time.Millisecond)
				defer turns.begin(t.Context(), k)()
				now := inside[k].Add(1)
				if o := inside[other(k)].Load(); o > 0 {
					t.Errorf("%d calls of the other kind are under way", o)
				}
				mu.Lock()
				most[k] = max(most[k], now)
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
				inside[k].Add(-1)
			})
		}
		began := time.Now()
		all.Wait()
		if most[work] < 10 || most[users] != usersAtOnce {
			t.Errorf("at most %v at a time: they do not go together", most)
		}
		if took := time.Since(began); took >= turnPatience {
			t.Errorf("all took %s: somebody ran out of patience", took)
		}
	})
}

func TestOneThatHangsHoldsUpNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		hangs := turns.begin(t.Context(), work)
		began := time.Now()
		end := turns.begin(t.Context(), users)
		if took := time.Since(began); took != turnPatience {
			t.Errorf("a change of users waited %s", took)
		}
		end()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		turns.begin(ctx, users)() // whose caller is gone
		began = time.Now()
		turns.begin(t.Context(), work)()
		if took := time.Since(began); took != 0 {
			t.Errorf("nobody waits for another turn, and a call waited %s", took)
		}
		hangs()
		turns.begin(t.Context(), users)()
		if turns.inside != 0 || len(turns.waiting[work])+len(turns.waiting[users]) != 0 {
			t.Errorf("left behind: %+v", &turns)
		}
	})
}

func TestKindOf(t *testing.T) {
	for method, want := range map[string]kind{
		"/etcdserverpb.KV/Txn": work, "/etcdserverpb.Lease/LeaseGrant": work, "/etcdserverpb.Auth/UserGet": work,
		"/etcdserverpb.Auth/RoleList": work, "/etcdserverpb.Auth/AuthStatus": work,
		"/etcdserverpb.Auth/UserAdd": users, "/etcdserverpb.Auth/RoleGrantPermission": users, "/etcdserverpb.Auth/AuthEnable": users,
	} {
		if got := kindOf(method); got != want {
			t.Errorf("%s is %d, not %d", method, got, want)
		}
	}
}

// A lease is written while hosts join: it is not put off until they have all.
func TestLeasesAreWrittenWhileHostsJoin(t *testing.T) {
	s := empty(t)
	var joining sync.WaitGroup
	var left atomic.Int32
	const hosts = 16
	for n := range hosts {
		left.Add(1)
		joining.Go(func() {
			defer left.Add(-1)
			if err := s.AllowNode(t.Context(), cluster.HostName(fmt.Sprintf("h%d", n))); err != nil {
				t.Error(err)
			}
		})
	}
	written := 0
	for ; left.Load() > 0; written++ {
		must(t, s.Audit(t.Context(), cluster.AuditEntry{At: time.Now(), Actor: "a", Action: "b", Subject: "c"}))
	}
	joining.Wait()
	// Six changes for each host, and a write in between whenever it is not their turn.
	if turns := 6 * hosts / usersAtOnce; written < turns/3 {
		t.Errorf("%d writes came through while %d hosts joined, in about %d turns", written, hosts, turns)
	}
}

// A host that is let in stays so when whoever asked for it has hung up.
func TestAllowNodeIsEnded(t *testing.T) {
	s := empty(t)
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	for range 3 {
		must(t, s.AllowNode(ctx, "h1"))
	}
	u, err := s.client.UserGet(t.Context(), cluster.UserOf("h1"))
	must(t, err)
	r, err := s.client.RoleGet(t.Context(), cluster.UserOf("h1"))
	must(t, err)
	if len(u.Roles) != 1 || len(r.Perm) != 3 {
		t.Errorf("user with roles %q, role with %d permissions", u.Roles, len(r.Perm))
	}
}
