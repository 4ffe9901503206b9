package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	bridge        = "br0"
	serverAddress = "10.99.0.1"
	prefixLength  = "24"
)

// namespace is the lab's network: a bridge with the server's address, a tap for
// each machine, and no way out. A nil namespace is the one that the lab was
// started in.
type namespace struct{ name string }

// namespaceOf names the namespace after the lab's directory, so that two labs
// of two working copies never meet.
func namespaceOf(dir string) *namespace {
	sum := sha256.Sum256([]byte(dir))
	return &namespace{"pilotlight-lab-" + hex.EncodeToString(sum[:3])}
}

func (n *namespace) path() string { return filepath.Join("/run/netns", n.name) }

// create makes the namespace, its bridge and its taps.
func (n *namespace) create(ctx context.Context, taps ...string) error {
	if _, err := output(ctx, nil, nil, nil, "ip", "netns", "add", n.name); err != nil {
		return err
	}
	commands := [][]string{
		{"ip", "link", "set", "lo", "up"},
		// No delay and no spanning tree: a port forwards as soon as it is up.
		{"ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0"},
		{"ip", "address", "add", serverAddress + "/" + prefixLength, "dev", bridge},
		{"ip", "link", "set", bridge, "up"},
	}
	for _, t := range taps {
		commands = append(commands, plug(t)...)
	}
	return n.all(ctx, commands...)
}

// plug makes a tap that is a port of the bridge.
func plug(tap string) [][]string {
	return [][]string{
		{"ip", "tuntap", "add", "dev", tap, "mode", "tap"},
		{"ip", "link", "set", tap, "master", bridge, "up"},
	}
}

// all runs commands in the namespace.
func (n *namespace) all(ctx context.Context, commands ...[]string) error {
	for _, c := range commands {
		if _, err := output(ctx, n, nil, nil, c...); err != nil {
			return err
		}
	}
	return nil
}

// remove ends whatever still runs in the namespace and removes it, with all its
// interfaces. A namespace that is not there is removed already. What runs in it
// is the lab's, because nobody else knows the name.
func (n *namespace) remove() error {
	if _, err := os.Stat(n.path()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for range 50 {
		pids, err := exec.Command("ip", "netns", "pids", n.name).Output()
		if err != nil {
			return fmt.Errorf("see what runs in namespace %s: %w", n.name, err)
		}
		if len(pids) == 0 {
			break
		}
		for _, s := range strings.Fields(string(pids)) {
			if pid, err := strconv.Atoi(s); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	if out, err := exec.Command("ip", "netns", "delete", n.name).CombinedOutput(); err != nil {
		return fmt.Errorf("remove namespace %s: %w: %s; try: ip netns delete %s", n.name, err, strings.TrimSpace(string(out)), n.name)
	}
	return nil
}

// enter moves the calling thread into the namespace. The goroutine must be
// locked to its thread, and never unlock it.
func (n *namespace) enter() error {
	if n == nil {
		return nil
	}
	f, err := os.Open(n.path())
	if err != nil {
		return fmt.Errorf("enter the lab's network: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the lab's network %s: %w", n.name, err)
	}
	return nil
}

// within runs f on a thread of its own in the namespace. Sockets that f opens
// stay there wherever they are used later.
func (n *namespace) within(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: no other goroutine shall get this thread
		if err := n.enter(); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// dial connects to an address of the lab's network. The address holds an IP
// address, not a name: a name would be looked up on other threads.
func (n *namespace) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	return n.dialFrom(ctx, "", network, address)
}

// dialFrom connects from one of the namespace's own addresses; empty is any.
func (n *namespace) dialFrom(ctx context.Context, source, network, address string) (conn net.Conn, err error) {
	d := &net.Dialer{Timeout: 5 * time.Second}
	if source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	err = n.within(func() (err error) {
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
