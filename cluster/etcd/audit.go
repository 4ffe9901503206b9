package etcd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// Audit appends an entry.
func (s *Store) Audit(ctx context.Context, e cluster.AuditEntry) error {
	return s.auditTogether(ctx, []cluster.AuditEntry{e}, func(op clientv3.Op) error {
		_, err := s.client.Do(ctx, op)
		return err
	})
}

// auditTogether hands the write of entries, at least one, to commit, which may
// make it part of a transaction. Entries of one act are one key, so that they
// take one of the operations that a transaction has.
func (s *Store) auditTogether(ctx context.Context, entries []cluster.AuditEntry, commit func(clientv3.Op) error) error {
	body, err := json.Marshal(entries)
	if len(entries) == 1 {
		body, err = json.Marshal(entries[0])
	}
	if err != nil {
		return fmt.Errorf("encode audit: %w", err)
	}
	var tail [4]byte
	_, _ = rand.Read(tail[:]) // never fails
	key := fmt.Sprintf("%s%s-%x", cluster.AuditFolder, entries[0].At.UTC().Format("2006-01-02T15:04:05.000000000Z"), tail)
	return s.under(ctx, &s.audit, auditKept, func(lease clientv3.LeaseID) error {
		return commit(clientv3.OpPut(key, string(body), clientv3.WithLease(lease)))
	})
}

// under hands a day's lease to write, and another one if etcd does not know that.
func (s *Store) under(ctx context.Context, d *dailyLease, kept time.Duration, write func(clientv3.LeaseID) error) error {
	for again := true; ; again = false {
		lease, err := d.get(ctx, s.client, kept)
		if err != nil {
			return fmt.Errorf("keep it for %s: %w", kept, err)
		}
		err = write(lease)
		if again && errors.Is(err, rpctypes.ErrLeaseNotFound) { // etcd was restored to before this lease
			d.forget(lease)
			continue
		}
		return err
	}
}

// dailyLease is the etcd lease under which a day's records are kept, so that
// old ones go away by themselves.
type dailyLease struct {
	mu   sync.Mutex
	id   clientv3.LeaseID
	made time.Time
}

func (d *dailyLease) get(ctx context.Context, c *clientv3.Client, kept time.Duration) (clientv3.LeaseID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.id != 0 && time.Since(d.made) < 24*time.Hour {
		return d.id, nil
	}
	l, err := c.Grant(ctx, int64((kept + 24*time.Hour).Seconds()))
	if err != nil {
		return 0, err
	}
	d.id, d.made = l.ID, time.Now()
	return l.ID, nil
}

func (d *dailyLease) forget(id clientv3.LeaseID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.id == id {
		d.id = 0
	}
}

// auditPage is how many keys of the audit are read at a time: ninety days of a
// large cluster are more than is wanted in memory.
const auditPage = 2000

// AuditLog returns what q asks for.
func (s *Store) AuditLog(ctx context.Context, q cluster.AuditQuery) (cluster.AuditPage, error) {
	var failed error
	page := q.Page(func(yield func(cluster.AuditEntry) bool) {
		failed = s.eachAudit(ctx, yield)
	})
	return page, failed
}

// eachAudit calls yield with every entry, oldest first.
func (s *Store) eachAudit(ctx context.Context, yield func(cluster.AuditEntry) bool) error {
	end := clientv3.WithRange(clientv3.GetPrefixRangeEnd(cluster.AuditFolder))
	for from := cluster.AuditFolder; ; {
		r, err := s.client.Get(ctx, from, end, clientv3.WithLimit(auditPage))
		if err != nil {
			return fmt.Errorf("read audit: %w", err)
		}
		for _, kv := range r.Kvs {
			entries, err := auditEntries(kv.Value)
			if err != nil {
				return fmt.Errorf("etcd key %s: %w", kv.Key, err)
			}
			for _, e := range entries {
				if !yield(e) {
					return nil
				}
			}
			from = string(kv.Key) + "\x00"
		}
		if !r.More {
			return nil
		}
	}
}

// auditEntries reads a key of the audit: an entry, or the list of those that an
// apply wrote.
func auditEntries(value []byte) (entries []cluster.AuditEntry, err error) {
	if bytes.HasPrefix(value, []byte("[")) {
		return entries, json.Unmarshal(value, &entries)
	}
	entries = make([]cluster.AuditEntry, 1)
	return entries, json.Unmarshal(value, &entries[0])
}
