package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/etcd"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/moving/matchboxrpc"
)

func newMatchbox(c *cli) *cobra.Command {
	var name string
	client := &cobra.Command{
		Use:   "client DIR",
		Short: "Make a certificate for matchbox's command line or its Terraform provider",
		Long: `Make a certificate for matchbox's command line or its Terraform provider: client.crt,
client.key and ca.crt in DIR, as they want them. It is an operator's: whoever has the
key may change what machines boot. Run this on a server, as root. It holds for a year;
run it again for another.`,
		Example: "  pilotlight matchbox client /etc/matchbox\n  bootcmd --endpoints 192.168.77.1:8081 profile list\n  pilotlight matchbox client ~/.matchbox --name terraform",
		Args:    args(cobra.ExactArgs(1)),
		RunE:    func(_ *cobra.Command, a []string) error { return c.matchboxClient(a[0], name) },
	}
	client.Flags().StringVar(&name, "name", "matchbox", "who this is in the audit: operator:NAME")
	return group(&cobra.Command{
		Use:     "matchbox",
		Short:   "For those who come from matchbox: certificates for its clients",
		Example: "  pilotlight matchbox client /etc/matchbox",
	}, client)
}

// matchboxClient makes what matchbox's clients look for.
func (c *cli) matchboxClient(dir, name string) error {
	if !join.ValidServerName(cluster.ServerName(name)) {
		return usageError{fmt.Errorf("--name %q is no name: use a to z, 0 to 9 and -", name)}
	}
	// etcd knows who asks by the name in the certificate alone.
	if name == etcd.RootUser || name == etcd.PeerUser || strings.HasPrefix(name, cluster.UserOf("")) {
		return usageError{fmt.Errorf("--name %s is a name that etcd gives rights to: take another, such as terraform", name)}
	}
	at := filepath.Join(c.data, "ca")
	if _, err := os.Stat(filepath.Join(at, "ca.key")); err != nil { // or OpenCA would make another authority
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%w: the authority's key is for root: use sudo", err)
		}
		return fmt.Errorf("no authority in %s: run this on a server, with its --data (%w)", at, err)
	}
	ca, err := join.OpenCA(at)
	if err != nil {
		return err
	}
	was, _ := os.ReadFile(filepath.Join(dir, "ca.crt")) // there need be none
	for _, base := range []string{"client.crt", "client.key", "ca.crt"} {
		if _, err := os.Lstat(filepath.Join(dir, base)); err == nil && string(was) != string(ca.PEM()) {
			return fmt.Errorf("%s is of another authority, and is not written over: give another directory", filepath.Join(dir, base))
		}
	}
	if err := ca.Ensure(filepath.Join(dir, "client"), join.Subject{CommonName: name, Organization: join.OperatorOrg}); err != nil {
		return err
	}
	if err := join.WriteFile(filepath.Join(dir, "ca.crt"), ca.PEM(), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "client.crt, client.key and ca.crt are in %s, for operator:%s\n", dir, name)
	return nil
}

// matchboxAssets is where matchbox keeps what it serves below /assets/.
const matchboxAssets = "/var/lib/matchbox/assets"

// startMatchbox serves matchbox's gRPC API, when it is asked for.
func (s *server) startMatchbox(ctx context.Context) error {
	on := s.o.matchbox
	if on == (netip.AddrPort{}) {
		return nil
	}
	l, err := net.Listen("tcp", on.String())
	if err != nil {
		return bindError("TCP", on.String(), "--matchbox-grpc", err)
	}
	pin := pinner{assets: s.o.matchboxAssets, fetch: true, secure: true}
	rpc := &matchboxrpc.Server{Documents: applied{&s.api.Applier}, Pin: pin.pin, Operator: operatorOf, Logger: s.log}
	g := rpc.GRPC(&tls.Config{
		MinVersion:     tls.VersionTLS12, // matchbox's clients are older than we are
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate.Load(), nil },
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      s.data.ca.Pool(),
	})
	s.group.Go(func() error {
		if err := g.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve %s: %w", on, err)
		}
		return nil
	})
	s.group.Go(func() error {
		<-ctx.Done()
		g.Stop() // a call that was cut off is made again
		return nil
	})
	return nil
}

// operatorOf returns the name of the operator whose certificate it is.
func operatorOf(cert *x509.Certificate) (string, bool) {
	if !slices.Contains(cert.Subject.Organization, join.OperatorOrg) {
		return "", false
	}
	return "operator:" + cert.Subject.CommonName, true
}

// applied is where matchbox's API writes documents: where operators do.
type applied struct{ *api.Applier }

// Load implements matchboxrpc.Documents.
func (a applied) Load(ctx context.Context) (*cluster.Snapshot, error) { return a.Store.Load(ctx) }

// Apply implements matchboxrpc.Documents.
func (a applied) Apply(ctx context.Context, actor string, put []cluster.Document, remove []cluster.Ref) ([]cluster.Problem, error) {
	out, err := a.Applier.Apply(ctx, actor, put, remove)
	return out.Problems, err
}
