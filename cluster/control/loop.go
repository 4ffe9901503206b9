package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

// Store is what the loop reads and writes.
type Store interface {
	Load(ctx context.Context) (*cluster.Snapshot, error)
	Nodes(ctx context.Context) ([]cluster.Node, error)
	SecretVersions(ctx context.Context) (map[cluster.SecretName]int, error)
	SecretValue(ctx context.Context, v cluster.Version) (json.RawMessage, error)
	Assign(ctx context.Context, n cluster.Node, d cluster.Desired, put map[cluster.Version]json.RawMessage, remove []cluster.Version) error
	ForgetNode(ctx context.Context, h cluster.HostName) error
}

// Loop keeps every host's assignment true.
type Loop struct {
	Store    Store
	Identity *secret.Identity // opens the values, to seal them to hosts
	Snapshot func() *cluster.Snapshot
	Servers  func() []cluster.Server // that there are; nil is this one alone
	Logger   *slog.Logger

	silent map[cluster.HostName]time.Time // since when, by this server's clock: a host's own may be anything
}

// resync is how often the loop looks without being told: for hosts that fell
// silent, which nothing announces.
const resync = 15 * time.Second

// Run steps whenever changed says so, and now and then, until ctx ends.
func (l *Loop) Run(ctx context.Context, changed <-chan struct{}) {
	l.silent = nil // whoever led meanwhile may have heard them
	tick := time.NewTicker(resync)
	defer tick.Stop()
	for {
		if err := l.Step(ctx); err != nil && ctx.Err() == nil {
			l.log().Error("control loop", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// Step writes, for each host whose assignment is not what it should be, what it
// must run. One host's trouble does not hold up the others.
func (l *Loop) Step(ctx context.Context) error {
	nodes, err := l.Store.Nodes(ctx)
	if err != nil {
		return err
	}
	versions, err := l.Store.SecretVersions(ctx)
	if err != nil {
		return err
	}
	snap, err := l.current(ctx, nodes)
	if err != nil {
		return err
	}
	desired := Assign(snap, nodes, versions, l.lost(nodes, time.Now()))
	var failed []error
	for _, n := range nodes {
		err := l.settle(ctx, snap, n, desired)
		switch {
		case errors.Is(err, cluster.ErrConflict):
			l.log().Debug("host changed meanwhile; it is looked at again", "host", string(n.Host))
		case err != nil:
			failed = append(failed, fmt.Errorf("host %s was not told what to run: %w", n.Host, err))
		}
	}
	return errors.Join(failed...)
}

// current returns what is applied. Before a host is forgotten because no
// document names it, the store is asked: this server's own view may be behind.
func (l *Loop) current(ctx context.Context, nodes []cluster.Node) (*cluster.Snapshot, error) {
	snap := l.Snapshot()
	for _, n := range nodes {
		if _, known := snap.Host(n.Host); !known {
			return l.Store.Load(ctx)
		}
	}
	return snap, nil
}

func (l *Loop) settle(ctx context.Context, snap *cluster.Snapshot, n cluster.Node, desired map[cluster.HostName]cluster.Desired) error {
	if _, known := snap.Host(n.Host); !known { // its document was deleted: it is nobody now
		l.log().Info("host forgotten: no document names it", "host", string(n.Host))
		return l.Store.ForgetNode(ctx, n.Host)
	}
	if d, ok := desired[n.Host]; ok {
		d.Uplinks = l.uplinks(snap, n)
		return l.assign(ctx, n, d)
	}
	return nil
}

// uplinks is where a host finds the servers. While there is one, the host's first
// config has said so.
func (l *Loop) uplinks(snap *cluster.Snapshot, n cluster.Node) cluster.Uplinks {
	if l.Servers == nil || n.Introduction == nil {
		return cluster.Uplinks{}
	}
	servers := l.Servers()
	if len(servers) < 2 && (n.Desired == nil || n.Desired.Uplinks.IsZero()) {
		return cluster.Uplinks{}
	}
	var on netip.Prefix
	if a := n.Introduction.Address; a.IsValid() {
		on = netip.PrefixFrom(a, a.BitLen())
		if network, ok := snap.NetworkOf(a); ok {
			on = network.CIDR
		}
	}
	return cluster.UplinksFrom(on, servers, "")
}

// lost notes who is silent since when, and returns who is for too long.
func (l *Loop) lost(nodes []cluster.Node, now time.Time) map[cluster.HostName]bool {
	silent, lost := map[cluster.HostName]time.Time{}, map[cluster.HostName]bool{}
	for _, n := range nodes {
		if n.Alive != nil {
			continue
		}
		since, known := l.silent[n.Host]
		if !known {
			since = now
		}
		silent[n.Host], lost[n.Host] = since, now.Sub(since) > LostAfter
	}
	l.silent = silent
	return lost
}

func (l *Loop) assign(ctx context.Context, n cluster.Node, d cluster.Desired) error {
	put, remove, err := l.secrets(ctx, n, d)
	if err != nil {
		return err
	}
	if len(put) == 0 && len(remove) == 0 && n.Desired != nil && reflect.DeepEqual(normal(*n.Desired), normal(d)) {
		return nil
	}
	if err := l.Store.Assign(ctx, n, d, put, remove); err != nil {
		return err
	}
	l.log().Info("host told what to run", "host", string(n.Host), "containers", len(d.Containers), "secrets", len(put))
	return nil
}

// normal is a Desired as it comes back from the store, so that the two compare.
func normal(d cluster.Desired) (out cluster.Desired) {
	body, err := json.Marshal(d)
	if err != nil || json.Unmarshal(body, &out) != nil {
		return d
	}
	return out
}

// secrets seals what d needs and n lacks, and lists what n has for nothing.
func (l *Loop) secrets(ctx context.Context, n cluster.Node, d cluster.Desired) (put map[cluster.Version]json.RawMessage, remove []cluster.Version, err error) {
	put = map[cluster.Version]json.RawMessage{}
	needed := map[cluster.Version]bool{}
	for _, c := range d.Containers {
		for _, v := range c.Secrets {
			needed[v] = true
			if _, done := put[v]; done || slices.Contains(n.Secrets, v) {
				continue
			}
			if put[v], err = l.seal(ctx, v, n.Introduction.Recipient); err != nil {
				return nil, nil, err
			}
		}
	}
	for _, v := range n.Secrets {
		if !needed[v] {
			remove = append(remove, v)
		}
	}
	return put, remove, nil
}

func (l *Loop) seal(ctx context.Context, v cluster.Version, recipient string) (json.RawMessage, error) {
	raw, err := l.Store.SecretValue(ctx, v)
	if err != nil {
		return nil, err
	}
	var sealed secret.Sealed
	if err := json.Unmarshal(raw, &sealed); err != nil {
		return nil, fmt.Errorf("secret %s, version %d: %w", v.Name, v.Version, err)
	}
	if sealed.Version != v {
		return nil, &secret.MovedError{Expected: v, Found: sealed.Version}
	}
	forHost, err := sealed.For(l.Identity, recipient)
	if err != nil {
		return nil, fmt.Errorf("secret %s, version %d: %w", v.Name, v.Version, err)
	}
	return json.Marshal(forHost)
}

func (l *Loop) log() *slog.Logger {
	if l.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l.Logger
}
