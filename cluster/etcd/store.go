package etcd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"

	"github.com/pilotlight/pilotlight/cluster"
)

// ClientConfig is how a Store reaches etcd.
type ClientConfig struct {
	Endpoints []string
	TLS       *tls.Config // the certificate of etcd's user root
	Member    *Member     // of this process, which is asked without a connection for what a boot waits for; nil: Endpoints are
	Logger    *slog.Logger
}

// Store keeps what pilotlight knows in etcd. It is safe for concurrent use.
type Store struct {
	client *clientv3.Client
	near   clientv3.KV // for what a boot waits for: leases, tokens
	member *Member     // of this process; nil when etcd is elsewhere
	log    *slog.Logger
	audit  dailyLease
	boots  dailyLease
	tokens dailyLease

	allowing singleflight.Group // by host

	mu   sync.Mutex
	last *known // what was applied last, as far as is known here
}

// known is what was applied, and the revision at which AppliedKey was written: 0 while
// it is not there. While it is the same, so are the documents.
type known struct {
	snap    *cluster.Snapshot
	applied int64
}

// know keeps what is the newest.
func (s *Store) know(snap *cluster.Snapshot, applied int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || applied >= s.last.applied {
		s.last = &known{snap, applied}
	}
}

func (s *Store) known() *known {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Open connects to etcd. It does not wait for an answer.
func Open(c ClientConfig) (*Store, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	order := new(turns)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints, TLS: c.TLS, DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		MaxCallSendMsgSize: maxBytes, MaxCallRecvMsgSize: 512 << 20,
		DialOptions: []grpc.DialOption{grpc.WithUnaryInterceptor(order.call)},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %s: %w", strings.Join(c.Endpoints, ", "), err)
	}
	s := &Store{client: client, near: client, log: c.Logger, member: c.Member}
	if c.Member != nil {
		s.near = clientv3.NewKVFromKVClient(newInside(c.Member, client, c.TLS.Certificates[0], order), client)
	}
	return s, nil
}

// retryStale asks again when etcd's users changed between a call's arrival and
// its turn, which says nothing about the call (etcd: "revision in header is old").
func retryStale(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	for {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if err == nil || !errors.Is(rpctypes.Error(err), rpctypes.ErrAuthOldRevision) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Close lets go of the connections.
func (s *Store) Close() error { return s.client.Close() }

// Ping asks etcd for a linearizable read, which only a healthy quorum answers.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.client.Get(ctx, cluster.AppliedKey, clientv3.WithKeysOnly())
	if err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	return nil
}

// Load returns every document, all as of one revision. While nothing was applied
// since the last time it reads one key.
func (s *Store) Load(ctx context.Context) (*cluster.Snapshot, error) {
	last := s.known()
	if last == nil {
		return s.loadAll(ctx)
	}
	r, err := s.client.Get(ctx, cluster.AppliedKey, clientv3.WithKeysOnly())
	if err != nil {
		return nil, fmt.Errorf("ask etcd what was applied: %w", err)
	}
	if appliedAt(r.Kvs) != last.applied {
		return s.loadAll(ctx)
	}
	return last.snap.At(cluster.Revision(r.Header.Revision)), nil
}

func appliedAt(kvs []*mvccpb.KeyValue) int64 {
	if len(kvs) == 0 {
		return 0
	}
	return kvs[0].ModRevision
}

func (s *Store) loadAll(ctx context.Context) (*cluster.Snapshot, error) {
	ops := make([]clientv3.Op, len(cluster.Kinds), len(cluster.Kinds)+1)
	for i, k := range cluster.Kinds {
		ops[i] = clientv3.OpGet(cluster.Folder(k), clientv3.WithPrefix())
	}
	ops = append(ops, clientv3.OpGet(cluster.AppliedKey, clientv3.WithKeysOnly()))
	r, err := s.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return nil, fmt.Errorf("load documents from etcd: %w", err)
	}
	var docs []cluster.Document
	for i, k := range cluster.Kinds {
		for _, kv := range r.Responses[i].GetResponseRange().Kvs {
			if strings.Contains(strings.TrimPrefix(string(kv.Key), cluster.Folder(k)), "/") {
				continue // a value of a secret, not its document
			}
			d, err := cluster.UnmarshalDocument(kv.Value)
			if err != nil {
				return nil, fmt.Errorf("etcd key %s: %w", kv.Key, err)
			}
			docs = append(docs, d)
		}
	}
	snap := cluster.NewSnapshot(cluster.Revision(r.Header.Revision), docs)
	s.know(snap, appliedAt(r.Responses[len(cluster.Kinds)].GetResponseRange().Kvs))
	return snap, nil
}

// applied is what AppliedKey holds.
type applied struct {
	Changed []string `json:"changed"`      // keys
	By      string   `json:"by,omitempty"` // tells an apply from all others
}

// Apply writes and deletes documents and their audit in one transaction, if
// nothing was applied since base was loaded; else it fails with
// cluster.ErrConflict.
func (s *Store) Apply(ctx context.Context, base *cluster.Snapshot, put []cluster.Document, remove []cluster.Ref, audit []cluster.AuditEntry) error {
	ops, read, err := applyOps(put, remove)
	if err != nil {
		return err
	}
	guard := clientv3.Compare(clientv3.ModRevision(cluster.AppliedKey), "<", int64(base.Revision())+1)
	var r *clientv3.TxnResponse
	commit := func(more ...clientv3.Op) (err error) {
		r, err = s.client.Txn(ctx).If(guard).Then(append(ops, more...)...).Commit()
		return err
	}
	if len(audit) == 0 {
		err = commit()
	} else {
		err = s.auditTogether(ctx, audit, func(op clientv3.Op) error { return commit(op) })
	}
	if errors.Is(err, rpctypes.ErrTimeout) && s.wasApplied(ctx, string(ops[len(ops)-1].ValueBytes())) {
		return nil
	}
	switch {
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%d documents are more than one transaction takes, which is %d or %d MiB: apply them in parts",
			len(put)+len(remove), maxOps-3, maxBytes>>20) // beside them are AppliedKey, twice, and the audit
	case err != nil:
		return fmt.Errorf("write %d documents to etcd: %w", len(put)+len(remove), err)
	case !r.Succeeded:
		return fmt.Errorf("somebody else applied documents at the same time: %w", cluster.ErrConflict)
	}
	before := appliedAt(r.Responses[0].GetResponseRange().Kvs)
	if last := s.known(); last != nil && last.applied == before {
		s.know(last.snap.With(cluster.Revision(r.Header.Revision), read, remove), r.Header.Revision)
	}
	return nil
}

// settleTime is how long etcd may take for a large apply beyond the time after which
// it says that it took too long.
const settleTime = 30 * time.Second

// wasApplied reports whether an apply was committed for which etcd took longer than it
// waits itself: what AppliedKey holds is the apply's own. etcd answers when it has done
// what was asked before.
func (s *Store) wasApplied(ctx context.Context, value string) bool {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for ctx.Err() == nil {
		r, err := s.client.Get(ctx, cluster.AppliedKey)
		if err == nil {
			return len(r.Kvs) > 0 && string(r.Kvs[0].Value) == value
		}
		pause(ctx, reloadPause)
	}
	return false
}

// applyOps are the writes of an apply, and the documents as they will be read.
func applyOps(put []cluster.Document, remove []cluster.Ref) (ops []clientv3.Op, read []cluster.Document, err error) {
	note := applied{By: rand.Text()}
	ops = append(ops, clientv3.OpGet(cluster.AppliedKey, clientv3.WithKeysOnly()))
	for _, d := range put {
		body, err := cluster.MarshalDocument(d)
		if err != nil {
			return nil, nil, err
		}
		again, err := cluster.UnmarshalDocument(body)
		if err != nil {
			return nil, nil, err
		}
		if reflect.DeepEqual(again, d) { // whoever looked at d need not look again
			again = d
		}
		read = append(read, again)
		key := cluster.DocumentKey(d.Ref())
		note.Changed = append(note.Changed, key)
		ops = append(ops, clientv3.OpPut(key, string(body)))
	}
	for _, r := range remove {
		key := cluster.DocumentKey(r)
		note.Changed = append(note.Changed, key)
		ops = append(ops, clientv3.OpDelete(key))
		if r.Kind == cluster.KindSecret { // its values go with it
			ops = append(ops, clientv3.OpDelete(key+"/", clientv3.WithPrefix()))
		}
	}
	body, err := json.Marshal(note)
	if err != nil {
		return nil, nil, fmt.Errorf("encode what was applied: %w", err)
	}
	return append(ops, clientv3.OpPut(cluster.AppliedKey, string(body))), read, nil
}

// Watch sends base's successors to ch, one for each apply, until ctx ends; what
// is older than etcd remembers it skips. It follows one key, which each apply
// writes, so what it sends is never a part of an apply.
func (s *Store) Watch(ctx context.Context, base *cluster.Snapshot, ch chan<- *cluster.Snapshot) error {
	for {
		var err error
		base, err = s.follow(ctx, base, ch)
		for ctx.Err() == nil {
			s.log.Warn("watch of etcd ended; serving what was known until all is loaded again", "err", err)
			pause(ctx, reloadPause)
			var fresh *cluster.Snapshot
			if fresh, err = s.Load(ctx); err != nil {
				continue
			}
			if fresh.Revision() > base.Revision() && send(ctx, ch, fresh) {
				base = fresh
			}
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// reloadPause is how long Watch waits before it asks an etcd again that failed.
const reloadPause = 200 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func send(ctx context.Context, ch chan<- *cluster.Snapshot, s *cluster.Snapshot) bool {
	select {
	case ch <- s:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Store) follow(ctx context.Context, base *cluster.Snapshot, ch chan<- *cluster.Snapshot) (*cluster.Snapshot, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for r := range s.client.Watch(ctx, cluster.AppliedKey, clientv3.WithRev(int64(base.Revision())+1)) {
		if err := r.Err(); err != nil {
			return base, err
		}
		for _, ev := range r.Events {
			next, err := s.advance(ctx, base, ev.Kv.ModRevision, ev.Kv.Value)
			if err != nil {
				return base, err
			}
			base = next
			if !send(ctx, ch, base) {
				return base, ctx.Err()
			}
		}
	}
	return base, errors.New("channel closed")
}

// advance returns base with what one apply, at revision rev, changed.
func (s *Store) advance(ctx context.Context, base *cluster.Snapshot, rev int64, value []byte) (*cluster.Snapshot, error) {
	if last := s.known(); last != nil && last.applied == rev {
		return last.snap, nil
	}
	var note applied
	if err := json.Unmarshal(value, &note); err != nil {
		return nil, fmt.Errorf("etcd key %s: %w", cluster.AppliedKey, err)
	}
	changed := make(map[string]bool, len(note.Changed))
	ops := make([]clientv3.Op, 0, len(note.Changed))
	for _, key := range note.Changed {
		changed[key] = true
		ops = append(ops, clientv3.OpGet(key, clientv3.WithRev(rev)))
	}
	r, err := s.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return nil, fmt.Errorf("read what was applied at revision %d: %w", rev, err)
	}
	var put []cluster.Document
	for _, one := range r.Responses {
		for _, kv := range one.GetResponseRange().Kvs {
			d, err := cluster.UnmarshalDocument(kv.Value)
			if err != nil {
				return nil, fmt.Errorf("etcd key %s: %w", kv.Key, err)
			}
			put = append(put, d)
			delete(changed, string(kv.Key))
		}
	}
	var gone []cluster.Ref
	for _, d := range base.Documents() {
		if len(changed) > 0 && changed[cluster.DocumentKey(d.Ref())] {
			gone = append(gone, d.Ref())
		}
	}
	next := base.With(cluster.Revision(rev), put, gone)
	s.know(next, rev)
	return next, nil
}

// getJSON reads one key into v, and returns the revision at which it was
// written; 0 and cluster.ErrNotFound when it is not there.
func (s *Store) getJSON(ctx context.Context, key string, v any) (cluster.Revision, error) {
	r, err := s.near.Get(ctx, key)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	if len(r.Kvs) == 0 {
		return 0, fmt.Errorf("%s: %w", key, cluster.ErrNotFound)
	}
	if err := json.Unmarshal(r.Kvs[0].Value, v); err != nil {
		return 0, fmt.Errorf("etcd key %s: %w", key, err)
	}
	return cluster.Revision(r.Kvs[0].ModRevision), nil
}

func (s *Store) putJSON(ctx context.Context, key string, v any, opts ...clientv3.OpOption) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	if _, err := s.client.Put(ctx, key, string(body), opts...); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

func isNotFound(err error) bool { return errors.Is(err, cluster.ErrNotFound) }
