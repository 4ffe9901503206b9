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
	IA32  Family = "UEFI IA32" // 32-bit firmware of a 64-bit machine, too
	ARM64 Family = "UEFI arm64"

	// Those that bring their own loader, and take its files.
	UBootX86   Family = "U-Boot x86"
	UBootARM64 Family = "U-Boot arm64"
	Pi         Family = "Raspberry Pi"

	// The same machines by other loaders than iPXE.
	BIOSPXELINUX Family = "BIOS by PXELINUX"
	X64GRUB      Family = "UEFI x64 by GRUB"
	IA32GRUB     Family = "UEFI IA32 by GRUB"
	ARM64GRUB    Family = "UEFI arm64 by GRUB"

	// Debian's signed GRUB has no HTTP in it, so what it was loaded by is closed
	// to it (seen: "disk `http,10.9.0.1' not found"). One that is told to go on by
	// TFTP boots by HTTP Boot.
	X64GRUBHTTP   Family = "UEFI x64 HTTP by GRUB"
	IA32GRUBHTTP  Family = "UEFI IA32 HTTP by GRUB"
	ARM64GRUBHTTP Family = "UEFI arm64 HTTP by GRUB"
)

// byGRUB are the families whose machines GRUB boots, too: by PXE, and by HTTP Boot.
var byGRUB = map[Family]struct{ pxe, http Family }{
	X64: {X64GRUB, X64GRUBHTTP}, IA32: {IA32GRUB, IA32GRUBHTTP}, ARM64: {ARM64GRUB, ARM64GRUBHTTP},
}

var families = map[Arch]Family{
	ArchBIOS: BIOS, ArchX64: X64, ArchEBC: X64, ArchX64HTTP: X64, ArchIA32: IA32, ArchIA32HTTP: IA32,
	ArchARM64: ARM64, ArchARM64HTTP: ARM64, ArchUBoot64: UBootARM64, ArchPi: Pi,
}

// familyOf returns the family of a client, if pilotlight boots it.
func familyOf(q Request) (Family, bool) {
	f, ok := families[q.Arch()]
	if q.Class == ClassUBoot && f == BIOS {
		f = UBootX86 // U-Boot has no number of its own there, and sends BIOS' (cmd/Kconfig)
	}
	return f, ok
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
	switch f {
	case ARM64, UBootARM64, Pi:
		return cluster.AArch64
	}
	return cluster.X86_64
}

// Candidates are the names of the loaders for each family, best first. Those
// that use the firmware's own network driver come before those that bring
// theirs, which have been seen to hang at "initialising devices" on some UEFI
// machines (sidero#1042; ironic changed its default too). A shim comes before
// what it starts, which firmware with Secure Boot on would refuse. The names are
// those of Debian's packages and of iPXE's own builds and releases.
var Candidates = map[Family][]string{
	BIOS:  {"undionly.kpxe", "ipxe.pxe"},
	X64:   {"snponly-shimx64.efi", "ipxe-shimx64.efi", "snponly-shim.efi", "ipxe-shim.efi", "snponly.efi", "ipxe.efi", "snponly-x86_64.efi", "ipxe-x86_64.efi"},
	IA32:  {"snponly-i386.efi", "ipxe-i386.efi", "i386-efi/snponly.efi", "i386-efi/ipxe.efi"},
	ARM64: {"snponly-shimaa64.efi", "ipxe-shimaa64.efi", "snponly-arm64.efi", "ipxe-arm64.efi", "arm64-efi/snponly.efi", "arm64-efi/ipxe.efi"},

	BIOSPXELINUX: {"pxelinux.0", "lpxelinux.0"},
	X64GRUB:      {"shimx64.efi", "grubnetx64.efi"},
	IA32GRUB:     {"shimia32.efi", "grubnetia32.efi"},
	ARM64GRUB:    {"shimaa64.efi", "grubnetaa64.efi"},

	X64GRUBHTTP:   {"grubx64-http.efi"},
	IA32GRUBHTTP:  {"grubia32-http.efi"},
	ARM64GRUBHTTP: {"grubaa64-http.efi"},

	// The first file that a Pi's firmware is made of, of each generation; a Pi 5
	// has its firmware in its EEPROM and needs its device tree.
	Pi: {PiFolder + "start4.elf", PiFolder + "bootcode.bin", PiFolder + "bcm2712-rpi-5-b.dtb"},
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

// by returns the family by whose loader a profile has a machine booted. A profile
// that does not say takes what there is: Debian has no iPXE for IA32 and arm64.
func (l Loaders) by(want cluster.Loader, f Family, q Request) Family {
	if f == BIOS {
		if want == cluster.LoaderPXELINUX {
			return BIOSPXELINUX
		}
		return f
	}
	g, ok := byGRUB[f]
	if !ok || want != cluster.LoaderGRUB && (want != "" || l[f] != "") {
		return f
	}
	by := g.pxe
	if q.Class == ClassHTTP {
		by = g.http
	}
	if want == "" && l[by] == "" && l[g.pxe] == "" {
		return f // there is neither, and iPXE does more
	}
	return by
}
