package main

import (
	"context"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// prepareCheck is how often it is looked whether hosts were applied.
const prepareCheck = time.Second

// prepare makes the etcd users of hosts that were applied, one after the other, while
// this server leads. It is done before they join, if they leave it the time.
func (s *server) prepare(ctx context.Context) {
	tick := time.NewTicker(prepareCheck)
	defer tick.Stop()
	done := map[cluster.HostName]bool{}
	var seen *cluster.Snapshot
	for {
		if snap := s.Snapshot(); snap != seen && s.prepareAll(ctx, snap, done) {
			seen = snap
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// prepareAll reports whether all hosts are prepared.
func (s *server) prepareAll(ctx context.Context, snap *cluster.Snapshot, done map[cluster.HostName]bool) bool {
	for _, d := range snap.Documents(cluster.KindHost) {
		h := d.(*cluster.Host).HostName()
		if done[h] {
			continue
		}
		if err := s.store.PrepareNode(ctx, h); err != nil {
			s.log.Debug("a host is not prepared; it will be when it joins", "host", h, "err", err)
			return false
		}
		done[h] = true
	}
	for h := range done { // one that is applied anew is looked at anew
		if _, there := snap.Host(h); !there {
			delete(done, h)
		}
	}
	return true
}
