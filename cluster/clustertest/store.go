package clustertest

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// Store is all that the servers ask of what keeps their state. Its parts are
// declared by those who use them: packages api, join, control and dhcp.
type Store interface {
	Load(ctx context.Context) (*cluster.Snapshot, error)
	Apply(ctx context.Context, base *cluster.Snapshot, put []cluster.Document, remove []cluster.Ref, audit []cluster.AuditEntry) error
	Watch(ctx context.Context, base *cluster.Snapshot, ch chan<- *cluster.Snapshot) error
	Notify(ctx context.Context, ch chan<- struct{})

	PutToken(ctx context.Context, hash string, t cluster.Token, audit ...cluster.AuditEntry) error
	Token(ctx context.Context, hash string) (cluster.Token, cluster.Revision, error)
	Introduction(ctx context.Context, h cluster.HostName) (cluster.Introduction, cluster.Revision, error)
	Redeem(ctx context.Context, hash string, t cluster.Token, at cluster.Revision, in cluster.Introduction) error
	Renew(ctx context.Context, in cluster.Introduction, at cluster.Revision) error
	TokensOf(ctx context.Context, h cluster.HostName) ([]string, error)
	UseToken(ctx context.Context, hash string, t cluster.Token, at cluster.Revision) error
	KeyOwner(ctx context.Context, keyHash string) (cluster.HostName, error)

	Nodes(ctx context.Context) ([]cluster.Node, error)
	Alive(ctx context.Context, h cluster.HostName) (bool, error)
	AllowNode(ctx context.Context, h cluster.HostName) error
	ForgetNode(ctx context.Context, h cluster.HostName) error
	Assign(ctx context.Context, n cluster.Node, d cluster.Desired, put map[cluster.Version]json.RawMessage, remove []cluster.Version) error

	SecretVersions(ctx context.Context) (map[cluster.SecretName]int, error)
	SecretValue(ctx context.Context, v cluster.Version) (json.RawMessage, error)
	PutSecretValue(ctx context.Context, v cluster.Version, sealed json.RawMessage) error

	Leases(ctx context.Context) ([]cluster.Lease, cluster.Revision, error)
	Commit(ctx context.Context, put, remove []cluster.Lease) (cluster.Revision, error)
	SaveBoot(ctx context.Context, b cluster.Boot) error
	Boots(ctx context.Context, h cluster.HostName) ([]cluster.Boot, error)
	WatchBoots(ctx context.Context, h cluster.HostName, ready func(), each func(cluster.Boot)) error
	ChangeInstall(ctx context.Context, h cluster.HostName, next func(cluster.Install) cluster.Install) (cluster.Install, error)
	WatchInstalls(ctx context.Context, all func([]cluster.Install), one func(cluster.Install))
	Audit(ctx context.Context, e cluster.AuditEntry) error
	AuditLog(ctx context.Context, q cluster.AuditQuery) (cluster.AuditPage, error)
	Seeds(ctx context.Context) ([]map[string]string, error)
	PutSeed(ctx context.Context, by cluster.ServerName, seed map[string]string) error
}

// Hosts plays the hosts, each of which writes under its own folder. It fails
// for a host that is not allowed, or was forgotten.
type Hosts interface {
	SetAlive(ctx context.Context, h cluster.HostName, a *cluster.Alive) error // nil ends its liveness
	SetStatus(ctx context.Context, h cluster.HostName, s cluster.Status) error
}

// Rig is an empty store, and what the suite needs around it.
type Rig struct {
	Store
	Hosts
	Compact func(t *testing.T) // forgets every past revision
}

// TestStore puts a store to the test. open returns an empty one each time.
func TestStore(t *testing.T, open func(*testing.T) Rig) {
	for _, group := range []struct {
		name  string
		tests map[string]func(*testing.T, Rig)
	}{
		{"documents", documentTests}, {"introductions", introductionTests}, {"nodes", nodeTests}, {"records", recordTests}, {"installs", installTests},
	} {
		for name, test := range group.tests {
			t.Run(group.name+"/"+name, func(t *testing.T) { test(t, open(t)) })
		}
	}
}
