//go:build storm || integration

package storm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// RFC 2131, section 4.1: a client waits 4 s, give or take one, then 8, then 16.
const (
	firstWait = 4 * time.Second
	tries     = 4
)

// asker is which of a machine's programs asks for an address.
type asker string

// The three that ask in a boot, one after the other.
const (
	asFirmware asker = "firmware"
	asIPXE     asker = "iPXE"
	asSystem   asker = "system"
)

var errNoAnswer = errors.New("nobody answers DHCP")

// bound is what a machine got by DHCP.
type bound struct {
	addr   netip.Addr
	server netip.Addr // siaddr
	file   string
}

// dhcp has a program of the machine ask for an address, which is the machine's
// from then on. The program before is gone, and its address with it.
func (m *machine) dhcp(ctx context.Context, who asker) (bound, error) {
	if err := m.drop(); err != nil {
		return bound{}, err
	}
	xid := dhcpv4.TransactionID{byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(m.n)}
	for range tries {
		offer, err := m.exchange(ctx, m.message(who, xid, dhcpv4.MessageTypeDiscover), func(p *dhcpv4.DHCPv4) bool {
			return p.MessageType() == dhcpv4.MessageTypeOffer && !p.YourIPAddr.IsUnspecified() && (who == asSystem || bootFile(p) != "")
		})
		if err != nil {
			return bound{}, err
		}
		request := m.message(who, xid, dhcpv4.MessageTypeRequest)
		request.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))
		request.UpdateOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))
		answer, err := m.exchange(ctx, request, func(p *dhcpv4.DHCPv4) bool {
			return p.MessageType() == dhcpv4.MessageTypeAck || p.MessageType() == dhcpv4.MessageTypeNak
		})
		if err != nil {
			return bound{}, err
		}
		if answer.MessageType() == dhcpv4.MessageTypeNak {
			m.tell.again(m.step, "NAK: "+string(answer.Options.Get(dhcpv4.OptionMessage)))
			continue
		}
		return m.bind(answer)
	}
	return bound{}, errors.New("refused again and again")
}

// bind takes an ACK down, and the address into use.
func (m *machine) bind(p *dhcpv4.DHCPv4) (bound, error) {
	addr, ok := netip.AddrFromSlice(p.YourIPAddr.To4())
	if !ok {
		return bound{}, fmt.Errorf("an ACK without an address: %s", p.Summary())
	}
	m.world.ledger.acknowledged(m.mac, addr, time.Now().Add(p.IPAddressLeaseTime(0)))
	b := bound{addr: addr, file: bootFile(p)}
	b.server, _ = netip.AddrFromSlice(p.ServerIPAddr.To4())
	if err := m.world.addresses.add(addr); err != nil {
		return b, err
	}
	m.addr = addr
	return b, nil
}

// drop takes the machine's address out of use.
func (m *machine) drop() error {
	if !m.addr.IsValid() {
		return nil
	}
	addr := m.addr
	m.addr = netip.Addr{}
	return m.world.addresses.remove(addr)
}

// exchange sends a message until an answer that does comes.
func (m *machine) exchange(ctx context.Context, p *dhcpv4.DHCPv4, does func(*dhcpv4.DHCPv4) bool) (*dhcpv4.DHCPv4, error) {
	wait := firstWait
	for n := range tries {
		if n > 0 {
			m.tell.again(m.step, "no answer to "+p.MessageType().String())
		}
		if err := m.world.wire.broadcast(m.mac, p); err != nil {
			return nil, err
		}
		timer := time.NewTimer(m.world.paced(wait - time.Second + rand.N(2*time.Second)))
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil, ctx.Err()
			case <-timer.C:
				waiting = false
			case answer := <-m.card:
				if answer.TransactionID == p.TransactionID && does(answer) {
					timer.Stop()
					return answer, nil
				}
			}
		}
		wait *= 2
	}
	return nil, errNoAnswer
}

// message is what a program of the machine sends. Every other machine can hear
// frames to its card before it has an address, and asks for no broadcast.
func (m *machine) message(who asker, xid dhcpv4.TransactionID, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	p := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet, ClientHWAddr: m.mac[:], TransactionID: xid,
		Options: dhcpv4.Options{},
	}
	if m.n%4 < 2 {
		p.SetBroadcast()
	}
	p.UpdateOption(dhcpv4.OptMessageType(kind))
	o := p.Options
	o[55] = []byte{1, 3, 6, 12, 15, 26, 42}
	if who == asSystem {
		return p
	}
	arch, vendor := byte(7), "PXEClient:Arch:00007:UNDI:003016"
	if m.bios {
		arch, vendor = 0, "PXEClient:Arch:00000:UNDI:002001"
	}
	o[55] = append(o[55], 43, 54, 60, 66, 67, 93, 97, 128, 129, 130, 175)
	o[57] = []byte{1472 >> 8, 1472 & 0xff}
	o[60], o[93], o[94] = []byte(vendor), []byte{0, arch}, []byte{1, 3, 16}
	o[97] = append([]byte{0}, m.uuid[:]...)
	if who == asIPXE {
		o[77] = []byte("iPXE")
		o[175] = []byte{0x13, 1, 1, 0x18, 1, 1, 0x21, 1, 1, 0x27, 1, 1, 0xeb, 3, 1, 0, 0} // HTTP, bzImage, PXE, menu, version
		if !m.bios {
			o[175] = append(o[175], 0x24, 1, 1) // EFI
		}
	}
	return p
}

// bootFile is what firmware is to fetch: option 67, else the field.
func bootFile(p *dhcpv4.DHCPv4) string {
	if f := strings.TrimRight(string(p.Options[67]), "\x00"); f != "" {
		return f
	}
	return p.BootFileName
}
