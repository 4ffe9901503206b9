package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/link"
)

// needsMetadata reports whether there is a network with a metadata service.
func (b *bootServices) needsMetadata() bool {
	return slices.ContainsFunc(b.s.Snapshot().Networks(), (*cluster.Network).ServesMetadata)
}

// waitForOld has a machine wait that boots while the agent of its last life counts as
// alive still: meanwhile there is no token for it, and a system that begins without
// one does not join. Two of its terms are enough for one whose machine is gone.
func (b *bootServices) waitForOld(ctx context.Context, m httpboot.Machine) error {
	if !mayBeNew(b.dhcp.Began(m.Identity.MAC), b.started, time.Now()) {
		return nil
	}
	alive, err := b.s.store.Alive(ctx, m.Host.HostName())
	if err != nil {
		return fmt.Errorf("%w: %w", httpboot.ErrNotReady, err)
	}
	if alive {
		return fmt.Errorf("%w: host %s has just asked for its address, or did before this server was started, and its agent counts as alive from before: in %s it will be known which of the two is so", httpboot.ErrNotReady, m.Host.Name, 2*link.DefaultTTL)
	}
	return nil
}

// mayBeNew reports whether a machine may have begun anew so lately that its old life
// counts still. A server that was started since does not know when it began.
func mayBeNew(began, started, now time.Time) bool {
	if began.Before(started) {
		began = started
	}
	return now.Sub(began) <= 2*link.DefaultTTL
}

// ensureMetadata serves instance metadata at the address where clients look for it,
// from the first network on that wants it. Where that cannot be had it is served at
// the HTTP port alone, and what to type is said once.
func (b *bootServices) ensureMetadata(ctx context.Context) {
	if b.answersMetadata || b.s.o.metadata == "" || !b.needsMetadata() {
		return
	}
	b.answersMetadata = true
	at, err := listenAddress(b.s.o.metadata)
	if err != nil {
		b.s.log.Error("no metadata service", "err", err) // the flag was looked at before
		return
	}
	if at.Addr() == boot.MetadataAddress {
		remove, err := httpboot.AddLoopback(at.Addr())
		if err != nil {
			b.s.log.Warn("no machine finds the metadata service at its usual address", "err", err, "try", fmt.Sprintf("ip addr add %s/32 dev lo", at.Addr()))
		} else {
			b.s.atEnd(remove)
		}
	}
	if http := b.s.o.http; http.Port() == at.Port() && http.Addr().IsUnspecified() {
		return // it is served there already
	}
	l, err := listenAnywhere(ctx, at.String())
	if err != nil {
		b.s.log.Warn("the metadata service is at the HTTP port only", "err", bindError("TCP", at.String(), "--metadata", err))
		return
	}
	b.s.serveHTTP(ctx, l, &http.Server{Handler: b.http.Metadata(), ConnContext: httpboot.WithConnection})
}

// listenAnywhere listens at an address that this machine may be given later.
func listenAnywhere(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if failed := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
		}); failed != nil {
			return failed
		}
		return err
	}}
	return lc.Listen(ctx, "tcp4", address)
}
