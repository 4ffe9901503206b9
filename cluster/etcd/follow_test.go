package etcd

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// A watch from before what etcd has forgotten says so: then all is read again.
func TestFollowFromWhatIsForgotten(t *testing.T) {
	s := empty(t)
	rev, err := s.Commit(t.Context(), []cluster.Lease{lentTo("10.0.0.7")}, nil)
	must(t, err)
	now, err := s.Commit(t.Context(), []cluster.Lease{lentTo("10.0.0.8")}, nil)
	must(t, err)
	_, err = s.client.Compact(t.Context(), int64(now), clientv3.WithCompactPhysical())
	must(t, err)
	err = s.member.watch(t.Context(), cluster.LeasesFolder, rev-1, func([]*mvccpb.Event) error { return nil })
	if !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("it ended with %v", err)
	}
}

// What one server lends another hears from its own member, a learner too; and nothing
// waits for a member that has stopped.
func TestFollowAtALearner(t *testing.T) {
	first, s := several(t)
	second, st := joined(t, s, first, "follower")
	ctx, stop := context.WithCancel(t.Context())
	some, done := make(chan cluster.Lease, 8), make(chan struct{})
	started := make(chan struct{}, 8)
	go func() {
		defer close(done)
		st.WatchLeases(ctx, func([]cluster.Lease, cluster.Revision) { started <- struct{}{} }, func(l ...cluster.Lease) { some <- l[0] })
	}()
	<-started
	rev, err := s.Commit(t.Context(), []cluster.Lease{lentTo("10.0.0.9")}, nil)
	must(t, err)
	if got := <-some; got.Address != lentTo("10.0.0.9").Address || got.Revision != rev {
		t.Errorf("heard of %+v", got)
	}
	stop()
	<-done
	ended := make(chan error, 1)
	go func() {
		ended <- st.member.watch(t.Context(), cluster.LeasesFolder, rev, func([]*mvccpb.Event) error { return nil })
	}()
	second.member.Close()
	if err := <-ended; err == nil {
		t.Error("a member that has stopped is watched")
	}
}
