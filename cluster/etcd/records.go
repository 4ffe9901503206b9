package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// How long what happened is kept.
const (
	tokenKept = 24 * time.Hour // at least, past its end, so that a late use is told from a made-up token
	tokenLong = 2 * time.Hour  // beyond it a token has an etcd lease of its own
	auditKept = 90 * 24 * time.Hour
	ownerKept = time.Hour // for a host whose answer was lost
	bootsKept = 10        // a host
	bootKept  = 30 * 24 * time.Hour
)

// PutToken keeps the record of a new token, and what the audit is to say of it, in
// one transaction. A machine waits for it: those of a day share an etcd lease.
func (s *Store) PutToken(ctx context.Context, hash string, t cluster.Token, audit ...cluster.AuditEntry) error {
	body, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode token: %w", err)
	}
	put := func(more ...clientv3.Op) error {
		write := func(lease clientv3.LeaseID) error {
			_, err := s.near.Txn(ctx).Then(append(more, clientv3.OpPut(cluster.TokenKey(hash), string(body), clientv3.WithLease(lease)))...).Commit()
			return err
		}
		if life := time.Until(t.Expires); life > tokenLong {
			lease, err := s.client.Grant(ctx, int64((life + tokenKept).Seconds()))
			if err != nil {
				return err
			}
			return write(lease.ID)
		}
		return s.under(ctx, &s.tokens, tokenLong+tokenKept, write)
	}
	if len(audit) > 0 {
		err = s.auditTogether(ctx, audit, func(op clientv3.Op) error { return put(op) })
	} else {
		err = put()
	}
	if err != nil {
		return fmt.Errorf("keep token: %w", err)
	}
	return nil
}

// Token returns the record of a token, or cluster.ErrNotFound.
func (s *Store) Token(ctx context.Context, hash string) (cluster.Token, cluster.Revision, error) {
	var t cluster.Token
	rev, err := s.getJSON(ctx, cluster.TokenKey(hash), &t)
	return t, rev, err
}

// TokensOf returns the hashes of the tokens of a host that are kept.
func (s *Store) TokensOf(ctx context.Context, h cluster.HostName) ([]string, error) {
	r, err := s.client.Get(ctx, cluster.TokenKey(""), clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("look for the tokens of %s: %w", h, err)
	}
	var out []string
	for _, kv := range r.Kvs {
		var t cluster.Token
		if err := json.Unmarshal(kv.Value, &t); err != nil {
			return nil, fmt.Errorf("decode a token: %w", err)
		}
		if t.Host == h {
			out = append(out, strings.TrimPrefix(string(kv.Key), cluster.TokenKey("")))
		}
	}
	return out, nil
}

// Introduction returns the record of a host's last introduction and its
// revision, or cluster.ErrNotFound.
func (s *Store) Introduction(ctx context.Context, h cluster.HostName) (cluster.Introduction, cluster.Revision, error) {
	var in cluster.Introduction
	rev, err := s.getJSON(ctx, cluster.IntroductionKey(h), &in)
	return in, rev, err
}

// Redeem marks a token as used and writes the introduction that it bought, in
// one transaction, if neither the token (since at) nor the host's introduction
// (since t.After) has changed; else cluster.ErrConflict.
func (s *Store) Redeem(ctx context.Context, hash string, t cluster.Token, at cluster.Revision, in cluster.Introduction) error {
	token, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode token: %w", err)
	}
	key := cluster.TokenKey(hash)
	return s.introduce(ctx, in, t.After,
		[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", int64(at))},
		clientv3.OpPut(key, string(token), clientv3.WithIgnoreLease()),
		// What was sealed to the host's last key is of no use to its new one.
		clientv3.OpDelete(cluster.NodeSecretsFolder(in.Host), clientv3.WithPrefix()))
}

// UseToken marks a token, as used or revoked, if it has not changed since at; else
// cluster.ErrConflict.
func (s *Store) UseToken(ctx context.Context, hash string, t cluster.Token, at cluster.Revision) error {
	body, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode token: %w", err)
	}
	key := cluster.TokenKey(hash)
	r, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", int64(at))).
		Then(clientv3.OpPut(key, string(body), clientv3.WithIgnoreLease())).Commit()
	switch {
	case err != nil:
		return fmt.Errorf("mark a token as used: %w", err)
	case !r.Succeeded:
		return fmt.Errorf("mark a token as used: %w", cluster.ErrConflict)
	}
	return nil
}

// Renew writes an introduction whose certificate is new, if the one at revision
// at is still the host's; else cluster.ErrConflict.
func (s *Store) Renew(ctx context.Context, in cluster.Introduction, at cluster.Revision) error {
	return s.introduce(ctx, in, at, nil)
}

func (s *Store) introduce(ctx context.Context, in cluster.Introduction, after cluster.Revision, guards []clientv3.Cmp, more ...clientv3.Op) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode introduction: %w", err)
	}
	lease, err := s.client.Grant(ctx, int64(ownerKept.Seconds()))
	if err != nil {
		return fmt.Errorf("write the introduction of %s: %w", in.Host, err)
	}
	owner := clientv3.OpPut(cluster.KeyOwnersFolder+in.KeyHash, string(in.Host), clientv3.WithLease(lease.ID))
	key := cluster.IntroductionKey(in.Host)
	guards = append(guards, clientv3.Compare(clientv3.ModRevision(key), "=", int64(after)))
	r, err := s.client.Txn(ctx).If(guards...).Then(append(more, owner, clientv3.OpPut(key, string(body)))...).Commit()
	switch {
	case err != nil:
		return fmt.Errorf("write the introduction of %s: %w", in.Host, err)
	case !r.Succeeded:
		return fmt.Errorf("introduction of %s: %w", in.Host, cluster.ErrConflict)
	}
	return nil
}

// KeyOwner returns the host that a key was certified for within the last hour,
// or cluster.ErrNotFound.
func (s *Store) KeyOwner(ctx context.Context, keyHash string) (cluster.HostName, error) {
	r, err := s.client.Get(ctx, cluster.KeyOwnersFolder+keyHash)
	if err != nil {
		return "", fmt.Errorf("look up a key: %w", err)
	}
	if len(r.Kvs) == 0 {
		return "", fmt.Errorf("key %s: %w", keyHash, cluster.ErrNotFound)
	}
	return cluster.HostName(r.Kvs[0].Value), nil
}

// SaveBoot keeps the timeline of a boot, and the last few of the same host. All
// go away in time: strangers make up addresses.
func (s *Store) SaveBoot(ctx context.Context, b cluster.Boot) error {
	who := b.Host
	if who == "" {
		who = cluster.HostName(b.MAC.Hyphens())
	}
	lease, err := s.boots.get(ctx, s.client, bootKept)
	if err != nil {
		return fmt.Errorf("keep boot of %s: %w", who, err)
	}
	body, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode boot of %s: %w", who, err)
	}
	r, err := s.client.Txn(ctx).Then(
		clientv3.OpPut(cluster.BootKey(who, b.ID), string(body), clientv3.WithLease(lease)),
		clientv3.OpGet(cluster.BootKey(who, ""), clientv3.WithPrefix(), clientv3.WithKeysOnly(),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)),
	).Commit()
	if err != nil {
		return fmt.Errorf("keep boot of %s: %w", who, err)
	}
	kept := r.Responses[1].GetResponseRange().Kvs
	for _, kv := range kept[min(bootsKept, len(kept)):] {
		if _, err := s.client.Delete(ctx, string(kv.Key)); err != nil {
			return fmt.Errorf("remove old boot: %w", err)
		}
	}
	return nil
}

// Boots returns the boots of one host, or of all when h is empty, oldest first.
func (s *Store) Boots(ctx context.Context, h cluster.HostName) ([]cluster.Boot, error) {
	prefix := cluster.BootsFolder
	if h != "" {
		prefix = cluster.BootKey(h, "")
	}
	r, err := s.client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("list boots: %w", err)
	}
	out := make([]cluster.Boot, 0, len(r.Kvs))
	for _, kv := range r.Kvs {
		var b cluster.Boot
		if err := json.Unmarshal(kv.Value, &b); err != nil {
			return nil, fmt.Errorf("etcd key %s: %w", kv.Key, err)
		}
		out = append(out, b)
	}
	return out, nil
}

// Seeds returns the digests of what `serve DIR` applied last, by document key, of
// each server.
func (s *Store) Seeds(ctx context.Context) ([]map[string]string, error) {
	r, err := s.client.Get(ctx, cluster.SeedFolder, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("read what was served last: %w", err)
	}
	out := make([]map[string]string, len(r.Kvs))
	for i, kv := range r.Kvs {
		if err := json.Unmarshal(kv.Value, &out[i]); err != nil {
			return nil, fmt.Errorf("etcd key %s: %w", kv.Key, err)
		}
	}
	return out, nil
}

// PutSeed keeps what Seeds returns of one server.
func (s *Store) PutSeed(ctx context.Context, by cluster.ServerName, seed map[string]string) error {
	return s.putJSON(ctx, cluster.SeedFolder+string(by), seed)
}
