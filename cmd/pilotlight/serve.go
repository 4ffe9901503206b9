package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/manifest"
)

// options is what `serve` is told.
type options struct {
	dir     string // empty: what is applied is served, and no more
	data    string
	name    cluster.ServerName
	http    netip.AddrPort
	https   netip.AddrPort
	etcd    netip.AddrPort
	peer    netip.AddrPort
	dhcp    string
	dhcp6   string
	pxe     string
	tftp    string
	loaders string
	agent   string

	metadata string // empty: at the HTTP port only

	matchbox       netip.AddrPort // zero: matchbox's API is not served
	matchboxAssets string
}

func newServe(c *cli) *cobra.Command {
	o := options{}
	var http, https, etcd, peer, grpc, name, logFormat, logLevel string
	cmd := &cobra.Command{
		Use:   "serve [DIR]",
		Short: "Boot machines from the manifests in DIR, and keep their sites running",
		Long: `Boot machines from the manifests in DIR, and keep their sites running. Without
DIR, what was applied is served; a server that joined others needs none.

Everything is in this one process: DHCP, TFTP and HTTP for machines that boot,
HTTPS for hosts that join and for operators, and etcd, in which all that was
applied is kept. Stopped and started again it goes on where it was. A document
that changed in DIR since the last start is applied; one that did not is left as
operators have it now.`,
		Example: "  pilotlight serve /etc/pilotlight/site",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			o.data = c.data
			if len(a) > 0 {
				o.dir = a[0]
			}
			for _, f := range []struct {
				flag, text string
				to         *netip.AddrPort
			}{{"http", http, &o.http}, {"https", https, &o.https}, {"etcd", etcd, &o.etcd}, {"etcd-peer", peer, &o.peer}, {"matchbox-grpc", grpc, &o.matchbox}} {
				var err error
				if f.text == "" && (f.to == &o.peer || f.to == &o.matchbox) {
					continue
				}
				if *f.to, err = listenAddress(f.text); err != nil {
					return usageError{fmt.Errorf("--%s %w", f.flag, err)}
				}
			}
			if err := checkPeer(o.peer); err != nil {
				return usageError{fmt.Errorf("--etcd-peer %w", err)}
			}
			if o.name = cluster.ServerName(name); name != "" && !join.ValidServerName(o.name) {
				return usageError{fmt.Errorf("--name %q is no name of a host", name)}
			}
			for _, f := range []struct{ flag, text string }{{"dhcp", o.dhcp}, {"pxe", o.pxe}, {"tftp", o.tftp}, {"metadata", o.metadata}} {
				if _, err := listenAddress(f.text); err != nil && f.text != "" {
					return usageError{fmt.Errorf("--%s %w, or nothing to turn it off", f.flag, err)}
				}
			}
			log, err := newLogger(c, logFormat, logLevel)
			if err != nil {
				return err
			}
			return c.serve(cmd.Context(), o, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&http, "http", ":8080", "HTTP: scripts, kernels, images, configs, metrics")
	f.StringVar(&https, "https", ":8443", "HTTPS: configs, join, operators, registry")
	f.StringVar(&etcd, "etcd", ":2379", "the embedded etcd, for the agents")
	f.StringVar(&peer, "etcd-peer", "", "ADDRESS:PORT at which other servers reach the embedded etcd (default: as at the last start, 127.0.0.1:2380 at the first)")
	f.StringVar(&name, "name", "", "this server's name among several (default: as at the last start, the machine's name at the first)")
	f.StringVar(&o.dhcp, "dhcp", ":67", "DHCP; an empty value turns it off whatever the networks say")
	f.StringVar(&o.dhcp6, "dhcp6", ":547", "DHCPv6; an empty value turns it off whatever the networks say")
	f.StringVar(&o.pxe, "pxe", ":4011", "where UEFI asks what to boot on networks with dhcp: proxy; an empty value turns it off")
	f.StringVar(&o.tftp, "tftp", ":69", "TFTP; an empty value turns it off")
	f.StringVar(&o.metadata, "metadata", "169.254.169.254:80", "where machines of networks with metadata: find it, beside the HTTP port; an empty value leaves it at that")
	f.StringVar(&o.loaders, "loaders", "/usr/lib/ipxe", "where the boot loaders are: undionly.kpxe, snponly.efi, ipxe.efi (Debian: apt install ipxe)")
	f.StringVar(&o.agent, "agent", "", "the agent's binary, which hosts fetch (default: pilotlight-agent beside this program)")
	f.StringVar(&grpc, "matchbox-grpc", "", "ADDRESS:PORT on which matchbox's gRPC API is served to operators, usually :8081 (default: not at all)")
	f.StringVar(&o.matchboxAssets, "matchbox-assets", matchboxAssets, "where the files are that matchbox's API calls /assets/...")
	f.StringVar(&logFormat, "log-format", "text", "text or json, on standard error")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// listenAddress reads ADDRESS:PORT or :PORT.
func listenAddress(s string) (netip.AddrPort, error) {
	text := s
	if len(s) > 0 && s[0] == ':' {
		text = "0.0.0.0" + s
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return a, fmt.Errorf("%q is not ADDRESS:PORT or :PORT", s)
	}
	return a, nil
}

func newLogger(c *cli, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %s is not one of debug, info, warn, error", level)}
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(c.err, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(c.err, o)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %s is neither text nor json", format)}
}

// serve reads the manifests, starts everything, says what it serves, and stops
// it in order when ctx ends. Where a manifest is wrong nothing is started.
func (c *cli) serve(ctx context.Context, o options, log *slog.Logger) error {
	m := manifests{set: new(manifest.Set), known: new(verified)}
	if o.dir != "" {
		var err error
		if m, err = loadManifests(o.dir, o.data); err != nil {
			return err
		}
	}
	if o.agent == "" {
		var err error
		if o.agent, err = siblingAgent(); err != nil {
			return err
		}
	}
	s, err := start(ctx, o, m, log)
	if err != nil {
		return err
	}
	if o.dir != "" {
		s.noteManifests(m.set.Documents, m.later)
	}
	s.describe(c.out)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // no systemd, nobody to tell
	err = s.wait(ctx)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	if closeErr := s.close(); err == nil {
		err = closeErr
	}
	if err == nil {
		fmt.Fprintln(c.out, "stopped; everything is kept in", o.data)
	}
	return err
}

// siblingAgent is the agent's binary that was installed with this program.
func siblingAgent() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w; give the agent's binary with --agent", err)
	}
	path := filepath.Join(filepath.Dir(self), "pilotlight-agent")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no agent for hosts at %s: build it (make build), or say where it is with --agent PATH", path)
	}
	return path, nil
}
