package boot

import (
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// knownArgs returns the kernel arguments that a system needs to boot so, for images
// of which stream: says what system they are.
//
// An initrd= is in none of them: the scripts name the initial RAM disks as they load
// them. What an installed system boots with is its own disk's to say.
func knownArgs(mode cluster.BootMode, t cluster.Target, f Facts) []string {
	if t.Image == nil {
		return nil
	}
	switch t.Image.OS() {
	case cluster.FedoraCoreOS:
		return fcosArgs(mode, f)
	case cluster.Flatcar:
		return flatcarArgs(mode, t, f)
	}
	return nil
}

// fcosArgs are as Fedora CoreOS' documentation of PXE has them. Its installer's
// examples leave out ignition.firstboot; the installer's own config, in which is
// what says that it is done, is read only with it. The platform is metal in a VM
// too: what a config's URL is read for is the same, and the operator may say another.
func fcosArgs(mode cluster.BootMode, f Facts) (out []string) {
	if f.RootfsURL != "" {
		out = append(out, "coreos.live.rootfs_url="+f.RootfsURL)
	}
	out = append(out, "ignition.firstboot", "ignition.platform.id=metal", "ignition.config.url="+f.ConfigURL)
	if mode == cluster.BootInstall {
		out = append(out, "coreos.inst.install_dev="+f.Install.Device, "coreos.inst.ignition_url="+f.SystemConfigURL)
	}
	return out
}

// flatcarArgs are the same for the system and for its installer, which is that
// system with a config that runs flatcar-install. It is first_boot=1 at every boot
// from memory: "detected" looks at a disk.
func flatcarArgs(mode cluster.BootMode, t cluster.Target, f Facts) []string {
	told := t.Profile.Config
	if mode == cluster.BootInstall {
		told = t.Profile.Install.Config
	}
	if told.ForCloudInit() {
		return []string{"flatcar.first_boot=1", "cloud-config-url=" + f.CloudConfigURL}
	}
	return []string{"flatcar.first_boot=1", "ignition.config.url=" + f.ConfigURL}
}

// overruled returns the known arguments without those that the operator writes too,
// and then the operator's.
func overruled(known, written []string) []string {
	said := map[string]bool{}
	for _, a := range written {
		said[argKey(a)] = true
	}
	known = slices.DeleteFunc(known, func(a string) bool { return said[argKey(a)] })
	return append(known, written...)
}

func argKey(a string) string {
	key, _, _ := strings.Cut(a, "=")
	return key
}
