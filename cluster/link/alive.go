package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
)

var errLeaseLost = errors.New("the liveness lease was lost")

const revokeTime = 3 * time.Second

// revive asks stayAlive to put the liveness key again.
func (l *Link) revive() {
	select {
	case l.remake <- struct{}{}:
	default:
	}
}

// stayAlive holds a lease and the liveness key under it until ctx ends.
func (l *Link) stayAlive(ctx context.Context) {
	backoff := agent.Backoff{Min: retryMin, Max: l.TTL / 4}
	for ctx.Err() == nil {
		began := time.Now()
		err := l.live(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > l.TTL {
			backoff.Reset()
		}
		wait := backoff.Next()
		l.Log.Warn("this host does not count as alive", "err", l.explain(err), "again", wait.Round(time.Millisecond).String())
		agent.Sleep(ctx, wait)
	}
}

// live makes one lease and keeps it for as long as it holds.
func (l *Link) live(ctx context.Context) error {
	var id clientv3.LeaseID
	err := l.retryOldAuth(ctx, func(ctx context.Context) error {
		granted, err := l.client.Grant(ctx, int64(math.Ceil(l.TTL.Seconds())))
		if err == nil {
			id = granted.ID
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("make the liveness lease: %w", err)
	}
	defer l.revoke(ctx, id)
	if err := l.putAlive(ctx, id); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kept, err := l.client.KeepAlive(ctx, id)
	if err != nil {
		return fmt.Errorf("keep the liveness lease: %w", err)
	}
	l.Log.Info("this host counts as alive", "lease", fmt.Sprintf("%x", int64(id)))
	for {
		select {
		case _, ok := <-kept:
			if !ok {
				return errLeaseLost
			}
		case <-l.remake:
			// Somebody deleted the key, or an earlier run of the agent gave
			// its lease back after we had put ours.
			if err := l.putAlive(ctx, id); err != nil {
				return err
			}
		}
	}
}

func (l *Link) putAlive(ctx context.Context, id clientv3.LeaseID) error {
	b, err := json.Marshal(cluster.Alive{Since: l.since, Agent: l.Version})
	if err != nil {
		return fmt.Errorf("encode the liveness key: %w", err)
	}
	err = l.retryOldAuth(ctx, func(ctx context.Context) error {
		_, err := l.client.Put(ctx, cluster.AliveKey(l.Host), string(b), clientv3.WithLease(id))
		return err
	})
	if err != nil {
		return fmt.Errorf("put the liveness key: %w", err)
	}
	return nil
}

// revoke gives the lease back, so that the servers know at once. ctx may have
// ended. When another link of this agent takes over, the lease is left to run
// out: the key is under the other's by then.
func (l *Link) revoke(ctx context.Context, id clientv3.LeaseID) {
	if errors.Is(context.Cause(ctx), agent.ErrRedial) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTime)
	defer cancel()
	if _, err := l.client.Revoke(ctx, id); err != nil {
		l.Log.Debug("the liveness lease runs out by itself", "err", err)
	}
}
