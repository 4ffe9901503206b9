package boot_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

var (
	here    = boot.ServerAt(netip.MustParseAddr("10.0.0.1"), 8080, 8443)
	loaders = boot.Loaders{boot.BIOS: "undionly.kpxe", boot.X64: "snponly.efi"}
	grubs   = boot.Loaders{
		boot.BIOS: "undionly.kpxe", boot.X64: "snponly.efi", boot.ARM64GRUB: "shimaa64.efi", boot.ARM64GRUBHTTP: "grubaa64-http.efi",
		boot.IA32GRUB: "grubnetia32.efi", boot.BIOSPXELINUX: "pxelinux.0", boot.Pi: "rpi/start4.elf",
	}
	mac1 = cluster.MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}
)

func target() cluster.Target {
	return cluster.Target{
		Host:      &cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{mac1}},
		Profile:   &cluster.Profile{Meta: cluster.Meta{Name: "web"}, Image: "node"},
		Image:     &cluster.Image{Meta: cluster.Meta{Name: "node"}},
		Variables: map[string]any{},
	}
}

func local() cluster.Target {
	t := target()
	t.Profile, t.Image = &cluster.Profile{Meta: cluster.Meta{Name: "disk"}, Boot: cluster.BootLocal}, nil
	return t
}

func by(loader cluster.Loader, t cluster.Target) cluster.Target {
	p := *t.Profile
	p.Loader, t.Profile = loader, &p
	return t
}

func arm() cluster.Target {
	t := target()
	t.Image = &cluster.Image{Meta: cluster.Meta{Name: "arm"}, Arch: cluster.AArch64}
	return t
}

// Each row is a machine as it was seen, or as a specification has it.
func TestDecide(t *testing.T) {
	const script = "http://10.0.0.1:8080/boot.ipxe"
	full := []boot.Feature{boot.FeatureHTTP, boot.FeatureBzImage}
	for _, row := range []struct {
		quirk  string
		q      boot.Request
		target cluster.Target
		loader string
		url    string
		err    string // part of it
		with   boot.Loaders
	}{
		{quirk: "a machine that no document names", q: boot.Request{Class: boot.ClassPXE}, target: cluster.Target{}},
		{quirk: "an operating system sends no class of firmware's", q: boot.Request{}, target: target()},
		{quirk: "BIOS", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{0}}, target: target(), loader: "undionly.kpxe"},
		{quirk: "ROMs older than RFC 4578 send no option 93", q: boot.Request{Class: boot.ClassPXE}, target: target(), loader: "undionly.kpxe"},
		{quirk: "UEFI x64 is 7 in IANA's registry", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{7}}, target: target(), loader: "snponly.efi"},
		{quirk: "UEFI x64 is 9 in RFC 4578 as printed", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{9}}, target: target(), loader: "snponly.efi"},
		{quirk: "option 93 is a list: the first that can be served counts", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{10, 7}}, target: target(), loader: "snponly.efi"},
		{quirk: "UEFI HTTP Boot x64", q: boot.Request{Class: boot.ClassHTTP, Archs: []boot.Arch{16}}, target: target(), url: "http://10.0.0.1:8080/loaders/snponly.efi"},
		{quirk: "UEFI arm64 without a loader for it", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{11}}, target: arm(), err: "put one of snponly-shimaa64.efi"},
		{quirk: "UEFI x64 with an image for arm64", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{7}}, target: arm(), err: "image arm is for aarch64"},
		{quirk: "UEFI arm64 with an image for x64", q: boot.Request{MAC: mac1, Class: boot.ClassPXE, Archs: []boot.Arch{11}}, target: target(), err: "host web1 (52:54:00:12:34:56) asks as UEFI arm64, but its image node is for x86_64: set image: in profile web to one with arch: aarch64"},
		{quirk: "UEFI arm64 by HTTP with an image for x64", q: boot.Request{Class: boot.ClassHTTP, Archs: []boot.Arch{19}}, target: target(), err: "its image node is for x86_64"},
		{quirk: "UEFI arm64 by GRUB, as Debian has no iPXE for it", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{11}}, target: arm(), with: grubs, loader: "shimaa64.efi"},
		{quirk: "UEFI arm64 by iPXE when the profile says so", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{11}}, target: by("ipxe", arm()), with: grubs, err: "put one of snponly-shimaa64.efi"},
		{quirk: "UEFI arm64 by HTTP takes a GRUB that goes on by TFTP", q: boot.Request{Class: boot.ClassHTTP, Archs: []boot.Arch{19}}, target: arm(), with: grubs, url: "http://10.0.0.1:8080/loaders/grubaa64-http.efi"},
		{quirk: "UEFI IA32 by GRUB; its machine may have 64 bits", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{6}}, target: target(), with: grubs, loader: "grubnetia32.efi"},
		{quirk: "UEFI IA32 by HTTP without a GRUB for it", q: boot.Request{MAC: mac1, Class: boot.ClassHTTP, Archs: []boot.Arch{15}}, target: target(), with: grubs, err: "put one of grubia32-http.efi"},
		{quirk: "UEFI IA32 without a loader for it", q: boot.Request{MAC: mac1, Class: boot.ClassPXE, Archs: []boot.Arch{6}}, target: target(), err: "host web1 (52:54:00:12:34:56) asks as UEFI IA32, for which there is no loader"},
		{quirk: "UEFI arm32 is not booted", q: boot.Request{MAC: mac1, Class: boot.ClassPXE, Archs: []boot.Arch{10}}, target: target(), err: "host web1 (52:54:00:12:34:56) asks as UEFI arm32, which pilotlight does not boot"},
		{quirk: "U-Boot arm64 gets its script, and needs no loader", q: boot.Request{Class: boot.ClassUBoot, Archs: []boot.Arch{22}}, target: arm(), loader: "boot.scr.uimg"},
		{quirk: "U-Boot on x86 says BIOS, and is none", q: boot.Request{Class: boot.ClassUBoot, Archs: []boot.Arch{0}}, target: target(), loader: "boot.scr.uimg"},
		{quirk: "U-Boot arm64 with an image for x64", q: boot.Request{Class: boot.ClassUBoot, Archs: []boot.Arch{22}}, target: target(), err: "asks as U-Boot arm64, but its image node is for x86_64"},
		{quirk: "U-Boot arm32 is not booted", q: boot.Request{Class: boot.ClassUBoot, Archs: []boot.Arch{21}}, target: arm(), err: "asks as U-Boot arm32, which pilotlight does not boot"},
		{quirk: "U-Boot left to its disk gets nothing", q: boot.Request{Class: boot.ClassUBoot, Archs: []boot.Arch{22}}, target: local()},
		{quirk: "a Raspberry Pi is told its own words, whatever the file", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{41}}, target: arm(), with: grubs, loader: "rpi/start4.elf"},
		{quirk: "a Raspberry Pi without its firmware", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{41}}, target: arm(), err: "asks as Raspberry Pi, for which there is no loader: put one of rpi/start4.elf"},
		{quirk: "a Raspberry Pi left to its disk gets nothing, and goes on by its BOOT_ORDER", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{41}}, target: local(), with: grubs},
		{quirk: "PXELINUX, where the profile says so", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{0}}, target: by("pxelinux", target()), with: grubs, loader: "pxelinux.0"},
		{quirk: "PXELINUX, in a ROM's iPXE too", q: boot.Request{Class: boot.ClassPXE, IPXE: true, Features: full, Archs: []boot.Arch{0}}, target: by("pxelinux", target()), with: grubs, loader: "pxelinux.0"},
		{quirk: "PXELINUX is for BIOS: UEFI gets iPXE beside it", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{7}}, target: by("pxelinux", target()), with: grubs, loader: "snponly.efi"},
		{quirk: "an architecture that nobody knows", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{4711}}, target: target(), err: "asks as architecture 4711"},
		{quirk: "iPXE by its user class", q: boot.Request{Class: boot.ClassPXE, IPXE: true, Features: full, Archs: []boot.Arch{0}}, target: target(), url: script},
		{quirk: "iPXE that does not list its features", q: boot.Request{Class: boot.ClassPXE, IPXE: true, Archs: []boot.Arch{7}}, target: target(), url: script},
		{quirk: "iPXE with a user class of its own is known by its features", q: boot.Request{Class: boot.ClassPXE, Features: full}, target: target(), url: script},
		{quirk: "HTTP alone makes no iPXE", q: boot.Request{Class: boot.ClassPXE, Features: []boot.Feature{boot.FeatureHTTP}}, target: target(), loader: "undionly.kpxe"},
		{quirk: "a ROM's iPXE without HTTP gets the whole tftp URL of a newer one", q: boot.Request{Class: boot.ClassPXE, IPXE: true, Features: []boot.Feature{boot.FeatureBzImage}}, target: target(), url: "tftp://10.0.0.1/undionly.kpxe"},
		{quirk: "a ROM's iPXE without bzImage cannot boot what it fetches", q: boot.Request{Class: boot.ClassPXE, IPXE: true, Features: []boot.Feature{boot.FeatureHTTP}}, target: target(), url: "tftp://10.0.0.1/undionly.kpxe"},
		{quirk: "UEFI iPXE needs EFI, and no bzImage", q: boot.Request{Class: boot.ClassPXE, IPXE: true, Features: []boot.Feature{boot.FeatureHTTP, boot.FeatureEFI}, Archs: []boot.Arch{7}}, target: target(), url: script},
		{quirk: "UEFI iPXE that lists no EFI", q: boot.Request{Class: boot.ClassPXE, IPXE: true, Features: full, Archs: []boot.Arch{7}}, target: target(), url: "tftp://10.0.0.1/snponly.efi"},
		{quirk: "what an iPXE was chained to is no better: once more would be for ever", q: boot.Request{MAC: mac1, Class: boot.ClassPXE, IPXE: true, Features: []boot.Feature{boot.FeatureBzImage}, Chained: true}, target: target(), err: "host web1 (52:54:00:12:34:56) asks as an iPXE without HTTP again, after it was given undionly.kpxe"},
		{quirk: "what an iPXE was chained to runs the script", q: boot.Request{Class: boot.ClassPXE, IPXE: true, Features: full, Chained: true}, target: target(), url: script},
		{quirk: "firmware of a machine with its system on disk gets nothing, and goes on to the disk", q: boot.Request{Class: boot.ClassPXE}, target: local()},
		{quirk: "UEFI without boot options asks for a minute; what it cannot load it goes on from at once", q: boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{7}}, target: local(), loader: boot.LeaveFile},
		{quirk: "iPXE of such a machine is told to leave", q: boot.Request{Class: boot.ClassPXE, IPXE: true}, target: local(), url: script},
		{quirk: "a host that no profile takes", q: boot.Request{Class: boot.ClassPXE}, target: cluster.Target{Host: target().Host}, err: "host web1 gets no profile"},
		{quirk: "a live profile without an image", q: boot.Request{Class: boot.ClassPXE}, target: cluster.Target{Host: target().Host, Profile: target().Profile}, err: "set image: or boot: local in profile web"},
	} {
		t.Run(row.quirk, func(t *testing.T) {
			with := row.with
			if with == nil {
				with = loaders
			}
			r, err := boot.Decide(row.q, row.target, boot.Policy{Server: here, Loaders: with})
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("error %v, want one with %q", err, row.err)
				}
				if !r.IsZero() {
					t.Errorf("an error comes with a reply: %+v", r)
				}
				return
			}
			if err != nil || r.Loader != row.loader || r.URL != row.url {
				t.Errorf("got %+v, %v, want loader %q, URL %q", r, err, row.loader, row.url)
			}
			if r.Why == "" {
				t.Error("it does not say why")
			}
		})
	}
}

func TestServerAt(t *testing.T) {
	for _, row := range []struct {
		addr         string
		port, secure uint16
		url, https   string
	}{
		{"10.0.0.1", 80, 0, "http://10.0.0.1", ""},
		{"10.0.0.1", 8080, 443, "http://10.0.0.1:8080", "https://10.0.0.1"},
		{"fd00::1", 80, 8443, "http://[fd00::1]", "https://[fd00::1]:8443"},
	} {
		if s := boot.ServerAt(netip.MustParseAddr(row.addr), row.port, row.secure); s.URL != row.url || s.Secure != row.https {
			t.Errorf("ServerAt(%s, %d, %d) = %q, %q, want %q, %q", row.addr, row.port, row.secure, s.URL, s.Secure, row.url, row.https)
		}
	}
}

func TestFindLoaders(t *testing.T) {
	got := boot.FindLoaders(fstest.MapFS{
		"ipxe.pxe": {}, "undionly.kpxe": {}, "ipxe.efi": {}, "arm64-efi/snponly.efi": {}, "snponly.efi": {Mode: 1 << 31},
	})
	want := boot.Loaders{boot.BIOS: "undionly.kpxe", boot.X64: "ipxe.efi", boot.ARM64: "arm64-efi/snponly.efi"}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for f, name := range want {
		if got[f] != name {
			t.Errorf("%s: got %q, want %q", f, got[f], name)
		}
	}
}
