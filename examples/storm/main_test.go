//go:build storm || integration

package storm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// inside marks the process that is in a network namespace of its own.
const inside = "PILOTLIGHT_STORM_INSIDE"

// TestMain starts this program again in a network namespace of its own: there a
// thousand addresses can be had, and the namespace goes away with the process.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	os.Exit(outside())
}

func outside() int {
	restore, err := roomForNeighbours()
	defer restore()
	if err == nil {
		signal.Ignore(os.Interrupt) // the other one ends by it
		c := exec.Command("/proc/self/exe", os.Args[1:]...)
		c.Env = append(os.Environ(), inside+"=1")
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		err = c.Run()
	}
	var ended *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ended):
		return max(ended.ExitCode(), 1)
	}
	fmt.Fprintln(os.Stderr, "storm: make a network namespace (as root):", err)
	return 1
}

const neighbours = 16384

// roomForNeighbours lets each server know every machine's hardware address. The
// kernel's table is one for all namespaces, and holds 1,024 as it comes ("neighbour:
// arp_cache: neighbor table overflow!"); its size can be set in the first one only.
func roomForNeighbours() (restore func(), err error) {
	var undo []func()
	restore = func() {
		for _, f := range undo {
			f()
		}
	}
	for _, name := range []string{"gc_thresh3", "gc_thresh2", "gc_thresh1"} {
		file := "/proc/sys/net/ipv4/neigh/default/" + name
		was, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // this is not the first namespace; whoever made it has seen to that
		}
		if err != nil {
			return restore, err
		}
		if n, _ := strconv.Atoi(strings.TrimSpace(string(was))); n >= neighbours {
			continue
		}
		if err := os.WriteFile(file, []byte(strconv.Itoa(neighbours)), 0); err != nil {
			return restore, err
		}
		undo = append(undo, func() { _ = os.WriteFile(file, was, 0) })
	}
	return restore, nil
}
