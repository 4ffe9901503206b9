package etcd

import (
	"context"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/pilotlight/pilotlight/cluster"
)

// leaderTTL is how long the servers wait for a leader that died.
const leaderTTL = 5 // s

// Lead campaigns to be the leader under the name given, and calls do whenever
// this server is, with a context that ends when it is no longer. It returns
// when ctx ends and do has returned.
func (s *Store) Lead(ctx context.Context, name string, do func(context.Context)) {
	for ctx.Err() == nil {
		if err := s.term(ctx, name, do); err != nil && ctx.Err() == nil {
			s.log.Warn("not leading; trying again", "err", err)
			pause(ctx, time.Second)
		}
	}
}

func (s *Store) term(ctx context.Context, name string, do func(context.Context)) error {
	session, err := concurrency.NewSession(s.client, concurrency.WithTTL(leaderTTL), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	defer session.Close()
	election := concurrency.NewElection(session, cluster.LeaderFolder)
	if err := campaign(ctx, election, name); err != nil {
		return err
	}
	leading, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-session.Done():
			cancel()
		case <-leading.Done():
		}
	}()
	do(leading)
	resign, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer done()
	return election.Resign(resign) // so that the next leader need not wait
}

// campaign waits to be elected. After ctx ends the library tidies up, which
// takes as long as etcd is away: that is not waited for.
func campaign(ctx context.Context, e *concurrency.Election, name string) error {
	done := make(chan error, 1)
	go func() { done <- e.Campaign(ctx, name) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	return ctx.Err()
}
