package httpboot

import (
	"net"
	"net/http"
	"net/netip"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// client returns the address that a request came from. No header is believed:
// anybody can write one.
func client(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// server returns where the client reached us, which it is told to come back to.
func (h *Handler) server(r *http.Request) boot.Server {
	addr := netip.IPv4Unspecified()
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		addr = a.AddrPort().Addr().Unmap().WithZone("")
	}
	return boot.ServerAt(addr, h.HTTPPort, h.HTTPSPort)
}

// identity reads what a machine says of itself. Firmware leaves out, or fills
// with blanks, what its maker never set; only a MAC has to be one.
func identity(r *http.Request, mac string) (cluster.Identity, error) {
	var id cluster.Identity
	if mac == "" {
		return id, status(http.StatusBadRequest, "the request does not say which machine asks: add ?mac=52-54-00-12-34-56")
	}
	var err error
	if id.MAC, err = cluster.ParseMAC(mac); err != nil {
		_, err = cluster.ParseMAC(printable(mac)) // says so of no more than a line
		return id, status(http.StatusBadRequest, "%w", err)
	}
	if uuid, err := cluster.ParseUUID(r.FormValue("uuid")); err == nil {
		id.UUID = uuid
	}
	id.Serial = printable(r.FormValue("serial"))
	return id, nil
}

// machine finds out whose config is asked for, and refuses whoever only says
// that it is that machine.
func (h *Handler) machine(r *http.Request, mac string) (Machine, error) {
	if mac == "" && (r.FormValue("uuid") != "" || r.FormValue("serial") != "") {
		lent, ok := h.Owner(client(r)) // as matchbox is asked; the card is that of the lease
		if !ok {
			return Machine{}, notReady("the request does not say which network card asks, and %s is lent to nobody: add ?mac=52-54-00-12-34-56, or boot the machine by DHCP", client(r))
		}
		mac = lent.MAC.String()
	}
	id, err := identity(r, mac)
	if err != nil {
		return Machine{}, err
	}
	return h.find(id, client(r), h.server(r))
}

func (h *Handler) find(id cluster.Identity, from netip.Addr, at boot.Server) (m Machine, err error) {
	snap := h.Snapshot()
	m = Machine{Identity: id, Address: from, Server: at}
	lent, taken := h.Owner(from)
	if taken {
		m.Identity.Port = lent.Port // which the machine cannot say itself
	}
	host, ok := snap.Identify(m.Identity)
	if other, misplaced := snap.Misplaced(m.Identity); misplaced {
		return m, notReady("%s is not host %s: it is plugged in at %s, and the host is at %s: correct macs: or switch_port: of the host, or boot the machine there", id.MAC, other.Name, m.Identity.Port, other.SwitchPort)
	}
	if !ok {
		return m, notReady("no document names the machine %s: apply one with kind: host and macs: [%q]", id.MAC, id.MAC)
	}
	m.Host = host
	network, ok := snap.NetworkOf(m.Address)
	if !ok {
		return m, status(http.StatusForbidden, "%s is on no network that is applied, so whose address it is cannot be known: apply a network that holds it", m.Address)
	}
	whose := h.neighbour
	if network.DHCP == cluster.DHCPAuthoritative {
		whose = h.owner
	}
	if m.Identity.MAC, err = whose(snap, m, network, lent, taken); err != nil {
		return m, err
	}
	if m.Target, err = snap.Target(host, network); err != nil {
		return m, notReady("%w", err)
	}
	m.Target.Install = h.Installs.Of(host.HostName())
	m.Boot = h.Recorder.CurrentID(m.Identity.MAC)
	return m, nil
}

// owner returns the MAC to which the machine's address is lent, and refuses a
// machine whose address is lent to another. A machine with several network
// cards may boot from one and ask by the name of the other, so it is the hosts
// that have to be the same.
func (h *Handler) owner(snap *cluster.Snapshot, m Machine, _ *cluster.Network, lent cluster.Identity, taken bool) (cluster.MAC, error) {
	mac := lent.MAC
	if !taken {
		return m.Identity.MAC, notReady("%s says that it is host %s, but %s is lent to nobody: boot the machine by DHCP", m.Address, m.Host.Name, m.Address)
	}
	switch {
	case is(snap, m, lent):
		return mac, nil
	case mac == m.Identity.MAC:
		return mac, notReady("%s says that it is host %s by a UUID or serial number, but its network card %s is none of that host's: if it is, add it to macs: there", m.Address, m.Host.Name, mac)
	}
	return mac, status(http.StatusForbidden, "%s says that it is host %s, but is lent to %s, which is another machine", m.Address, m.Host.Name, mac)
}

// neighbour returns the MAC of the machine that has an address which somebody
// else lent, and refuses a machine that says it is another one. On a link of
// ours ARP knows whose an address is at this moment. Behind a router there is
// what went by when the machine took the address from its DHCP server; with
// dhcp: proxy it goes by us, and who was not seen gets nothing.
//
// It is answered with 503, which is asked again: what was seen may be old, and
// a document may lack a network card.
func (h *Handler) neighbour(snap *cluster.Snapshot, m Machine, n *cluster.Network, seen cluster.Identity, taken bool) (cluster.MAC, error) {
	if h.Neighbour != nil {
		if mac, ok := h.Neighbour(m.Address); ok {
			who := cluster.Identity{MAC: mac}
			if taken && seen.MAC == mac {
				who = seen // with its switch port
			}
			switch other, known := snap.Identify(who); {
			case is(snap, m, who) && taken && is(snap, m, seen):
				return seen.MAC, nil // the card that it booted from
			case is(snap, m, who):
				return mac, nil
			case known:
				return mac, notReady("%s says that it is host %s, but %s answers for that address, which is host %s", m.Address, m.Host.Name, mac, other.Name)
			case n.DHCP == cluster.DHCPProxy:
				return mac, notReady("%s says that it is host %s, but %s answers for that address, which no document names: if it is a network card of %s, add it to macs: there", m.Address, m.Host.Name, mac, m.Host.Name)
			}
			return m.Identity.MAC, nil // with dhcp: off there may be anything between it and us
		}
	}
	switch {
	case n.DHCP != cluster.DHCPProxy:
		return m.Identity.MAC, nil
	case !taken:
		return m.Identity.MAC, notReady("%s says that it is host %s, but nobody was seen to take that address: boot the machine by DHCP, and let the relay of its network forward to this server too", m.Address, m.Host.Name)
	case !is(snap, m, seen):
		return seen.MAC, notReady("%s says that it is host %s, but %s was seen to take that address, which is another machine", m.Address, m.Host.Name, seen.MAC)
	}
	return seen.MAC, nil
}

// is reports whether who has an address is the machine. Of a host that is known
// by its UUID or serial number alone, which anybody can read, the card that it
// names must be the one.
func is(snap *cluster.Snapshot, m Machine, who cluster.Identity) bool {
	if len(m.Host.MACs) == 0 && m.Host.SwitchPort.IsZero() {
		return who.MAC == m.Identity.MAC
	}
	h, ok := snap.Identify(who)
	return ok && h == m.Host
}

// record notes a step of a machine's boot. What is fetched without saying who
// fetches it is put down to the machine that has the address.
func (h *Handler) record(r *http.Request, step cluster.Step, detail string) {
	if r.Method == http.MethodGet {
		h.note(client(r), step, detail)
	}
}

func (h *Handler) note(addr netip.Addr, step cluster.Step, detail string) {
	if h.Recorder == nil {
		return
	}
	lent, ok := h.Owner(addr)
	if !ok {
		return
	}
	if host, ok := h.Snapshot().Identify(lent); ok {
		h.Recorder.Record(boot.Sighting{MAC: lent.MAC, Host: host.HostName(), Event: cluster.Event{Step: step, Addr: addr, Detail: detail}})
	}
}
