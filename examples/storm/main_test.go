//go:build storm || integration

package storm

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside marks the process that is in a network namespace of its own.
const inside = "PILOTLIGHT_STORM_INSIDE"

// TestMain starts this program again in a network namespace of its own: there a
// thousand addresses can be had, and the namespace goes away with the process.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // the namespace is the thread's
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err == nil {
		err = syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), inside+"=1"))
	}
	fmt.Fprintln(os.Stderr, "storm: make a network namespace (as root):", err)
	os.Exit(1)
}
