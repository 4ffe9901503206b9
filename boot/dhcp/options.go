package dhcp

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
)

// encoded keeps the options of the documents as they are sent, for as long as
// nothing else is applied.
type encoded struct {
	mu   sync.Mutex
	snap *cluster.Snapshot
	of   map[cluster.Ref][]cluster.EncodedOption
}

func (c *encoded) get(snap *cluster.Snapshot, r cluster.Ref, set cluster.OptionSet) []cluster.EncodedOption {
	if len(set) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.snap != snap {
		c.snap, c.of = snap, make(map[cluster.Ref][]cluster.EncodedOption)
	}
	out, known := c.of[r]
	if !known {
		out = set.Encode()
		c.of[r] = out
	}
	return out
}

// Options that firmware takes for a boot server's, whoever they are meant for.
var notForFirmware = []uint8{43, 66, 67, 150}

// more adds the options: of the network and of the host, whose count. A client
// that lists what it wants gets of them what it lists, and what is forced.
func (e *exchange) more(p *dhcpv4.DHCPv4, want []byte) (added []cluster.EncodedOption) {
	add := func(all []cluster.EncodedOption) {
		for _, o := range all {
			if !o.Force && want != nil && !slices.Contains(want, o.Code) ||
				e.m.request.IsFirmware() && slices.Contains(notForFirmware, o.Code) {
				continue
			}
			p.Options[o.Code] = o.Data
			added = slices.DeleteFunc(added, func(a cluster.EncodedOption) bool { return a.Code == o.Code })
			added = append(added, o)
		}
	}
	add(e.s.options.get(e.snap, e.network.Ref(), e.network.Options))
	if e.host != nil {
		add(e.s.options.get(e.snap, e.host.Ref(), e.host.Options))
	}
	return added
}

const (
	leastPacket   = 576 // bytes that every client takes, IP and UDP headers included (RFC 2131, section 2)
	packetHeaders = 20 + 8
)

// fit takes options out of a packet that is more than its client takes: what is
// not forced before what is, and of those the longest first.
func (e *exchange) fit(p *dhcpv4.DHCPv4, added []cluster.EncodedOption) {
	if len(added) == 0 {
		return
	}
	most := leastPacket
	if o := e.m.packet.Options[57]; len(o) == 2 {
		most = max(most, int(binary.BigEndian.Uint16(o)))
	}
	over := len(p.ToBytes()) + packetHeaders - min(most, 1500)
	if over <= 0 {
		return
	}
	slices.SortStableFunc(added, func(a, b cluster.EncodedOption) int {
		if a.Force != b.Force {
			if b.Force {
				return -1
			}
			return 1
		}
		return len(b.Data) - len(a.Data)
	})
	var out []int
	for _, o := range added {
		if over <= 0 {
			break
		}
		delete(p.Options, o.Code)
		out = append(out, int(o.Code))
		over -= len(o.Data) + 2*(1+len(o.Data)/256)
	}
	if e.s.quiet.Says("fit " + e.network.Name) {
		e.s.logger().Warn("DHCP options were left out: with them the packet is longer than the client takes", "mac", e.m.mac,
			"network", e.network.Name, "options", out, "client_takes", most, "try", "shorten options: of the network or the host")
	}
}
