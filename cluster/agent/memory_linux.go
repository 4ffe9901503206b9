package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What a directory for secrets may take of the host's memory.
const vaultOptions = "mode=0700,size=64m,nr_inodes=16k"

// ensureMemory makes dir, on a file system that is in memory.
func ensureMemory(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%s must be an absolute path, for the container engine to find it; set --secrets /run/pilotlight/secrets", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	inMemory, err := isInMemory(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if inMemory && (len(entries) > 0 || isMountPoint(dir)) {
		return nil
	}
	err = mountMemory(dir)
	if inMemory && err != nil {
		return nil // without a mount of its own it is in memory all the same, only not kept out of swap
	}
	if err != nil {
		return fmt.Errorf("%s is not in memory and cannot be made so: %w; mount it before the agent starts: mount -t tmpfs -o %s tmpfs %s", dir, err, vaultOptions, dir)
	}
	if inMemory, err = isInMemory(dir); err == nil && !inMemory {
		err = fmt.Errorf("%s is not in memory although a tmpfs was mounted there; see findmnt %s", dir, dir)
	}
	return err
}

func isInMemory(dir string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return false, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(fs.Type) == unix.TMPFS_MAGIC || int64(fs.Type) == unix.RAMFS_MAGIC, nil
}

func isMountPoint(dir string) bool {
	var here, above unix.Stat_t
	return unix.Stat(dir, &here) == nil && unix.Stat(filepath.Dir(dir), &above) == nil && here.Dev != above.Dev
}

// errOwnNamespace says that a mount would be seen by nobody else, and so not by
// the container engine: a unit with ProtectSystem= and the like.
var errOwnNamespace = errors.New("the agent has a mount namespace of its own")

func mountMemory(dir string) error {
	if inOwnNamespace() {
		return errOwnNamespace
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err := unix.Mount("tmpfs", dir, "tmpfs", flags, vaultOptions+",noswap") // since Linux 6.4
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", dir, "tmpfs", flags, vaultOptions)
	}
	if err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", dir, err)
	}
	return nil
}

// inOwnNamespace reports whether a mount made here stays here. Where process 1
// is not to be looked at, a mount that only receives (master:N in mountinfo) is
// how a service manager shuts one in.
func inOwnNamespace() bool {
	own, err := os.Readlink("/proc/self/ns/mnt")
	first, err1 := os.Readlink("/proc/1/ns/mnt")
	if err == nil && err1 == nil {
		return own != first
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 6 && f[4] == "/" {
			return strings.Contains(line, " master:") && !strings.Contains(line, " shared:")
		}
	}
	return false
}

// MountVault mounts a tmpfs on dir where containers are to find their secrets,
// unless it is one already. It is for a unit's ExecStartPre=+, which is outside
// of the agent's own mount namespace.
func MountVault(dir string) error {
	dir = strings.TrimRight(dir, "/")
	if err := ensureMemory(dir); err != nil {
		return fmt.Errorf("directory for secrets: %w", err)
	}
	return nil
}
