package tftp

import (
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Without a window, client and server wait for each other at each block, and to
// sleep and be woken costs the server more than the block does: Go's scheduler
// wakes its monitor thread, too. So while transfers are few, the server looks for
// an answer again and again for a moment before it sleeps. The kernel does that
// for network cards that know it (net.core.busy_read), and its documentation
// recommends this time (Documentation/admin-guide/sysctl/net.rst).
const (
	moment = 50 * time.Microsecond
	// asleep is for how many answers it sleeps after one that did not come in a
	// moment: a slow client, or a busy machine, costs 1 us a block.
	asleep = 64
)

// eager says which answers are looked for.
type eager struct{ asleep int }

func (e *eager) due() bool {
	if e.asleep == 0 {
		return true
	}
	e.asleep--
	return false
}

// missed says that an answer did not come in a moment.
func (e *eager) missed() { e.asleep = asleep }

// eagerTransfers is how many transfers there may be for one to be eager: they
// take half of Go's processors at most. Where it has one, the rest of the process
// hears of what comes to it by the runtime's monitor, which is every 10 ms, for as
// long as a client is quick.
func eagerTransfers() int64 { return int64(max(1, runtime.GOMAXPROCS(0)/2)) }

// beEager is for a transfer without windows. few is asked before each answer.
func (s *socket) beEager(few func() bool) {
	if raw, err := s.SyscallConn(); err == nil {
		s.raw, s.few = raw, few
	}
}

// Read implements channel.
func (s *socket) Read(b []byte) (int, error) {
	if s.few == nil || !s.few() || !s.eager.due() {
		return s.UDPConn.Read(b)
	}
	n, err := s.look(b)
	if errors.Is(err, unix.EAGAIN) {
		s.eager.missed()
		return s.UDPConn.Read(b)
	}
	return n, err
}

// look looks for a packet for a moment; unix.EAGAIN says that none came.
func (s *socket) look(b []byte) (n int, err error) {
	var result error
	start := time.Now()
	err = s.raw.Read(func(fd uintptr) bool {
		for {
			n, result = unix.Read(int(fd), b)
			if result != unix.EINTR && (result != unix.EAGAIN || time.Since(start) > moment) {
				return true
			}
		}
	})
	return max(n, 0), errors.Join(err, result)
}
