package boot

import (
	"io/fs"

	"github.com/pilotlight/pilotlight/cluster"
)

// Family is a kind of firmware that takes the same loader.
type Family string

// The families that pilotlight boots.
const (
	BIOS  Family = "BIOS"
	X64   Family = "UEFI x64"
	ARM64 Family = "UEFI arm64"

	// Those whose firmware starts nothing that is not signed (loader: grub).
	X64Signed   Family = "UEFI x64 with Secure Boot"
	ARM64Signed Family = "UEFI arm64 with Secure Boot"
)

var signed = map[Family]Family{X64: X64Signed, ARM64: ARM64Signed}

func isSigned(f Family) bool { return f == X64Signed || f == ARM64Signed }

var families = map[Arch]Family{
	ArchBIOS: BIOS, ArchX64: X64, ArchEBC: X64, ArchX64HTTP: X64, ArchARM64: ARM64, ArchARM64HTTP: ARM64,
}

// MachineOf returns the architecture of the images that a client boots, and
// nothing for one that pilotlight does not boot.
func MachineOf(a Arch) cluster.Arch {
	if f, ok := families[a]; ok {
		return f.Machine()
	}
	return ""
}

// Machine returns the architecture of the images that the family boots.
func (f Family) Machine() cluster.Arch {
	if f == ARM64 {
		return cluster.AArch64
	}
	return cluster.X86_64
}

// Candidates are the names of the loaders for each family, best first. Those
// that use the firmware's own network driver come before those that bring
// theirs, which have been seen to hang at "initialising devices" on some UEFI
// machines (sidero#1042; ironic changed its default too). The names are those
// of Debian's ipxe package and of iPXE's own builds.
var Candidates = map[Family][]string{
	BIOS:        {"undionly.kpxe", "ipxe.pxe"},
	X64:         {"snponly.efi", "ipxe.efi", "snponly-x86_64.efi", "ipxe-x86_64.efi"},
	X64Signed:   {"shimx64.efi"},
	ARM64Signed: {"shimaa64.efi"},
	ARM64:       {"snponly-arm64.efi", "ipxe-arm64.efi", "arm64-efi/snponly.efi", "arm64-efi/ipxe.efi"},
}

// Loaders names the loader of each family that has one.
type Loaders map[Family]string

// FindLoaders returns the best loader that dir holds for each family.
func FindLoaders(dir fs.FS) Loaders {
	found := Loaders{}
	for family, names := range Candidates {
		for _, name := range names {
			if info, err := fs.Stat(dir, name); err == nil && info.Mode().IsRegular() {
				found[family] = name
				break
			}
		}
	}
	return found
}
