package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// MemberConfig is what an embedded member needs.
type MemberConfig struct {
	Name   string // unique among the servers
	Dir    string // its data; made with mode 0700
	Client netip.AddrPort
	Peer   netip.AddrPort // default 127.0.0.1:2380
	TLS    Files          // the server's certificate; clients must show one of the same authority
	Logger *slog.Logger   // takes what etcd says that an operator must act on; nil is silence

	PeerTLS Files  // the certificate, of the name PeerUser, with which members speak to each other
	Several bool   // others have joined, or may
	Join    string // NAME=URL,NAME=URL: all members, this one too, for the first start of one that joins
}

// PeerUser is the common name of the certificates with which members speak to
// each other. The authority gives it to servers only.
const PeerUser = "etcd-peer"

// Files are the paths of a certificate, its key and the authority to trust.
type Files struct{ Cert, Key, CA string }

// What the embedded member is set to, and why.
const (
	tick       = 100          // ms; etcd's own, for a network whose round trip is far below
	election   = 1000         // ms
	soloTick   = 20           // one member has nobody to wait for: ready after 0.1 s at most, not 1 s
	soloElects = 5 * soloTick // the fewest ticks that etcd takes: each wakes this process, for as long as it runs
	learners   = 8            // etcd's default is one; those who wait for a vote are few anyway
	quota      = 2 << 30
	maxOps     = 256 << 10 // an apply is one transaction
	maxBytes   = 64 << 20  // of a hundred thousand documents
	minFree    = 256 << 20
	startLimit = time.Minute
	joinTries  = 10
	startSays  = 15 * time.Second // how often a member says whom it waits for
	retention  = "1h"             // history for watchers that were away; etcd's default is to keep everything
)

// Member is a running embedded etcd.
type Member struct {
	etcd  *embed.Etcd
	door  *door
	level zap.AtomicLevel // of what etcd logs
	once  sync.Once
}

// StartMember starts an embedded member and returns when it answers. Its
// clients need a certificate; the HTTP gateway, which cannot ask for one's
// name, is off.
func StartMember(ctx context.Context, c MemberConfig) (*Member, error) {
	cfg, err := c.embed()
	if err != nil {
		return nil, err
	}
	d := newDoor()
	cfg.GRPCAdditionalServerOptions = d.options()
	level := zap.NewAtomicLevelAt(zap.ErrorLevel)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(&logCore{level, c.Logger}))
	e, err := embed.StartEtcd(cfg)
	for try := 0; err != nil && c.Join != "" && try < joinTries && passes(err); try++ {
		pause(ctx, time.Second)
		e, err = embed.StartEtcd(cfg)
	}
	if err != nil {
		return nil, explainStart(c, err)
	}
	d.server.Store(e.Server)
	m := &Member{etcd: e, door: d, level: level}
	if !c.Several {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, startLimit, notReady(cfg))
		defer cancel()
	}
	if err := m.ready(ctx, c); err != nil {
		m.abandon()
		return nil, err
	}
	return m, nil
}

// passes reports whether what stands in the way of a member that joins goes away by
// itself, maybe: it compares the members and versions that it was told with what others
// say, and these may not know of it yet (a learner, say), or be away or too busy to
// answer in the second that etcd has for them.
func passes(err error) bool {
	for _, s := range []string{"member count is unequal", "incompatible with current running cluster", "could not retrieve cluster information"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

// ready waits until the member answers. One of several waits for most of the
// others for as long as it takes: after a power cut they come back one by one.
func (m *Member) ready(ctx context.Context, c MemberConfig) error {
	says := time.NewTicker(startSays)
	defer says.Stop()
	for {
		select {
		case <-m.etcd.Server.ReadyNotify():
			return nil
		case <-m.etcd.Server.StopNotify():
			return errRemoved
		case err := <-m.etcd.Err():
			return explainStart(c, err)
		case <-says.C:
			if c.Logger != nil {
				c.Logger.Warn("etcd waits for the other servers: most of those with a vote have to run", "try", "start pilotlight on them, or see that this one reaches them at their --etcd-peer address")
			}
		case <-ctx.Done():
			return fmt.Errorf("start etcd in %s: %w", c.Dir, context.Cause(ctx))
		}
	}
}

// errRemoved ends a member that an operator took out on another server.
var errRemoved = errors.New("this server was removed from those that share the etcd (`pilotlight server remove` on another), so nothing of what it holds counts any more; " +
	"to let it join again, move its data directory away and type: pilotlight server join")

// notReady says why a member may wait for others for ever: a restored snapshot
// has members of the names that the restore was told.
func notReady(cfg *embed.Config) error {
	return fmt.Errorf("it does not become ready: is its disk full (df -h), or very slow? If a snapshot was restored there, it has to be for this member:\n"+
		"  etcdctl snapshot restore FILE --data-dir %s --name %s --initial-cluster %s --initial-advertise-peer-urls %s",
		cfg.Dir, cfg.Name, cfg.InitialCluster, cfg.AdvertisePeerUrls[0].String())
}

// abandon closes a member that never became ready. etcd's own Close may wait
// for that moment for ever (embed/etcd.go: it drains serversC, which is closed
// when serving begins), so it is waited for a little only: the program ends.
func (m *Member) abandon() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		m.Close()
	}()
	select {
	case <-closed:
	case <-time.After(2 * time.Second):
	}
}

// checkSpace refuses a disk on which etcd would hang half-way: it lays out two
// files of its log of 64 MB each before it writes the first entry.
func checkSpace(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look for space in %s: %w", dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < minFree {
		return fmt.Errorf("%s has %d MB free, and etcd needs %d: make room (df -h %s), or keep the data elsewhere", dir, free>>20, minFree>>20, dir)
	}
	return nil
}

func (c MemberConfig) embed() (*embed.Config, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make etcd's directory: %w", err)
	}
	if err := checkSpace(c.Dir); err != nil {
		return nil, err
	}
	if !c.Peer.IsValid() {
		c.Peer = netip.MustParseAddrPort("127.0.0.1:2380")
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = c.Name, c.Dir
	cfg.TickMs, cfg.ElectionMs = soloTick, soloElects
	if c.Several {
		cfg.TickMs, cfg.ElectionMs = tick, election
	}
	cfg.MaxLearners = learners
	client, peer := secureURL(c.Client), secureURL(c.Peer)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{secureURL(c.advertised())}
	// With a listener of its own for HTTP, which nobody uses, etcd serves its clients by
	// gRPC's own server, which takes less of a processor than one inside net/http.
	cfg.ListenClientHttpUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	if c.Join != "" {
		cfg.InitialCluster, cfg.ClusterState = c.Join, embed.ClusterStateFlagExisting
	}
	info := transport.TLSInfo{CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, TrustedCAFile: c.TLS.CA, ClientCertAuth: true}
	cfg.ClientTLSInfo = info
	// Hosts have certificates of the same authority. Who speaks to a member as a
	// peer needs no user and may write anything: that is for servers only.
	cfg.PeerTLSInfo = transport.TLSInfo{
		CertFile: c.PeerTLS.Cert, KeyFile: c.PeerTLS.Key, ClientCertFile: c.PeerTLS.Cert, ClientKeyFile: c.PeerTLS.Key,
		TrustedCAFile: c.PeerTLS.CA, ClientCertAuth: true, AllowedCNs: []string{PeerUser},
	}
	for _, f := range []Files{c.TLS, c.PeerTLS} {
		if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
			return nil, fmt.Errorf("load etcd's certificate: %w", err)
		}
	}
	cfg.TlsMinVersion = "TLS1.3"
	cfg.EnableGRPCGateway = false
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, retention
	cfg.QuotaBackendBytes, cfg.MaxTxnOps, cfg.MaxRequestBytes = quota, maxOps, maxBytes
	return cfg, nil
}

// advertised is where other servers are told to reach the member as clients.
func (c MemberConfig) advertised() netip.AddrPort {
	if !c.Client.Addr().IsUnspecified() {
		return c.Client
	}
	return netip.AddrPortFrom(c.Peer.Addr(), c.Client.Port())
}

func secureURL(a netip.AddrPort) url.URL { return url.URL{Scheme: "https", Host: a.String()} }

func explainStart(c MemberConfig, err error) error {
	var opErr *net.OpError
	switch {
	case strings.Contains(err.Error(), "address already in use"):
		return fmt.Errorf("start etcd: %s or %s is in use, perhaps by another etcd or pilotlight; stop it (ss -ltnp), or give another --etcd address: %w", c.Client, c.Peer, err)
	case errors.As(err, &opErr):
		return fmt.Errorf("start etcd on %s: %w", c.Client, err)
	}
	return fmt.Errorf("start etcd in %s: %w", c.Dir, err)
}

// Wait returns when the member fails or was removed by another, or when ctx ends.
func (m *Member) Wait(ctx context.Context) error {
	select {
	case err := <-m.etcd.Err():
		return fmt.Errorf("etcd stopped: %w", err)
	case <-m.etcd.Server.StopNotify():
		if ctx.Err() != nil {
			return nil
		}
		return errRemoved
	case <-ctx.Done():
		return nil
	}
}

// Standing is what a member knows of itself and the others, without asking them.
type Standing struct {
	ID       uint64
	Votes    bool
	Peer     string   // the URL at which the others reach it
	Voters   []string // where clients reach those that have a vote
	Learners int
}

// Standing returns what the member knows.
func (m *Member) Standing() Standing {
	s := Standing{ID: uint64(m.etcd.Server.MemberID())}
	for _, o := range m.etcd.Server.Cluster().Members() {
		if o.IsLearner {
			s.Learners++
		} else {
			s.Voters = append(s.Voters, o.ClientURLs...)
		}
		if uint64(o.ID) == s.ID && len(o.PeerURLs) > 0 {
			s.Votes, s.Peer = !o.IsLearner, o.PeerURLs[0]
		}
	}
	slices.Sort(s.Voters)
	return s
}

// Votes reports whether the member has a vote in etcd, which a learner has not.
func (m *Member) Votes() bool { return votes(m.etcd.Server) }

// Close stops the member and waits until its data is on disk; a second Close
// does nothing:
//
//  1. etcd's log ends, which takes closed listeners for errors;
//  2. streams end, since etcd would wait 5 s for clients to end their watches;
//  3. the listener closes, and calls that have begun are answered;
//  4. the store is written and closed.
func (m *Member) Close() {
	m.once.Do(func() {
		m.level.SetLevel(zap.FatalLevel)
		m.door.close()
		m.etcd.Close()
	})
}
