package boot

import (
	"fmt"

	"github.com/pilotlight/pilotlight/cluster"
)

// CourseOf says what a new network boot of a host comes to, and why: a live
// system, the installer, or its own disk. DHCP, TFTP and HTTP all ask it, so that
// none of them installs a machine again that another one leaves to its disk
// (tink#666: the way of the Raspberry Pi had been forgotten).
func CourseOf(t cluster.Target) (cluster.BootMode, string) {
	p := t.Profile
	switch p.Boot {
	case cluster.BootLocal:
		return cluster.BootLocal, "profile " + p.Name + " boots from the local disk"
	case cluster.BootInstall:
		if t.Install.Pending() {
			return cluster.BootInstall, fmt.Sprintf("profile %s installs to %s: %s", p.Name, p.Install.Device, t.Install.Why())
		}
		return cluster.BootLocal, "profile " + p.Name + " boots from the local disk once it is installed: " + t.Install.Why()
	}
	return cluster.BootLive, "profile " + p.Name + " runs from memory"
}
