package boot

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// What GRUB fetches by TFTP. Debian's signed grubnetx64.efi looks for
// GRUBEntryPath, whatever it was loaded from.
const (
	GRUBEntryPath  = "grub/grub.cfg"
	GRUBScriptPath = "grub/machine.cfg" // made for the machine whose address asks
	GRUBImagePath  = "images/"          // NAME/kernel, NAME/initrd/0 ..., as below ImagePath
)

// GRUBEntry is the config with which GRUB starts on every machine: it fetches the
// machine's own, and asks again when that does not end in a boot.
func GRUBEntry() []byte {
	var b strings.Builder
	b.WriteString("set timeout=0\nfor wait in")
	for _, w := range waits {
		b.WriteString(" " + strconv.Itoa(w))
	}
	fmt.Fprintf(&b, "; do\n  source (tftp)/%s\n", GRUBScriptPath)
	b.WriteString("  echo \"pilotlight: that did not work (see the message above); again in $wait s\"\n  sleep $wait\ndone\n")
	b.WriteString("echo pilotlight: giving up; the machine reboots\nreboot\n")
	return []byte(b.String())
}

// GRUBScript returns the GRUB config of one machine that boots so. It takes kernel
// and initial RAM disks by TFTP: those that Debian 12 signs have no HTTP in them.
func GRUBScript(mode cluster.BootMode, t cluster.Target, v Visit) ([]byte, error) {
	return grubScript(mode, t, v, "(tftp)/"+GRUBImagePath)
}

// GRUBScriptHTTP is GRUBScript for a GRUB that came by HTTP, and has that in it.
func GRUBScriptHTTP(mode cluster.BootMode, t cluster.Target, v Visit) ([]byte, error) {
	return grubScript(mode, t, v, "(http,"+strings.TrimPrefix(v.Server.URL, "http://")+")"+ImagePath)
}

func grubScript(mode cluster.BootMode, t cluster.Target, v Visit, images string) ([]byte, error) {
	if mode == cluster.BootLocal {
		// It was told so by DHCP before it fetched a loader, so something has
		// changed since: it starts over. GRUB's exit may end in a menu.
		_, why := CourseOf(t)
		return fmt.Appendf(nil, "echo %s\nsleep 2\nreboot\n", grubWord("pilotlight: host "+t.Host.Name+" is left to its disk: "+why)), nil
	}
	if t.Image == nil {
		return nil, errNoImage(t)
	}
	args, err := Args(mode, t, v)
	if err != nil {
		return nil, err
	}
	base := images + t.Image.Name
	var b strings.Builder
	fmt.Fprintf(&b, "echo %s\n", grubWord(fmt.Sprintf("pilotlight: host %s boots image %s, profile %s, mode %s", t.Host.Name, t.Image.Name, t.Profile.Name, mode)))
	fmt.Fprintf(&b, "linux %s/kernel", base)
	for _, a := range args {
		b.WriteString(" " + grubWord(a))
	}
	b.WriteString("\n")
	if len(t.Image.Initrd) > 0 {
		b.WriteString("initrd")
		for i := range t.Image.Initrd {
			fmt.Fprintf(&b, " %s/initrd/%d", base, i)
		}
		b.WriteString("\n")
	}
	b.WriteString("boot\n")
	return []byte(b.String()), nil
}

// grubWord quotes a word for GRUB's shell, in which nothing is special between
// single quotes but the quote itself.
func grubWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
