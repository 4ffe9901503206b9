//go:build integration && firmware

package boot_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// These tests boot firmware of every kind that Debian has to Debian's kernel, which
// runs testdata/init. They need root, Debian's qemu-system-x86, qemu-system-arm,
// ovmf, ovmf-ia32, qemu-efi-aarch64, u-boot-qemu, and what examples/loaders/debian
// fetches: make firmware-all has all of it. Where that is, the environment says.
const (
	firmwareEnv = "PILOTLIGHT_FIRMWARE" // has loaders/, amd64/vmlinuz and arm64/vmlinuz
	captureEnv  = "PILOTLIGHT_CAPTURE"  // a directory for a capture of each boot, as which testdata/firmware began
)

var (
	x86   = cluster.X86_64
	arm64 = cluster.AArch64

	sends = func(file string) step {
		return step{file, `sent a file over TFTP.*file=/?` + regexp.QuoteMeta(file) + " "}
	}
	// kernelBy is the way of a loader that fetches everything by TFTP.
	kernelBy = func(files ...string) (out []step) {
		for _, f := range files {
			out = append(out, sends(f))
		}
		return out
	}
)

func TestMatrix(t *testing.T) {
	for _, row := range []struct {
		what    string
		arch    cluster.Arch
		profile string // JSON of what the profile has beside its image
		qemu    func(b *beside) []string
		steps   []step
	}{
		{"UEFI arm64 PXE", arm64, `{}`, armUEFI("IPv6PXESupport"), kernelBy("shimaa64.efi", "grubaa64.efi", "grub/machine.cfg", "images/node/kernel", "images/node/initrd/1")},
		{"UEFI arm64 HTTP Boot", arm64, `{}`, armUEFI("IPv6PXESupport", "IPv4PXESupport"), append([]step{fetches}, kernelBy("grub/grub.cfg", "grub/machine.cfg", "images/node/kernel", "images/node/initrd/1")...)},
		{"UEFI IA32 PXE", x86, `{}`, ia32, kernelBy("grubnetia32.efi", "grub/machine.cfg", "images/node/kernel", "images/node/initrd/1")},
		{"UEFI IA32 HTTP Boot", x86, `{}`, ia32HTTP, append([]step{fetches}, kernelBy("grub/grub.cfg", "grub/machine.cfg", "images/node/kernel")...)},
		{"UEFI x64 HTTP Boot by GRUB", x86, `{"loader": "grub"}`, x64HTTP, append([]step{fetches}, kernelBy("grub/grub.cfg", "grub/machine.cfg", "images/node/kernel")...)},
		{"PXELINUX", x86, `{"loader": "pxelinux"}`, seaBIOS, kernelBy("pxelinux.0", "ldlinux.c32", "images/node/kernel", "images/node/initrd")},
		{"iPXE's ROM", x86, `{}`, seaBIOS, toScript},
		{"U-Boot arm64", arm64, `{}`, uBootARM64, kernelBy("boot.scr.uimg", "images/node/kernel", "images/node/initrd")},
		{"U-Boot x86", x86, `{}`, uBootX86, kernelBy("boot.scr.uimg", "images/node/kernel", "images/node/initrd")},
	} {
		t.Run(row.what, func(t *testing.T) {
			b := newLAN(t)
			b.image(row.arch, row.profile)
			b.start(nobody, "", "")
			began := time.Now()
			console := b.turnOn(row.what, row.qemu(b))
			var took []string
			for _, s := range row.steps {
				await(t, b.log, s.pattern, bootTime)
				took = append(took, fmt.Sprintf("%s %.1f s", s.name, time.Since(began).Seconds()))
			}
			came := step{"kernel's init", `pilotlight-test: booted on ` + string(row.arch) + `, second=true, .*`}
			if row.what == "U-Boot x86" {
				came = step{"kernel", `\] Kernel command line: `} // it hands on a wrong size of the initial RAM disk (seen: 12 bytes)
			}
			await(t, console, came.pattern+`test.config.url=http://10.77.0.1:8080/ignition\?mac=52-5`, bootTime)
			took = append(took, fmt.Sprintf("%s %.1f s", came.name, time.Since(began).Seconds()))
			eventually(t, "script and kernel are in the machine's timeline", func() bool {
				said := (&lab{dir: b.dir}).timeline()
				return strings.Contains(said, `"step":"script"`) && strings.Contains(said, `"step":"kernel"`)
			})
			t.Logf("%s: %s", row.what, strings.Join(took, ", "))
		})
	}
}

// turnOn starts a machine and returns the file of its console.
func (b *beside) turnOn(what string, command []string) (console string) {
	b.t.Helper()
	if dir := os.Getenv(captureEnv); dir != "" {
		b.daemon(b.lan, filepath.Join(b.dir, "tcpdump.log"), nil, "tcpdump", "-i", "br0", "-U", "-w", filepath.Join(dir, strings.ReplaceAll(what, " ", "-")+".pcap"), "udp")
		await(b.t, filepath.Join(b.dir, "tcpdump.log"), "listening on", time.Minute)
	}
	console = filepath.Join(b.dir, "console.log")
	b.daemon(b.lan, console, nil, append(command, "-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
		"-accel", "tcg,thread=multi", "-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no")...)
	b.t.Cleanup(func() {
		if b.t.Failed() {
			text := read(console)
			b.t.Logf("its console ends:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return console
}

// image puts a kernel and two initial RAM disks into the servers' directory, and
// loaders into their way.
func (b *beside) image(arch cluster.Arch, profile string) {
	b.t.Helper()
	have := os.Getenv(firmwareEnv)
	if have == "" {
		b.t.Fatalf("%s is not set: make firmware-all", firmwareEnv)
	}
	b.t.Setenv(loadersEnv, filepath.Join(have, "loaders"))
	goarch, console := "amd64", "ttyS0"
	if arch == arm64 {
		goarch, console = "arm64", "ttyAMA0"
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(b.dir, "init"), "./testdata/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch)
	if out, err := build.CombinedOutput(); err != nil {
		b.t.Fatalf("build testdata/init: %v\n%s", err, out)
	}
	var image cluster.Image
	image.Arch, image.Kernel.URL = arch, filepath.Join(have, goarch, "vmlinuz")
	for i, archive := range [][]byte{cpio("init", []byte(read(filepath.Join(b.dir, "init")))), cpio("second", []byte("here"))} {
		name := filepath.Join(b.dir, fmt.Sprintf("initrd%d", i))
		if err := os.WriteFile(name, archive, 0o600); err != nil {
			b.t.Fatal(err)
		}
		image.Initrd = append(image.Initrd, cluster.File{URL: name})
	}
	text, err := json.Marshal(image)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "image.json"), bytes.Replace(text, []byte(`"name":"",`), nil, 1), 0o600)
	}
	profile = strings.Replace(profile, "{", fmt.Sprintf(`{"args": ["console=%s", "panic=-1", "test.config.url={{.ConfigURL}}"],`, console), 1)
	profile = strings.Replace(profile, ",}", "}", 1)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "profile.json"), []byte(profile), 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// cpio is an archive of one executable file, as an initial RAM disk is (newc).
func cpio(name string, content []byte) []byte {
	var b bytes.Buffer
	entry := func(name string, mode int, content []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", 0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, -b.Len()&3))
		b.Write(content)
		b.Write(make([]byte, -b.Len()&3))
	}
	entry(name, 0o100755, content)
	entry("TRAILER!!!", 0, nil)
	return b.Bytes()
}

const card = "virtio-net-pci,netdev=n0,bootindex=1,romfile=,mac=" + hostMAC

func off(names ...string) (args []string) {
	for _, name := range names {
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/"+name+",string=no")
	}
	return args
}

func (b *beside) flash(code, vars string) []string {
	copied := filepath.Join(b.dir, "vars.fd")
	text, err := os.ReadFile(vars)
	if err == nil {
		err = os.WriteFile(copied, text, 0o600)
	}
	if err != nil {
		b.t.Fatalf("%v: apt-get install ovmf ovmf-ia32 qemu-efi-aarch64", err)
	}
	return []string{"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + code, "-drive", "if=pflash,unit=1,format=raw,file=" + copied}
}

func armUEFI(without ...string) func(*beside) []string {
	return func(b *beside) []string {
		args := []string{"qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-m", "1024", "-device", card, "-device", "virtio-rng-pci"}
		return append(append(args, b.flash("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd")...), off(without...)...)
	}
}

// ia32 is 32-bit firmware of a 64-bit machine.
func ia32(b *beside) []string {
	args := []string{"qemu-system-x86_64", "-M", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on", "-m", "1024", "-device", card, "-device", "virtio-rng-pci"}
	return append(append(args, b.flash("/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF32_VARS_4M.fd")...), off("IPv6PXESupport")...)
}

func ia32HTTP(b *beside) []string { return append(ia32(b), off("IPv4PXESupport")...) }

func x64HTTP(b *beside) []string {
	args := []string{"qemu-system-x86_64", "-M", "q35", "-m", "1024", "-device", card, "-device", "virtio-rng-pci"}
	return append(append(args, b.flash("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd")...), off("IPv6PXESupport", "IPv4PXESupport")...)
}

func seaBIOS(*beside) []string {
	return []string{"qemu-system-x86_64", "-M", "pc", "-m", "1024", "-boot", "n", "-device", "virtio-net-pci,netdev=n0,bootindex=1,mac=" + hostMAC}
}

func uBootARM64(*beside) []string {
	return []string{"qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a57", "-m", "1024", "-bios", "/usr/lib/u-boot/qemu_arm64/u-boot.bin", "-device", card}
}

func uBootX86(*beside) []string {
	return []string{"qemu-system-x86_64", "-M", "pc", "-m", "1024", "-bios", "/usr/lib/u-boot/qemu-x86/u-boot.rom", "-device", "e1000,netdev=n0,romfile=,mac=" + hostMAC}
}
