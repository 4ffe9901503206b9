package dhcp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// Options that the codec has no word for.
const (
	optClientSystemArch = 93
	optClientMachineID  = 97 // RFC 4578, section 2.3
	optIPXE             = 175
	ipxeNoProxyDHCP     = 0xb0 // 176: do not wait for proxy DHCP offers
)

// message is a decoded packet, with what this package asks of it in the types
// that the rest of pilotlight speaks.
type message struct {
	packet    *dhcpv4.DHCPv4
	kind      dhcpv4.MessageType
	in        inbound
	mac       cluster.MAC
	client    netip.Addr // ciaddr
	relay     netip.Addr // giaddr
	requested netip.Addr // option 50
	server    netip.Addr // option 54
	relayed   relayed    // option 82
	uuids     [2]cluster.UUID
	request   boot.Request
}

var (
	errNotRequest = errors.New("not a request")
	errNoType     = errors.New("no message type: BOOTP is not served")
	errHardware   = errors.New("not an Ethernet hardware address")
)

// decode reads a packet. It keeps nothing of in.data.
func decode(in inbound) (*message, error) {
	p, err := dhcpv4.FromBytes(in.data)
	if err != nil {
		return nil, fmt.Errorf("malformed packet: %w", err)
	}
	if p.OpCode != dhcpv4.OpcodeBootRequest {
		return nil, errNotRequest
	}
	if p.HWType != iana.HWTypeEthernet || len(p.ClientHWAddr) != 6 {
		return nil, errHardware
	}
	m := &message{packet: p, kind: p.MessageType(), in: in, mac: cluster.MAC(p.ClientHWAddr)}
	m.in.data = nil
	if m.mac.IsZero() || m.mac[0]&1 != 0 { // nobody's, or a group's
		return nil, errHardware
	}
	if m.kind == dhcpv4.MessageTypeNone {
		return nil, errNoType
	}
	m.client, m.relay = addr4(p.ClientIPAddr), addr4(p.GatewayIPAddr)
	m.requested = addr4(p.Options.Get(dhcpv4.OptionRequestedIPAddress))
	m.server = addr4(p.Options.Get(dhcpv4.OptionServerIdentifier))
	m.relayed = readRelay(p.Options[optRelayAgent])
	m.request = boot.Request{
		MAC:      m.mac,
		Vendor:   printable(p.Options.Get(dhcpv4.OptionClassIdentifier)),
		IPXE:     hasUserClass(p.Options.Get(dhcpv4.OptionUserClassInformation), "iPXE"),
		Features: features(p.Options[optIPXE]),
		Relay:    m.relay,
	}
	m.request.Class = class(m.request.Vendor)
	m.request.Archs = archs(p.Options[optClientSystemArch], m.request.Vendor)
	if m.request.Class == boot.ClassPXE && isPi(m.mac, p.Options[optClientMachineID]) {
		m.request.Archs = []boot.Arch{boot.ArchPi} // it says that it is a BIOS
	}
	m.uuids = machineIDs(p.Options[optClientMachineID])
	m.request.UUID = m.uuids[0]
	return m, nil
}

func (m *message) transaction() string { return string(m.packet.TransactionID[:]) }

// addr4 returns the zero Addr for 0.0.0.0 and for what is no address.
func addr4(ip net.IP) netip.Addr {
	if len(ip) == net.IPv4len {
		if a := netip.AddrFrom4([4]byte(ip)); !a.IsUnspecified() {
			return a
		}
	}
	return netip.Addr{}
}

func class(vendor string) boot.Class {
	for _, c := range []boot.Class{boot.ClassPXE, boot.ClassHTTP, boot.ClassUBoot} {
		if strings.HasPrefix(vendor, string(c)) {
			return c
		}
	}
	return boot.ClassNone
}

// archs reads option 93, a list. Where it is missing, the vendor class says the
// same: PXEClient:Arch:00007:UNDI:003016.
func archs(option []byte, vendor string) []boot.Arch {
	var out []boot.Arch
	for ; len(option) >= 2; option = option[2:] {
		out = append(out, boot.Arch(binary.BigEndian.Uint16(option)))
	}
	if _, rest, ok := strings.Cut(vendor, ":Arch:"); ok && len(out) == 0 {
		digits, _, _ := strings.Cut(rest, ":")
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
			out = append(out, boot.Arch(n))
		}
	}
	if len(out) == 0 {
		switch { // BOOTP_VCI_STRING of U-Boot's cmd/Kconfig
		case strings.HasPrefix(vendor, "U-Boot.armv8"):
			out = []boot.Arch{boot.ArchUBoot64}
		case strings.HasPrefix(vendor, "U-Boot.arm"):
			out = []boot.Arch{boot.ArchUBoot32}
		}
	}
	return out
}

// piMakers are the beginnings of the hardware addresses of Raspberry Pis (IEEE's
// registry: Raspberry Pi Foundation and Trading).
var piMakers = [][3]byte{
	{0xb8, 0x27, 0xeb}, {0xdc, 0xa6, 0x32}, {0xe4, 0x5f, 0x01}, {0x28, 0xcd, 0xc1}, {0xd8, 0x3a, 0xdd}, {0x2c, 0xcf, 0x67}, {0x88, 0xa2, 0x9e},
}

// isPi reports whether firmware is a Raspberry Pi's, which says no more of itself
// than an old network card's ROM. A Pi 4's identifier begins with its name
// (DHCP_OPTION97 of its EEPROM; 0x34695052 is "RPi4").
func isPi(mac cluster.MAC, id []byte) bool {
	return slices.Contains(piMakers, [3]byte(mac[:3])) || len(id) == 17 && string(id[1:4]) == "RPi"
}

// hasUserClass reports whether option 77 names a class. iPXE sends the bare
// word; RFC 3004 wants a list of words, each behind its length.
func hasUserClass(option []byte, class string) bool {
	if string(option) == class {
		return true
	}
	for len(option) > 0 {
		n := int(option[0])
		if n == 0 || n >= len(option) {
			return false
		}
		if string(option[1:1+n]) == class {
			return true
		}
		option = option[1+n:]
	}
	return false
}

// features lists the tags in iPXE's encapsulated options that are not zero.
func features(option []byte) []boot.Feature {
	var out []boot.Feature
	for len(option) >= 2 {
		if option[0] == 0 { // padding
			option = option[1:]
			continue
		}
		n := int(option[1])
		if option[0] == 255 || 2+n > len(option) {
			break
		}
		if n != 1 || option[2] != 0 {
			out = append(out, boot.Feature(option[0]))
		}
		option = option[2+n:]
	}
	return out
}

// machineIDs reads option 97, which is missing often: a zero byte and a UUID.
// Its bytes come as SMBIOS has them, where the first three fields are
// little-endian since version 2.6 (seen from OVMF, and from iPXE 1.0.0 in a ROM
// and as snponly.efi), and were not before. So both readings are returned, the
// likelier one first.
func machineIDs(option []byte) [2]cluster.UUID {
	if len(option) != 17 || option[0] != 0 {
		return [2]cluster.UUID{}
	}
	straight := [16]byte(option[1:])
	turned := straight
	for _, field := range [][]byte{turned[0:4], turned[4:6], turned[6:8]} {
		slices.Reverse(field)
	}
	return [2]cluster.UUID{uuidOf(turned), uuidOf(straight)}
}

func uuidOf(b [16]byte) cluster.UUID {
	if b == ([16]byte{}) {
		return "" // a board whose maker never set one
	}
	h := hex.EncodeToString(b[:])
	return cluster.UUID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
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
