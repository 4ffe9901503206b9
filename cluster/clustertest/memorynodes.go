package clustertest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// PutToken keeps the record of a new token, and what the audit is to say of it.
func (m *Memory) PutToken(_ context.Context, hash string, t cluster.Token, audit ...cluster.AuditEntry) error {
	defer m.lock()()
	m.rev++
	m.writeAudit(audit)
	m.tokens[hash] = kept[cluster.Token]{again(t), m.rev}
	return nil
}

// Token returns the record of a token.
func (m *Memory) Token(_ context.Context, hash string) (cluster.Token, cluster.Revision, error) {
	defer m.lock()()
	k, ok := m.tokens[hash]
	if !ok {
		return cluster.Token{}, 0, fmt.Errorf("token: %w", cluster.ErrNotFound)
	}
	return k.value, k.rev, nil
}

// TokensOf returns the hashes of the tokens of a host.
func (m *Memory) TokensOf(_ context.Context, h cluster.HostName) ([]string, error) {
	defer m.lock()()
	var out []string
	for hash, k := range m.tokens {
		if k.value.Host == h {
			out = append(out, hash)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Introduction returns the record of a host's last introduction.
func (m *Memory) Introduction(_ context.Context, h cluster.HostName) (cluster.Introduction, cluster.Revision, error) {
	defer m.lock()()
	k, ok := m.intros[h]
	if !ok {
		return cluster.Introduction{}, 0, fmt.Errorf("introduction of %s: %w", h, cluster.ErrNotFound)
	}
	return k.value, k.rev, nil
}

// Redeem marks a token as used and writes what it bought.
func (m *Memory) Redeem(_ context.Context, hash string, t cluster.Token, at cluster.Revision, in cluster.Introduction) error {
	defer m.lock()()
	if m.tokens[hash].rev != at || m.intros[in.Host].rev != t.After {
		return fmt.Errorf("token: %w", cluster.ErrConflict)
	}
	m.introduce(in)
	m.tokens[hash] = kept[cluster.Token]{again(t), m.rev}
	if n := m.nodes[in.Host]; n != nil {
		n.secrets = nil
	}
	return nil
}

// UseToken marks a token as used.
func (m *Memory) UseToken(_ context.Context, hash string, t cluster.Token, at cluster.Revision) error {
	defer m.lock()()
	if m.tokens[hash].rev != at {
		return fmt.Errorf("token: %w", cluster.ErrConflict)
	}
	m.rev++
	m.tokens[hash] = kept[cluster.Token]{again(t), m.rev}
	return nil
}

// Renew writes an introduction whose certificate is new.
func (m *Memory) Renew(_ context.Context, in cluster.Introduction, at cluster.Revision) error {
	defer m.lock()()
	if m.intros[in.Host].rev != at {
		return fmt.Errorf("introduction of %s: %w", in.Host, cluster.ErrConflict)
	}
	m.introduce(in)
	return nil
}

func (m *Memory) introduce(in cluster.Introduction) {
	m.rev++
	m.intros[in.Host] = kept[cluster.Introduction]{again(in), m.rev}
	m.owners[in.KeyHash] = owner{in.Host, time.Now().Add(ownerKept)}
	signal(&m.decides)
}

// KeyOwner returns the host that a key was certified for within the last hour.
func (m *Memory) KeyOwner(_ context.Context, keyHash string) (cluster.HostName, error) {
	defer m.lock()()
	o, ok := m.owners[keyHash]
	if !ok || time.Now().After(o.until) {
		return "", fmt.Errorf("key %s: %w", keyHash, cluster.ErrNotFound)
	}
	return o.host, nil
}

// Nodes returns every host that was introduced or that has a folder, by name.
func (m *Memory) Nodes(context.Context) ([]cluster.Node, error) {
	defer m.lock()()
	all := map[cluster.HostName]cluster.Node{}
	for h, n := range m.nodes {
		out := cluster.Node{Host: h, Alive: n.alive, Status: n.status}
		if n.desired != nil {
			d := again(n.desired.value)
			out.Desired, out.DesiredAt = &d, n.desired.rev
		}
		out.Secrets = slices.SortedFunc(maps.Keys(n.secrets), compareVersions)
		all[h] = out
	}
	for h, k := range m.intros {
		n := all[h]
		n.Host, n.Introduction, n.IntroducedAt = h, &k.value, k.rev
		all[h] = n
	}
	return slices.SortedFunc(maps.Values(all), func(a, b cluster.Node) int {
		return strings.Compare(string(a.Host), string(b.Host))
	}), nil
}

func compareVersions(a, b cluster.Version) int {
	if c := strings.Compare(string(a.Name), string(b.Name)); c != 0 {
		return c
	}
	return a.Version - b.Version
}

func (m *Memory) node(h cluster.HostName) *node {
	if m.nodes[h] == nil {
		m.nodes[h] = new(node)
	}
	return m.nodes[h]
}

// Alive reports whether a host's liveness holds.
func (m *Memory) Alive(_ context.Context, h cluster.HostName) (bool, error) {
	defer m.lock()()
	n := m.nodes[h]
	return n != nil && n.alive != nil, nil
}

// AllowNode lets a host write under its folder.
func (m *Memory) AllowNode(_ context.Context, h cluster.HostName) error {
	defer m.lock()()
	if h == "" || strings.Contains(string(h), "/") {
		return fmt.Errorf("%q is not the name of a host", h)
	}
	m.allowed[h] = true
	return nil
}

// ForgetNode shuts a host out and removes all that is kept for it.
func (m *Memory) ForgetNode(_ context.Context, h cluster.HostName) error {
	defer m.lock()()
	m.rev++
	delete(m.allowed, h)
	delete(m.nodes, h)
	delete(m.intros, h)
	signal(&m.decides)
	return nil
}

// Allowed reports whether a host may write under its folder.
func (m *Memory) Allowed(h cluster.HostName) bool {
	defer m.lock()()
	return m.allowed[h]
}

// Sealed returns the secrets that are kept for a host.
func (m *Memory) Sealed(h cluster.HostName) map[cluster.Version]json.RawMessage {
	defer m.lock()()
	if n := m.nodes[h]; n != nil {
		return maps.Clone(n.secrets)
	}
	return nil
}

// Assign tells a host what it must run, and hands it the secrets for it.
func (m *Memory) Assign(_ context.Context, n cluster.Node, d cluster.Desired, put map[cluster.Version]json.RawMessage, remove []cluster.Version) error {
	defer m.lock()()
	var desiredAt cluster.Revision
	if old := m.nodes[n.Host]; old != nil && old.desired != nil {
		desiredAt = old.desired.rev
	}
	if m.intros[n.Host].rev != n.IntroducedAt || desiredAt != n.DesiredAt {
		return fmt.Errorf("what %s must run: %w", n.Host, cluster.ErrConflict)
	}
	m.rev++
	to := m.node(n.Host)
	to.desired = &kept[cluster.Desired]{again(d), m.rev}
	if to.secrets == nil {
		to.secrets = map[cluster.Version]json.RawMessage{}
	}
	maps.Copy(to.secrets, put)
	for _, v := range remove {
		delete(to.secrets, v)
	}
	return nil
}

// SetAlive is what a host's agent does by its lease; nil ends it.
func (m *Memory) SetAlive(_ context.Context, h cluster.HostName, a *cluster.Alive) error {
	defer m.lock()()
	if !m.allowed[h] {
		return fmt.Errorf("host %s is not allowed", h)
	}
	m.rev++
	m.node(h).alive = again(a)
	return nil
}

// SetStatus is what a host's agent does.
func (m *Memory) SetStatus(_ context.Context, h cluster.HostName, s cluster.Status) error {
	defer m.lock()()
	if !m.allowed[h] {
		return fmt.Errorf("host %s is not allowed", h)
	}
	m.rev++
	s = again(s)
	m.node(h).status = &s
	return nil
}

// SecretVersions returns the newest version of each secret that has a value.
func (m *Memory) SecretVersions(context.Context) (map[cluster.SecretName]int, error) {
	defer m.lock()()
	out := map[cluster.SecretName]int{}
	for v := range m.values {
		out[v.Name] = max(out[v.Name], v.Version)
	}
	return out, nil
}

// SecretValue returns the sealed value of one version.
func (m *Memory) SecretValue(_ context.Context, v cluster.Version) (json.RawMessage, error) {
	defer m.lock()()
	raw, ok := m.values[v]
	if !ok {
		return nil, fmt.Errorf("secret %s, version %d: %w", v.Name, v.Version, cluster.ErrNotFound)
	}
	return raw, nil
}

// PutSecretValue keeps a sealed value as a new version.
func (m *Memory) PutSecretValue(_ context.Context, v cluster.Version, sealed json.RawMessage) error {
	defer m.lock()()
	if _, ok := m.docs[cluster.Ref{Kind: cluster.KindSecret, Name: string(v.Name)}]; !ok {
		return fmt.Errorf("secret %s: %w", v.Name, cluster.ErrNotFound)
	}
	if _, there := m.values[v]; there {
		return fmt.Errorf("secret %s, version %d: %w", v.Name, v.Version, cluster.ErrConflict)
	}
	m.rev++
	m.values[v] = slices.Clone(sealed)
	signal(&m.decides)
	return nil
}
