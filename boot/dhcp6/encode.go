package dhcp6

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/pilotlight/pilotlight/boot"
)

// intel is the enterprise number under which PXE and HTTP Boot of UEFI say what
// they are (option 16).
const intel = 343

// answer begins the message that answers: who speaks, to whom, what the network
// and the host document say, and what firmware is to boot.
func (e *exchange) answer(kind dhcpv6.MessageType) *dhcpv6.Message {
	a := &dhcpv6.Message{MessageType: kind, TransactionID: e.m.packet.TransactionID}
	a.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: e.s.DUID})
	if e.m.duid != nil {
		a.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionClientID, OptionData: e.m.duid})
	}
	switch {
	case kind == dhcpv6.MessageTypeAdvertise:
		// There is no other server to wait for: with the highest preference a
		// client goes on at once, and not after a second.
		a.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionPreference, OptionData: []byte{255}})
	case e.m.kind == dhcpv6.MessageTypeSolicit:
		a.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	}
	for _, pd := range e.m.packet.Options.IAPD() {
		refused := &dhcpv6.OptIAPD{IaId: pd.IaId}
		refused.Options.Add(status(iana.StatusNoPrefixAvail, "prefixes are not delegated"))
		a.AddOption(refused)
	}
	switch e.m.kind {
	case dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return a
	}
	e.parameters(a)
	e.bootOptions(a)
	return a
}

// parameters adds what the network says. A client that lists what it wants gets no
// more than that.
func (e *exchange) parameters(a *dhcpv6.Message) {
	n := e.network
	wanted := e.m.packet.Options.RequestedOptions()
	wants := func(code dhcpv6.OptionCode) bool { return len(wanted) == 0 || slices.Contains(wanted, code) }
	if dns := only6(n.DNS); len(dns) > 0 && wants(dhcpv6.OptionDNSRecursiveNameServer) {
		a.AddOption(dhcpv6.OptDNS(dns...))
	}
	if n.Domain != "" && wants(dhcpv6.OptionDomainSearchList) {
		a.AddOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: []string{strings.TrimSuffix(n.Domain, ".")}}))
	}
	ntp := only6(n.NTP)
	if len(ntp) > 0 && wants(dhcpv6.OptionNTPServer) {
		servers := new(dhcpv6.OptNTPServer)
		for _, ip := range ntp {
			address := dhcpv6.NTPSuboptionSrvAddr(ip)
			servers.Suboptions.Add(&address)
		}
		a.AddOption(servers)
	}
	if len(ntp) > 0 && slices.Contains(wanted, dhcpv6.OptionSNTPServerList) {
		var b []byte
		for _, ip := range ntp {
			b = append(b, ip...)
		}
		a.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionSNTPServerList, OptionData: b})
	}
}

// only6 returns the IPv6 addresses of a list, no more than crowd out nothing.
func only6(list []netip.Addr) (out []net.IP) {
	for _, a := range list {
		if a.Is6() && len(out) < maxAddresses {
			out = append(out, a.AsSlice())
		}
	}
	return out
}

// bootOptions adds what firmware is to boot: a URL, whatever it is fetched by
// (RFC 5970, section 3.1).
func (e *exchange) bootOptions(a *dhcpv6.Message) {
	r := e.reply
	if r.IsZero() {
		return
	}
	url := r.URL
	if r.Loader != "" {
		url = e.server.TFTP(r.Loader)
	}
	a.AddOption(dhcpv6.OptBootFileURL(url))
	if e.m.Class == boot.ClassHTTP && !e.m.IsIPXE() {
		// UEFI drops an HTTP Boot offer that does not say so (HttpBootDhcp6.c).
		a.AddOption(&dhcpv6.OptVendorClass{EnterpriseNumber: intel, Data: [][]byte{[]byte(boot.ClassHTTP)}})
	}
}

// lends adds the address to the first IA; the others get none. Addresses that the
// client names and may not keep come back with no time left (RFC 8415, sections
// 18.3.4 and 18.3.5).
func (e *exchange) lends(a *dhcpv6.Message, ias []*dhcpv6.OptIANA, addr netip.Addr, term time.Duration) {
	term = min(term.Truncate(time.Second), longest)
	ia := &dhcpv6.OptIANA{IaId: ias[0].IaId, T1: (term / 2).Truncate(time.Second), T2: (term * 4 / 5).Truncate(time.Second)}
	ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: addr.AsSlice(), PreferredLifetime: term, ValidLifetime: term})
	e.withdraw(ia, ias[0], addr)
	a.AddOption(ia)
	for _, other := range ias[1:] {
		a.AddOption(iaStatus(other, iana.StatusNoAddrsAvail, "a machine gets one address"))
	}
}

// longest is the longest time that is not for ever.
const longest = (1<<32 - 2) * time.Second

// withdraw tells a client that renews which of its addresses it may use no more.
func (e *exchange) withdraw(ia, asked *dhcpv6.OptIANA, but netip.Addr) {
	if e.m.kind != dhcpv6.MessageTypeRenew && e.m.kind != dhcpv6.MessageTypeRebind {
		return
	}
	for _, old := range addresses(asked) {
		if old != but {
			ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: old.AsSlice()})
		}
	}
}

// fails says in every IA why there is no address, and tells the operator.
func (e *exchange) fails(a *dhcpv6.Message, ias []*dhcpv6.OptIANA, why error) {
	for _, ia := range ias {
		answer := iaStatus(ia, iana.StatusNoAddrsAvail, why.Error())
		e.withdraw(answer, ia, netip.Addr{})
		a.AddOption(answer)
	}
	e.s.refused(e, why)
}

func iaStatus(ia *dhcpv6.OptIANA, code iana.StatusCode, text string) *dhcpv6.OptIANA {
	out := &dhcpv6.OptIANA{IaId: ia.IaId}
	out.Options.Add(status(code, text))
	return out
}

func status(code iana.StatusCode, text string) *dhcpv6.OptStatusCode {
	return &dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: text}
}

// encode wraps an answer into one Relay-reply for each relay that the message came
// through, and says where it goes (RFC 8415, section 19.3).
func (e *exchange) encode(a *dhcpv6.Message) *outbound {
	m := e.m
	out := &outbound{kind: a.MessageType, to: netip.AddrPortFrom(m.in.from.Addr(), clientPort), iface: m.in.iface}
	var d dhcpv6.DHCPv6 = a
	for _, r := range slices.Backward(m.relays) {
		d = relayed(r, d)
	}
	out.data = d.ToBytes()
	if len(m.relays) == 0 {
		return out
	}
	port := uint16(serverPort)
	if m.relays[0].Options.GetOne(dhcpv6.OptionRelayPort) != nil {
		port = m.in.from.Port() // RFC 8357
	}
	out.to = netip.AddrPortFrom(m.in.from.Addr(), port)
	if !m.in.from.Addr().IsLinkLocalUnicast() {
		out.iface = 0
		if m.in.to.IsValid() && !m.in.to.IsMulticast() {
			out.from = m.in.to
		}
	}
	return out
}

// relayed makes the Relay-reply to a Relay-forward. The relay's own words come
// back as they were.
func relayed(r *dhcpv6.RelayMessage, inner dhcpv6.DHCPv6) *dhcpv6.RelayMessage {
	out := &dhcpv6.RelayMessage{MessageType: dhcpv6.MessageTypeRelayReply, HopCount: r.HopCount, LinkAddr: r.LinkAddr, PeerAddr: r.PeerAddr}
	for _, code := range []dhcpv6.OptionCode{dhcpv6.OptionInterfaceID, dhcpv6.OptionRelayPort} {
		if o := r.GetOneOption(code); o != nil {
			out.AddOption(o)
		}
	}
	out.AddOption(dhcpv6.OptRelayMessage(inner))
	return out
}

// refused notes why a client got no answer, or no address.
func (s *Server) refused(e *exchange, err error) {
	if err == errSilent {
		return
	}
	s.metrics.dropped("refused")
	log := s.logger().With("mac", e.m.mac, "network", e.network.Name)
	if e.host != nil {
		log = log.With("host", e.host.Name)
	}
	try := ""
	switch {
	case errors.Is(err, errFull):
		try = fmt.Sprintf("add to pools: in network %s, or shorten its lease:", e.network.Name)
	case errors.Is(err, errNoPool):
		try = fmt.Sprintf("add pools: to network %s, or address: to the machine's host document", e.network.Name)
	case errors.Is(err, errQueue):
		try = "wait; the store is slow"
	}
	if try == "" || !s.quiet.Says(err.Error()+e.network.Name) {
		log.Debug("a DHCPv6 client is not answered", "type", e.m.kind, "error", err)
		return
	}
	log.Warn("a machine gets no IPv6 address", "error", err, "try", try)
}

// notSaved notes that leases could not be made durable.
func (s *Server) notSaved(batch []change, err error) {
	s.metrics.failed.Add(float64(len(batch)))
	if s.quiet.Says("commit") {
		s.logger().Error("IPv6 leases could not be written, so their machines are not answered; they will ask again",
			"leases", len(batch), "first", batch[0].lease.MAC, "network", batch[0].lease.Network, "error", err)
	}
}

// send sends answers, and notes what came of it.
func (s *Server) send(w *wire, answers ...outbound) {
	err := w.send(answers...)
	for _, a := range answers {
		s.metrics.answered(a.kind)
	}
	if err == nil {
		return
	}
	s.metrics.dropped("send-error")
	if s.quiet.Says("send") {
		s.logger().Warn("a DHCPv6 answer could not be sent", "error", err)
	}
}
