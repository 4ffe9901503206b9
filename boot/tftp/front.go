package tftp

import (
	"context"
	"net"
	"sync"
)

// front is the port as pin/tftp's server sees it. It begins the transfers that
// read requests ask for, and hands on what is left: write requests, which the
// library refuses, and what is no request, which it drops. No pin/tftp server
// sees a read request.
type front struct {
	*net.UDPConn
	ctx       context.Context
	stop      context.CancelFunc // of ctx
	failed    error              // what ended it, unless that was ctx
	server    *Server
	oob       [128]byte
	transfers sync.WaitGroup
}

// ReadFrom implements net.PacketConn for the library, which calls it in a loop
// that only its Shutdown ends, whatever the error.
func (f *front) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, oobn, _, from, err := f.ReadMsgUDPAddrPort(b, f.oob[:])
		if err != nil {
			if f.ctx.Err() == nil {
				f.failed = err
			}
			f.stop()
			return 0, nil, err
		}
		local, direct := destination(f.oob[:oobn])
		if !direct { // a broadcast (RFC 1123, section 4.2.3.5)
			continue
		}
		if opcode(b[:n]) != opRead {
			if f.server.refusal.Allow() {
				return n, net.UDPAddrFromAddrPort(from), nil
			}
			continue
		}
		if r, ok := parseRead(b[:n]); ok {
			f.server.begin(f, r, local, from)
		}
	}
}
