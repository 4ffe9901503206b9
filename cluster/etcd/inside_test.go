package etcd

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// A read and a transaction inside the process pass etcd's own checks of who makes them.
func TestInsideIsNoBackDoor(t *testing.T) {
	s := empty(t)
	st, err := Open(ClientConfig{Endpoints: []string{shared.endpoint()}, TLS: shared.tls(t, "nobody"), Member: shared.member})
	must(t, err)
	defer st.Close()
	lease := lentTo("10.0.0.7")
	if _, err := st.Commit(t.Context(), []cluster.Lease{lease}, nil); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("who has no rights writes a lease: %v", err)
	}
	if _, _, err := st.Token(t.Context(), "any"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("who has no rights reads a token: %v", err)
	}
	if _, err := s.Commit(t.Context(), []cluster.Lease{lease}, nil); err != nil {
		t.Error(err)
	}
	var conflict *cluster.LeaseConflictError
	if _, err := s.Commit(t.Context(), []cluster.Lease{lease}, nil); !errors.As(err, &conflict) {
		t.Errorf("an address that is lent: %v", err)
	}
}

// Who waits for a majority that is not there waits no longer than it wanted to,
// and hears that, so that it asks again.
func TestInsideKeepsTheDeadline(t *testing.T) {
	_, s := several(t)
	nowhere, err := freePort()
	must(t, err)
	_, err = s.client.MemberAdd(t.Context(), []string{"https://" + nowhere.String()}) // one of two votes is no majority
	must(t, err)
	for _, wait := range []time.Duration{200 * time.Millisecond, 0} {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		if _, err := s.Commit(ctx, []cluster.Lease{lentTo("10.0.0.8")}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %s: %v", wait, err)
		}
		cancel()
	}
}

// A learner passes nothing on by itself: its server asks those with a vote.
func TestInsideALearner(t *testing.T) {
	first, s := several(t)
	second, st := joined(t, s, first, "second")
	if second.member.Standing().Votes {
		t.Fatal("the second one has a vote")
	}
	rev, err := st.Commit(t.Context(), []cluster.Lease{lentTo("10.0.0.9")}, nil)
	must(t, err)
	r, err := s.client.Get(t.Context(), cluster.LeasesFolder, clientv3.WithPrefix())
	must(t, err)
	if len(r.Kvs) != 1 || r.Kvs[0].ModRevision != int64(rev) {
		t.Errorf("found %v", r.Kvs)
	}
}

func lentTo(address string) cluster.Lease {
	return cluster.Lease{Network: "lan", Address: netip.MustParseAddr(address), MAC: cluster.MAC{2}, Expires: time.Unix(1e9, 0)}
}
