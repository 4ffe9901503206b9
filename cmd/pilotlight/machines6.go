package main

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/pilotlight/pilotlight/boot/dhcp6"
	"github.com/pilotlight/pilotlight/cluster"
)

// newDHCP6 makes the server of the IPv6 networks, beside that of the others.
func (b *bootServices) newDHCP6() error {
	duid, err := b.s.data.duid(dhcp6.NewDUID)
	if err != nil {
		return err
	}
	b.dhcp6 = &dhcp6.Server{
		Snapshot: b.s.Snapshot, Leases: b.s.store, DUID: duid, Loaders: b.dhcp.Loaders, Installs: b.installs, Admit: b.admits.admit,
		HTTPPort: b.s.o.http.Port(), HTTPSPort: b.s.o.https.Port(),
		Recorder: b.recorder, Logger: b.s.log.With("service", "dhcp6"), Registerer: b.s.metrics,
	}
	return nil
}

// ensureDHCP6 starts DHCPv6 with the first IPv6 network that wants it.
func (b *bootServices) ensureDHCP6(ctx context.Context) error {
	wanted := slices.ContainsFunc(b.s.Snapshot().Networks(), func(n *cluster.Network) bool {
		return n.CIDR.Addr().Is6() && n.DHCP == cluster.DHCPAuthoritative
	})
	if b.answersDHCP6 || b.s.o.dhcp6 == "" || !wanted {
		return nil
	}
	conn, err := listenUDP(ctx, "udp6", b.s.o.dhcp6, "--dhcp6")
	if err != nil {
		return err
	}
	b.answersDHCP6 = true
	b.s.group.Go(func() error { return ignoreEnd(ctx, b.dhcp6.Serve(ctx, conn)) })
	b.advertise(ctx)
	return nil
}

// serveTFTP serves IPv4, and IPv6 where there is any, with a socket each: from an
// IPv4 packet that comes to an IPv6 socket it cannot be told whether it was
// broadcast. An address that is given is of one of the two.
func (b *bootServices) serveTFTP(ctx context.Context) error {
	families := []string{"udp4", "udp6"}
	if on, err := netip.ParseAddrPort(b.s.o.tftp); err == nil {
		families = families[:1]
		if on.Addr().Is6() {
			families = []string{"udp6"}
		}
	}
	for i, family := range families {
		conn, err := listenUDP(ctx, family, b.s.o.tftp, "--tftp")
		if err != nil && i > 0 && !hasIPv6() {
			b.s.log.Info("no IPv6 here: TFTP is served over IPv4 only", "err", err)
			break
		}
		if err != nil {
			return err
		}
		b.s.group.Go(func() error { return ignoreEnd(ctx, b.tftp.Serve(ctx, conn)) })
	}
	return nil
}

// hasIPv6 reports whether this machine speaks it at all.
func hasIPv6() bool {
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was sent
	return true
}

// lentTo returns the machine that an address is lent to, over either protocol.
func (b *bootServices) lentTo(a netip.Addr) (cluster.Identity, bool) {
	if a.Is6() {
		return b.dhcp6.LentTo(a)
	}
	return b.dhcp.LentTo(a)
}

// LeaseOf returns an address that is lent to a network card at the moment.
func (b *bootServices) LeaseOf(m cluster.MAC) (netip.Addr, bool) {
	if a, ok := b.dhcp.LeaseOf(m); ok {
		return a, true
	}
	return b.dhcp6.LeaseOf(m)
}

// AddressOf implements api.Machines.
func (b *bootServices) AddressOf(h *cluster.Host) (netip.Addr, bool) {
	if a, ok := b.dhcp.AddressOf(h); ok {
		return a, true
	}
	for _, m := range h.MACs {
		if a, ok := b.dhcp6.LeaseOf(m); ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// discovered6 adds the machines that asked over IPv6 only.
func (b *bootServices) discovered6(out []cluster.Discovered) []cluster.Discovered {
	for _, d := range b.dhcp6.Discovered() {
		if slices.ContainsFunc(out, func(o cluster.Discovered) bool { return o.MAC == d.MAC }) {
			continue
		}
		d.Address, _ = b.dhcp6.LeaseOf(d.MAC)
		out = append(out, d)
	}
	return out
}
