//go:build integration

package boot_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/boot/dhcp"
	"github.com/pilotlight/pilotlight/boot/dhcp6"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/boot/tftp"
	"github.com/pilotlight/pilotlight/cluster"
)

const (
	six         = "six" // the network of the servers is an IPv6 network
	serverAddr6 = "fd77::1"
	hostAddr6   = "fd77::50"
	farAddr6    = "fd78::1" // a relay's, on a network behind it
)

// newSix makes the network of newBeside with nobody beside us, and IPv6 on it.
func newSix(t *testing.T) *beside {
	t.Helper()
	b := newBeside(t, nobody, "", six)
	b.ip("-n " + b.server + " addr add " + serverAddr6 + "/64 dev s0 nodad")
	await(t, b.log, "clients are heard.*interface=s0", time.Minute)
	return b
}

// serve6 runs the servers of an IPv6 network until it is interrupted.
func serve6(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	snap := cluster.NewSnapshot(1, documents6(dir))
	snapshot := func() *cluster.Snapshot { return snap }
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	leases, err := openJournal(filepath.Join(dir, "leases"))
	if err != nil {
		return err
	}
	defer leases.file.Close()
	duid, err := os.ReadFile(filepath.Join(dir, "duid"))
	if err != nil {
		duid = dhcp6.NewDUID()
		if err := os.WriteFile(filepath.Join(dir, "duid"), duid, 0o600); err != nil {
			return err
		}
	}
	recorder := &boot.Recorder{Boots: boots{filepath.Join(dir, "boots")}, Logger: log}
	loaders := os.DirFS("/usr/lib/ipxe")
	d := &dhcp6.Server{Snapshot: snapshot, Leases: leases, DUID: duid, Loaders: boot.FindLoaders(loaders), HTTPPort: 8080, Recorder: recorder, Logger: log}
	f := &tftp.Server{Root: loaders, Snapshot: snapshot, Owner: d.LentTo, Recorder: recorder, Logger: log}
	h := &httpboot.Handler{Snapshot: snapshot, Owner: d.LentTo, Files: files{}, Configs: configs{}, Loaders: loaders, HTTPPort: 8080, Recorder: recorder, Logger: log}
	var sockets [2]net.PacketConn
	for i, port := range []string{":547", ":69"} {
		if sockets[i], err = net.ListenPacket("udp6", port); err != nil {
			return err
		}
	}
	icmp6, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: h}
	var running sync.WaitGroup
	running.Go(func() { recorder.Run(ctx) })
	running.Go(func() { complain(d.Serve(ctx, sockets[0])) })
	running.Go(func() { complain(f.Serve(ctx, sockets[1])) })
	running.Go(func() { complain((&dhcp.Advertiser{Snapshot: snapshot, Logger: log}).Serve(ctx, icmp6)) })
	running.Go(func() { web.Serve(tcp) })
	fmt.Println("ready")
	<-ctx.Done()
	web.Close()
	running.Wait()
	return nil
}

// documents6 are a network on the servers' link, and one behind a relay.
func documents6(dir string) []cluster.Document {
	docs := documents(dir, cluster.DHCPOff)
	pool := func(text string) []cluster.Range {
		r, err := cluster.ParseRange(text)
		if err != nil {
			panic(err)
		}
		return []cluster.Range{r}
	}
	lan, far, host := docs[0].(*cluster.Network), docs[1].(*cluster.Network), docs[2].(*cluster.Host)
	lan.CIDR, lan.DHCP, lan.Pools = netip.MustParsePrefix("fd77::/64"), cluster.DHCPAuthoritative, pool("fd77::1:0:0-fd77::1:ffff:ffff")
	lan.DNS, lan.Domain = []netip.Addr{netip.MustParseAddr("fd77::53")}, "lab.test"
	far.CIDR, far.DHCP, far.Pools = netip.MustParsePrefix("fd78::/64"), cluster.DHCPAuthoritative, pool("fd78::1:0:0-fd78::1:ffff:ffff")
	host.Address = netip.MustParseAddr(hostAddr6)
	return docs
}
