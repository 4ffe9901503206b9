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

// card is one network interface of this machine.
type card struct {
	name  string
	up    bool
	mac   cluster.MAC  // zero when it has none
	addrs []netip.Addr // none that is link-local
}

func cards() ([]card, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list this machine's interfaces: %w", err)
	}
	out := make([]card, 0, len(list))
	for _, i := range list {
		all, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		c := card{name: i.Name, up: i.Flags&net.FlagUp != 0}
		if len(i.HardwareAddr) == len(c.mac) {
			c.mac = cluster.MAC(i.HardwareAddr)
		}
		for _, a := range all {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				c.addrs = append(c.addrs, p.Addr().Unmap())
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// addresses returns those of all cards, loopback last.
func addresses(cards []card) (out []netip.Addr) {
	for _, c := range cards {
		out = append(out, c.addrs...)
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return rank(a) - rank(b) })
	return out
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
	found, err := cards()
	if err != nil {
		return err
	}
	s.cards.Store(&found)
	if err := s.data.ensureServer(serverNames(), s.ownAddresses(found)); err != nil {
		return err
	}
	return s.loadCertificate()
}

// ownAddresses are those of this machine, those that networks give it, and the one
// at which other servers reach it.
func (s *server) ownAddresses(cards []card) []netip.Addr {
	all := addresses(cards)
	add := func(a netip.Addr) {
		if a.IsValid() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	if snap := s.Snapshot(); snap != nil {
		for _, n := range snap.Networks() {
			add(n.Server)
		}
	}
	add(s.place.Peer.Addr())
	return all
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
