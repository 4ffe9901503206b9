package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pilotlight/pilotlight/assets"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/control"
	"github.com/pilotlight/pilotlight/cluster/etcd"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/registry"
)

// server is everything that `pilotlight serve` runs. cmd only wires: what is
// decided is decided in the packages.
type server struct {
	o        options
	log      *slog.Logger
	cards    atomic.Pointer[[]card] // this machine's
	data     *dataDir
	place    place
	member   *etcd.Member
	store    *etcd.Store
	snap     atomic.Pointer[cluster.Snapshot]
	fellows  atomic.Pointer[[]cluster.Server] // that share the etcd
	changed  chan struct{}                    // the control loop looks again
	metrics  *prometheus.Registry
	intro    *join.Introducer
	inviter  *join.Inviter
	api      *api.Server
	boot     *bootServices
	verifier verifier
	known    *verified // at the start
	group    *errgroup.Group
	running  context.Context // until the server stops
	stop     context.CancelFunc
	ends     []func() error // what close does when nothing is served any more

	certificate atomic.Pointer[tls.Certificate] // what HTTPS answers with
}

// Snapshot is what was applied, as of now.
func (s *server) Snapshot() *cluster.Snapshot { return s.snap.Load() }

// start brings up one part after the other, each when what it leans on stands,
// and takes all down again when one fails.
func start(ctx context.Context, o options, m manifests, log *slog.Logger) (_ *server, err error) {
	s := &server{o: o, log: log, known: m.known, changed: make(chan struct{}, 1), metrics: newMetrics()}
	running, stop := context.WithCancel(ctx)
	s.stop = stop
	s.group, running = errgroup.WithContext(running)
	s.running = running
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	for _, step := range []func(context.Context) error{s.startData, s.startEtcd, s.assemble, s.startFellows} {
		if err := step(running); err != nil {
			return nil, err
		}
	}
	if o.dir != "" {
		if err := seed(running, s.place.Name, s.store, &s.api.Applier, m.set, log); err != nil {
			return nil, err
		}
	}
	fresh, err := s.store.Load(running)
	if err != nil {
		return nil, err
	}
	s.snap.Store(fresh)
	for _, step := range []func(context.Context) error{s.startBoot, s.startHTTPS, s.startMatchbox, s.startFollowing} {
		if err := step(running); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *server) startData(context.Context) (err error) {
	found, err := cards()
	if err != nil {
		return err
	}
	s.cards.Store(&found)
	if s.data, err = lockDataDir(s.o.data); err != nil {
		return err
	}
	known, err := s.data.place()
	if err != nil {
		return err
	}
	s.place = settlePlace(known, s.o.name, s.o.peer)
	own := netip.AddrPortFrom(loopbackIfAny(s.o.https.Addr()), s.o.https.Port())
	if err := s.data.fill(serverNames(), s.ownAddresses(found), "https://"+own.String()); err != nil {
		return err
	}
	if s.place != known {
		if err := s.data.putPlace(s.place); err != nil {
			return err
		}
	}
	return s.loadCertificate()
}

// loopbackIfAny is where to reach a listener from this machine.
func loopbackIfAny(a netip.Addr) netip.Addr {
	if a.IsUnspecified() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return a
}

func (s *server) startEtcd(ctx context.Context) (err error) {
	config := s.data.member(s.place, s.o.etcd)
	config.Logger = s.log
	if s.member, err = etcd.StartMember(ctx, config); err != nil {
		return err
	}
	client, err := s.data.etcdClient()
	if err != nil {
		return err
	}
	if s.store, err = etcd.Open(etcd.ClientConfig{Endpoints: []string{s.ownEtcd()}, TLS: client, Member: s.member, Logger: s.log}); err != nil {
		return err
	}
	at := s.member.Standing()
	s.reach(at)
	if url := "https://" + s.place.Peer.String(); at.Peer != url {
		if err := s.store.Tell(ctx, at.ID, url); err != nil {
			return err
		}
	}
	return s.store.EnsureAuth(ctx)
}

// assemble makes what answers, before anything listens.
func (s *server) assemble(ctx context.Context) error {
	snap, err := s.store.Load(ctx)
	if err != nil {
		return err
	}
	s.snap.Store(snap)
	s.intro = &join.Introducer{CA: s.data.ca, Records: s.store, Nodes: s.store, Auditor: s.store, Logger: s.log}
	s.inviter = &join.Inviter{CA: s.data.ca, Secrets: s.data.identity.Export, Invites: s.store, Auditor: s.store, Logger: s.log, Add: s.addServer}
	if s.boot, err = newBootServices(s); err != nil {
		return err
	}
	s.intro.OnJoin, s.intro.OnInstalled, s.intro.OnConfig = s.boot.joined, s.boot.installed, s.boot.opened
	s.intro.HasHost = func(h cluster.HostName) bool { _, ok := s.Snapshot().Host(h); return ok }
	s.verifier = s.boot.verifier()
	s.api = &api.Server{
		Applier: api.Applier{Store: s.store, Verify: s.verifier.verify, Advise: s.boot.adviseNetworks, Compare: s.boot.compareConfigs},
		Store:   s.store, Snapshot: s.Snapshot, Recipient: s.data.identity.Recipient(),
		Machines: s.boot, Servers: s, Images: imageDesk{s.boot}, Logger: s.log, Running: ctx,
	}
	return nil
}

// startFollowing keeps the snapshot and every host's assignment true.
func (s *server) startFollowing(ctx context.Context) error {
	loop := &control.Loop{Store: s.store, Identity: s.data.identity, Snapshot: s.Snapshot, Servers: s.servers, Logger: s.log}
	next := make(chan *cluster.Snapshot)
	s.group.Go(func() error { return ignoreEnd(ctx, s.store.Watch(ctx, s.Snapshot(), next)) })
	s.group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case snap := <-next:
				s.snap.Store(snap)
				s.poke()
				s.boot.images.look()
				s.boot.ensureMetadata(ctx)
				if err := errors.Join(s.boot.ensureDHCP(ctx), s.refreshAddresses()); err != nil {
					s.log.Error("what was applied is not served whole", "err", err)
				}
			}
		}
	})
	s.group.Go(func() error { s.followAddresses(ctx); return nil })
	s.group.Go(func() error { s.boot.keepImages(ctx); return nil })
	s.group.Go(func() error { s.store.Notify(ctx, s.changed); return nil })
	s.group.Go(func() error {
		s.store.Lead(ctx, string(s.place.Name), func(leading context.Context) {
			var doing sync.WaitGroup
			doing.Go(func() { s.promote(leading) })
			doing.Go(func() { s.prepare(leading) })
			loop.Run(leading, s.changed)
			doing.Wait()
		})
		return nil
	})
	s.group.Go(func() error { return s.member.Wait(ctx) })
	return nil
}

func (s *server) poke() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// startHTTPS serves hosts that join, operators and the registry.
func (s *server) startHTTPS(ctx context.Context) error {
	asking, err := s.fellowClient()
	if err != nil {
		return err
	}
	images, err := registry.Open(ctx, s.data.join("registry"), s.registryRole, &registry.Fellows{Client: asking, At: s.fellowURLs, Log: s.log})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", s.api.Handler(operator))
	introductions := s.intro.Handler()
	for _, path := range []string{join.PathJoin, join.PathCertificates, join.PathRenew, join.PathInstalled, join.PathConfig} {
		mux.Handle(path, introductions)
	}
	mux.Handle(join.PathServer, s.inviter.Handler())
	mux.Handle(registry.Prefix, images)
	mux.Handle("GET "+httpboot.AgentPath, s.boot.http) // for machines that are elsewhere
	mux.HandleFunc("GET "+assets.BlobPath+"{sha256}", s.giveFellow)
	s.health(mux)
	return s.listenHTTP(ctx, s.o.https, &http.Server{Handler: mux, TLSConfig: s.secureConfig()}, "--https")
}

// shutdownGrace is how long requests that have begun may take to end.
const shutdownGrace = 3 * time.Second

// maxHeader is how long a request's line and headers may be. What a machine says
// of itself is far shorter, and comes back in answers and logs.
const maxHeader = 16 << 10

// listenHTTP serves until ctx ends; requests that have begun are let finish.
func (s *server) listenHTTP(ctx context.Context, on netip.AddrPort, srv *http.Server, flag string) error {
	l, err := net.Listen("tcp", on.String())
	if err != nil {
		return bindError("TCP", on.String(), flag, err)
	}
	s.serveHTTP(ctx, l, srv)
	return nil
}

// serveHTTP serves what comes by a listener.
func (s *server) serveHTTP(ctx context.Context, l net.Listener, srv *http.Server) {
	srv.ReadHeaderTimeout, srv.IdleTimeout, srv.MaxHeaderBytes = 10*time.Second, 2*time.Minute, maxHeader
	srv.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug) // what strangers get wrong
	s.group.Go(func() error {
		var err error
		if srv.TLSConfig != nil {
			err = srv.ServeTLS(l, "", "")
		} else {
			err = srv.Serve(l)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	})
	s.group.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // a download that takes longer is resumed by its client
		}
		return nil
	})
}

// atEnd has something done when the server has stopped serving.
func (s *server) atEnd(f func() error) { s.ends = append(s.ends, f) }

// wait returns when ctx ends, or with what made a part fail.
func (s *server) wait(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.group.Wait() }()
	select {
	case <-ctx.Done():
		s.log.Info("stopping")
		s.stop()
		return <-ended
	case err := <-ended:
		return err
	}
}

// close takes down what start brought up:
//
//  1. the listeners and loops, which finish what they have begun, and the address
//     of the metadata service;
//  2. the connections to etcd;
//  3. etcd, which writes what it has to disk;
//  4. the lock on the data directory.
func (s *server) close() error {
	s.stop()
	errs := []error{s.group.Wait()}
	for _, f := range s.ends {
		errs = append(errs, f())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.member != nil {
		s.member.Close()
	}
	if s.data != nil {
		errs = append(errs, s.data.close())
	}
	return errors.Join(errs...)
}

// describe says in a few lines what is served and where.
func (s *server) describe(w io.Writer) {
	snap := s.Snapshot()
	from := "what was applied"
	if s.o.dir != "" {
		from = s.o.dir
	}
	fmt.Fprintf(w, "pilotlight %s serves %s, %s, %s from %s\n", version,
		plural(len(snap.Documents(cluster.KindHost)), "host"), plural(len(snap.Documents(cluster.KindSite)), "site"),
		plural(len(snap.Documents(cluster.KindNetwork)), "network"), from)
	for _, line := range s.boot.describe() {
		fmt.Fprintln(w, "  "+line)
	}
	fmt.Fprintf(w, "  https  %s  configs, join, operators, registry\n", s.o.https)
	fmt.Fprintf(w, "  etcd   %s  agents, each with its own certificate\n", s.o.etcd)
	if s.o.matchbox != (netip.AddrPort{}) {
		fmt.Fprintf(w, "  grpc   %s  matchbox's API, for operators\n", s.o.matchbox)
	}
	if s.place.Several {
		fmt.Fprintf(w, "  peers  %s  other servers; this one is %s\n", s.place.Peer, s.place.Name)
	}
	fmt.Fprintf(w, "  next   pilotlight host list%s\n", dataFlag(s.o.data))
}

func dataFlag(data string) string {
	if data == defaultData {
		return ""
	}
	return " --data " + data
}
