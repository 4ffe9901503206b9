package boot_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

func TestGRUBScript(t *testing.T) {
	const want = `echo 'pilotlight: host web1 boots image flatcar, profile web, mode live'
linux (tftp)/images/flatcar/kernel 'flatcar.first_boot=1' 'ignition.config.url=http://10.0.0.1:8080/ignition?mac=52-54-00-12-34-56&uuid=4c4c4544-0042-3510-8051-b4c04f4d3132' 'rootfs=http://10.0.0.1:8080/images/flatcar/rootfs#abc' 'console=ttyS1,115200n8' 'ds=nocloud-net;s=http://10.0.0.1:8080/cloud/52-54-00-12-34-56/' 'ip=10.0.0.50' 'from=https://10.0.0.1:8443'
initrd (tftp)/images/flatcar/initrd/0 (tftp)/images/flatcar/initrd/1
boot
`
	got, err := boot.GRUBScript(cluster.BootLive, live(), visit)
	if err != nil || string(got) != want {
		t.Errorf("error %v, got:\n%s\nwant:\n%s", err, got, want)
	}
	web := visit
	web.Server = boot.ServerAt(netip.MustParseAddr("10.0.0.1"), 80, 443)
	got, err = boot.GRUBScript(cluster.BootLive, live(), web)
	if err != nil || !strings.Contains(string(got), "linux (tftp)/images/flatcar/kernel ") {
		t.Errorf("from port 80, by TFTP all the same: error %v, got:\n%s", err, got)
	}
	quoted := live()
	quoted.Variables["console"] = "it's;$x"
	if got, err = boot.GRUBScript(cluster.BootLive, quoted, visit); err != nil || !strings.Contains(string(got), `'console=it'\''s;$x'`) {
		t.Errorf("error %v, got:\n%s", err, got)
	}
	if got, err = boot.GRUBScript(cluster.BootLocal, local(), visit); err != nil || !strings.HasSuffix(string(got), "\nreboot\n") || strings.Contains(string(got), "linux") {
		t.Errorf("error %v, got:\n%s", err, got)
	}
}

func TestDecideSigned(t *testing.T) {
	target := target()
	target.Profile = &cluster.Profile{Meta: cluster.Meta{Name: "web"}, Image: "node", Loader: cluster.LoaderGRUB}
	policy := boot.Policy{Server: here, Loaders: boot.Loaders{boot.BIOS: "undionly.kpxe", boot.X64: "snponly.efi", boot.X64GRUB: "shimx64.efi"}}
	for what, row := range map[string]struct {
		q           boot.Request
		loader, err string
	}{
		"UEFI":      {boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{7}}, "shimx64.efi", ""},
		"BIOS":      {boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{0}}, "undionly.kpxe", ""},
		"UEFI HTTP": {boot.Request{Class: boot.ClassHTTP, Archs: []boot.Arch{16}}, "", "put one of grubx64-http.efi"},
	} {
		r, err := boot.Decide(row.q, target, policy)
		if r.Loader != row.loader || (err != nil) != (row.err != "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	policy.Loaders[boot.X64GRUBHTTP] = "grubx64-http.efi"
	if r, err := boot.Decide(boot.Request{Class: boot.ClassHTTP, Archs: []boot.Arch{16}}, target, policy); err != nil || r.URL != "http://10.0.0.1:8080/loaders/grubx64-http.efi" {
		t.Errorf("HTTP Boot with a GRUB for it: %+v, %v", r, err)
	}
	delete(policy.Loaders, boot.X64GRUB)
	if _, err := boot.Decide(boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{7}}, target, policy); err == nil || !strings.Contains(err.Error(), "put one of shimx64.efi") {
		t.Errorf("without a shim: %v", err)
	}
}
