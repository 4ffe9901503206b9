package tftp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is connected to one client: the kernel then hands on that client's
// packets only, and says when its port is closed. To what another port of the
// client sends it answers itself that nobody is there.
type socket struct {
	*net.UDPConn
	cut int // bytes into which the kernel cuts what is written; 0: it does not

	eager eager
	raw   syscall.RawConn
	few   func() bool // whether transfers are few enough to be eager; nil: they are not
}

// dial connects to a client, from the address that the client sent to.
func dial(local netip.Addr, client netip.AddrPort) (*socket, error) {
	var from *net.UDPAddr
	if local.IsLinkLocalUnicast() && local.Is6() {
		local = local.WithZone(client.Addr().Zone())
	}
	if local.IsValid() {
		from = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	conn, err := net.DialUDP("udp", from, net.UDPAddrFromAddrPort(client))
	if err != nil {
		return nil, fmt.Errorf("answer %s: %w", client, err)
	}
	return &socket{UDPConn: conn}, nil
}

// largestBlock is what fits into one packet to the client, as far as is known:
// of its route, its interface, and routers that have said so, the least.
func (s *socket) largestBlock() int {
	const udp = 8
	level, option, ip := unix.IPPROTO_IP, unix.IP_MTU, 20
	if s.RemoteAddr().(*net.UDPAddr).IP.To4() == nil {
		level, option, ip = unix.IPPROTO_IPV6, unix.IPV6_MTU, 40
	}
	mtu := 0
	err := s.control(func(fd int) (err error) {
		mtu, err = unix.GetsockoptInt(fd, level, option)
		return err
	})
	if err != nil {
		return plainBlock
	}
	return mtu - ip - udp - header
}

// segment asks the kernel to cut what is written into datagrams of so many
// bytes (UDP_SEGMENT, Linux 4.18). Without it they are written one by one.
func (s *socket) segment(size int) {
	if s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, size) }) == nil {
		s.cut = size
	}
}

func (s *socket) control(f func(fd int) error) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	return errors.Join(raw.Control(func(fd uintptr) { result = f(int(fd)) }), result)
}

// WriteBlocks implements channel.
func (s *socket) WriteBlocks(b []byte, size int) error {
	if s.cut == size {
		_, err := s.Write(b)
		if !uncut(err) {
			return err
		}
		s.segment(0)
	}
	for len(b) > size {
		if _, err := s.Write(b[:size]); err != nil {
			return err
		}
		b = b[size:]
	}
	_, err := s.Write(b)
	return err
}

// uncut is whether the kernel, or the interface, does not cut what was written:
// because of what is known of the path's MTU, or for the want of checksums.
func uncut(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.EOPNOTSUPP)
}

// arrival asks for each packet's destination (IP_PKTINFO), and destination
// reads it: the address to answer from, and whether it was sent to just that.
func arrival(conn *net.UDPConn) error {
	s := socket{UDPConn: conn}
	return s.control(func(fd int) error {
		if conn.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
}

func destination(oob []byte) (local netip.Addr, direct bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, true
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			own, to := m.Data[4:8], m.Data[8:12] // ipi_spec_dst, ipi_addr
			local, _ = netip.AddrFromSlice(own)
			if local.IsUnspecified() { // it came before the socket was asked to tell
				break
			}
			return local, string(own) == string(to)
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			local, _ = netip.AddrFromSlice(m.Data[:16])
			return local.Unmap(), !local.IsMulticast()
		}
	}
	return netip.Addr{}, true
}
