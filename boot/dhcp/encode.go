package dhcp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

const hostNameOption = dhcpv4.OptionHostName

// encode makes the packet that answers a message, and says where it goes. A
// zero term is an answer to INFORM: it lends nothing.
func (e *exchange) encode(kind dhcpv4.MessageType, a netip.Addr, term time.Duration) *outbound {
	p := e.header(kind)
	o := p.Options
	if term > 0 {
		p.YourIPAddr = a.AsSlice()
		o[51] = seconds(term)
		o[58] = seconds(term / 2)
		o[59] = seconds(term * 7 / 8)
	}
	if kind == dhcpv4.MessageTypeAck && e.m.client.IsValid() {
		p.ClientIPAddr = e.m.client.AsSlice()
	}
	added := e.parameters(p)
	e.bootOptions(p)
	e.fit(p, added)
	return e.address(p, a)
}

// refuse makes a NAK.
func (e *exchange) refuse(why string) *outbound {
	p := e.header(dhcpv4.MessageTypeNak)
	p.Options[56] = []byte(why)
	return e.address(p, netip.Addr{})
}

// header makes what every answer has: the relay's and the client's own words
// come back as they were (RFC 3046, section 2.2; RFC 6842).
func (e *exchange) header(kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	q := e.m.packet
	p := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: q.HWType, TransactionID: q.TransactionID,
		Flags: q.Flags, ClientHWAddr: q.ClientHWAddr, GatewayIPAddr: q.GatewayIPAddr,
		Options: newOptions(),
	}
	p.Options[53] = []byte{byte(kind)}
	p.Options[54] = e.id().AsSlice()
	for _, code := range []uint8{61, 82} {
		if v, ok := q.Options[code]; ok {
			p.Options[code] = v
		}
	}
	return p
}

// parameters adds what the network and the host document say. A client that
// lists what it wants gets no more than that, and the mask.
func (e *exchange) parameters(p *dhcpv4.DHCPv4) []cluster.EncodedOption {
	n := e.network
	want := e.m.packet.Options.Get(dhcpv4.OptionParameterRequestList)
	set := func(code uint8, value []byte) {
		if len(value) > 0 && (want == nil || slices.Contains(want, code)) {
			p.Options[code] = value
		}
	}
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], ^uint32(1<<(32-n.CIDR.Bits())-1))
	p.Options[1] = mask[:]
	if n.Gateway.Is4() {
		set(3, n.Gateway.AsSlice())
	}
	// UEFI puts the name servers into the device path of what it loads by HTTP Boot,
	// and GRUB 2.06 does not find its network in such a one. Our URLs need no names.
	if q := &e.m.request; q.Class != boot.ClassHTTP || q.IsIPXE() {
		set(6, addresses(n.DNS))
	}
	set(12, []byte(e.hostname()))
	set(15, []byte(n.Domain))
	if n.CIDR.Bits() < 31 {
		set(28, lastOf(n.CIDR).AsSlice())
	}
	set(42, addresses(n.NTP))
	added := e.more(p, want)
	e.metadataRoute(p, want)
	return added
}

// metadataRoute tells a client that asks for routes the way to the metadata service,
// which is this server. Who takes these routes ignores option 3 (RFC 3442), so the
// default one is among them. Next to a relay's network there is no server: the router
// there has to know the way.
func (e *exchange) metadataRoute(p *dhcpv4.DHCPv4, want []byte) {
	n := e.network
	if !n.ServesMetadata() || n.DHCP != cluster.DHCPAuthoritative {
		return
	}
	via := e.server.Addr
	gateway, _ := netip.AddrFromSlice(p.Options[3][:min(len(p.Options[3]), 4)])
	if !gateway.IsValid() {
		gateway = n.Gateway // the client did not ask for it
	}
	if !n.CIDR.Contains(via) {
		via = gateway
	}
	if !via.Is4() {
		return
	}
	at := boot.MetadataAddress.As4()
	routes := append(append([]byte{32}, at[:]...), via.AsSlice()...)
	if gateway.Is4() {
		routes = append(append(routes, 0), gateway.AsSlice()...)
	}
	for _, code := range []uint8{121, optMSRoutes} {
		if _, own := p.Options[code]; !own && slices.Contains(want, code) {
			p.Options[code] = routes
		}
	}
}

// optMSRoutes is what Windows asked for before there was 121, with the same in it.
const optMSRoutes = 249

// bootOptions adds what firmware is to boot. The server and the file are said
// in every place where one firmware or another looks for them, and always the
// same: siaddr, sname, file, 66 and 67.
func (e *exchange) bootOptions(p *dhcpv4.DHCPv4) {
	q, r := &e.m.request, e.reply
	if r.IsZero() {
		return
	}
	file := r.Loader
	if file == "" {
		file = r.URL
	}
	server := e.server.Addr.String()
	p.ServerIPAddr = e.server.Addr.AsSlice()
	p.ServerHostName = server
	if len(file) < 128 {
		p.BootFileName = file
	}
	// EDK2 prefers 67 to file, and writes a zero byte behind it where it
	// expects one (PxeBcDhcp4.c); so 66 and 67 end in one, as dnsmasq's do.
	p.Options[66] = append([]byte(server), 0)
	p.Options[67] = append([]byte(file), 0)
	// RFC 4578, section 2.3: the machine's identifier comes back.
	if id := e.m.packet.Options[optClientMachineID]; len(id) == 17 && id[0] == 0 {
		p.Options[optClientMachineID] = id
	}
	switch {
	case q.Arch() == boot.ArchPi:
		// Beside a proxy or alone, it looks for these words and for nothing else.
		p.Options[60] = []byte(boot.ClassPXE)
		p.Options[43] = piMenu
	case e.network.DHCP == cluster.DHCPProxy:
		e.proxyOptions(p)
	case q.IsIPXE():
		// iPXE waits for proxy DHCP offers unless it is told that there are
		// none: 3 s of each boot. It must get no option 43: a ROM's iPXE takes
		// that for a PXE boot server's (tinkerbell).
		p.Options[optIPXE] = []byte{ipxeNoProxyDHCP, 1, 1}
	case q.Class == boot.ClassHTTP:
		// UEFI drops an HTTP boot offer that does not say so (HttpBootDhcp4.c).
		p.Options[60] = []byte(boot.ClassHTTP)
	case q.Class == boot.ClassUBoot:
		// It names no menu and wants none.
	case q.Arch() == boot.ArchBIOS:
		// PXE 2.1: boot the file now, look for no boot server (43.6 = 8).
		p.Options[60] = []byte(boot.ClassPXE)
		p.Options[43] = []byte{6, 1, 8, 255}
	default:
		// EDK2 takes "PXEClient" without a valid option 43 for a boot server
		// that it must ask again on port 4011. Without option 60 it boots the
		// file (PxeBcDhcp4.c; FOG docs#188).
	}
}

// piMenu is option 43 as a Raspberry Pi wants it, byte for byte as in its
// documentation's trace of a boot: discovery control, a prompt, and a menu of one.
var piMenu = []byte("\x06\x01\x03" + "\x0a\x04\x00PXE" + "\x09\x14\x00\x00\x11Raspberry Pi Boot" + "\xff")

// address says where an answer goes (RFC 2131, section 4.1). a is the client's
// address to be.
func (e *exchange) address(p *dhcpv4.DHCPv4, a netip.Addr) *outbound {
	m := e.m
	out := &outbound{kind: p.MessageType(), from: e.server.Addr, iface: m.in.iface}
	nak := out.kind == dhcpv4.MessageTypeNak
	switch {
	case m.relay.IsValid():
		out.to = netip.AddrPortFrom(m.relay, serverPort)
		out.iface = 0
		if nak {
			p.SetBroadcast() // the client may not have the address that it thinks it has
		}
	case nak:
		out.to = netip.AddrPortFrom(broadcast, clientPort)
	case m.client.IsValid():
		out.to = netip.AddrPortFrom(m.client, clientPort)
		if m.in.to != broadcast {
			out.iface = 0 // it may be behind a router
		}
	case m.packet.IsBroadcast() || !a.IsValid():
		out.to = netip.AddrPortFrom(broadcast, clientPort)
	default:
		out.to = netip.AddrPortFrom(a, clientPort)
		out.mac = m.mac
	}
	out.data = p.ToBytes()
	clear(p.Options)
	options.Put(p.Options)
	return out
}

// options are maps of options that were sent. One with room for an answer's takes 2 KB,
// which were an eighth of all that the server allocated.
var options sync.Pool

func newOptions() dhcpv4.Options {
	if o, ok := options.Get().(dhcpv4.Options); ok {
		return o
	}
	return make(dhcpv4.Options, 24)
}

func seconds(d time.Duration) []byte {
	var b [4]byte
	s := d / time.Second
	if s >= 1<<32-1 { // all ones would mean for ever
		s = 1<<32 - 2
	}
	binary.BigEndian.PutUint32(b[:], uint32(s))
	return b[:]
}

func addresses(list []netip.Addr) []byte {
	var out []byte
	for _, a := range list {
		if a.Is4() && len(out) < 4*maxAddresses {
			out = append(out, a.AsSlice()...)
		}
	}
	return out
}

const maxAddresses = 8 // of one kind; more would crowd out what a boot needs
