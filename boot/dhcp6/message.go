package dhcp6

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// maxRelays is how many relays a message may have come through (RFC 8415, section
// 7.6, has 8).
const maxRelays = 8

// message is a decoded packet, with what this package asks of it in the types
// that the rest of pilotlight speaks.
type message struct {
	packet *dhcpv6.Message
	kind   dhcpv6.MessageType
	in     inbound
	relays []*dhcpv6.RelayMessage // the server's first
	link   netip.Addr             // where the client is, as a relay says; zero when none does
	duid   []byte                 // of the client; nil when it did not say
	server []byte                 // the DUID of the server that it means; nil for any
	macs   []cluster.MAC          // that the client may be known by, the most certain first
	uuids  []cluster.UUID
	mac    cluster.MAC // to which an address is lent
	iface  []byte      // of the relay nearest to the client; for logs
	request
}

type request = boot.Request

var (
	errDeep     = errors.New("it came through too many relays")
	errEmpty    = errors.New("a relay forwards nothing")
	errNoClient = errors.New("the client does not say who it is (option 1)")
	errServer   = errors.New("it names a server, which its type may not")
	errNoServer = errors.New("it names no server, which its type has to")
	errType     = errors.New("not a message for servers")
)

// decode reads a packet. It keeps nothing of in.data.
func decode(in inbound) (*message, error) {
	d, err := dhcpv6.FromBytes(slices.Clone(in.data))
	if err != nil {
		return nil, fmt.Errorf("malformed packet: %w", err)
	}
	m := &message{in: in}
	m.in.data = nil
	peer := in.from.Addr()
	for d.IsRelay() {
		r := d.(*dhcpv6.RelayMessage)
		if r.MessageType != dhcpv6.MessageTypeRelayForward {
			return nil, errType
		}
		if len(m.relays) == maxRelays {
			return nil, errDeep
		}
		m.relays = append(m.relays, r)
		if a := addr6(r.LinkAddr); a.IsValid() && !a.IsLinkLocalUnicast() {
			m.link = a // of several the one nearest to the client (RFC 8415, section 13.1)
		}
		peer = addr6(r.PeerAddr)
		if d = r.Options.RelayMessage(); d == nil {
			return nil, errEmpty
		}
	}
	m.packet = d.(*dhcpv6.Message)
	m.kind = m.packet.MessageType
	m.duid, m.server = value(m.packet, dhcpv6.OptionClientID), value(m.packet, dhcpv6.OptionServerID)
	if err := m.valid(); err != nil {
		return nil, err
	}
	m.identities(peer)
	m.describe()
	return m, nil
}

// valid holds a message against section 16 of RFC 8415.
func (m *message) valid() error {
	if m.kind != dhcpv6.MessageTypeInformationRequest && len(m.duid) == 0 {
		return errNoClient
	}
	switch m.kind {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
		if m.server != nil {
			return errServer
		}
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeDecline, dhcpv6.MessageTypeRelease:
		if m.server == nil {
			return errNoServer
		}
	case dhcpv6.MessageTypeInformationRequest:
	default:
		return errType
	}
	return nil
}

// value returns an option as it came; nil when it did not, or came empty.
func value(p *dhcpv6.Message, code dhcpv6.OptionCode) []byte {
	if o := p.GetOneOption(code); o != nil {
		return o.ToBytes()
	}
	return nil
}

// addr6 returns the zero Addr for :: and for what is no IPv6 address.
func addr6(ip net.IP) netip.Addr {
	if a, ok := netip.AddrFromSlice(ip); ok && a.Is6() && !a.Is4In6() && !a.IsUnspecified() {
		return a
	}
	return netip.Addr{}
}

// identities finds out by which hardware addresses a client may be known, and by
// which UUIDs. The relay next to it has seen the address of its frame (RFC 6939),
// and where the client made its link-local address from it (RFC 4291, appendix A,
// as firmware does) it can be read there: that is the card that asks. A DUID may
// hold the address of another card of the same machine, but is all there is of a
// system with a random link-local address.
func (m *message) identities(peer netip.Addr) {
	add := func(mac cluster.MAC, ok bool) {
		if ok && !mac.IsZero() && mac[0]&1 == 0 && !slices.Contains(m.macs, mac) {
			m.macs = append(m.macs, mac)
		}
	}
	if n := len(m.relays); n > 0 {
		nearest := m.relays[n-1].Options
		m.iface = nearest.InterfaceID()
		add(ethernet(nearest.ClientLinkLayerAddress()))
	}
	add(fromEUI64(peer))
	var inDUID cluster.MAC
	switch d, _ := dhcpv6.DUIDFromBytes(m.duid); d := d.(type) {
	case *dhcpv6.DUIDLLT:
		inDUID, _ = ethernet(d.HWType, d.LinkLayerAddr)
	case *dhcpv6.DUIDLL:
		inDUID, _ = ethernet(d.HWType, d.LinkLayerAddr)
	case *dhcpv6.DUIDUUID:
		m.uuids = machineIDs(d.UUID)
	}
	add(inDUID, true)
	switch {
	case slices.Contains(m.macs, inDUID):
		m.mac = inDUID
	case len(m.macs) > 0:
		m.mac = m.macs[0]
	default:
		m.mac = madeUp(m.duid)
	}
}

func ethernet(t iana.HWType, a net.HardwareAddr) (cluster.MAC, bool) {
	if t != iana.HWTypeEthernet || len(a) != 6 {
		return cluster.MAC{}, false
	}
	return cluster.MAC(a), true
}

// fromEUI64 reads the hardware address that a link-local address was made from.
func fromEUI64(a netip.Addr) (cluster.MAC, bool) {
	b := a.As16()
	if !a.IsLinkLocalUnicast() || b[11] != 0xff || b[12] != 0xfe {
		return cluster.MAC{}, false
	}
	return cluster.MAC{b[8] ^ 2, b[9], b[10], b[13], b[14], b[15]}, true
}

// madeUp stands for the hardware address of a client that shows none: a locally
// administered one, always the same for the same DUID.
func madeUp(duid []byte) cluster.MAC {
	h := fnv.New64a()
	h.Write(duid)
	mac := cluster.MAC(h.Sum(nil)[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// machineIDs reads a DUID-UUID. EDK2 and iPXE fill in the SMBIOS UUID, whose first
// three fields are little-endian in memory; so both readings are returned, the
// likelier one first.
func machineIDs(straight [16]byte) []cluster.UUID {
	if straight == ([16]byte{}) {
		return nil // a board whose maker never set one
	}
	turned := straight
	for _, field := range [][]byte{turned[0:4], turned[4:6], turned[6:8]} {
		slices.Reverse(field)
	}
	return []cluster.UUID{uuidOf(turned), uuidOf(straight)}
}

func uuidOf(b [16]byte) cluster.UUID {
	h := hex.EncodeToString(b[:])
	return cluster.UUID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

// describe reads what a client says of itself in the options that firmware fills
// (RFC 5970): 15, 16 and 61.
func (m *message) describe() {
	m.request = boot.Request{MAC: m.mac, Relay: m.link}
	if len(m.uuids) > 0 {
		m.UUID = m.uuids[0]
	}
	for _, v := range m.packet.Options.VendorClasses() {
		for _, data := range v.Data {
			if m.Vendor == "" {
				m.Vendor = printable(data)
			}
		}
	}
	for _, c := range []boot.Class{boot.ClassPXE, boot.ClassHTTP} {
		if strings.HasPrefix(m.Vendor, string(c)) {
			m.Class = c
		}
	}
	for _, c := range m.packet.Options.UserClasses() {
		m.IPXE = m.IPXE || string(c) == "iPXE"
	}
	for b := value(m.packet, dhcpv6.OptionClientArchType); len(b) >= 2; b = b[2:] {
		m.Archs = append(m.Archs, boot.Arch(b[0])<<8|boot.Arch(b[1]))
	}
	if _, rest, ok := strings.Cut(m.Vendor, ":Arch:"); ok && len(m.Archs) == 0 {
		digits, _, _ := strings.Cut(rest, ":")
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
			m.Archs = append(m.Archs, boot.Arch(n))
		}
	}
}

// maxAddresses is how many addresses of one IA, and how many IAs, are looked at.
const maxAddresses = 8

// addresses returns the addresses that a client names in an IA_NA.
func addresses(ia *dhcpv6.OptIANA) []netip.Addr {
	var out []netip.Addr
	for _, o := range ia.Options.Addresses() {
		if a := addr6(o.IPv6Addr); a.IsValid() && len(out) < maxAddresses {
			out = append(out, a)
		}
	}
	return out
}

// printable keeps what a stranger sends from upsetting a log or a terminal.
func printable(b []byte) string {
	const longest = 128
	var s strings.Builder
	for _, c := range b[:min(len(b), longest)] {
		if c >= ' ' && c < 0x7f {
			s.WriteByte(c)
		}
	}
	return s.String()
}
