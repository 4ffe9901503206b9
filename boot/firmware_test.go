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
	entry  = step{"/boot.ipxe", `answered an HTTP request.*what=entry.*status=200`}
	script = step{"/ipxe", `answered an HTTP request.*what=script.*status=200`}
	asks   = step{"asks on port 4011", `told a machine what to boot.*port4011=true`}
	loads  = step{"TFTP loader", `sent a file over TFTP`}
	web    = step{"HTTP loader", `answered an HTTP request.*what=loader.*method=GET.*status=200`}
)

func TestFirmwareProxy(t *testing.T) {
	for _, tool := range []string{"qemu-system-x86_64"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install qemu-system-x86 seabios ipxe-qemu ovmf", tool)
		}
	}
	for _, other := range otherServers {
		for _, m := range []struct {
			name  string
			args  func(b *beside) []string
			steps []step
		}{
			{"BIOS", bios, []step{entry, script}},
			{"UEFI PXE", uefi("PXE"), []step{asks, loads, entry, script}},
			{"UEFI HTTP", uefi("HTTP"), []step{web, entry, script}},
		} {
			t.Run(other.name+" "+m.name, func(t *testing.T) {
				b := newBeside(t, other, "", "proxy")
				began := time.Now()
				console := filepath.Join(b.dir, "console.log")
				b.daemon(b.lan, console, nil, append([]string{
					"qemu-system-x86_64", "-accel", "tcg,thread=multi", "-m", "768", "-nodefaults", "-display", "none", "-monitor", "none",
					"-serial", "stdio", "-no-reboot", "-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no",
				}, m.args(b)...)...)
				var took []string
				for _, s := range m.steps {
					await(t, b.log, s.pattern, bootTime)
					took = append(took, fmt.Sprintf("%s %.1f s", s.name, time.Since(began).Seconds()))
				}
				t.Logf("%s: %s", t.Name(), strings.Join(took, ", "))
			})
		}
	}
}

// bios boots SeaBIOS with the network card's own ROM, which is iPXE.
func bios(*beside) []string {
	return []string{"-machine", "pc", "-boot", "n", "-device", "virtio-net-pci,netdev=n0,bootindex=1,mac=" + hostMAC}
}

// uefi boots OVMF, which tries PXE and HTTP over IPv4 and IPv6 in an order of
// its own: what is not meant is turned off.
func uefi(by string) func(b *beside) []string {
	return func(b *beside) []string {
		vars := filepath.Join(b.dir, "vars.fd")
		blank, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
		if err == nil {
			err = os.WriteFile(vars, blank, 0o600)
		}
		if err != nil {
			b.t.Fatalf("%v: apt-get install ovmf", err)
		}
		args := []string{
			"-machine", "q35", "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
			"-drive", "if=pflash,unit=1,format=raw,file=" + vars,
			"-device", "virtio-net-pci,netdev=n0,bootindex=1,romfile=,mac=" + hostMAC, "-device", "virtio-rng-pci",
		}
		if by == "HTTP" {
			args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no")
		}
		return args
	}
}
