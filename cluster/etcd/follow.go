package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// watch calls each with what changes under a folder after a revision, of one
// transaction or more each time, as the member of this process applies it: without a
// connection and the copies that are made for one. A member that is cut off from the
// others, or a learner, hears it later and misses nothing.
//
// It returns when each or the history fails, when the member stops, or when ctx ends.
func (m *Member) watch(ctx context.Context, folder string, after cluster.Revision, each func([]*mvccpb.Event) error) error {
	stream := m.etcd.Server.Watchable().NewWatchStream()
	defer stream.Close()
	end := clientv3.GetPrefixRangeEnd(folder)
	if _, err := stream.Watch(ctx, clientv3.AutoWatchID, []byte(folder), []byte(end), int64(after)+1); err != nil {
		return fmt.Errorf("watch %s: %w", folder, err)
	}
	for {
		select {
		case w := <-stream.Chan():
			if w.CompactRevision != 0 {
				return rpctypes.ErrCompacted
			}
			if err := each(w.Events); err != nil {
				return err
			}
		case <-m.etcd.Server.StoppingNotify():
			return errors.New("the member stops")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
