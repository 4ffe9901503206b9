package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// forward brings a port of the lab's network to 127.0.0.1, for a browser and for
// ssh.
type forward struct {
	listener net.Listener
	stop     context.CancelFunc
	all      sync.WaitGroup
}

// startForward listens on a port of 127.0.0.1, or on any free one when it is
// taken.
func startForward(in *namespace, port, to string) (*forward, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &forward{listener: l, stop: stop}
	f.all.Go(func() { f.serve(ctx, in, to) })
	return f, nil
}

func (f *forward) port() string {
	_, port, _ := net.SplitHostPort(f.listener.Addr().String()) // a listener's address has one
	return port
}

func (f *forward) serve(ctx context.Context, in *namespace, to string) {
	for {
		near, err := f.listener.Accept()
		if err != nil {
			return // closed
		}
		f.all.Go(func() {
			defer near.Close()
			far, err := in.dial(ctx, "tcp", to)
			if err != nil {
				return // the client sees its connection close
			}
			defer far.Close()
			defer context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })()
			relay(near, far)
		})
	}
}

// relay copies both ways until either side is done.
func relay(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			if c, ok := way[0].(*net.TCPConn); ok {
				_ = c.CloseWrite()
			}
		})
	}
	both.Wait()
}

func (f *forward) close() error {
	err := f.listener.Close()
	f.stop()
	f.all.Wait()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}
