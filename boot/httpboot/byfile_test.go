package httpboot_test

import (
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pilotlight/pilotlight/boot"
)

func TestFile(t *testing.T) {
	r := newRig(t)
	r.handler.Loaders = fstest.MapFS{"snponly.efi": {}, "rpi/config.txt": {Data: []byte("gpu_mem=16\n")}, "rpi/start4.elf": {Data: []byte("the firmware")}}
	at := boot.ServerAt(netip.MustParseAddr("10.0.0.1"), 8080, 8443)
	for _, row := range []struct {
		what, name string
		from       netip.Addr
		body, err  string // part of the one or the other
	}{
		{"the entry is for everybody", "grub/grub.cfg", netip.MustParseAddr("192.168.1.9"), "source (tftp)/grub/machine.cfg", ""},
		{"a machine's own", "grub/machine.cfg", addr1, "'config=http://10.0.0.1:8080/ignition?mac=52-54-00-00-00-01'", ""},
		{"of an address that is lent to nobody", "grub/machine.cfg", netip.MustParseAddr("10.0.0.99"), "", "is lent to nobody"},
		{"a template that cannot be filled in", "grub/machine.cfg", addr2, "", "profile broken: args[0]"},
		{"a kernel", "images/node/kernel", addr1, "the kernel", ""},
		{"an initial RAM disk", "images/node/initrd/1", addr1, "second", ""},
		{"one that is not there", "images/node/initrd/2", addr1, "", fs.ErrNotExist.Error()},
		{"a number that is none", "images/node/initrd/-1", addr1, "", fs.ErrNotExist.Error()},
		{"what an image has not", "images/node/passwd", addr1, "", fs.ErrNotExist.Error()},
		{"an image that is not there", "images/none/kernel", addr1, "", fs.ErrNotExist.Error()},
		{"an image that is being fetched", "images/far/kernel", addr1, "", "not ready"},
		{"all initial RAM disks, one behind the other", "images/node/initrd", addr1, "first\x00\x00\x00second", ""},
		{"all of an image that has none", "images/far/initrd", addr1, "", fs.ErrNotExist.Error()},
		{"a device tree that there is not", "images/node/fdt", addr1, "", fs.ErrNotExist.Error()},
		{"PXELINUX by its hardware address", "pxelinux.cfg/01-52-54-00-00-00-01", addr1, "APPEND config=http://10.0.0.1:8080/ignition?mac=52-54-00-00-00-01", ""},
		{"PXELINUX by its UUID, first", "pxelinux.cfg/22345678-9abc-def0-1122-334455667788", addr1, "LINUX images/node/kernel", ""},
		{"PXELINUX of an address that is lent to nobody", "pxelinux.cfg/default", netip.MustParseAddr("10.0.0.99"), "", "is lent to nobody"},
		{"a kernel, from the folder that PXELINUX came from", "there/images/node/kernel", addr1, "the kernel", ""},
		{"U-Boot's script", "boot.scr.uimg", addr1, "pxe get && pxe boot", ""},
		{"iPXE's script beside itself", "x86_64-sb/autoexec.ipxe", addr1, "set script http://10.0.0.1:8080/ipxe?mac=", ""},
		{"a Pi's config, the operator's in front", "9ffefdef/config.txt", addr1, "gpu_mem=16\n[all]\n# host web1 boots image node\n", ""},
		{"a Pi's arguments", "9ffefdef/cmdline.txt", addr1, "config=http://10.0.0.1:8080/ignition?mac=52-54-00-00-00-01\n", ""},
		{"a Pi's kernel", "9ffefdef/pilotlight/kernel", addr1, "the kernel", ""},
		{"a Pi's initial RAM disks, by its address", "dc-a6-32-01-36-c2/pilotlight/initrd", addr1, "first\x00\x00\x00second", ""},
		{"a Pi's firmware", "9ffefdef/start4.elf", addr1, "the firmware", ""},
		{"a Pi's firmware without its folder", "start4.elf", addr1, "the firmware", ""},
		{"what a Pi looks for and does without", "9ffefdef/recovery.elf", addr1, "", fs.ErrNotExist.Error()},
		{"a way out of a Pi's folder", "9ffefdef/../snponly.efi", addr1, "", fs.ErrNotExist.Error()},
		{"anything else", "snponly.efi", addr1, "", fs.ErrNotExist.Error()},
	} {
		t.Run(row.what, func(t *testing.T) {
			f, err := r.handler.File(t.Context(), row.from, at, row.name)
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) || (row.err == fs.ErrNotExist.Error()) != errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b, err := io.ReadAll(f)
			info, _ := f.Stat()
			if err != nil || !strings.Contains(string(b), row.body) || info.Size() != int64(len(b)) || !info.Mode().IsRegular() {
				t.Errorf("%v, %d of %d bytes: %s", err, len(b), info.Size(), b)
			}
		})
	}
	b, _ := r.handler.Recorder.Current(mac1)
	var steps []string
	for _, e := range b.Events {
		steps = append(steps, string(e.Step)+" "+e.Detail)
	}
	if s := strings.Join(steps, ", "); s != "script profile web, live, by GRUB, kernel node, initrd node 1, initrd node, "+
		"script profile web, live, by pxelinux.cfg, script profile web, live, by Raspberry Pi" {
		t.Errorf("the timeline is %s", s)
	}
}

// By whatever name a file is asked for, it is one of the files there are, or the
// machine's own script.
func FuzzFile(f *testing.F) {
	r := newRig(f)
	r.handler.Logger = nil
	for _, s := range []string{"grub/grub.cfg", "grub/machine.cfg", "images/node/kernel", "images/node/initrd", "images/node/initrd/0", "images/node/initrd/-1", "images/../node/kernel", "images/node/initrd/18446744073709551616", "images//"} {
		f.Add(s)
	}
	at := boot.ServerAt(netip.MustParseAddr("10.0.0.1"), 8080, 8443)
	files := []string{"the kernel", "first", "second", "first\x00\x00\x00second"} // the last is the RAM disks as one, for who takes one
	f.Fuzz(func(t *testing.T, name string) {
		file, err := r.handler.File(t.Context(), addr2, at, name) // web2, whose script cannot be made
		if err != nil {
			return
		}
		defer file.Close()
		body, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		if s := string(body); !slices.Contains(files, s) && name != boot.GRUBEntryPath {
			t.Errorf("%q is %q", name, s)
		}
	})
}
