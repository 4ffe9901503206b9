package boot_test

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// Whatever a machine says of itself, it gets nothing that is not this server's,
// the same every time, and nothing that boots when it is to be left to its disk.
func FuzzDecide(f *testing.F) {
	f.Add("PXEClient:Arch:00007:UNDI:003016", []byte{0, 7}, []byte{}, false, uint8(0))
	f.Add("HTTPClient", []byte{0, 16}, []byte{}, false, uint8(1))
	f.Add("", []byte{}, []byte{0x13, 0x18}, true, uint8(2))
	f.Add("PXEClient", []byte{0, 11, 0, 7}, []byte{0x24}, true, uint8(3))
	targets := []cluster.Target{target(), local(), arm(), {}, {Host: target().Host}, {Host: target().Host, Profile: target().Profile}}
	policies := []boot.Policy{{Server: here, Loaders: loaders}, {Server: here}}
	f.Fuzz(func(t *testing.T, vendor string, archs, features []byte, ipxe bool, which uint8) {
		q := boot.Request{MAC: mac1, Vendor: vendor, IPXE: ipxe}
		for _, c := range []boot.Class{boot.ClassPXE, boot.ClassHTTP} {
			if strings.HasPrefix(vendor, string(c)) {
				q.Class = c
			}
		}
		for ; len(archs) >= 2; archs = archs[2:] {
			q.Archs = append(q.Archs, boot.Arch(binary.BigEndian.Uint16(archs)))
		}
		for _, b := range features {
			q.Features = append(q.Features, boot.Feature(b))
		}
		to, p := targets[int(which)%len(targets)], policies[int(which)/len(targets)%len(policies)]
		r, err := boot.Decide(q, to, p)
		again, _ := boot.Decide(q, to, p)
		switch {
		case !reflect.DeepEqual(r, again):
			t.Errorf("%+v and then %+v", r, again)
		case err != nil && (r != boot.Reply{} || !strings.Contains(err.Error(), to.Host.Name)):
			t.Errorf("%+v with %v", r, err)
		case err == nil && r.Why == "":
			t.Error("nobody says why")
		case r.Loader != "" && r.URL != "":
			t.Errorf("both %q and %q", r.Loader, r.URL)
		case !r.IsZero() && (to.Host == nil || !q.IsFirmware()):
			t.Errorf("%+v, and nothing was to be booted", r)
		case r.URL != "" && !strings.HasPrefix(r.URL, here.URL+"/") && !strings.HasPrefix(r.URL, here.TFTP("")):
			t.Errorf("%q is elsewhere", r.URL)
		case r.Loader != "" && r.Loader != boot.LeaveFile && !slices.Contains([]string{loaders[boot.BIOS], loaders[boot.X64], boot.UBootScriptFile}, r.Loader):
			t.Errorf("the loader %q is of nobody", r.Loader)
		case to.Profile != nil && to.Profile.Boot == cluster.BootLocal && r.Loader != "" && r.Loader != boot.LeaveFile:
			t.Errorf("%+v for a machine that is to be left to its disk", r)
		}
	})
}

// What a machine says of itself cannot become a line of its script.
func FuzzScript(f *testing.F) {
	f.Add("a serial\nnumber", "efi", "22345678-9abc-def0-1122-334455667788")
	f.Add("${cmdline}", "pcbios", "")
	f.Add("x\r#", "\n", "\n")
	to := target()
	to.Profile.Args = []string{"config={{.ConfigURL}}", "host={{.Host.Name}}"}
	lines := func(id cluster.Identity, platform string) []string {
		body, err := boot.Script(cluster.BootLive, to, boot.Visit{Identity: id, Address: here.Addr, Server: here, Platform: platform})
		if err != nil {
			return nil
		}
		return strings.FieldsFunc(string(body), func(r rune) bool { return r == '\n' || r == '\r' })
	}
	usual := len(lines(cluster.Identity{MAC: mac1}, "efi"))
	f.Fuzz(func(t *testing.T, serial, platform, uuid string) {
		id := cluster.Identity{MAC: mac1, Serial: serial}
		if u, err := cluster.ParseUUID(uuid); err == nil {
			id.UUID = u
		}
		got := lines(id, platform)
		if len(got) == 0 || len(got) > usual+1 || got[0] != "#!ipxe" {
			t.Errorf("%d lines, and %d usually: %q", len(got), usual, got)
		}
		for _, l := range got {
			if strings.Contains(l, "${cmdline}") && strings.Contains(serial, "${cmdline}") {
				t.Errorf("the serial number is expanded by iPXE: %q", l)
			}
		}
	})
}
