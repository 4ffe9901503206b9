package etcd

import (
	"context"
	"encoding/json"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// Leases returns every DHCP lease.
func (s *Store) Leases(ctx context.Context) ([]cluster.Lease, error) {
	r, err := s.client.Get(ctx, cluster.LeasesFolder, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("load leases: %w", err)
	}
	out := make([]cluster.Lease, 0, len(r.Kvs))
	for _, kv := range r.Kvs {
		var l cluster.Lease
		if err := json.Unmarshal(kv.Value, &l); err != nil {
			return nil, fmt.Errorf("etcd key %s: %w", kv.Key, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// Commit makes put durable and takes remove away, in one transaction, which is
// on disk on most of the servers when Commit returns. What remove holds is
// believed to be there, and an address in put that is not in remove too is
// believed to be free. Where that is not so, nothing is changed and the error is
// a *cluster.LeaseConflictError with what is there: another server was faster.
func (s *Store) Commit(ctx context.Context, put, remove []cluster.Lease) error {
	c, err := newLeaseCommit(put, remove)
	if err != nil || len(c.keys) == 0 {
		return err
	}
	// Comparing values takes no read before and nothing to be remembered. Only
	// when one differs are they looked at: a server of another version may have
	// written the same lease in other words.
	guards := c.byValue
	for {
		r, err := s.client.Txn(ctx).If(guards...).Then(c.then...).Else(c.look...).Commit()
		switch {
		case err != nil:
			return fmt.Errorf("write %d leases: %w", len(put)+len(remove), err)
		case r.Succeeded:
			return nil
		}
		if guards, err = c.compare(r.Responses); err != nil {
			return err
		}
	}
}

// leaseCommit is one transaction of leases.
type leaseCommit struct {
	keys     []string
	believed []*cluster.Lease // what is there at each key; nil when it is free
	byValue  []clientv3.Cmp
	then     []clientv3.Op
	look     []clientv3.Op
}

func newLeaseCommit(put, remove []cluster.Lease) (*leaseCommit, error) {
	c := new(leaseCommit)
	index := make(map[string]int, len(put)+len(remove))
	for _, l := range remove {
		key := cluster.LeaseKey(l.Network, l.Address)
		body, err := json.Marshal(l)
		if err != nil {
			return nil, fmt.Errorf("encode lease: %w", err)
		}
		index[key] = len(c.keys)
		c.add(key, &l, clientv3.Compare(clientv3.Value(key), "=", string(body)), clientv3.OpDelete(key))
	}
	for _, l := range put {
		key := cluster.LeaseKey(l.Network, l.Address)
		body, err := json.Marshal(l)
		if err != nil {
			return nil, fmt.Errorf("encode lease: %w", err)
		}
		op := clientv3.OpPut(key, string(body))
		if i, replaces := index[key]; replaces {
			c.then[i] = op
			continue
		}
		c.add(key, nil, clientv3.Compare(clientv3.CreateRevision(key), "=", 0), op)
	}
	return c, nil
}

func (c *leaseCommit) add(key string, believed *cluster.Lease, guard clientv3.Cmp, op clientv3.Op) {
	c.keys, c.believed = append(c.keys, key), append(c.believed, believed)
	c.byValue, c.then = append(c.byValue, guard), append(c.then, op)
	c.look = append(c.look, clientv3.OpGet(key))
}

// compare looks at what is there. If all of it is what was believed it returns
// guards that hold as long as nothing changes.
func (c *leaseCommit) compare(found []*pb.ResponseOp) ([]clientv3.Cmp, error) {
	guards := make([]clientv3.Cmp, len(c.keys))
	conflict := new(cluster.LeaseConflictError)
	for i, key := range c.keys {
		var there *cluster.Lease
		var rev int64
		if kvs := found[i].GetResponseRange().Kvs; len(kvs) > 0 {
			there, rev = new(cluster.Lease), kvs[0].ModRevision
			if err := json.Unmarshal(kvs[0].Value, there); err != nil {
				return nil, fmt.Errorf("etcd key %s: %w", key, err)
			}
		}
		guards[i] = clientv3.Compare(clientv3.ModRevision(key), "=", rev)
		switch believed := c.believed[i]; {
		case there == nil && believed != nil: // gone meanwhile
			conflict.Leases = append(conflict.Leases, cluster.Lease{Network: believed.Network, Address: believed.Address})
		case there != nil && (believed == nil || !there.Equal(*believed)):
			conflict.Leases = append(conflict.Leases, *there)
		}
	}
	if len(conflict.Leases) > 0 {
		return nil, conflict
	}
	return guards, nil
}
