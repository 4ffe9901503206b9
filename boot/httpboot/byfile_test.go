package httpboot_test

import (
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
)

func TestFile(t *testing.T) {
	r := newRig(t)
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
	if s := strings.Join(steps, ", "); s != "script profile web, live, by GRUB, kernel node, initrd node 1" {
		t.Errorf("the timeline is %s", s)
	}
}

// By whatever name a file is asked for, it is one of the files there are, or the
// machine's own script.
func FuzzFile(f *testing.F) {
	r := newRig(f)
	r.handler.Logger = nil
	for _, s := range []string{"grub/grub.cfg", "grub/machine.cfg", "images/node/kernel", "images/node/initrd/0", "images/node/initrd/-1", "images/../node/kernel", "images/node/initrd/18446744073709551616", "images//"} {
		f.Add(s)
	}
	at := boot.ServerAt(netip.MustParseAddr("10.0.0.1"), 8080, 8443)
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
		if s := string(body); s != "the kernel" && s != "first" && s != "second" && name != boot.GRUBEntryPath {
			t.Errorf("%q is %q", name, s)
		}
	})
}
