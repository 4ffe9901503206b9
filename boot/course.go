package boot

import (
	"fmt"
	"net/netip"

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

// LeftToDisk says why the machine at an address is not to load anything: it is
// one of ours, and boots from its disk. Firmware that was told another way by
// another server, or by nobody, is stopped there too. owner tells whose an
// address is.
func LeftToDisk(a netip.Addr, owner func(netip.Addr) (cluster.Identity, bool), snap *cluster.Snapshot, installs *Installs) (why string, left bool) {
	who, ok := owner(a)
	if !ok {
		return "", false
	}
	h, ok := snap.Identify(who)
	if !ok {
		return "", false
	}
	n, _ := snap.NetworkOf(a)
	t, err := snap.Target(h, n)
	if err != nil {
		return "", false // whoever asks for its script is told so
	}
	t.Install = installs.Of(h.HostName())
	if t.Install.Phase == cluster.InstallBegun {
		return "", false // this may be its last try, which is counted; the config that it asks for next knows
	}
	mode, why := CourseOf(t)
	return fmt.Sprintf("host %s: %s", h.Name, why), mode == cluster.BootLocal
}
