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
	"net/url"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
	"github.com/pilotlight/pilotlight/cluster/docker"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/link"
)

// version is set by the linker: -X main.version=v1.2.3
var version = "devel"

// What the agent lets its heap grow to before it collects harder.
const (
	memoryLimit = 32 << 20
	gcPercent   = 50
)

// run is the whole program. Its environment is used for DOCKER_CONFIG and
// NOTIFY_SOCKET only.
func run(ctx context.Context, args, env []string, _ io.Reader, stdout, stderr io.Writer) int {
	o, err := parse(args, env, stdout)
	switch {
	case errors.Is(err, errHelp):
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "pilotlight-agent:", err)
		return exitUsage
	case o.version:
		fmt.Fprintln(stdout, "pilotlight-agent", version)
		return exitOK
	case o.mountOnly:
		if err := agent.MountVault(o.secrets); err != nil {
			fmt.Fprintln(stderr, "pilotlight-agent:", err)
			return exitFailed
		}
		return exitOK
	}
	level := slog.LevelInfo
	if o.debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level}))
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	config, err := readConfig(o.config)
	if err != nil {
		log.Error("cannot start", "err", err)
		return exitUsage
	}
	if err := serve(ctx, o, config, env, log); err != nil {
		log.Error("cannot go on", "err", err)
		return exitFailed
	}
	log.Info("ended; containers keep running")
	return exitOK
}

// serve wires the parts together and runs them until ctx ends.
func serve(ctx context.Context, o options, config cluster.AgentConfig, env []string, log *slog.Logger) error {
	unlock, err := lock(o.state)
	if err != nil {
		return err
	}
	defer unlock()
	identity, err := agent.OpenIdentity(o.state)
	if err != nil {
		return err
	}
	engine, err := docker.New(config.Host, o.docker, docker.AuthFile(o.dockerAuth))
	if err != nil {
		return err
	}
	defer engine.Close()
	log = log.With("host", config.Host)
	log.Info("begins", "version", version, "state", o.state, "servers", config.Servers)

	admission := &agent.Admission{Identity: identity, Config: config, TokenFile: o.tokenFile, Log: log}
	ways := newUplinks(config)
	admission.Introducer = &join.Client{Servers: ways.servers, CA: admission.Trust}
	a := &agent.Agent{
		Runtime: engine,
		Link:    uplink(o, config, ways, identity, log),
		Found:   ways.found,
		Vault:   &agent.Vault{Dir: o.secrets},
		Opener:  identity,
		Dir:     o.state,
		Version: version,
		Log:     log,
	}
	listener, err := listen(ctx, o.listen)
	if err != nil {
		log.Error("no metrics are served", "err", err) // no reason to leave containers alone
	}
	ctx, stop := context.WithCancel(ctx)
	var owned sync.WaitGroup
	owned.Go(func() { admission.Run(ctx) })
	owned.Go(func() { serveHTTP(ctx, listener, a, log) })
	owned.Go(func() { notifySystemd(ctx, env, a, log) })
	err = a.Run(ctx)
	stop()
	owned.Wait()
	return err
}

// uplink is the way to etcd. With each certificate the engine can pull from
// the servers' registry, too.
func uplink(o options, config cluster.AgentConfig, ways *uplinks, identity *agent.Identity, log *slog.Logger) *agent.Uplink {
	place := func(i *agent.Identity) error { return placeCertificates(o.certsD, ways.servers(), i) }
	ways.place = func() {
		if !identity.Valid(time.Now()) {
			return // it is placed once there is one
		}
		if err := place(identity); err != nil {
			log.Error("the certificate is not in its place", "err", err)
		}
	}
	return &agent.Uplink{
		Identity: identity,
		Log:      log,
		Dial: func(t *tls.Config) (agent.Link, error) {
			l, err := link.Dial(link.Config{Host: config.Host, Endpoints: ways.etcd(), TLS: t, Version: version, Log: log})
			if err != nil {
				return nil, err
			}
			ways.up(l)
			return l, nil
		},
		Place: place,
	}
}

// placeCertificates lets the engine pull from the servers' registries.
func placeCertificates(dir string, servers []string, i *agent.Identity) error {
	certificate, key, err := i.PEM()
	if err != nil {
		return err
	}
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil {
			return fmt.Errorf("server %q: %w", s, err)
		}
		if err := docker.PlaceCertificates(dir, u.Host, i.CA(), certificate, key); err != nil {
			return err
		}
	}
	return nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w; set --listen ADDR, or --listen '' for none", err)
	}
	return l, nil
}

// serveHTTP answers /metrics, /healthz and /readyz until ctx ends.
func serveHTTP(ctx context.Context, l net.Listener, a *agent.Agent, log *slog.Logger) {
	if l == nil {
		return
	}
	server := &http.Server{Handler: handler(a), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stopped := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopped()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Error("metrics are not served any more", "err", err)
	}
}

func handler(a *agent.Agent) http.Handler {
	mux := http.NewServeMux()
	check := func(ok func() error) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if err := ok(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintln(w, "ok")
		}
	}
	mux.HandleFunc("GET /healthz", check(a.Alive))
	mux.HandleFunc("GET /readyz", check(a.Ready))
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		a.WriteMetrics(w)
	})
	return mux
}
