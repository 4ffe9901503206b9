package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// Servers returns what the servers tell of themselves, by name.
func (s *Store) Servers(ctx context.Context) ([]cluster.Server, cluster.Revision, error) {
	r, err := s.client.Get(ctx, cluster.ServersFolder, clientv3.WithPrefix())
	if err != nil {
		return nil, 0, fmt.Errorf("list the servers: %w", err)
	}
	out := make([]cluster.Server, 0, len(r.Kvs))
	for _, kv := range r.Kvs {
		var one cluster.Server
		if err := json.Unmarshal(kv.Value, &one); err != nil {
			return nil, 0, fmt.Errorf("etcd key %s: %w", kv.Key, err)
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b cluster.Server) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return out, cluster.Revision(r.Header.Revision), nil
}

// PutServer tells the others of a server.
func (s *Store) PutServer(ctx context.Context, is cluster.Server) error {
	return s.putJSON(ctx, cluster.ServerKey(is.Name), is)
}

// ForgetServer takes back what a server told of itself.
func (s *Store) ForgetServer(ctx context.Context, name cluster.ServerName) error {
	if _, err := s.client.Delete(ctx, cluster.ServerKey(name)); err != nil {
		return fmt.Errorf("forget server %s: %w", name, err)
	}
	return nil
}

// WatchServers calls each with all servers, at the start and whenever one tells
// something else of itself. It returns when ctx ends.
func (s *Store) WatchServers(ctx context.Context, each func([]cluster.Server)) {
	for ctx.Err() == nil {
		if err := s.followServers(ctx, each); err != nil && ctx.Err() == nil {
			s.log.Warn("watch of the servers ended; trying again", "err", err)
			pause(ctx, time.Second)
		}
	}
}

func (s *Store) followServers(ctx context.Context, each func([]cluster.Server)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	list, rev, err := s.Servers(ctx)
	if err != nil {
		return err
	}
	each(list)
	for w := range s.client.Watch(ctx, cluster.ServersFolder, clientv3.WithPrefix(), clientv3.WithRev(int64(rev)+1)) {
		if err := w.Err(); err != nil {
			return err
		}
		if list, _, err = s.Servers(ctx); err != nil {
			return err
		}
		each(list)
	}
	return ctx.Err()
}

// PutInvite keeps the hash of a token with which one server may join, for a while.
func (s *Store) PutInvite(ctx context.Context, hash string, by string, life time.Duration) error {
	lease, err := s.client.Grant(ctx, int64(life.Seconds()))
	if err != nil {
		return fmt.Errorf("keep an invitation: %w", err)
	}
	if _, err := s.client.Put(ctx, cluster.InviteKey(hash), by, clientv3.WithLease(lease.ID)); err != nil {
		return fmt.Errorf("keep an invitation: %w", err)
	}
	return nil
}

// Invite returns who gave an invitation, or cluster.ErrNotFound.
func (s *Store) Invite(ctx context.Context, hash string) (by string, err error) {
	r, err := s.client.Get(ctx, cluster.InviteKey(hash))
	if err != nil {
		return "", fmt.Errorf("look for an invitation: %w", err)
	}
	if len(r.Kvs) == 0 {
		return "", fmt.Errorf("invitation: %w", cluster.ErrNotFound)
	}
	return string(r.Kvs[0].Value), nil
}

// TakeInvite uses an invitation up. It fails with cluster.ErrNotFound when there is
// none, or no more.
func (s *Store) TakeInvite(ctx context.Context, hash string) error {
	r, err := s.client.Delete(ctx, cluster.InviteKey(hash))
	if err != nil {
		return fmt.Errorf("use an invitation up: %w", err)
	}
	if r.Deleted == 0 {
		return fmt.Errorf("invitation: %w", cluster.ErrNotFound)
	}
	return nil
}
