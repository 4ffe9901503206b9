package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// Runtime is a container engine. Package agenttest holds the suite that each
// implementation passes, and one that works in memory.
//
// Every call may be repeated: what is done already is no error.
type Runtime interface {
	Images
	Containers
	Processes
	Engine
}

// Images is the part of a Runtime that has to do with images. An image is
// named by its reference with its digest.
type Images interface {
	Image(ctx context.Context, image string) (*Image, error) // nil when it is not here
	Pull(ctx context.Context, image string) error
	RemoveImage(ctx context.Context, image string) error // not when a container needs it
}

// Image is an image that is here.
type Image struct {
	User string // the one it runs as, unless a service says another
}

// Containers is the part of a Runtime that has to do with containers that need
// not run.
type Containers interface {
	List(ctx context.Context) ([]Found, error)
	Create(ctx context.Context, s Spec) (id string, err error) // and the network of its site
	Remove(ctx context.Context, id string) error               // killed if it runs
}

// Processes is the part of a Runtime that has to do with running containers.
type Processes interface {
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id string) error // with the signal and the grace of its Spec
	Logs(ctx context.Context, id string, lines int) ([]byte, error)
}

// Engine is the rest of a Runtime.
type Engine interface {
	Version(ctx context.Context) (string, error)
	Networks(ctx context.Context) ([]cluster.SiteName, error)
	RemoveNetwork(ctx context.Context, site cluster.SiteName) error
	// Watch calls changed whenever a container may have changed, until ctx
	// ends or the engine goes away.
	Watch(ctx context.Context, changed func()) error
}

// Key names a service of a site, of which a host runs one container.
type Key struct {
	Site    cluster.SiteName
	Service cluster.ServiceName
}

// String returns "site/service".
func (k Key) String() string { return string(k.Site) + "/" + string(k.Service) }

// Slot is one version of a service: a container, and where its secrets are.
type Slot struct {
	Key
	Hash string
}

// String returns "site/service/hash".
func (s Slot) String() string { return s.Key.String() + "/" + s.Hash }

// MarshalText implements encoding.TextMarshaler.
func (s Slot) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Slot) UnmarshalText(b []byte) error {
	parts := strings.Split(string(b), "/")
	if len(parts) != 3 {
		return fmt.Errorf("%q is not site/service/hash", b)
	}
	*s = Slot{Key{cluster.SiteName(parts[0]), cluster.ServiceName(parts[1])}, parts[2]}
	return nil
}

// KeyOf returns the key of a container that is desired.
func KeyOf(c cluster.Container) Key { return Key{c.Site, c.Service.Name} }

// SlotOf returns the slot of a container that is desired.
func SlotOf(c cluster.Container) Slot { return Slot{KeyOf(c), Hash(c)} }

// Hash returns a short name for everything about a container that, when it
// changes, takes a new container. What it must wait for is not among it.
func Hash(c cluster.Container) string {
	c.Service.DependsOn = nil
	c.Secrets = slices.Clone(c.Secrets)
	slices.SortFunc(c.Secrets, func(a, b cluster.Version) int { return strings.Compare(string(a.Name), string(b.Name)) })
	b, err := json.Marshal(c)
	if err != nil { // the words hold nothing that JSON cannot
		panic(err)
	}
	sum := sha256.Sum256(append([]byte("pilotlight/container/v1\x00"), b...))
	return hex.EncodeToString(sum[:8])
}

// Spec is a container to be made.
type Spec struct {
	Slot
	Service cluster.Service
	Secrets string // the directory to be seen at /run/secrets, or nothing
}

// Phase is what a container does, in Docker's words.
type Phase string

// The phases.
const (
	PhaseCreated    Phase = "created"
	PhaseRunning    Phase = "running"
	PhaseRestarting Phase = "restarting"
	PhasePaused     Phase = "paused"
	PhaseExited     Phase = "exited"
	PhaseRemoving   Phase = "removing"
	PhaseDead       Phase = "dead"
)

// Found is a container that is there.
type Found struct {
	Slot
	ID       string
	Image    string // its reference with the digest
	Restart  string // as in cluster.Service
	Ports    []cluster.Port
	Phase    Phase
	Health   cluster.Health // of its health check; empty when it has none
	ExitCode int
	Restarts int // by the engine, since it was last started
	Error    string
	Created  time.Time
	Started  time.Time // zero: never
	Finished time.Time
}

// up reports whether the container has, or is about to have, a process.
func (f *Found) up() bool {
	return f.Phase == PhaseRunning || f.Phase == PhaseRestarting || f.Phase == PhasePaused
}

// done reports whether a container that has exited was meant to, and whether
// it failed. One that is neither done nor failed ought to run.
func (f *Found) done() (done, failed bool) {
	policy, times, _ := strings.Cut(f.Restart, ":")
	switch {
	case f.Phase != PhaseExited || f.Started.IsZero():
		return false, false
	case policy == "no":
		return f.ExitCode == 0, f.ExitCode != 0
	case policy == "on-failure":
		var limit int
		_, _ = fmt.Sscan(times, &limit) // nothing means no limit
		return f.ExitCode == 0, f.ExitCode != 0 && limit > 0 && f.Restarts >= limit
	}
	return false, false
}
