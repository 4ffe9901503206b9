package dhcp

import (
	"net/netip"

	"github.com/pilotlight/pilotlight/cluster"
)

// The parts of option 82 that mean something here.
const (
	optRelayAgent = 82
	subCircuit    = 1  // RFC 3046
	subRemote     = 2  // RFC 3046
	subLink       = 5  // RFC 3527: the network that the client is on
	subServerID   = 11 // RFC 5107: what the client is to call the server
)

// relayed is what a relay, or a switch that snoops, says of a client.
type relayed struct {
	port cluster.SwitchPort
	link netip.Addr // of the client's network, when giaddr is of another
	as   netip.Addr // the server identifier that the relay wants, so that it sees the renewals too
}

// readRelay reads option 82. What is cut off is left out; it goes back as it
// came in any case. A part that is there twice is nobody's word: the second
// may be a switch's, and the first the machine's own invention.
func readRelay(option []byte) (r relayed) {
	if len(option) == 0 {
		return r
	}
	parts := make(map[byte][]byte, 4)
	for o := option; len(o) >= 2 && 2+int(o[1]) <= len(o); o = o[2+int(o[1]):] {
		value := o[2 : 2+int(o[1])]
		if _, twice := parts[o[0]]; twice {
			value = nil
		}
		parts[o[0]] = value
	}
	r.port = cluster.SwitchPort{Circuit: cluster.OctetsOf(parts[subCircuit]), Remote: cluster.OctetsOf(parts[subRemote])}
	r.link, r.as = addr4(parts[subLink]), addr4(parts[subServerID])
	return r
}

// id is how the client is to call the server.
func (e *exchange) id() netip.Addr {
	if e.m.relay.IsValid() && e.m.relayed.as.IsValid() {
		return e.m.relayed.as
	}
	return e.server.Addr
}

// isUs reports whether an address that a client calls a server by is ours.
func (e *exchange) isUs(a netip.Addr) bool {
	return a == e.server.Addr || a == e.id() || e.places.ours(a)
}

// identity is what is known of who asks. A renewal goes past the relay that
// would say where it comes from; there the lease knows it.
func (e *exchange) identity(uuid cluster.UUID) cluster.Identity {
	m := e.m
	id := cluster.Identity{MAC: m.mac, UUID: uuid, Port: m.relayed.port}
	if id.Port.IsZero() && !m.relay.IsValid() && m.client.IsValid() && m.in.to != broadcast {
		if lent, ok := e.s.book.owner(cluster.NetworkName(e.network.Name), m.client, e.now); ok && lent.MAC == m.mac {
			id.Port = lent.Port
		}
	}
	return id
}

// misplaced notes that a machine is not answered, because it says that it is a
// host which is plugged in elsewhere, or sits where another one belongs.
func (e *exchange) misplaced(h *cluster.Host, id cluster.Identity) {
	e.s.metrics.dropped("wrong-port")
	e.s.strangers.see(e.m, e.network, e.now)
	if !e.s.quiet.Says("misplaced " + h.Name + e.m.mac.String() + id.Port.String()) {
		return
	}
	e.s.logger().Warn("a machine is not answered: only one of its switch port and its addresses is a host's", "mac", e.m.mac,
		"switch_port", id.Port, "host", h.Name, "host_switch_port", h.SwitchPort, "host_macs", h.MACs, "network", e.network.Name,
		"try", "if the machine was moved or its card exchanged, correct switch_port: or macs: in the document of host "+h.Name)
}
