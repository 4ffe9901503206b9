//go:build lab

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// vlan is what the kernel at hand may lack: an interface for the frames of the lab's
// network that carry one tag (IEEE 802.1Q). It is a tap with an address, and a port of
// the lab's bridge; between them the tag is put on and taken off.
type vlan struct {
	id       atomic.Uint32
	in, out  atomic.Int64 // frames with the tag: from the bridge, and to it
	near     *os.File
	trunk    *os.File
	carriers sync.WaitGroup
}

const (
	vlanTap  = "vlan0"
	trunkTap = "trunk0"
	tagType  = 0x8100
	idBits   = 0x0fff
	macs     = 12 // of a frame's head: to whom, from whom
	tagSize  = 4
)

// startVLAN makes the interface. The address is with its length.
func (l *labTest) startVLAN(t *testing.T, id uint32, address string) *vlan {
	t.Helper()
	commands := append(plug(trunkTap),
		[]string{"ip", "tuntap", "add", "dev", vlanTap, "mode", "tap"},
		[]string{"ip", "address", "add", address, "dev", vlanTap},
		[]string{"ip", "link", "set", vlanTap, "up"})
	if err := l.network.all(l.ctx, commands...); err != nil {
		t.Fatal(err)
	}
	v := &vlan{near: l.openTap(t, vlanTap), trunk: l.openTap(t, trunkTap)}
	v.id.Store(id)
	v.carriers.Go(func() { v.carry(v.trunk, v.near, v.untag) })
	v.carriers.Go(func() { v.carry(v.near, v.trunk, v.tag) })
	l.onClose(func() error {
		err := errors.Join(v.near.Close(), v.trunk.Close())
		v.carriers.Wait()
		return err
	})
	return v
}

// openTap opens a tap's other end, where whole frames are read and written.
func (l *lab) openTap(t *testing.T, name string) (f *os.File) {
	t.Helper()
	err := l.network.within(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq(name)
		if err == nil {
			request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("tap %s: %w", name, err), unix.Close(fd))
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// carry takes frames from one tap to another until either is closed.
func (v *vlan) carry(from, to *os.File, change func([]byte) []byte) {
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if frame := change(b[:n]); frame != nil {
			if _, err := to.Write(frame); errors.Is(err, os.ErrClosed) {
				return
			}
		}
	}
}

// untag takes the tag off. Frames with none, or another, are not for this interface.
func (v *vlan) untag(frame []byte) []byte {
	if len(frame) < macs+tagSize || binary.BigEndian.Uint16(frame[macs:]) != tagType {
		return nil
	}
	if uint32(binary.BigEndian.Uint16(frame[macs+2:])&idBits) != v.id.Load() {
		return nil
	}
	v.in.Add(1)
	return append(frame[:macs:macs], frame[macs+tagSize:]...)
}

// tag puts the tag on.
func (v *vlan) tag(frame []byte) []byte {
	if len(frame) < macs {
		return nil
	}
	v.out.Add(1)
	out := append(make([]byte, 0, len(frame)+tagSize), frame[:macs]...)
	out = binary.BigEndian.AppendUint16(out, tagType)
	out = binary.BigEndian.AppendUint16(out, uint16(v.id.Load()))
	return append(out, frame[macs:]...)
}
