package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/cluster"
)

// Neighbours asks the kernel which machine answers for an address on a link of
// ours: what ARP has found, without which the kernel could not have answered it.
// The zero value is ready.
type Neighbours struct {
	mu     sync.Mutex
	places places
}

// Of returns the hardware address that answers for an address. It knows nothing
// of an address that is not on a link of ours, or that nobody has spoken to.
func (n *Neighbours) Of(a netip.Addr) (cluster.MAC, bool) {
	index := n.link(a)
	if index == 0 {
		return cluster.MAC{}, false
	}
	mac, err := neighbour(a, index)
	return mac, err == nil && !mac.IsZero()
}

// link returns the interface that an address is on the link of.
func (n *Neighbours) link(a netip.Addr) (index int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.places.refresh()
	bits := -1
	for _, i := range n.places.ifaces {
		for _, p := range i.prefixes {
			if p.Masked().Contains(a) && p.Addr() != a && p.Bits() > bits {
				index, bits = i.index, p.Bits()
			}
		}
	}
	return index
}

// The parts of a rtnetlink message that the codec of package syscall leaves to
// its caller (rtnetlink(7), struct ndmsg and struct rtattr).
const (
	ndmsgLength   = 12
	attrLength    = 4
	neighbourWait = time.Second // for the kernel's answer, which is there at once
)

var errNoNeighbour = errors.New("the kernel knows no such neighbour")

// neighbour asks for one entry of the neighbour table, so that it costs the same
// however many machines there are.
func neighbour(a netip.Addr, index int) (cluster.MAC, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return cluster.MAC{}, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(int64(neighbourWait))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return cluster.MAC{}, fmt.Errorf("set up a netlink socket: %w", err)
	}
	if err := unix.Sendto(fd, neighbourRequest(a, index), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return cluster.MAC{}, fmt.Errorf("ask for the neighbour %s: %w", a, err)
	}
	answer := make([]byte, 4096)
	size, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return cluster.MAC{}, fmt.Errorf("ask for the neighbour %s: %w", a, err)
	}
	return parseNeighbour(answer[:size], a)
}

func neighbourRequest(a netip.Addr, index int) []byte {
	host := binary.NativeEndian
	addr := a.AsSlice()
	b := make([]byte, unix.SizeofNlMsghdr+ndmsgLength+attrLength, unix.SizeofNlMsghdr+ndmsgLength+attrLength+len(addr))
	host.PutUint32(b[0:], uint32(cap(b)))
	host.PutUint16(b[4:], unix.RTM_GETNEIGH)
	host.PutUint16(b[6:], unix.NLM_F_REQUEST)
	nd := b[unix.SizeofNlMsghdr:]
	nd[0] = unix.AF_INET
	host.PutUint32(nd[4:], uint32(index))
	host.PutUint16(nd[ndmsgLength:], uint16(attrLength+len(addr)))
	host.PutUint16(nd[ndmsgLength+2:], unix.NDA_DST)
	return append(b, addr...)
}

// parseNeighbour reads the hardware address of a out of the kernel's answer.
func parseNeighbour(b []byte, a netip.Addr) (cluster.MAC, error) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return cluster.MAC{}, fmt.Errorf("read the neighbour %s: %w", a, err)
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWNEIGH || len(m.Data) < ndmsgLength {
			continue
		}
		// Failed and incomplete entries are of addresses that nobody answers for.
		if state := binary.NativeEndian.Uint16(m.Data[8:]); state&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) != 0 {
			continue
		}
		var dst, mac []byte
		for rest := m.Data[ndmsgLength:]; len(rest) >= attrLength; {
			size := int(binary.NativeEndian.Uint16(rest))
			if size < attrLength || size > len(rest) {
				break
			}
			switch binary.NativeEndian.Uint16(rest[2:]) {
			case unix.NDA_DST:
				dst = rest[attrLength:size]
			case unix.NDA_LLADDR:
				mac = rest[attrLength:size]
			}
			rest = rest[min((size+3)&^3, len(rest)):]
		}
		if found, ok := netip.AddrFromSlice(dst); ok && found == a && len(mac) == 6 {
			return cluster.MAC(mac), nil
		}
	}
	return cluster.MAC{}, errNoNeighbour
}
