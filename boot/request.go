package boot

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pilotlight/pilotlight/cluster"
)

// Arch is a client system architecture: DHCP option 93, as the IANA registry
// "Processor Architecture Types" numbers it.
type Arch uint16

// The architectures that have a name here; every other one is refused by its
// number.
const (
	ArchBIOS      Arch = 0
	ArchIA32      Arch = 6
	ArchX64       Arch = 7
	ArchEBC       Arch = 9 // RFC 4578 printed 7 and 9 the wrong way round (erratum 4624), so firmware sends either for x64
	ArchARM32     Arch = 10
	ArchARM64     Arch = 11
	ArchIA32HTTP  Arch = 15
	ArchX64HTTP   Arch = 16
	ArchARM32HTTP Arch = 18
	ArchARM64HTTP Arch = 19
	ArchUBoot32   Arch = 21
	ArchUBoot64   Arch = 22
	ArchRISCV64   Arch = 27
	ArchPi        Arch = 41
)

var archNames = map[Arch]string{
	ArchBIOS: "BIOS", ArchIA32: "UEFI IA32", ArchX64: "UEFI x64", ArchEBC: "UEFI x64 (EBC)",
	ArchARM32: "UEFI arm32", ArchARM64: "UEFI arm64", ArchIA32HTTP: "UEFI IA32 HTTP",
	ArchX64HTTP: "UEFI x64 HTTP", ArchARM32HTTP: "UEFI arm32 HTTP", ArchARM64HTTP: "UEFI arm64 HTTP",
	ArchUBoot32: "U-Boot arm32", ArchUBoot64: "U-Boot arm64", ArchRISCV64: "UEFI RISC-V 64", ArchPi: "Raspberry Pi",
}

// String returns the name that an operator knows, "UEFI x64".
func (a Arch) String() string {
	if s, ok := archNames[a]; ok {
		return s
	}
	return fmt.Sprintf("architecture %d", uint16(a))
}

// Class is the part of the vendor class (DHCP option 60) that says what the
// client wants.
type Class string

// The classes. An operating system sends none of those that firmware does.
const (
	ClassNone Class = ""
	ClassPXE  Class = "PXEClient"
	ClassHTTP Class = "HTTPClient"

	ClassUBoot Class = "U-Boot" // U-Boot.armv8
)

// Feature is a tag in iPXE's encapsulated options (DHCP option 175).
type Feature byte

// The features that decide something (iPXE's features.h).
const (
	FeatureHTTP    Feature = 0x13
	FeatureHTTPS   Feature = 0x14
	FeatureBzImage Feature = 0x18
	FeatureEFI     Feature = 0x24
)

// Request is what a machine says of itself when it asks how to boot.
type Request struct {
	MAC      cluster.MAC
	UUID     cluster.UUID
	Serial   string
	Archs    []Arch    // in the machine's order; empty when it did not say
	Class    Class     // what it wants
	Vendor   string    // the whole vendor class, for people
	IPXE     bool      // its user class says so
	Features []Feature // of iPXE; empty when it did not say
	Chained  bool      // it was given another iPXE a moment ago
	Network  *cluster.Network
	Relay    netip.Addr // the relay that it came through; zero when none
}

// IsIPXE reports whether it is iPXE that asks. Its user class says so, unless
// a build was given another one; then its features do (MAAS tests the same
// way: HTTP, and a format that it can boot).
func (q *Request) IsIPXE() bool {
	return q.IPXE || q.Has(FeatureHTTP) && (q.Has(FeatureBzImage) || q.Has(FeatureEFI))
}

// Has reports whether iPXE said that it has a feature.
func (q *Request) Has(f Feature) bool { return slices.Contains(q.Features, f) }

// IsFirmware reports whether something asks that wants to be booted, rather
// than an operating system that runs already.
func (q *Request) IsFirmware() bool { return q.Class != ClassNone || q.IsIPXE() }

// Arch returns the architecture that counts: of several the first that
// pilotlight can serve, and BIOS when the machine did not say, as ROMs older
// than RFC 4578 do not.
func (q *Request) Arch() Arch {
	for _, a := range q.Archs {
		if _, ok := families[a]; ok {
			return a
		}
	}
	if len(q.Archs) > 0 {
		return q.Archs[0]
	}
	return ArchBIOS
}
