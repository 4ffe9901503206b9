//go:build lab

package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestVMSeed boots a virtual machine that is given a CD of `pilotlight userdata`, and
// nothing else: no DHCP, no metadata service. Its cloud-init has its network from the
// CD, and the rest from the server, over HTTPS; its agent joins.
func TestVMSeed(t *testing.T) {
	v := newVM(t, "seed")
	iso := filepath.Join(v.work, "v1.iso")
	if _, err := v.server.run(v.ctx, nil, "userdata", "v1", "--for", "nocloud-iso", "-o", iso); err != nil {
		t.Fatal(err)
	}
	// As a disk: in QEMU's CD drive, cloud-init did not find it with Debian's kernel
	// for clouds.
	v.m.extra = append(v.m.extra, "-drive", "file="+iso+",format=raw,if=virtio,readonly=on")
	v.boot(t)
	v.prints(t, map[string]string{
		"cat /run/cloud-init/result.json": "DataSourceNoCloud [seed=/dev/",
		"cat /etc/motd":                   "v1: a virtual machine with a CD",
		"hostname":                        "v1",
		"stat -c %a /var/lib/cloud/instance/pilotlight-config":          "600",
		"test -e /etc/pilotlight/introduction-token || echo it is gone": "it is gone",
	})
	out, err := v.server.run(v.ctx, nil, "audit", "v1")
	if err != nil || !strings.Contains(string(out), "by userdata of operator:admin") {
		t.Errorf("%s, %v", out, err)
	}
}
