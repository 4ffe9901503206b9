package boot

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// What PXELINUX and U-Boot fetch by TFTP beside their kernel. Both look for their
// config under several names in turn (UUID, 01-MAC, the address in hexadecimal,
// default), and get the machine's own under the first: whose it is, the address
// says that asks.
const (
	PXELINUXFolder = "pxelinux.cfg"

	// UBootScriptFile is what U-Boot's distro boot runs, and `dhcp` loads.
	UBootScriptFile = "boot.scr.uimg"

	// AllInitrds is the file of an image that has its initial RAM disks one behind
	// the other, as the kernel reads them: U-Boot and a Raspberry Pi take one.
	AllInitrds = "initrd"
	FDTFile    = "fdt"
)

// IsPXELINUXConfig reports whether a file is a machine's own config. What it was
// loaded from, another folder perhaps, comes before it.
func IsPXELINUXConfig(name string) bool { return path.Base(path.Dir(name)) == PXELINUXFolder }

// PXELINUXScript returns the config of one machine that boots so, in words that
// PXELINUX and U-Boot (boot/pxe_utils.c) both know, or pass over.
func PXELINUXScript(mode cluster.BootMode, t cluster.Target, v Visit) ([]byte, error) {
	var b strings.Builder
	b.WriteString("DEFAULT pilotlight\nPROMPT 0\nNOESCAPE 1\n")
	if mode == cluster.BootLocal {
		_, why := CourseOf(t)
		fmt.Fprintf(&b, "# host %s is left to its disk: %s\nLABEL pilotlight\n  LOCALBOOT 0\n", t.Host.Name, why)
		return []byte(b.String()), nil
	}
	if t.Image == nil {
		return nil, errNoImage(t)
	}
	args, err := Args(mode, t, v)
	if err != nil {
		return nil, err
	}
	// PXELINUX that cannot load something is at a prompt, and tries again when a
	// minute is over. U-Boot goes on to what it boots next.
	b.WriteString("TOTALTIMEOUT 600\nONTIMEOUT pilotlight\n")
	fmt.Fprintf(&b, "# host %s boots image %s, profile %s, mode %s\n", t.Host.Name, t.Image.Name, t.Profile.Name, mode)
	base := GRUBImagePath + t.Image.Name + "/"
	fmt.Fprintf(&b, "LABEL pilotlight\n  LINUX %skernel\n", base)
	if len(t.Image.Initrd) > 0 {
		fmt.Fprintf(&b, "  INITRD %s%s\n", base, AllInitrds)
	}
	if t.Image.FDT != nil {
		fmt.Fprintf(&b, "  FDT %s%s\n", base, FDTFile)
	}
	if len(args) > 0 {
		fmt.Fprintf(&b, "  APPEND %s\n", strings.Join(args, " "))
	}
	return []byte(b.String()), nil
}

// uBootCommands boot by pxelinux.cfg. Debian's U-Boot for x86 names no place for
// that file; the script, which has been read, needs its own no more.
const uBootCommands = `echo pilotlight: boot by pxelinux.cfg
env exists pxefile_addr_r || setenv pxefile_addr_r ${scriptaddr}
pxe get && pxe boot
`

// UBootScript is the script that U-Boot's distro boot fetches and runs: as a
// legacy image, which is what `source` reads (U-Boot's include/image.h).
func UBootScript() []byte {
	const (
		text   = uBootCommands
		name   = "pilotlight"
		magic  = 0x27051956
		header = 64
		linux  = 5 // IH_OS_LINUX
		arm    = 2 // IH_ARCH_ARM; nobody looks at it in a script
		script = 6 // IH_TYPE_SCRIPT
	)
	data := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	data = append(binary.BigEndian.AppendUint32(data, 0), text...) // no further file
	b := make([]byte, header, header+len(data))
	binary.BigEndian.PutUint32(b[0:], magic)
	binary.BigEndian.PutUint32(b[12:], uint32(len(data)))
	binary.BigEndian.PutUint32(b[24:], crc32.ChecksumIEEE(data))
	b[28], b[29], b[30] = linux, arm, script
	copy(b[32:], name)
	binary.BigEndian.PutUint32(b[4:], crc32.ChecksumIEEE(b)) // over the header, with a zero in this place
	return append(b, data...)
}
