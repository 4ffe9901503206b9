package boot

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// What a Raspberry Pi's firmware fetches by TFTP: its own files, from the folder
// rpi/ of the loaders, its config and its kernel's arguments, made for the
// machine, and what that config names.
const (
	PiFolder      = "rpi/" // in the directory of loaders: start4.elf, fixup4.dat, *.dtb, overlays/
	PiConfigFile  = "config.txt"
	PiCommandLine = "cmdline.txt"
	PiKernel      = "pilotlight/kernel"
	PiInitrd      = "pilotlight/initrd"
	PiFDT         = "pilotlight/fdt"
)

// piPrefix is the folder in which a Pi looks for everything: its serial number,
// or its MAC when its EEPROM says so (TFTP_PREFIX=2).
var piPrefix = regexp.MustCompile(`^([0-9a-f]{8}|[0-9a-f]{2}(-[0-9a-f]{2}){5})/`)

// PiFile returns the name of what a Pi asks for, without the folder of its own,
// and reports whether there was one.
func PiFile(name string) (rest string, own bool) {
	if p := piPrefix.FindString(name); p != "" {
		return name[len(p):], true
	}
	return name, false
}

// PiConfig returns the config.txt of one machine: the operator's own, of the
// folder rpi/, and behind it what is to be booted.
func PiConfig(t cluster.Target, operators []byte) ([]byte, error) {
	if t.Image == nil {
		return nil, errNoImage(t)
	}
	var b strings.Builder
	b.Write(operators)
	if len(operators) > 0 && operators[len(operators)-1] != '\n' {
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "[all]\n# host %s boots image %s\narm_64bit=1\nkernel=%s\n", t.Host.Name, t.Image.Name, PiKernel)
	if len(t.Image.Initrd) > 0 {
		fmt.Fprintf(&b, "initramfs %s followkernel\n", PiInitrd)
	}
	if t.Image.FDT != nil {
		fmt.Fprintf(&b, "device_tree=%s\n", PiFDT)
	}
	return []byte(b.String()), nil
}

// PiArgs returns the cmdline.txt of one machine that boots so: one line.
func PiArgs(mode cluster.BootMode, t cluster.Target, v Visit) ([]byte, error) {
	args, err := Args(mode, t, v)
	if err != nil {
		return nil, err
	}
	return []byte(strings.Join(args, " ") + "\n"), nil
}
