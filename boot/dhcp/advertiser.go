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
type Advertiser struct {
	Snapshot func() *cluster.Snapshot
	Logger   *slog.Logger // nil is silence

	places places
	joined map[int]bool
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
	var next time.Time
	for {
		if now := time.Now(); !now.Before(next) {
			a.join(p)
			next = now.Add(rejoin)
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
		case err != nil || cm == nil || cm.HopLimit != 255 || !isSolicitation(buf[:n]) || !a.serves(cm.IfIndex):
			continue // what was routed here is not from this link (RFC 4861, section 6.1.1)
		}
		to := &net.IPAddr{IP: net.IPv6linklocalallnodes}
		out := &ipv6.ControlMessage{IfIndex: cm.IfIndex, HopLimit: 255}
		if _, err := p.WriteTo(advertisement, out, to); err != nil {
			a.logger().Debug("a router solicitation was not answered", "from", from, "error", err)
		}
	}
}

func isSolicitation(b []byte) bool {
	m, err := icmp.ParseMessage(ipv6.ICMPTypeRouterSolicitation.Protocol(), b)
	return err == nil && m.Type == ipv6.ICMPTypeRouterSolicitation && m.Code == 0
}

// serves reports whether an interface is on a network whose machines we boot.
func (a *Advertiser) serves(index int) bool {
	n := a.places.link(index, a.Snapshot())
	return n != nil && n.DHCP == cluster.DHCPAuthoritative
}

// join makes the kernel hand over what is sent to the routers of each network.
func (a *Advertiser) join(p *ipv6.PacketConn) {
	if a.joined == nil {
		a.joined = make(map[int]bool)
	}
	a.places.refresh()
	for index := range a.places.ifaces {
		if a.joined[index] || !a.serves(index) {
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
