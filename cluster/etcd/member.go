package etcd

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
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
	Peers  []string       // common names of the other servers' certificates
	Logger *slog.Logger   // takes what etcd says that an operator must act on; nil is silence
}

// Files are the paths of a certificate, its key and the authority to trust.
type Files struct{ Cert, Key, CA string }

// What the embedded member is set to, and why.
const (
	tick       = 10  // ms; one member has nobody to wait for: ready after 0.1 s instead of 1 s
	election   = 100 // ms
	quota      = 2 << 30
	maxOps     = 16384    // an apply is one transaction
	maxBytes   = 32 << 20 // of thousands of documents
	minFree    = 256 << 20
	startLimit = time.Minute
	retention  = "1h" // history for watchers that were away; etcd's default is to keep everything
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
	if err != nil {
		return nil, explainStart(c, err)
	}
	m := &Member{etcd: e, door: d, level: level}
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, notReady(cfg))
	defer cancel()
	select {
	case <-e.Server.ReadyNotify():
		return m, nil
	case err := <-e.Err():
		m.abandon()
		return nil, explainStart(c, err)
	case <-ctx.Done():
		m.abandon()
		return nil, fmt.Errorf("start etcd in %s: %w", c.Dir, context.Cause(ctx))
	}
}

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
	cfg.TickMs, cfg.ElectionMs = tick, election
	client, peer := secureURL(c.Client), secureURL(c.Peer)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	info := transport.TLSInfo{CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, TrustedCAFile: c.TLS.CA, ClientCertAuth: true}
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = info, info
	cfg.PeerTLSInfo.ClientCertFile, cfg.PeerTLSInfo.ClientKeyFile = c.TLS.Cert, c.TLS.Key
	// Hosts have certificates of the same authority. Who speaks to a member as a
	// peer needs no user and may write anything: that is for servers only.
	own, err := commonName(c.TLS.Cert)
	if err != nil {
		return nil, err
	}
	cfg.PeerTLSInfo.AllowedCNs = append([]string{own}, c.Peers...)
	cfg.TlsMinVersion = "TLS1.3"
	cfg.EnableGRPCGateway = false
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, retention
	cfg.QuotaBackendBytes, cfg.MaxTxnOps, cfg.MaxRequestBytes = quota, maxOps, maxBytes
	return cfg, nil
}

func commonName(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read etcd's certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", fmt.Errorf("read etcd's certificate: %s is not PEM", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("read etcd's certificate: %s: %w", file, err)
	}
	return cert.Subject.CommonName, nil
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

// Err tells of a failure while the member runs.
func (m *Member) Err() <-chan error { return m.etcd.Err() }

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
