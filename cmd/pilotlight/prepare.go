package main

import (
	"context"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// prepareCheck is how often it is looked whether hosts were applied.
const prepareCheck = time.Second

// prepareMost is for how many hosts users are made before they join. With each
// change of a user etcd computes again what all users may do, so that all of a large
// site would take its square: minutes for ten thousand. The others are let in when
// they join, as each would be.
const prepareMost = 2000

// prepare makes the etcd users of hosts that were applied, one after the other, while
// this server leads. It is done before they join, if they leave it the time.
func (s *server) prepare(ctx context.Context) {
	tick := time.NewTicker(prepareCheck)
	defer tick.Stop()
	done := map[cluster.HostName]bool{}
	var seen *cluster.Snapshot
	for {
		if snap := s.Snapshot(); snap != seen && prepareHosts(snap, done, prepareMost, func(h cluster.HostName) error {
			err := s.store.PrepareNode(ctx, h)
			if err != nil {
				s.log.Debug("a host is not prepared; it will be when it joins", "host", h, "err", err)
			}
			return err
		}) {
			seen = snap
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// prepareHosts has the hosts prepared that are not in done, so many altogether, and
// reports whether that went well.
func prepareHosts(snap *cluster.Snapshot, done map[cluster.HostName]bool, most int, one func(cluster.HostName) error) bool {
	for h := range done { // one that is applied anew is looked at anew
		if _, there := snap.Host(h); !there {
			delete(done, h)
		}
	}
	for _, d := range snap.Documents(cluster.KindHost) {
		if len(done) >= most {
			break
		}
		h := d.(*cluster.Host).HostName()
		if done[h] {
			continue
		}
		if one(h) != nil {
			return false
		}
		done[h] = true
	}
	return true
}
