package link

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
)

// Defaults of a Config.
const (
	DefaultTTL     = 20 * time.Second // how long a host counts as alive that is heard of no more
	DefaultSilence = 50 * time.Second
)

const (
	callTimeout = 10 * time.Second
	retryMin    = 500 * time.Millisecond
	retryMax    = 30 * time.Second
)

// Config says how to reach etcd, and as whom.
type Config struct {
	Host      cluster.HostName
	Endpoints []string      // ADDRESS:PORT
	TLS       *tls.Config   // with GetClientCertificate, so that a renewed certificate is used
	Version   string        // the agent's
	TTL       time.Duration // of the liveness lease
	Silence   time.Duration // after which a watch counts as hung
	Log       *slog.Logger  // nil: silent

	// Dial makes connections; nil leaves that to the system.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Link is a connection to etcd as one host.
type Link struct {
	Config
	client *clientv3.Client
	since  time.Time
	remake chan struct{} // holds one token when the liveness key was seen to be gone
}

var _ agent.Link = (*Link)(nil)

// Dial prepares a link. Nothing is asked yet.
func Dial(c Config) (*Link, error) {
	if len(c.Endpoints) == 0 {
		return nil, errors.New("no etcd to dial: list ADDRESS:PORT under etcd in agent.json")
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.Silence == 0 {
		c.Silence = DefaultSilence
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	var options []grpc.DialOption
	if c.Dial != nil {
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return c.Dial(ctx, "tcp", address)
		}))
	}
	client, err := clientv3.New(clientv3.Config{
		DialOptions:          options,
		Endpoints:            c.Endpoints,
		TLS:                  c.TLS,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		PermitWithoutStream:  true,
		Logger:               zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("dial etcd: %w", err)
	}
	return &Link{Config: c, client: client, since: time.Now().UTC(), remake: make(chan struct{}, 1)}, nil
}

// Run watches and stays alive until ctx ends; then it gives the lease back and
// closes the connection. told is called with each State, one after the other.
func (l *Link) Run(ctx context.Context, told func(agent.State)) error {
	var owned sync.WaitGroup
	owned.Go(func() { l.stayAlive(ctx) })
	owned.Go(func() { l.watch(ctx, told) })
	owned.Wait()
	if err := l.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the connection to etcd: %w", err)
	}
	return nil
}

// Reach sets which of etcd's members to speak to, ADDRESS:PORT. What goes on with one
// that is not among them goes on with another.
func (l *Link) Reach(endpoints ...string) { l.client.SetEndpoints(endpoints...) }

// PutStatus says how the host is.
func (l *Link) PutStatus(ctx context.Context, s cluster.Status) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	err = l.retryOldAuth(ctx, func(ctx context.Context) error {
		_, err := l.client.Put(ctx, cluster.StatusKey(l.Host), string(b))
		return err
	})
	if err != nil {
		return fmt.Errorf("put status: %w", l.explain(err))
	}
	return nil
}

// authTries is how often a call is made that falls between two changes of
// etcd's users. Each host that joins is such a change.
const authTries = 8

// retryOldAuth makes a call, and again at once when etcd says that its users
// changed since the call was authenticated.
func (l *Link) retryOldAuth(ctx context.Context, call func(context.Context) error) error {
	pause := agent.Backoff{Min: 5 * time.Millisecond, Max: 200 * time.Millisecond}
	for n := 1; ; n++ {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		err := call(limited)
		cancel()
		if err == nil || n == authTries || !isOldAuth(err) || !agent.Sleep(ctx, pause.Next()) {
			return err
		}
	}
}

func isOldAuth(err error) bool {
	return errors.Is(err, rpctypes.ErrAuthOldRevision) || errors.Is(err, rpctypes.ErrInvalidAuthToken)
}

// explain says what to do about an error that time alone does not heal.
func (l *Link) explain(err error) error {
	if errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, rpctypes.ErrUserEmpty) || errors.Is(err, rpctypes.ErrAuthFailed) {
		return fmt.Errorf("%w: etcd knows no user %s that may do this; the host was retired or its user was lost: apply its document and boot it again (pilotlight host list)", err, cluster.UserOf(l.Host))
	}
	return err
}
