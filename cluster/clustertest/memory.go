package clustertest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

const (
	ownerKept = time.Hour
	bootsKept = 10
)

// kept is a value and the revision at which it was written.
type kept[T any] struct {
	value T
	rev   cluster.Revision
}

// Memory is a store in memory. The zero Memory is empty and ready; it is safe
// for concurrent use.
type Memory struct {
	mu      sync.Mutex
	rev     cluster.Revision
	docs    map[cluster.Ref]cluster.Document
	applied []*cluster.Snapshot // one for each apply since the last compaction
	dropped cluster.Revision    // of the last apply that Compact forgot
	wake    chan struct{}       // closed at the next apply
	decides chan struct{}       // closed when what hosts must run may be another

	tokens  map[string]kept[cluster.Token]
	intros  map[cluster.HostName]kept[cluster.Introduction]
	owners  map[string]owner
	nodes   map[cluster.HostName]*node
	allowed map[cluster.HostName]bool
	values  map[cluster.Version]json.RawMessage
	leases  map[leaseKey]cluster.Lease
	boots   map[cluster.HostName][]cluster.Boot
	audit   []cluster.AuditEntry
	seeds   map[cluster.ServerName]map[string]string

	saved  []cluster.Boot // as they were saved, one after the other
	booted chan struct{}  // closed when one is

	installs  map[cluster.HostName]cluster.Install
	installed chan struct{} // closed when one of them changes
}

type owner struct {
	host  cluster.HostName
	until time.Time
}

type node struct {
	alive   *cluster.Alive
	status  *cluster.Status
	desired *kept[cluster.Desired]
	secrets map[cluster.Version]json.RawMessage
}

type leaseKey struct {
	network cluster.NetworkName
	address string
}

// lock makes what is missing in a zero Memory, and locks it.
func (m *Memory) lock() (unlock func()) {
	m.mu.Lock()
	if m.docs == nil {
		m.docs = map[cluster.Ref]cluster.Document{}
		m.wake, m.decides = make(chan struct{}), make(chan struct{})
		m.tokens, m.intros = map[string]kept[cluster.Token]{}, map[cluster.HostName]kept[cluster.Introduction]{}
		m.owners, m.nodes, m.allowed = map[string]owner{}, map[cluster.HostName]*node{}, map[cluster.HostName]bool{}
		m.values, m.leases = map[cluster.Version]json.RawMessage{}, map[leaseKey]cluster.Lease{}
		m.booted = make(chan struct{})
		m.installs, m.installed = map[cluster.HostName]cluster.Install{}, make(chan struct{})
		m.boots, m.seeds = map[cluster.HostName][]cluster.Boot{}, map[cluster.ServerName]map[string]string{}
	}
	return m.mu.Unlock
}

// again is v as it comes back from a store: by way of JSON.
func again[T any](v T) T {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("clustertest: %v", err)) // the words can all be encoded
	}
	var out T
	if err := json.Unmarshal(body, &out); err != nil {
		panic(fmt.Sprintf("clustertest: %v", err))
	}
	return out
}

func signal(ch *chan struct{}) {
	close(*ch)
	*ch = make(chan struct{})
}

// Load returns every document.
func (m *Memory) Load(context.Context) (*cluster.Snapshot, error) {
	defer m.lock()()
	return m.snapshot(), nil
}

func (m *Memory) snapshot() *cluster.Snapshot {
	return cluster.NewSnapshot(m.rev, slices.Collect(maps.Values(m.docs)))
}

// Apply writes and deletes documents and their audit if none was applied since
// base.
func (m *Memory) Apply(_ context.Context, base *cluster.Snapshot, put []cluster.Document, remove []cluster.Ref, audit []cluster.AuditEntry) error {
	defer m.lock()()
	last := m.dropped
	if n := len(m.applied); n > 0 {
		last = m.applied[n-1].Revision()
	}
	if last > base.Revision() {
		return fmt.Errorf("apply: %w", cluster.ErrConflict)
	}
	for _, d := range put {
		body, err := cluster.MarshalDocument(d)
		if err != nil {
			return err
		}
		if d, err = cluster.UnmarshalDocument(body); err != nil {
			return err
		}
		m.docs[d.Ref()] = d
	}
	for _, r := range remove {
		delete(m.docs, r)
		if r.Kind == cluster.KindSecret {
			maps.DeleteFunc(m.values, func(v cluster.Version, _ json.RawMessage) bool { return string(v.Name) == r.Name })
		}
	}
	m.writeAudit(audit)
	m.rev++
	m.applied = append(m.applied, m.snapshot())
	signal(&m.wake)
	signal(&m.decides)
	return nil
}

// Compact forgets what was applied before: a Watch that is behind skips it.
func (m *Memory) Compact() {
	defer m.lock()()
	if n := len(m.applied); n > 0 {
		m.dropped = m.applied[n-1].Revision()
		m.applied = nil
	}
}

// Watch sends base's successors to ch until ctx ends.
func (m *Memory) Watch(ctx context.Context, base *cluster.Snapshot, ch chan<- *cluster.Snapshot) error {
	at := base.Revision()
	for {
		next, wake := m.after(at)
		if next == nil {
			select {
			case <-wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		select {
		case ch <- next:
			at = next.Revision()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *Memory) after(at cluster.Revision) (*cluster.Snapshot, <-chan struct{}) {
	defer m.lock()()
	if at < m.dropped {
		return m.snapshot(), m.wake
	}
	for _, s := range m.applied {
		if s.Revision() > at {
			return s, m.wake
		}
	}
	return nil, m.wake
}

// Notify sends to ch, which has room for one, when what hosts must run may be
// another.
func (m *Memory) Notify(ctx context.Context, ch chan<- struct{}) {
	for ctx.Err() == nil {
		unlock := m.lock()
		decides := m.decides
		unlock()
		select {
		case ch <- struct{}{}:
		default:
		}
		select {
		case <-decides:
		case <-ctx.Done():
		}
	}
}

// Leases returns every lease.
func (m *Memory) Leases(context.Context) ([]cluster.Lease, cluster.Revision, error) {
	defer m.lock()()
	return slices.Collect(maps.Values(m.leases)), m.rev, nil
}

// Commit writes and removes leases if what is there is what was believed.
func (m *Memory) Commit(_ context.Context, put, remove []cluster.Lease) (cluster.Revision, error) {
	defer m.lock()()
	believed := map[leaseKey]*cluster.Lease{}
	for _, l := range put {
		believed[keyOf(l)] = nil
	}
	for _, l := range remove {
		believed[keyOf(l)] = &l
	}
	conflict := new(cluster.LeaseConflictError)
	for key, b := range believed {
		switch there, ok := m.leases[key]; {
		case !ok && b != nil:
			conflict.Leases = append(conflict.Leases, cluster.Lease{Network: b.Network, Address: b.Address, Revision: m.rev})
		case ok && (b == nil || !there.Equal(*b)):
			conflict.Leases = append(conflict.Leases, there)
		}
	}
	if len(conflict.Leases) > 0 {
		return 0, conflict
	}
	m.rev++
	for _, l := range remove {
		delete(m.leases, keyOf(l))
	}
	for _, l := range put {
		l = again(l)
		l.Revision = m.rev
		m.leases[keyOf(l)] = l
	}
	return m.rev, nil
}

func keyOf(l cluster.Lease) leaseKey { return leaseKey{l.Network, l.Address.String()} }

// SaveBoot keeps a boot, and the last few of the same host.
func (m *Memory) SaveBoot(_ context.Context, b cluster.Boot) error {
	defer m.lock()()
	who := b.Host
	if who == "" {
		who = cluster.HostName(b.MAC.Hyphens())
	}
	all := slices.DeleteFunc(m.boots[who], func(o cluster.Boot) bool { return o.ID == b.ID })
	all = append(all, again(b))
	slices.SortFunc(all, func(a, b cluster.Boot) int { return strings.Compare(a.ID, b.ID) })
	m.boots[who] = all[max(0, len(all)-bootsKept):]
	b.Host = who
	m.saved = append(m.saved, again(b))
	signal(&m.booted)
	return nil
}

// WatchBoots calls each with every boot that is saved from now on.
func (m *Memory) WatchBoots(ctx context.Context, h cluster.HostName, ready func(), each func(cluster.Boot)) error {
	saved := func() (int, []cluster.Boot, <-chan struct{}) {
		defer m.lock()()
		return len(m.saved), slices.Clone(m.saved), m.booted
	}
	seen, _, changed := saved()
	ready()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		var all []cluster.Boot
		n := seen
		seen, all, changed = saved()
		for _, b := range all[n:] {
			if h == "" || b.Host == h {
				each(b)
			}
		}
	}
}

// Boots returns the boots of one host, or of all, oldest first.
func (m *Memory) Boots(_ context.Context, h cluster.HostName) ([]cluster.Boot, error) {
	defer m.lock()()
	if h != "" {
		return slices.Clone(m.boots[h]), nil
	}
	var out []cluster.Boot
	for _, who := range slices.Sorted(maps.Keys(m.boots)) {
		out = append(out, m.boots[who]...)
	}
	return out, nil
}

// Audit appends an entry.
func (m *Memory) Audit(_ context.Context, e cluster.AuditEntry) error {
	defer m.lock()()
	m.writeAudit([]cluster.AuditEntry{e})
	return nil
}

func (m *Memory) writeAudit(entries []cluster.AuditEntry) {
	m.audit = append(m.audit, again(entries)...)
	slices.SortStableFunc(m.audit, func(a, b cluster.AuditEntry) int { return a.At.Compare(b.At) })
}

// AuditLog returns what q asks for.
func (m *Memory) AuditLog(_ context.Context, q cluster.AuditQuery) (cluster.AuditPage, error) {
	defer m.lock()()
	return q.Page(slices.Values(m.audit)), nil
}

// Seeds returns what PutSeed kept.
func (m *Memory) Seeds(context.Context) ([]map[string]string, error) {
	defer m.lock()()
	return slices.Collect(maps.Values(again(m.seeds))), nil
}

// PutSeed keeps the digests of what serve applied last.
func (m *Memory) PutSeed(_ context.Context, by cluster.ServerName, seed map[string]string) error {
	defer m.lock()()
	if m.seeds == nil {
		m.seeds = map[cluster.ServerName]map[string]string{}
	}
	m.seeds[by] = maps.Clone(seed)
	return nil
}
