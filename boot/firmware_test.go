//go:build integration && firmware

package boot_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// These tests turn on emulated machines beside somebody else's DHCP server and
// see how far real firmware comes with dhcp: proxy: to our script. They need root
// and Debian's qemu-system-x86, seabios, ipxe-qemu, ovmf, ipxe, dnsmasq-base and
// kea-dhcp4-server; make firmware installs them. A boot takes 10 to 60 s.

// bootTime is how long firmware may take, emulated, on a machine that is busy.
const bootTime = 6 * time.Minute

// step is something that our servers see a machine do.
type step struct{ name, pattern string }

var (
	entry     = step{"/boot.ipxe", `answered an HTTP request.*what=entry.*status=200`}
	script    = step{"/ipxe", `answered an HTTP request.*what=script.*status=200`}
	asks      = step{"asks on port 4011", `told a machine what to boot.*port4011=true`}
	loads     = step{"TFTP loader", `sent a file over TFTP`}
	fetches   = step{"HTTP loader", `answered an HTTP request.*what=loader.*method=GET.*status=200`}
	toScript  = []step{entry, script}
	byPort    = []step{asks, loads, entry, script}
	byTFTP    = []step{loads, entry, script}
	byHTTP    = []step{fetches, entry, script}
	conflicts = step{"the conflict is told", `in the way of a boot.*UEFI asks it on port 4011 and not us`}
	goesOn    = step{"goes on to HTTP Boot", `told a machine what to boot.*asks="UEFI x64 HTTP"`}
)

var (
	dnsmasq, kea = otherServers[0], otherServers[1]
	// dnsmasqPXE says option 60 as a PXE server does, with the address.
	dnsmasqPXE = otherServer{"dnsmasq as a PXE server", func(b *beside, boot string) []string {
		return append(dnsmasq.start(b, boot), "--dhcp-option-force=60,PXEClient")
	}, dnsmasq.ready}
)

func TestFirmware(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Fatal("qemu-system-x86_64 is missing: apt-get install qemu-system-x86 seabios ipxe-qemu ovmf")
	}
	for _, row := range []struct {
		what  string
		mode  string
		other otherServer
		boot  string // that the other server tells machines to boot
		args  func(b *beside) []string
		steps []step
	}{
		{"authoritative: BIOS", "", nobody, "", bios, toScript},
		{"authoritative: UEFI PXE", "", nobody, "", uefiPXE, byTFTP},
		{"authoritative: UEFI HTTP", "", nobody, "", uefiHTTP, byHTTP},
		{"beside dnsmasq: BIOS", "proxy", dnsmasq, "", bios, toScript},
		{"beside dnsmasq: UEFI PXE", "proxy", dnsmasq, "", uefiPXE, byPort},
		{"beside dnsmasq: UEFI HTTP", "proxy", dnsmasq, "", uefiHTTP, byHTTP},
		{"beside Kea: BIOS", "proxy", kea, "", bios, toScript},
		{"beside Kea: UEFI PXE", "proxy", kea, "", uefiPXE, byPort},
		{"beside Kea: UEFI HTTP", "proxy", kea, "", uefiHTTP, byHTTP},
		// Ours counts: for iPXE by its priority, for OVMF because the other offer does not say PXEClient.
		{"beside dnsmasq with a boot file: BIOS", "proxy", dnsmasq, "theirs.0", bios, toScript},
		{"beside dnsmasq with a boot file: UEFI PXE", "proxy", dnsmasq, "theirs.efi", uefiPXE, byPort},
		{"beside dnsmasq as a PXE server: BIOS", "proxy", dnsmasqPXE, "theirs.0", bios, toScript},
		// What the conflict says is true: it is lost for PXE.
		{"beside dnsmasq as a PXE server: UEFI", "proxy", dnsmasqPXE, "theirs.efi", uefiPXE, []step{conflicts, goesOn}},
	} {
		t.Run(row.what, func(t *testing.T) {
			b := newBeside(t, row.other, row.boot, row.mode)
			b.boots(t, row.what, row.args(b), row.steps)
		})
	}
}

// boots turns a machine on and sees to it that it goes through the steps.
func (b *beside) boots(t *testing.T, what string, args []string, steps []step) {
	t.Helper()
	began := time.Now()
	b.daemon(b.lan, filepath.Join(b.dir, "console.log"), nil, append([]string{
		"qemu-system-x86_64", "-accel", "tcg,thread=multi", "-m", "768", "-nodefaults", "-display", "none", "-monitor", "none",
		"-serial", "stdio", "-no-reboot", "-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no",
	}, args...)...)
	var took []string
	for _, s := range steps {
		await(t, b.log, s.pattern, bootTime)
		took = append(took, fmt.Sprintf("%s %.1f s", s.name, time.Since(began).Seconds()))
	}
	if said := read(b.log); strings.Contains(said, "port4011=true") != (steps[0] == asks) {
		t.Errorf("port 4011 was asked, or not, against what was expected")
	}
	if steps[len(steps)-1] == script {
		eventually(t, "the script is in the machine's timeline", func() bool { return strings.Contains((&lab{dir: b.dir}).timeline(), `"step":"script"`) })
	}
	t.Logf("%s: %s", what, strings.Join(took, ", "))
}

// bios boots SeaBIOS with the network card's own ROM, which is iPXE.
func bios(*beside) []string {
	return []string{"-machine", "pc", "-boot", "n", "-device", "virtio-net-pci,netdev=n0,bootindex=1,mac=" + hostMAC}
}

// uefiPXE and uefiHTTP boot OVMF, which tries PXE before HTTP Boot unless it is
// told not to.
func uefiPXE(b *beside) []string {
	return append(uefi(b), "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no")
}

func uefi(b *beside) []string {
	vars := filepath.Join(b.dir, "vars.fd")
	blank, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err == nil {
		err = os.WriteFile(vars, blank, 0o600)
	}
	if err != nil {
		b.t.Fatalf("%v: apt-get install ovmf", err)
	}
	return []string{
		"-machine", "q35", "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
		"-drive", "if=pflash,unit=1,format=raw,file=" + vars,
		"-device", "virtio-net-pci,netdev=n0,bootindex=1,romfile=,mac=" + hostMAC, "-device", "virtio-rng-pci",
	}
}

// TestFirmwareIPv6 boots OVMF, and the iPXE that it loads, on an IPv6 network that
// is ours. There is no other server, and no DHCPv4.
func TestFirmwareIPv6(t *testing.T) {
	for _, row := range []struct {
		what  string
		off   []string // what OVMF is not to try
		steps []step
	}{
		{"UEFI PXE", []string{"IPv4PXESupport"}, byTFTP},
		{"UEFI HTTP", []string{"IPv4PXESupport", "IPv6PXESupport"}, byHTTP},
	} {
		t.Run(row.what, func(t *testing.T) {
			b := newSix(t)
			b.ip("-n " + b.client + " link set c0 down") // it has the machine's hardware address, and so its link-local one
			args := uefi(b)
			for _, name := range row.off {
				args = append(args, "-fw_cfg", "name=opt/org.tianocore/"+name+",string=no")
			}
			b.boots(t, row.what+" over IPv6", args, row.steps)
		})
	}
}

func uefiHTTP(b *beside) []string {
	return append(uefiPXE(b), "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no")
}
