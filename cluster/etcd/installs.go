package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// ChangeInstall reads where a host stands with its installation, writes what next
// makes of it, and returns that. When another server is faster it begins again;
// when nothing changes nothing is written. A host of which there is no record is
// to be installed.
func (s *Store) ChangeInstall(ctx context.Context, h cluster.HostName, next func(cluster.Install) cluster.Install) (cluster.Install, error) {
	key := cluster.InstallKey(h)
	for {
		var was cluster.Install
		rev, err := s.getJSON(ctx, key, &was)
		if err != nil && !isNotFound(err) {
			return was, err
		}
		if rev == 0 {
			was.Phase = cluster.InstallWanted
		}
		was.Host, was.Revision = h, rev
		is := next(was)
		if is.Host, is.Revision = h, rev; is == was {
			return was, nil
		}
		body, err := json.Marshal(is)
		if err != nil {
			return was, fmt.Errorf("encode the installation of %s: %w", h, err)
		}
		r, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", int64(rev))).
			Then(clientv3.OpPut(key, string(body))).Commit()
		switch {
		case err != nil:
			return was, fmt.Errorf("write the installation of %s: %w", h, err)
		case r.Succeeded:
			is.Revision = cluster.Revision(r.Header.Revision)
			return is, nil
		}
	}
}

// WatchInstalls calls all with every record there is, at the start and whenever
// one may have been missed, and one with each that changes; a record that goes
// away has no phase. It returns when ctx ends.
func (s *Store) WatchInstalls(ctx context.Context, all func([]cluster.Install), one func(cluster.Install)) {
	for ctx.Err() == nil {
		if err := s.followInstalls(ctx, all, one); err != nil && ctx.Err() == nil {
			s.log.Warn("watch of the installations ended; trying again", "err", err)
			pause(ctx, time.Second)
		}
	}
}

func (s *Store) followInstalls(ctx context.Context, all func([]cluster.Install), one func(cluster.Install)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	r, err := s.client.Get(ctx, cluster.InstallsFolder, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("load the installations: %w", err)
	}
	list := make([]cluster.Install, 0, len(r.Kvs))
	for _, kv := range r.Kvs {
		i, err := install(kv)
		if err != nil {
			return err
		}
		list = append(list, i)
	}
	all(list)
	for w := range s.client.Watch(ctx, cluster.InstallsFolder, clientv3.WithPrefix(), clientv3.WithRev(r.Header.Revision+1)) {
		if err := w.Err(); err != nil {
			return err
		}
		for _, ev := range w.Events {
			i, err := install(ev.Kv)
			if err != nil {
				return err
			}
			one(i)
		}
	}
	return ctx.Err()
}

// install reads a record. One that was deleted has no value, and no phase.
func install(kv *mvccpb.KeyValue) (i cluster.Install, err error) {
	if len(kv.Value) > 0 {
		if err := json.Unmarshal(kv.Value, &i); err != nil {
			return i, fmt.Errorf("etcd key %s: %w", kv.Key, err)
		}
	}
	i.Host = cluster.HostName(strings.TrimPrefix(string(kv.Key), cluster.InstallsFolder))
	i.Revision = cluster.Revision(kv.ModRevision)
	return i, nil
}
