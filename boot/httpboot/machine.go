package httpboot

import (
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
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(interface{ String() string }); ok {
		if ap, err := netip.ParseAddrPort(a.String()); err == nil {
			addr = ap.Addr().Unmap().WithZone("")
		}
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
	id, err := identity(r, mac)
	if err != nil {
		return Machine{}, err
	}
	snap := h.Snapshot()
	m := Machine{Identity: id, Address: client(r), Server: h.server(r)}
	host, ok := snap.Identify(id)
	if !ok {
		return m, notReady("no document names the machine %s: apply one with kind: host and macs: [%q]", id.MAC, id.MAC)
	}
	m.Host = host
	network, ok := snap.NetworkOf(m.Address)
	if !ok {
		return m, status(http.StatusForbidden, "%s is on no network that is applied, so whose address it is cannot be known: apply a network that holds it", m.Address)
	}
	if network.DHCP == cluster.DHCPAuthoritative {
		if m.Identity.MAC, err = h.owner(snap, m); err != nil {
			return m, err
		}
	}
	if m.Target, err = snap.Target(host, network); err != nil {
		return m, notReady("%w", err)
	}
	m.Target.Install = h.Installs.Of(host.HostName())
	if b, ok := h.Recorder.Current(m.Identity.MAC); ok {
		m.Boot = b.ID
	}
	return m, nil
}

// owner returns the MAC to which the machine's address is lent, and refuses a
// machine whose address is lent to another. A machine with several network
// cards may boot from one and ask by the name of the other, so it is the hosts
// that have to be the same.
func (h *Handler) owner(snap *cluster.Snapshot, m Machine) (cluster.MAC, error) {
	mac, ok := h.Owner(m.Address)
	if !ok {
		return m.Identity.MAC, notReady("%s says that it is host %s, but %s is lent to nobody: boot the machine by DHCP", m.Address, m.Host.Name, m.Address)
	}
	owner, ok := snap.Identify(cluster.Identity{MAC: mac})
	if mac == m.Identity.MAC || ok && owner == m.Host {
		return mac, nil
	}
	return mac, status(http.StatusForbidden, "%s says that it is host %s, but is lent to %s, which is another machine", m.Address, m.Host.Name, mac)
}

// record notes a step of a machine's boot. What is fetched without saying who
// fetches it is put down to the machine that has the address.
func (h *Handler) record(r *http.Request, step cluster.Step, detail string) {
	if r.Method != http.MethodGet || h.Recorder == nil {
		return
	}
	addr := client(r)
	mac, ok := h.Owner(addr)
	if !ok {
		return
	}
	if host, ok := h.Snapshot().Identify(cluster.Identity{MAC: mac}); ok {
		h.Recorder.Record(boot.Sighting{MAC: mac, Host: host.HostName(), Event: cluster.Event{Step: step, Addr: addr, Detail: detail}})
	}
}
