package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// localAddresses returns the addresses of this machine's interfaces, loopback
// last.
func localAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.Addr().Unmap())
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return rank(a) - rank(b) })
	return out, nil
}

func rank(a netip.Addr) int {
	switch {
	case a.IsLoopback():
		return 2
	case a.Is6():
		return 1
	}
	return 0
}

// addressCheck is how often the server looks at its own addresses: an interface
// may come up after it, and a certificate ends one day.
const addressCheck = 15 * time.Second

// followAddresses keeps what the server says of itself true.
func (s *server) followAddresses(ctx context.Context) {
	tick := time.NewTicker(addressCheck)
	defer tick.Stop()
	for {
		if err := s.refreshAddresses(); err != nil {
			s.log.Error("the server's own certificate", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// refreshAddresses takes over the addresses of this machine, and those that
// networks give it (behind a NAT it has others), into its certificate.
func (s *server) refreshAddresses() error {
	local, err := localAddresses()
	if err != nil {
		return err
	}
	s.local.Store(&local)
	all := slices.Clone(local)
	for _, n := range s.Snapshot().Networks() {
		if n.Server.IsValid() && !slices.Contains(all, n.Server) {
			all = append(all, n.Server)
		}
	}
	if err := s.data.ensureServer(serverNames(), all); err != nil {
		return err
	}
	return s.loadCertificate()
}

func (s *server) loadCertificate() error {
	cert, err := tls.LoadX509KeyPair(s.data.join("server", "server.crt"), s.data.join("server", "server.key"))
	if err != nil {
		return fmt.Errorf("load the server's certificate: %w", err)
	}
	s.certificate.Store(&cert)
	return nil
}

// serverNames are the DNS names that the server's certificate holds for.
func serverNames() []string {
	names := []string{"localhost"}
	if h, err := os.Hostname(); err == nil && h != "localhost" {
		names = append([]string{h}, names...)
	}
	return names
}

// serverAddress returns the server's address for the hosts of a network: the one
// that the network names, the interface's in that network, the first that is of
// IPv6 as the network is, or the first of all.
func serverAddress(n *cluster.Network, local []netip.Addr) netip.Addr {
	if n != nil {
		if n.Server.IsValid() {
			return n.Server
		}
		for _, a := range local {
			if n.CIDR.Contains(a) {
				return a
			}
		}
		for _, a := range local {
			if a.Is6() == n.CIDR.Addr().Is6() {
				return a
			}
		}
	}
	if len(local) > 0 {
		return local[0]
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
