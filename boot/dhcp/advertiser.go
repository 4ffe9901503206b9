package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"github.com/pilotlight/pilotlight/cluster"
)

// Advertiser answers IPv6 router solicitations on the networks that are
// authoritative, and says that there is no router here: a lifetime of zero, and
// nothing else (RFC 4861, section 6.2.3). iPXE configures IPv6 beside IPv4 and
// waits for an advertisement before it uses either: without one a boot from
// QEMU's iPXE ROM stands still for 16 s, and as long again for each iPXE that
// it is chained to. A real router's advertisement still counts, before or after
// this one.
//
// Networks that are proxy are somebody else's, and other machines there may take
// such an advertisement for a change of what their router said. There only a
// machine is answered whose iPXE was told what to boot a moment ago, and alone.
//
// On an IPv6 network that is ours it says more, and also unasked: see
// advertise6.go.
type Advertiser struct {
	Snapshot func() *cluster.Snapshot
	Boots    func(cluster.MAC) bool // beside another server, at this moment; nil is nobody
	Logger   *slog.Logger           // nil is silence

	places  places
	places6 places // of IPv6 networks
	joined  map[int]bool
	managed managed
}

// rejoin is how often new interfaces are looked for.
const rejoin = ifacesAge

var allRouters = &net.IPAddr{IP: net.ParseIP("ff02::2")}

// advertisement is a router advertisement with every field zero but its type.
// The kernel fills in the checksum.
var advertisement = []byte{byte(ipv6.ICMPTypeRouterAdvertisement), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// Serve answers what comes on conn, a raw socket as
// net.ListenPacket("ip6:ipv6-icmp", "::") opens it, until ctx is done. It closes
// conn and returns nil then.
func (a *Advertiser) Serve(ctx context.Context, conn net.PacketConn) error {
	defer conn.Close()
	p := ipv6.NewPacketConn(conn)
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	for _, err := range []error{
		p.SetICMPFilter(&only),
		p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true),
		p.SetMulticastHopLimit(255), // without which an advertisement is not believed
		p.SetHopLimit(255),
		p.SetMulticastLoopback(false),
	} {
		if err != nil {
			return fmt.Errorf("answer router solicitations: %w", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	return a.loop(ctx, p)
}

func (a *Advertiser) loop(ctx context.Context, p *ipv6.PacketConn) error {
	buf := make([]byte, 512)
	a.places6.six = true
	var next, unasked time.Time
	for {
		now := time.Now()
		if !now.Before(next) {
			a.join(p)
			next = now.Add(rejoin)
		}
		if !now.Before(unasked) {
			a.remind(p)
			unasked = now.Add(advertiseEvery)
		}
		// Looked at again after setting the deadline, lest it undo ctx's.
		p.SetReadDeadline(next)
		if ctx.Err() != nil {
			return nil
		}
		n, cm, from, err := p.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("answer router solicitations: %w", err)
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("read router solicitations: %w", err)
		case err != nil || cm == nil || cm.HopLimit != 255 || !isSolicitation(buf[:n]):
			continue // what was routed here is not from this link (RFC 4861, section 6.1.1)
		}
		to := a.answers(cm.IfIndex, from, buf[:n])
		if to == nil {
			continue
		}
		if err := a.send(p, cm.IfIndex, to); err != nil {
			a.logger().Debug("a router solicitation was not answered", "from", from, "error", err)
		}
	}
}

// send sends what there is to say on a link.
func (a *Advertiser) send(p *ipv6.PacketConn, index int, to net.Addr) error {
	_, err := p.WriteTo(a.says(index), &ipv6.ControlMessage{IfIndex: index, HopLimit: 255}, to)
	return err
}

func isSolicitation(b []byte) bool {
	m, err := icmp.ParseMessage(ipv6.ICMPTypeRouterSolicitation.Protocol(), b)
	return err == nil && len(b) >= 8 && m.Type == ipv6.ICMPTypeRouterSolicitation && m.Code == 0
}

// answers says whom an advertisement goes to: all on the link, or on somebody
// else's network the machine alone. Nil is nobody.
func (a *Advertiser) answers(index int, from net.Addr, solicitation []byte) net.Addr {
	n := a.places.link(index, a.Snapshot())
	switch {
	case a.ours6(index) != nil:
		return &net.IPAddr{IP: net.IPv6linklocalallnodes}
	case n == nil:
	case n.DHCP == cluster.DHCPAuthoritative:
		return &net.IPAddr{IP: net.IPv6linklocalallnodes}
	case n.DHCP == cluster.DHCPProxy && a.Boots != nil:
		if mac, ok := solicitor(solicitation); ok && a.Boots(mac) {
			if ip, ok := from.(*net.IPAddr); ok && ip.IP.IsLinkLocalUnicast() {
				return ip
			}
		}
	}
	return nil
}

// solicitor reads who asks: the source link-layer address, an option of type 1
// and of 8 bytes (RFC 4861, section 4.6.1).
func solicitor(b []byte) (cluster.MAC, bool) {
	for o := b[8:]; len(o) >= 8; {
		size := int(o[1]) * 8
		if size == 0 || size > len(o) {
			break
		}
		if o[0] == 1 && size == 8 {
			return cluster.MAC(o[2:8]), true
		}
		o = o[size:]
	}
	return cluster.MAC{}, false
}

// join makes the kernel hand over what is sent to the routers of each network.
func (a *Advertiser) join(p *ipv6.PacketConn) {
	if a.joined == nil {
		a.joined = make(map[int]bool)
	}
	a.places.refresh()
	for index := range a.places.ifaces {
		n := a.places.link(index, a.Snapshot())
		if a.joined[index] || (n == nil || !serves(n)) && a.ours6(index) == nil {
			continue
		}
		if err := p.JoinGroup(&net.Interface{Index: index}, allRouters); err != nil {
			a.logger().Debug("router solicitations will not be heard", "interface", index, "error", err)
			continue
		}
		a.joined[index] = true
	}
}

func (a *Advertiser) logger() *slog.Logger {
	if a.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.Logger
}
