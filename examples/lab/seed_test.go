//go:build lab

package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVMSeed boots a virtual machine that is given a CD of `pilotlight userdata`, and
// nothing else: no DHCP, no metadata service. Its cloud-init has its network from the
// CD, and the rest from the server, over HTTPS; its agent joins.
func TestVMSeed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	l, m := newVM(ctx, t, "seed")
	iso := filepath.Join(l.work, "v1.iso")
	if _, err := l.server.run(ctx, nil, "userdata", "v1", "--for", "nocloud-iso", "-o", iso); err != nil {
		t.Fatal(err)
	}
	// As a disk: in QEMU's CD drive, cloud-init did not find it with Debian's kernel
	// for clouds.
	m.extra = append(m.extra, "-drive", "file="+iso+",format=raw,if=virtio,readonly=on")
	if err := l.turnOn(ctx); err != nil {
		t.Fatal(err)
	}
	l.joins(ctx, t, m)
	lt := &labTest{lab: l, ctx: ctx}
	if l.reaches(ctx, t, m, "cloud-init is done", "cloud-init status --wait") == "" {
		t.Fatal("cloud-init says nothing")
	}
	for command, want := range map[string]string{
		"cat /run/cloud-init/result.json": "DataSourceNoCloud [seed=/dev/",
		"cat /etc/motd":                   "v1: a virtual machine with a CD",
		"hostname":                        "v1",
		"stat -c %a /var/lib/cloud/instance/pilotlight-config":          "600",
		"test -e /etc/pilotlight/introduction-token || echo it is gone": "it is gone",
	} {
		if got := strings.TrimSpace(lt.on(t, m, command)); !strings.Contains(got, want) {
			t.Errorf("%s prints %q, not %q", command, got, want)
		}
	}
	out, err := l.server.run(ctx, nil, "audit", "v1")
	if err != nil || !strings.Contains(string(out), "by userdata of operator:admin") {
		t.Errorf("%s, %v", out, err)
	}
}
