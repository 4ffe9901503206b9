package ignition

import (
	"container/list"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/pilotlight/pilotlight/cluster"
)

// DefaultCacheBytes is how much a Cache keeps when it is not told: a hundred
// thousand hosts of a few dozen profiles.
const DefaultCacheBytes = 256 << 20

// Cache keeps what Compile made, by content: a host is compiled again when
// something that it is made of has changed, and not when anything else has.
// Mistakes are kept too. The zero value is ready; any number of requests may
// use it at once, and what several ask for at the same time is made once.
type Cache struct {
	MaxBytes int64 // roughly; 0 means DefaultCacheBytes

	flights singleflight.Group
	mu      sync.Mutex
	configs recent[*compiled]
	shapes  recent[*shape]
	molds   recent[*mold]
	seen    map[identity]*compiled // the same configs by the documents' addresses
}

// compiled is a result of Compile.
type compiled struct {
	key    [32]byte
	in     Input
	config *Config
	err    error
}

// identity is by which documents an Input was made. Documents never change, so
// the same addresses are the same content.
type identity struct {
	host    *cluster.Host
	group   *cluster.Group
	profile *cluster.Profile
	image   *cluster.Image
	network *cluster.Network
	address netip.Addr
	install bool // the installer's config, not the system's
}

func (in *Input) identity() identity {
	t := &in.Target
	return identity{t.Host, t.Group, t.Profile, t.Image, t.Network, in.Address, in.Installer != nil}
}

// Compile returns what the function Compile would. The documents of in must not
// be changed afterwards, as those of a Snapshot never are.
func (c *Cache) Compile(in Input) (*Config, error) {
	id := in.identity()
	c.mu.Lock()
	hit, ok := c.seen[id]
	if ok {
		c.configs.get(hit.key) // it was asked for just now
	}
	c.mu.Unlock()
	if ok && sameRest(&hit.in, &in) {
		return hit.config, hit.err
	}
	key, err := contentKey(in)
	if err != nil {
		return nil, err
	}
	done, _, _ := c.flights.Do(string(key[:]), func() (any, error) {
		return c.compiled(key, in), nil
	})
	hit = done.(*compiled)
	c.remember(id, in, hit)
	return hit.config, hit.err
}

func (c *Cache) compiled(key [32]byte, in Input) *compiled {
	c.mu.Lock()
	hit, ok := c.configs.get(key)
	c.mu.Unlock()
	if ok {
		return hit
	}
	config, err := compile(in, c.shape)
	hit = &compiled{key: key, in: in, config: config, err: err}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, gone := range c.configs.put(key, hit, hit.size(), c.limit()/2) {
		c.forget(gone)
	}
	return hit
}

// remember lets the next request with the same documents find its config
// without looking at their content.
func (c *Cache) remember(id identity, in Input, hit *compiled) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[identity]*compiled{}
	}
	if len(c.seen) >= 2*c.configs.len()+64 { // left over from documents that have changed since
		clear(c.seen)
	}
	if hit.in.identity() != id {
		hit = &compiled{key: hit.key, in: in, config: hit.config, err: hit.err}
	}
	c.seen[id] = hit
}

func (c *Cache) forget(gone *compiled) {
	if id := gone.in.identity(); c.seen[id] == gone {
		delete(c.seen, id)
	}
}

func (c *Cache) limit() int64 {
	if c.MaxBytes > 0 {
		return c.MaxBytes
	}
	return DefaultCacheBytes
}

// shape is newShape, remembered.
func (c *Cache) shape(t text, rendered string, at lines, p part, keys []string) *shape {
	key := shapeKey(t, p, keys, fmt.Sprintf("%d %s %s", len(rendered), rendered, t.source))
	c.mu.Lock()
	s, ok := c.shapes.get(key)
	c.mu.Unlock()
	if ok {
		return s
	}
	made, _, _ := c.flights.Do("shape "+string(key[:]), func() (any, error) {
		return newShape(t, rendered, at, p, keys, c.mold), nil
	})
	s = made.(*shape)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shapes.put(key, s, int64(len(s.pieces.text))+4096, c.limit()/2)
	return s
}

// mold is newMold, remembered, also where there is none.
func (c *Cache) mold(t text, o *outline, p part, keys []string) *mold {
	key := shapeKey(t, p, keys, string(o.key[:]))
	c.mu.Lock()
	m, ok := c.molds.get(key)
	c.mu.Unlock()
	if ok {
		return m
	}
	made, _, _ := c.flights.Do("mold "+string(key[:]), func() (any, error) { return newMold(t, o, p, keys), nil })
	m = made.(*mold)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.molds.put(key, m, m.size(), c.limit()/8)
	return m
}

// shapeKey is the digest of what a shape or a mold is made of.
func shapeKey(t text, p part, keys []string, config string) [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q %q %q %q %q %q ", t.ref, t.field, p.agent.URL, p.agent.SHA256, p.agent.SHA512, p.installed, p.install, p.ca, keys, p.added.key())
	io.WriteString(h, config)
	return [32]byte(h.Sum(nil))
}

// contentKey is the digest of all that Compile reads.
func contentKey(in Input) ([32]byte, error) {
	t := in.Target
	t.Variables = plainMap(t.Variables)
	b, err := json.Marshal(struct {
		Target  cluster.Target
		Address netip.Addr
		Agent   Agent
		Server  Server

		Installer *Installer
		SetupURL  string
	}{t, in.Address, in.Agent, in.Server, in.Installer, in.SetupURL})
	if err != nil {
		return [32]byte{}, fmt.Errorf("look for the config of a host: %w: variables hold text, numbers, lists and mappings", err)
	}
	return sha256.Sum256(b), nil
}

// sameRest compares what identity leaves out.
func sameRest(a, b *Input) bool {
	return a.Server == b.Server && a.SetupURL == b.SetupURL && reflect.DeepEqual(a.Installer, b.Installer) && reflect.DeepEqual(&a.Agent, &b.Agent) &&
		slices.Equal(a.Target.SSHKeys, b.Target.SSHKeys) &&
		maps.EqualFunc(a.Target.Variables, b.Target.Variables, sameVariable)
}

func sameVariable(a, b any) bool {
	switch a := a.(type) {
	case string:
		b, ok := b.(string)
		return ok && a == b
	case bool:
		b, ok := b.(bool)
		return ok && a == b
	}
	return reflect.DeepEqual(a, b)
}

func (r *compiled) size() int64 {
	n := int64(1024)
	if c := r.config; c != nil {
		if c.ignition != nil {
			n += int64(len(c.ignition.agent))
		}
		if c.cloud != nil {
			n += int64(len(c.cloud.pieces.text))
		}
		n += int64(len(c.generic))
	}
	return n
}

// recent keeps the values that were asked for last.
type recent[V any] struct {
	order list.List // of *slot[V], the last asked for first
	index map[[32]byte]*list.Element
	bytes int64
}

type slot[V any] struct {
	key   [32]byte
	value V
	size  int64
}

func (r *recent[V]) len() int { return r.order.Len() }

func (r *recent[V]) get(key [32]byte) (v V, ok bool) {
	e, ok := r.index[key]
	if !ok {
		return v, false
	}
	r.order.MoveToFront(e)
	return e.Value.(*slot[V]).value, true
}

// put keeps v, and returns what had to go for it.
func (r *recent[V]) put(key [32]byte, v V, size, limit int64) (gone []V) {
	if _, there := r.index[key]; there {
		return nil
	}
	if r.index == nil {
		r.index = map[[32]byte]*list.Element{}
	}
	r.index[key] = r.order.PushFront(&slot[V]{key, v, size})
	r.bytes += size
	for r.bytes > limit && r.order.Len() > 1 {
		s := r.order.Remove(r.order.Back()).(*slot[V])
		delete(r.index, s.key)
		r.bytes -= s.size
		gone = append(gone, s.value)
	}
	return gone
}
