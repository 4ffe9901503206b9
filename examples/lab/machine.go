package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// defaultMemory holds the root file system (100 MiB), what Docker keeps in
// memory, and the system with room to spare.
const defaultMemory = 1536

// processors is how many each machine has. Emulated ones cost each other time,
// so a second one is only for computers with processors to spare.
func processors() int {
	if runtime.NumCPU() >= 4 {
		return 2
	}
	return 1
}

// firmware is how a machine boots.
type firmware string

const (
	bios firmware = "BIOS"
	uefi firmware = "UEFI"

	// secure starts nothing that Microsoft, or whom it trusts, has not signed.
	secure firmware = "UEFI with Secure Boot on"
)

// machine is one emulated computer.
type machine struct {
	name     string // as in the manifests
	firmware firmware
	mac      string
	uuid     string
	address  string
	tap      string
	disk     string            // its file; empty for a machine without one
	extra    []string          // more of QEMU's arguments
	onLine   func(line string) // sees what it prints on its console; may be nil

	process *process
	powerOn time.Time
	mu      sync.Mutex
	marks   []mark
	failure string // what its console said when its boot failed
}

// mark is something that the machine said of its boot.
type mark struct {
	after time.Duration // since power-on
	what  string
}

func machines() []*machine {
	return []*machine{
		{name: "n1", firmware: bios, mac: "52:54:00:99:00:01", uuid: "5c0ffee0-0000-4000-8000-525400990001", address: "10.99.0.11", tap: "tap0"},
		{name: "n2", firmware: uefi, mac: "52:54:00:99:00:02", uuid: "5c0ffee0-0000-4000-8000-525400990002", address: "10.99.0.12", tap: "tap1"},
	}
}

// turnOn starts the machine. It boots from the network, whatever happens; only
// what the network leaves to the disk is booted from there.
func (m *machine) turnOn(in *namespace, memory int, logs, work string) error {
	args := []string{
		"qemu-system-x86_64", "-name", m.name,
		// Never kvm: where /dev/kvm opens but does not work the guest hangs.
		"-accel", "tcg,thread=multi", "-machine", m.board(), "-cpu", "max", "-smp", strconv.Itoa(processors()), "-m", strconv.Itoa(memory),
		"-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio",
		"-uuid", m.uuid, "-device", "virtio-rng-pci",
		"-netdev", "tap,id=lan,ifname=" + m.tap + ",script=no,downscript=no",
	}
	nic := "virtio-net-pci,netdev=lan,mac=" + m.mac + ",bootindex=1"
	if m.firmware != bios {
		code, empty := "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
		if m.firmware == secure {
			code, empty = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
			args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
		}
		variables := filepath.Join(work, m.name+"-efi-variables.fd")
		if err := copyFile(empty, variables); err != nil {
			return fmt.Errorf("UEFI firmware for %s: %w; try: apt-get install ovmf", m.name, err)
		}
		args = append(args,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+code,
			"-drive", "if=pflash,unit=1,format=raw,file="+variables,
			// Nobody answers DHCPv6 here: firmware would ask for two minutes before it
			// goes on to what comes after the network.
			"-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no")
		// Without the card's own iPXE: the firmware's PXE asks, and needs a loader.
		nic += ",romfile="
	}
	args = append(args, "-device", nic)
	if m.disk != "" {
		args = append(args, "-drive", "if=none,id=disk,format=raw,file="+m.disk, "-device", "virtio-blk-pci,drive=disk,bootindex=2")
	} else {
		args = append(args, "-no-reboot")
	}
	args = append(args, m.extra...)
	var err error
	m.powerOn = time.Now()
	m.process, err = startProcess(command{
		name: "machine " + m.name, args: args, in: in, onLine: m.listen,
		log: filepath.Join(logs, m.name+".log"),
	})
	return err
}

func (m *machine) board() string {
	if m.firmware == secure {
		return "q35,smm=on"
	}
	return "q35"
}

// listen takes the marks out of what the machine prints on its console.
func (m *machine) listen(line string) {
	if m.onLine != nil {
		m.onLine(line)
	}
	what, ok := strings.CutPrefix(line, "node: ")
	if !ok {
		return
	}
	_, what, _ = strings.Cut(what, ": ") // the kernel's own time
	m.mu.Lock()
	defer m.mu.Unlock()
	m.marks = append(m.marks, mark{time.Since(m.powerOn), what})
	if reason, failed := strings.CutPrefix(what, "FAILED: "); failed {
		m.failure = reason
	}
}

// timeline returns the marks so far.
func (m *machine) timeline() []mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]mark(nil), m.marks...)
}

// check returns why the machine will not come up, if that is so.
func (m *machine) check() error {
	select {
	case <-m.process.done:
		return m.process.ended()
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure != "" {
		return fmt.Errorf("machine %s: %s\nits console: %s", m.name, m.failure, m.process.log)
	}
	return nil
}

// await asks until f has no error, the machine gives up, or ctx ends.
func (m *machine) await(ctx context.Context, what string, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if failed := m.check(); failed != nil {
			return failed
		}
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			return fmt.Errorf("machine %s: %s not in time: %w\nthe end of its console:\n%s\nall of it: %s",
				m.name, what, err, lastLines(m.process.log, 10), m.process.log)
		case <-time.After(time.Second):
		}
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
