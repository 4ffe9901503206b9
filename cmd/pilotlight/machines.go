package main

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/assets"
	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/boot/dhcp"
	"github.com/pilotlight/pilotlight/boot/dhcp6"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/boot/tftp"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/ignition"
)

// bootServices is what machines talk to: DHCP, TFTP and HTTP, and what they are
// told there.
type bootServices struct {
	s        *server
	recorder *boot.Recorder
	dhcp     *dhcp.Server
	dhcp6    *dhcp6.Server
	tftp     *tftp.Server
	http     *httpboot.Handler
	configs  ignition.Cache
	files    *assets.Store
	agent    agentBinary
	loaders  fs.FS // nil when the directory is not there
	ready    *readiness
	installs *boot.Installs
	admits   *admission
	images   *images
	promises promises
	started  time.Time

	answersDHCP  bool
	answersDHCP6 bool
	answersPXE   bool
	advertises   bool

	answersMetadata bool
}

// agentBinary is what hosts fetch, and how they know that it is whole.
type agentBinary struct {
	file   cluster.File
	sha512 string
}

func openAgent(path string) (a agentBinary, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return a, fmt.Errorf("find the agent's binary: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return a, fmt.Errorf("open the agent's binary: %w; build it (make build), or say where it is with --agent PATH", err)
	}
	defer f.Close()
	h256, h512 := sha256.New(), sha512.New()
	if _, err := io.Copy(io.MultiWriter(h256, h512), f); err != nil {
		return a, fmt.Errorf("read the agent's binary: %w", err)
	}
	a.file = cluster.File{URL: "file://" + path, SHA256: hex.EncodeToString(h256.Sum(nil))}
	a.sha512 = hex.EncodeToString(h512.Sum(nil))
	return a, nil
}

func newBootServices(s *server) (*bootServices, error) {
	agent, err := openAgent(s.o.agent)
	if err != nil {
		return nil, err
	}
	b := &bootServices{s: s, agent: agent, ready: newReadiness(), installs: &boot.Installs{Store: s.store}, images: newImages(), started: time.Now()}
	asking, err := s.fellowClient()
	if err != nil {
		return nil, err
	}
	if b.files, err = assets.New(assets.Config{
		Dir: s.data.join("images"), Log: s.log.With("service", "images"), Fellows: s.fellowURLs, Fellow: asking,
	}); err != nil {
		return nil, err
	}
	if info, err := os.Stat(s.o.loaders); err == nil && info.IsDir() {
		b.loaders = loaderFiles{os.DirFS(s.o.loaders)}
	} else {
		s.log.Warn("no boot loaders: machines without iPXE in their firmware cannot boot (Debian: apt install ipxe; or --loaders DIR)", "dir", s.o.loaders)
	}
	b.admits = newAdmission(s.Snapshot, b.makeHost, s.log)
	b.recorder = &boot.Recorder{Boots: s.store, Server: s.place.Name, Several: func() bool { return len(s.servers()) > 1 }, Logger: s.log}
	b.dhcp = &dhcp.Server{
		Snapshot: s.Snapshot, Leases: s.store, Installs: b.installs, Admit: b.admits.admit, Fellow: s.isFellow, FellowCard: s.isFellowCard,
		HTTPPort: s.o.http.Port(), HTTPSPort: s.o.https.Port(),
		Recorder: b.recorder, Logger: s.log.With("service", "dhcp"), Registerer: s.metrics,
	}
	if b.loaders != nil {
		b.dhcp.Loaders = boot.FindLoaders(b.loaders)
	}
	if err := b.newDHCP6(); err != nil {
		return nil, err
	}
	b.tftp = &tftp.Server{
		Root: b.loaders, Files: b.bootFile, Snapshot: s.Snapshot, Owner: b.lentTo, Recorder: b.recorder,
		Logger: s.log.With("service", "tftp"), Registerer: s.metrics,
	}
	sessions, err := httpboot.NewSessions([]byte(s.data.identity.Export())) // which all servers have
	if err != nil {
		return nil, err
	}
	b.http = &httpboot.Handler{
		Snapshot: s.Snapshot, Owner: b.lentTo, Neighbour: b.dhcp.Neighbour, Configs: b, Files: b, Installs: b.installs,
		Loaders: b.loaders, Agent: agent.file,
		CA: s.data.ca.PEM, HTTPPort: s.o.http.Port(), HTTPSPort: s.o.https.Port(), At: b.at, Wait: b.waitForOld, Sessions: sessions,
		Recorder: b.recorder, Logger: s.log.With("service", "http"), Registerer: s.metrics,
	}
	b.tftp.Left = b.http.Left
	return b, nil
}

// startBoot opens the sockets that machines talk to.
func (s *server) startBoot(ctx context.Context) error {
	b := s.boot
	s.group.Go(func() error { b.recorder.Run(ctx); return nil })
	s.group.Go(func() error { b.followBoots(ctx); return nil })
	s.group.Go(func() error { b.watchReady(ctx); return nil })
	s.group.Go(func() error { b.installs.Run(ctx); return nil })
	s.group.Go(func() error { s.store.WatchLeases(ctx, b.learnAll, b.learn); return nil })
	s.group.Go(func() error { b.admits.run(ctx); return nil })
	leases, at, err := s.store.Leases(ctx)
	if err != nil {
		return err
	}
	b.learnAll(leases, at) // HTTP asks to whom an address is lent, whether DHCP serves yet or not
	if err := b.ensureDHCP(ctx); err != nil {
		return err
	}
	if s.o.tftp != "" && b.loaders != nil {
		if err := b.serveTFTP(ctx); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	s.health(mux)
	mux.Handle("/", b.http)
	b.ensureMetadata(ctx)
	return s.listenHTTP(ctx, s.o.http, &http.Server{Handler: mux, ConnContext: httpboot.WithConnection}, "--http")
}

// followBoots takes over what other servers see machines do.
func (b *bootServices) followBoots(ctx context.Context) {
	for {
		err := b.s.store.WatchBoots(ctx, "", func() {}, b.recorder.Learn)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
			b.s.log.Debug("watch of the boots ended; trying again", "err", err)
		}
	}
}

// learnAll and learn take over what other servers lend.
func (b *bootServices) learnAll(leases []cluster.Lease, at cluster.Revision) {
	b.dhcp.LearnAll(leases, at)
	b.dhcp6.LearnAll(leases, at)
}

func (b *bootServices) learn(leases ...cluster.Lease) {
	b.dhcp.Learn(leases...)
	b.dhcp6.Learn(leases...)
}

// ensureDHCP starts DHCP with the first network that wants it, at the start or
// when one is applied later; and what UEFI asks on a network that is proxy.
func (b *bootServices) ensureDHCP(ctx context.Context) error {
	if err := b.ensureDHCP6(ctx); err != nil {
		return err
	}
	if !b.answersDHCP && b.s.o.dhcp != "" && b.needsDHCP(cluster.DHCPAuthoritative, cluster.DHCPProxy) {
		conn, err := listenUDP(ctx, "udp4", b.s.o.dhcp, "--dhcp")
		if err != nil {
			return err
		}
		b.answersDHCP = true
		b.s.group.Go(func() error { return ignoreEnd(ctx, b.dhcp.Serve(ctx, conn)) })
		b.s.group.Go(func() error { b.dhcp.Watch(ctx); return nil })
		b.advertise(ctx)
	}
	if !b.answersPXE && b.answersDHCP && b.s.o.pxe != "" && b.needsDHCP(cluster.DHCPProxy) {
		conn, err := listenUDP(ctx, "udp4", b.s.o.pxe, "--pxe")
		if err != nil {
			return err
		}
		b.answersPXE = true
		b.s.group.Go(func() error { return ignoreEnd(ctx, b.dhcp.ServePXE(ctx, conn)) })
	}
	return nil
}

// advertise answers those who ask for an IPv6 router. On an IPv6 network of ours
// it sends them on to DHCPv6. Elsewhere it says that there is no router: iPXE waits
// up to 16 s for such an answer before it goes on with what DHCP gave it.
func (b *bootServices) advertise(ctx context.Context) {
	if b.advertises {
		return
	}
	b.advertises = true
	conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		b.s.log.Info("no IPv6 here: some iPXE clients wait for a router before they boot", "err", err)
		return
	}
	a := &dhcp.Advertiser{Snapshot: b.s.Snapshot, Boots: b.dhcp.BootsBeside, Logger: b.s.log.With("service", "ra")}
	b.s.group.Go(func() error { return ignoreEnd(ctx, a.Serve(ctx, conn)) })
}

// needsDHCP reports whether there is an IPv4 network that wants DHCP so.
func (b *bootServices) needsDHCP(modes ...cluster.DHCPMode) bool {
	return slices.ContainsFunc(b.s.Snapshot().Networks(), func(n *cluster.Network) bool {
		return n.CIDR.Addr().Is4() && slices.Contains(modes, n.DHCP)
	})
}

// listenUDP opens a socket that may broadcast. The network is udp4 or udp6.
func listenUDP(ctx context.Context, network, address, flag string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20),
			)
		}), err)
	}}
	conn, err := lc.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, bindError("UDP", address, flag, err)
	}
	return conn, nil
}

// describe says which networks are served, and what with.
func (b *bootServices) describe() []string {
	var out []string
	for _, n := range b.s.Snapshot().Networks() {
		out = append(out, b.describeNetwork(n))
	}
	for _, d := range b.s.Snapshot().Documents(cluster.KindImage) {
		for _, lack := range b.lacking(d.(*cluster.Image)) {
			out = append(out, fmt.Sprintf("image  %s  %s", d.Ref().Name, lack))
		}
	}
	if b.s.o.dhcp != "" && b.s.o.pxe != "" && b.needsDHCP(cluster.DHCPProxy) {
		out = append(out, fmt.Sprintf("pxe    %s  what UEFI asks on networks with dhcp: proxy", b.s.o.pxe))
	}
	if b.loaders != nil && b.s.o.tftp != "" {
		out = append(out, fmt.Sprintf("tftp   %s  loaders of %s", b.s.o.tftp, b.s.o.loaders))
	}
	if b.s.o.metadata != "" && b.needsMetadata() {
		out = append(out, fmt.Sprintf("imds   %s  instance metadata, for networks with metadata:", b.s.o.metadata))
	}
	return append(out, fmt.Sprintf("http   %s  scripts, images, configs; /metrics, /readyz", b.s.o.http))
}

// Discovered implements api.Machines.
func (b *bootServices) Discovered() []cluster.Discovered {
	seen := b.dhcp.Discovered()
	out := make([]cluster.Discovered, len(seen))
	for i, m := range seen {
		out[i] = cluster.Discovered{
			Identity: cluster.Identity{MAC: m.MAC, UUID: m.UUID, Port: m.Port}, Network: m.Network, Arch: m.Arch,
			VendorClass: m.Vendor, FirstSeen: m.First, LastSeen: m.Last,
		}
		out[i].Address, _ = b.dhcp.LeaseOf(m.MAC)
	}
	return b.discovered6(out)
}
