package boot_test

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

func TestPXELINUXScript(t *testing.T) {
	const want = `DEFAULT pilotlight
PROMPT 0
NOESCAPE 1
TOTALTIMEOUT 600
ONTIMEOUT pilotlight
# host web1 boots image flatcar, profile web, mode live
LABEL pilotlight
  LINUX images/flatcar/kernel
  INITRD images/flatcar/initrd
  FDT images/flatcar/fdt
  APPEND flatcar.first_boot=1 ignition.config.url=http://10.0.0.1:8080/ignition?mac=52-54-00-12-34-56&uuid=4c4c4544-0042-3510-8051-b4c04f4d3132 rootfs=http://10.0.0.1:8080/images/flatcar/rootfs#abc console=ttyS1,115200n8 ds=nocloud-net;s=http://10.0.0.1:8080/cloud/52-54-00-12-34-56/ ip=10.0.0.50 from=https://10.0.0.1:8443
`
	with := live()
	with.Image.FDT = &cluster.File{}
	got, err := boot.PXELINUXScript(cluster.BootLive, with, visit)
	if err != nil || string(got) != want {
		t.Errorf("error %v, got:\n%s\nwant:\n%s", err, got, want)
	}
	got, err = boot.PXELINUXScript(cluster.BootLive, target(), visit)
	if err != nil || strings.Contains(string(got), "INITRD") || strings.Contains(string(got), "FDT") || strings.Contains(string(got), "APPEND") {
		t.Errorf("an image that is a kernel only: error %v, got:\n%s", err, got)
	}
	got, err = boot.PXELINUXScript(cluster.BootLocal, local(), visit)
	if err != nil || !strings.HasSuffix(string(got), "LABEL pilotlight\n  LOCALBOOT 0\n") || strings.Contains(string(got), "LINUX") {
		t.Errorf("left to its disk: error %v, got:\n%s", err, got)
	}
	if _, err = boot.PXELINUXScript(cluster.BootLive, cluster.Target{Host: target().Host, Profile: target().Profile}, visit); err == nil {
		t.Error("without an image there is no error")
	}
}

func TestIsPXELINUXConfig(t *testing.T) {
	for name, want := range map[string]bool{
		"pxelinux.cfg/01-52-54-00-12-34-56": true, "pxelinux.cfg/default": true, "pxelinux.cfg/0A000032": true, "there/pxelinux.cfg/default": true,
		"pxelinux.cfg": false, "pxelinux.0": false, "pxelinux.cfg/a/b": false, "images/node/kernel": false, "": false,
	} {
		if got := boot.IsPXELINUXConfig(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}

// The script is a legacy image with both its sums right.
func TestUBootScript(t *testing.T) {
	b := boot.UBootScript()
	header := append([]byte(nil), b[:64]...)
	copy(header[4:8], []byte{0, 0, 0, 0})
	if binary.BigEndian.Uint32(b) != 0x27051956 || binary.BigEndian.Uint32(b[4:]) != crc32.ChecksumIEEE(header) {
		t.Errorf("its header: %x", b[:64])
	}
	data := b[64:]
	if int(binary.BigEndian.Uint32(b[12:])) != len(data) || binary.BigEndian.Uint32(b[24:]) != crc32.ChecksumIEEE(data) || b[30] != 6 {
		t.Errorf("its data: %x", data)
	}
	if n := binary.BigEndian.Uint32(data); !strings.HasSuffix(string(data[8:8+n]), "\npxe get && pxe boot\n") || len(data) != int(8+n) {
		t.Errorf("its text: %q", data)
	}
}

func TestAutoexec(t *testing.T) {
	got := string(boot.Autoexec(here))
	entry := string(boot.Entry(here))
	if !strings.HasPrefix(got, "#!ipxe\n\ndhcp && goto up ||\n") || strings.Count(got, "#!ipxe") != 1 || !strings.HasSuffix(got, strings.TrimPrefix(entry, "#!ipxe\n\n")) {
		t.Errorf("got:\n%s", got)
	}
}

func TestPi(t *testing.T) {
	for name, want := range map[string]string{
		"9ffefdef/start4.elf": "start4.elf", "dc-a6-32-01-36-c2/config.txt": "config.txt", "9ffefdef/overlays/a.dtbo": "overlays/a.dtbo",
	} {
		if got, own := boot.PiFile(name); got != want || !own {
			t.Errorf("%s: %s, %t", name, got, own)
		}
	}
	for _, name := range []string{"start4.elf", "9FFEFDEF/x", "images/node/kernel", "9ffefdef"} {
		if got, own := boot.PiFile(name); got != name || own {
			t.Errorf("%s: %s, %t", name, got, own)
		}
	}
	with := live()
	with.Image.FDT = &cluster.File{}
	got, err := boot.PiConfig(with, []byte("dtoverlay=disable-bt"))
	if want := "dtoverlay=disable-bt\n[all]\n# host web1 boots image flatcar\narm_64bit=1\nkernel=pilotlight/kernel\ninitramfs pilotlight/initrd followkernel\ndevice_tree=pilotlight/fdt\n"; err != nil || string(got) != want {
		t.Errorf("error %v, got:\n%s", err, got)
	}
	if got, err = boot.PiArgs(cluster.BootLive, live(), visit); err != nil || !strings.HasPrefix(string(got), "flatcar.first_boot=1 ignition.config.url=http://") || strings.Count(string(got), "\n") != 1 {
		t.Errorf("error %v, got:\n%s", err, got)
	}
}
