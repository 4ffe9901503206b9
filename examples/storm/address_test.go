//go:build storm || integration

package storm

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// addresses gives the interface of the machines the address of each one that is
// up, so that what it asks comes from there, and so that ARP finds it there and
// nobody where no machine is.
type addresses struct {
	mu    sync.Mutex
	fd    int
	index int
}

func newAddresses(index int) (*addresses, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	return &addresses{fd: fd, index: index}, nil
}

func (a *addresses) add(addr netip.Addr) error {
	return a.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, addr)
}

func (a *addresses) remove(addr netip.Addr) error { return a.do(unix.RTM_DELADDR, 0, addr) }

func (a *addresses) close() error { return unix.Close(a.fd) }

// do asks the kernel, and waits for its answer: netlink(7), rtnetlink(7).
func (a *addresses) do(kind, flags uint16, addr netip.Addr) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	const length = unix.NLMSG_HDRLEN + unix.SizeofIfAddrmsg + 2*(unix.SizeofRtAttr+4)
	b := make([]byte, 0, length)
	order := binary.NativeEndian
	b = order.AppendUint32(b, length)
	b = order.AppendUint16(b, kind)
	b = order.AppendUint16(b, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = append(b, make([]byte, 8)...) // sequence number and port: one question at a time
	// A prefix of its own, so that no address goes when another one goes.
	b = append(b, unix.AF_INET, 32, 0, unix.RT_SCOPE_UNIVERSE)
	b = order.AppendUint32(b, uint32(a.index))
	for _, attr := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		b = order.AppendUint16(b, unix.SizeofRtAttr+4)
		b = order.AppendUint16(b, attr)
		b = append(b, addr.AsSlice()...)
	}
	if err := unix.Sendto(a.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask the kernel for address %s: %w", addr, err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(a.fd, answer, 0)
	if err != nil || n < unix.NLMSG_HDRLEN+4 {
		return fmt.Errorf("ask the kernel for address %s: %d bytes, %w", addr, n, err)
	}
	if code := int32(order.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
		return fmt.Errorf("ask the kernel for address %s: %w", addr, syscall.Errno(-code))
	}
	return nil
}
