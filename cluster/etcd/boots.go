package etcd

import (
	"context"
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// DropBoot removes a boot of a host.
func (s *Store) DropBoot(ctx context.Context, b cluster.Boot) error {
	if _, err := s.client.Delete(ctx, cluster.BootKey(b.Host, b.ID)); err != nil {
		return fmt.Errorf("remove boot %s of %s: %w", b.ID, b.Host, err)
	}
	return nil
}

// WatchBoots calls each with every boot of one host, or of all when h is empty,
// that is saved from now on, until ctx ends. It calls ready once nothing is
// missed any more.
func (s *Store) WatchBoots(ctx context.Context, h cluster.HostName, ready func(), each func(cluster.Boot)) error {
	prefix := cluster.BootsFolder
	if h != "" {
		prefix = cluster.BootKey(h, "")
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for w := range s.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify(), clientv3.WithFilterDelete()) {
		if err := w.Err(); err != nil {
			return fmt.Errorf("watch boots: %w", err)
		}
		if w.Created {
			ready()
		}
		for _, ev := range w.Events {
			var b cluster.Boot
			if err := json.Unmarshal(ev.Kv.Value, &b); err != nil {
				return fmt.Errorf("etcd key %s: %w", ev.Kv.Key, err)
			}
			each(b)
		}
	}
	return ctx.Err()
}
