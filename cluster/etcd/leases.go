package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// Leases returns every DHCP lease, as of one revision.
func (s *Store) Leases(ctx context.Context) ([]cluster.Lease, cluster.Revision, error) {
	r, err := s.client.Get(ctx, cluster.LeasesFolder, clientv3.WithPrefix())
	if err != nil {
		return nil, 0, fmt.Errorf("load leases: %w", err)
	}
	out := make([]cluster.Lease, 0, len(r.Kvs))
	for _, kv := range r.Kvs {
		l, err := lease(kv)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, l)
	}
	return out, cluster.Revision(r.Header.Revision), nil
}

// lease reads a record. One that was deleted has no value, and no MAC.
func lease(kv *mvccpb.KeyValue) (l cluster.Lease, err error) {
	if len(kv.Value) > 0 {
		err = json.Unmarshal(kv.Value, &l)
	} else {
		network, address, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), cluster.LeasesFolder), "/")
		l.Network = cluster.NetworkName(network)
		l.Address, err = netip.ParseAddr(address)
	}
	if err != nil {
		return l, fmt.Errorf("etcd key %s: %w", kv.Key, err)
	}
	l.Revision = cluster.Revision(kv.ModRevision)
	return l, nil
}

// WatchLeases calls all with every lease there is, at the start and whenever one
// may have been missed, and some with those that change, of one transaction each
// time; what was taken away has no MAC. It returns when ctx ends.
func (s *Store) WatchLeases(ctx context.Context, all func([]cluster.Lease, cluster.Revision), some func(...cluster.Lease)) {
	for ctx.Err() == nil {
		if err := s.followLeases(ctx, all, some); err != nil && ctx.Err() == nil {
			s.log.Warn("watch of the leases ended; trying again", "err", err)
			pause(ctx, time.Second)
		}
	}
}

func (s *Store) followLeases(ctx context.Context, all func([]cluster.Lease, cluster.Revision), some func(...cluster.Lease)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	list, rev, err := s.Leases(ctx)
	if err != nil {
		return err
	}
	all(list, rev)
	if s.member != nil {
		return s.member.watch(ctx, cluster.LeasesFolder, rev, func(events []*mvccpb.Event) error { return leasesOf(events, some) })
	}
	for w := range s.client.Watch(ctx, cluster.LeasesFolder, clientv3.WithPrefix(), clientv3.WithRev(int64(rev)+1)) {
		if err := w.Err(); err != nil {
			return err
		}
		events := make([]*mvccpb.Event, len(w.Events))
		for i, ev := range w.Events {
			events[i] = (*mvccpb.Event)(ev)
		}
		if err := leasesOf(events, some); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// leasesOf reads what changed.
func leasesOf(events []*mvccpb.Event, some func(...cluster.Lease)) error {
	changed := make([]cluster.Lease, 0, len(events))
	for _, ev := range events {
		l, err := lease(ev.Kv)
		if err != nil {
			return err
		}
		changed = append(changed, l)
	}
	some(changed...)
	return nil
}

// Commit makes put durable and takes remove away, in one transaction, which is
// on disk on most of the servers when Commit returns its revision. What remove holds is
// believed to be there, and an address in put that is not in remove too is
// believed to be free. Where that is not so, nothing is changed and the error is
// a *cluster.LeaseConflictError with what is there: another server was faster.
func (s *Store) Commit(ctx context.Context, put, remove []cluster.Lease) (cluster.Revision, error) {
	c, err := newLeaseCommit(put, remove)
	if err != nil || len(c.keys) == 0 {
		return 0, err
	}
	// Comparing values takes no read before and nothing to be remembered. Only
	// when one differs are they looked at: a server of another version may have
	// written the same lease in other words. To look in the same transaction would
	// make each a third longer, in etcd's log too.
	guards := c.byValue
	for {
		r, err := s.near.Txn(ctx).If(guards...).Then(c.then...).Commit()
		switch {
		case err != nil:
			return 0, fmt.Errorf("write %d leases: %w", len(put)+len(remove), err)
		case r.Succeeded:
			return cluster.Revision(r.Header.Revision), nil
		}
		if r, err = s.near.Txn(ctx).Then(c.look()...).Commit(); err != nil {
			return 0, fmt.Errorf("look at %d leases: %w", len(c.keys), err)
		}
		if guards, err = c.compare(r.Responses, cluster.Revision(r.Header.Revision)); err != nil {
			return 0, err
		}
	}
}

// leaseCommit is one transaction of leases.
type leaseCommit struct {
	keys     []string
	believed []*cluster.Lease // what is there at each key; nil when it is free
	byValue  []clientv3.Cmp
	then     []clientv3.Op
}

func newLeaseCommit(put, remove []cluster.Lease) (*leaseCommit, error) {
	most := len(put) + len(remove)
	c := &leaseCommit{
		keys: make([]string, 0, most), believed: make([]*cluster.Lease, 0, most),
		byValue: make([]clientv3.Cmp, 0, most), then: make([]clientv3.Op, 0, most),
	}
	index := make(map[string]int, len(remove))
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
}

// look reads what is at the keys.
func (c *leaseCommit) look() []clientv3.Op {
	ops := make([]clientv3.Op, len(c.keys))
	for i, key := range c.keys {
		ops[i] = clientv3.OpGet(key)
	}
	return ops
}

// compare looks at what is there. If all of it is what was believed it returns
// guards that hold as long as nothing changes.
func (c *leaseCommit) compare(found []*pb.ResponseOp, at cluster.Revision) ([]clientv3.Cmp, error) {
	guards := make([]clientv3.Cmp, len(c.keys))
	conflict := new(cluster.LeaseConflictError)
	for i, key := range c.keys {
		var there *cluster.Lease
		var rev int64
		if kvs := found[i].GetResponseRange().Kvs; len(kvs) > 0 {
			l, err := lease(kvs[0])
			if err != nil {
				return nil, err
			}
			there, rev = &l, kvs[0].ModRevision
		}
		guards[i] = clientv3.Compare(clientv3.ModRevision(key), "=", rev)
		switch believed := c.believed[i]; {
		case there == nil && believed != nil: // gone meanwhile
			conflict.Leases = append(conflict.Leases, cluster.Lease{Network: believed.Network, Address: believed.Address, Revision: at})
		case there != nil && (believed == nil || !there.Equal(*believed)):
			conflict.Leases = append(conflict.Leases, *there)
		}
	}
	if len(conflict.Leases) > 0 {
		return nil, conflict
	}
	return guards, nil
}
