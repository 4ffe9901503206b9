package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// settings is what a run of the lab is told.
type settings struct {
	root   string // of the project
	dir    string // where everything is that the lab makes
	memory int    // MiB of each machine
	out    io.Writer
}

// packages are what the lab needs of Debian. Whatever is missing is installed.
var packages = []string{
	"busybox-static", "cpio", "mmdebstrap", "squashfs-tools", "zstd", // to make the node image
	"ipxe", "ipxe-qemu", "iproute2", "ovmf", "qemu-system-x86", // to boot it
	"etcd-client", // for lab-test
}

// sayer prints progress with the time since the start.
type sayer func(format string, args ...any)

func newSayer(w io.Writer) sayer {
	start := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(w, "%6.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
}

// lock makes sure that only one lab works in a directory. The kernel lets go of
// the lock when its holder ends, however that happens.
func lock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another lab runs in %s: end it with Ctrl-C there, or use another directory with -dir", dir)
	}
	return f, nil
}

// prepare checks what no package can mend, and installs what packages can.
func prepare(ctx context.Context, s settings, say sayer) error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes a network namespace and installs packages, which needs root: sudo make lab")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("the lab installs Debian packages and there is no apt-get: use Debian or Ubuntu, or the Vagrantfile")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("machines are connected by taps: %w; try: modprobe tun", err)
	}
	missing := missingPackages(ctx)
	if len(missing) == 0 {
		return nil
	}
	say("installing Debian packages: %s", strings.Join(missing, " "))
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	log := filepath.Join(s.dir, "log", "apt.log")
	install := append([]string{"apt-get", "install", "-y", "-qq", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends"}, missing...)
	if err := progress(ctx, say, log, env, install...); err == nil || ctx.Err() != nil {
		return err
	}
	// Its lists may be old, or missing as in a fresh container.
	if err := progress(ctx, say, log, env, "apt-get", "update", "-q"); err != nil {
		return err
	}
	if err := progress(ctx, say, log, env, install...); err != nil {
		return fmt.Errorf("%w\ntry: apt-get install %s", err, strings.Join(missing, " "))
	}
	return nil
}

func missingPackages(ctx context.Context) []string {
	// It fails when one is unknown, and still prints the others.
	out, _ := output(ctx, nil, nil, nil, append([]string{"dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"}, packages...)...)
	installed := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		name, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		installed[name] = status == "installed"
	}
	var missing []string
	for _, p := range packages {
		if !installed[p] {
			missing = append(missing, p)
		}
	}
	return missing
}

// removeAll removes what labs have cached and left.
func removeAll(s settings) error {
	held, err := lock(s.dir)
	if err != nil {
		return err
	}
	defer held.Close()
	if err := namespaceOf(s.dir).remove(); err != nil {
		return err
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "removed", s.dir)
	return nil
}
