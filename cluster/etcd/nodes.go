package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// Nodes returns every host that was introduced or that has a folder, by name.
func (s *Store) Nodes(ctx context.Context) ([]cluster.Node, error) {
	r, err := s.client.Txn(ctx).Then(
		clientv3.OpGet(cluster.NodesFolder, clientv3.WithPrefix()),
		clientv3.OpGet(cluster.IntroductionsFolder, clientv3.WithPrefix()),
	).Commit()
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	nodes := map[cluster.HostName]*cluster.Node{}
	node := func(h cluster.HostName) *cluster.Node {
		if nodes[h] == nil {
			nodes[h] = &cluster.Node{Host: h}
		}
		return nodes[h]
	}
	for _, kv := range r.Responses[0].GetResponseRange().Kvs {
		name, rest, ok := strings.Cut(strings.TrimPrefix(string(kv.Key), cluster.NodesFolder), "/")
		if !ok {
			continue
		}
		n := node(cluster.HostName(name))
		if rest == "alive" && kv.Lease == 0 {
			continue // it would never end: no agent writes that
		}
		fillNode(n, rest, kv.Value, kv.ModRevision)
	}
	for _, kv := range r.Responses[1].GetResponseRange().Kvs {
		in := new(cluster.Introduction)
		if json.Unmarshal(kv.Value, in) == nil {
			n := node(in.Host)
			n.Introduction, n.IntroducedAt = in, cluster.Revision(kv.ModRevision)
		}
	}
	out := make([]cluster.Node, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b cluster.Node) int { return strings.Compare(string(a.Host), string(b.Host)) })
	return out, nil
}

// fillNode takes one key of a node's folder in. What a host wrote is a host's
// word: whatever cannot be read is left out, never an error that stops others.
func fillNode(n *cluster.Node, key string, value []byte, rev int64) {
	switch {
	case key == "alive":
		n.Alive = new(cluster.Alive)
		_ = json.Unmarshal(value, n.Alive) // being there is what counts
	case key == "status":
		if st := new(cluster.Status); json.Unmarshal(value, st) == nil {
			n.Status = st
		}
	case key == "desired":
		if d := new(cluster.Desired); json.Unmarshal(value, d) == nil {
			n.Desired = d
		}
		n.DesiredAt = cluster.Revision(rev)
	case strings.HasPrefix(key, "secrets/"):
		if v, err := strconv.Atoi(path.Base(key)); err == nil {
			name := path.Dir(strings.TrimPrefix(key, "secrets/"))
			n.Secrets = append(n.Secrets, cluster.Version{Name: cluster.SecretName(name), Version: v})
		}
	}
}

// Alive reports whether a host's liveness lease holds.
func (s *Store) Alive(ctx context.Context, h cluster.HostName) (bool, error) {
	r, err := s.near.Get(ctx, cluster.AliveKey(h))
	if err != nil {
		return false, fmt.Errorf("ask whether %s is alive: %w", h, err)
	}
	return len(r.Kvs) > 0 && r.Kvs[0].Lease != 0, nil
}

// Assign tells a host what it must run and hands it the secrets for it, sealed
// to it, in one transaction: the host never sees a Desired without the secrets
// that it names. n is what the decision was made from; when the host was
// introduced or assigned to since, it fails with cluster.ErrConflict, so that no
// secret stays that is sealed to a key which the host has no more, and a leader
// that does not know yet that it was replaced changes nothing.
func (s *Store) Assign(ctx context.Context, n cluster.Node, d cluster.Desired, put map[cluster.Version]json.RawMessage, remove []cluster.Version) error {
	h := n.Host
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode what %s must run: %w", h, err)
	}
	ops := []clientv3.Op{clientv3.OpPut(cluster.DesiredKey(h), string(body))}
	for v, sealed := range put {
		ops = append(ops, clientv3.OpPut(cluster.NodeSecretKey(h, v), string(sealed)))
	}
	for _, v := range remove {
		ops = append(ops, clientv3.OpDelete(cluster.NodeSecretKey(h, v)))
	}
	r, err := s.client.Txn(ctx).If(
		clientv3.Compare(clientv3.ModRevision(cluster.IntroductionKey(h)), "=", int64(n.IntroducedAt)),
		clientv3.Compare(clientv3.ModRevision(cluster.DesiredKey(h)), "=", int64(n.DesiredAt)),
	).Then(ops...).Commit()
	switch {
	case err != nil:
		return fmt.Errorf("tell %s what to run: %w", h, err)
	case !r.Succeeded:
		return fmt.Errorf("what %s must run: %w", h, cluster.ErrConflict)
	}
	return nil
}

// SecretVersions returns the newest version of each secret that has a value.
func (s *Store) SecretVersions(ctx context.Context) (map[cluster.SecretName]int, error) {
	folder := cluster.Folder(cluster.KindSecret)
	r, err := s.client.Get(ctx, folder, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	out := map[cluster.SecretName]int{}
	for _, kv := range r.Kvs {
		name, version, found := strings.Cut(strings.TrimPrefix(string(kv.Key), folder), "/")
		if n, err := strconv.Atoi(version); found && err == nil {
			out[cluster.SecretName(name)] = max(n, out[cluster.SecretName(name)])
		}
	}
	return out, nil
}

// SecretValue returns the sealed value of one version.
func (s *Store) SecretValue(ctx context.Context, v cluster.Version) (json.RawMessage, error) {
	var raw json.RawMessage
	if _, err := s.getJSON(ctx, cluster.SecretValueKey(v), &raw); err != nil {
		return nil, fmt.Errorf("secret %s, version %d: %w", v.Name, v.Version, err)
	}
	return raw, nil
}

// PutSecretValue keeps a sealed value as a new version. It fails with
// cluster.ErrConflict when the version is there already, and with
// cluster.ErrNotFound when no document of that name is.
func (s *Store) PutSecretValue(ctx context.Context, v cluster.Version, sealed json.RawMessage) error {
	key := cluster.SecretValueKey(v)
	doc := cluster.DocumentKey(cluster.Ref{Kind: cluster.KindSecret, Name: string(v.Name)})
	r, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0), clientv3.Compare(clientv3.CreateRevision(doc), ">", 0)).
		Then(clientv3.OpPut(key, string(sealed))).
		Else(clientv3.OpGet(doc, clientv3.WithCountOnly())).Commit()
	switch {
	case err != nil:
		return fmt.Errorf("write secret %s: %w", v.Name, err)
	case r.Succeeded:
		return nil
	case r.Responses[0].GetResponseRange().Count == 0:
		return fmt.Errorf("secret %s: %w", v.Name, cluster.ErrNotFound)
	}
	return fmt.Errorf("secret %s, version %d: %w", v.Name, v.Version, cluster.ErrConflict)
}

// Notify sends to ch, which has room for one, whenever something changes that
// decides what hosts must run: who was introduced, and which secrets have
// values. It returns when ctx ends. Who fell silent is told by the clock.
func (s *Store) Notify(ctx context.Context, ch chan<- struct{}) {
	poke := func() {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	for ctx.Err() == nil {
		watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		introductions := s.client.Watch(watching, cluster.IntroductionsFolder, clientv3.WithPrefix())
		secrets := s.client.Watch(watching, cluster.Folder(cluster.KindSecret), clientv3.WithPrefix())
		poke() // what changed while nobody watched
		for open := true; open; {
			select {
			case r, ok := <-introductions:
				open = ok && r.Err() == nil
			case r, ok := <-secrets:
				open = ok && r.Err() == nil
			}
			poke()
		}
		cancel()
		pause(ctx, time.Second)
	}
}
