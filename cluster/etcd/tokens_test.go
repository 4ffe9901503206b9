package etcd

import (
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// TestTokensShareALease: tokens of a boot share an etcd lease, and get another when
// etcd knows that no more; one of a longer life has its own. The audit of a token is
// there with it.
func TestTokensShareALease(t *testing.T) {
	s, ctx := empty(t), t.Context()
	put := func(hash string, life time.Duration) clientv3.LeaseID {
		now := time.Now()
		must(t, s.PutToken(ctx, hash, cluster.Token{Host: "h1", Minted: now, Expires: now.Add(life)}, cluster.AuditEntry{At: now, Action: "token.mint", Detail: hash}))
		r, err := s.client.Get(ctx, cluster.TokenKey(hash))
		must(t, err)
		if len(r.Kvs) != 1 {
			t.Fatalf("token %s is not there", hash)
		}
		id := clientv3.LeaseID(r.Kvs[0].Lease)
		left, err := s.client.TimeToLive(ctx, id)
		must(t, err)
		if d := time.Duration(left.TTL) * time.Second; d < life+tokenKept-time.Minute || d > life+tokenKept+tokenLong+24*time.Hour {
			t.Errorf("a token of %s is kept for %s", life, d)
		}
		return id
	}
	first := put("a", 15*time.Minute)
	if put("b", tokenLong) != first || put("c", 7*24*time.Hour) == first {
		t.Error("not those of a boot, and only those, share a lease")
	}
	_, err := s.client.Revoke(ctx, first)
	must(t, err)
	if put("d", time.Minute) == first {
		t.Error("a lease that was revoked is used again")
	}
	page, err := s.AuditLog(ctx, cluster.AuditQuery{})
	must(t, err)
	var said []string
	for _, e := range page.Entries {
		said = append(said, e.Detail)
	}
	if slices.Sort(said); !slices.Equal(said, []string{"a", "b", "c", "d"}) {
		t.Errorf("the audit has %q", said)
	}
}
