package httpboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// The parts of a rtnetlink message that package unix leaves to its caller
// (rtnetlink(7), struct ifaddrmsg and struct rtattr).
const (
	ifaddrmsgLength = 8
	attrLength      = 4
	loopbackIndex   = 1 // of lo, in every network namespace
	netlinkWait     = time.Second
)

// AddLoopback gives this machine an address, on lo, and says how to take it away
// again. An address that is there already stays.
func AddLoopback(a netip.Addr) (remove func() error, err error) {
	err = changeAddress(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, a)
	switch {
	case errors.Is(err, unix.EEXIST):
		return func() error { return nil }, nil
	case err != nil:
		return nil, fmt.Errorf("give lo the address %s: %w", a, err)
	}
	return func() error {
		if err := changeAddress(unix.RTM_DELADDR, 0, a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take the address %s from lo: %w", a, err)
		}
		return nil
	}, nil
}

// changeAddress adds or removes an address, and waits for the kernel's answer.
func changeAddress(kind, flags uint16, a netip.Addr) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(int64(netlinkWait))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return err
	}
	if err := unix.Sendto(fd, addressMessage(kind, flags, a), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	size, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if size < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer is none to what was asked")
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

func addressMessage(kind, flags uint16, a netip.Addr) []byte {
	host, addr := binary.NativeEndian, a.AsSlice()
	var b []byte
	b = host.AppendUint32(b, uint32(unix.SizeofNlMsghdr+ifaddrmsgLength+2*(attrLength+len(addr))))
	b = host.AppendUint16(b, kind)
	b = host.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	b = append(b, make([]byte, 8)...) // sequence, port
	b = append(b, unix.AF_INET, uint8(a.BitLen()), 0, unix.RT_SCOPE_HOST)
	b = host.AppendUint32(b, loopbackIndex)
	for _, attr := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		b = host.AppendUint16(b, uint16(attrLength+len(addr)))
		b = host.AppendUint16(b, attr)
		b = append(b, addr...)
	}
	return b
}
