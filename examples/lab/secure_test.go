//go:build lab

package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSecureBoot boots a machine that starts nothing unsigned, by Debian's signed
// shim, GRUB and kernel, to a host that serves its site.
func TestSecureBoot(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	packages = append(packages, "shim-signed", "grub-efi-amd64-signed")
	l := newLab(settings{root: root, dir: filepath.Join(root, "build", "lab"), memory: defaultMemory, out: t.Output()})
	l.machines, l.loader = l.machines[1:], "grub"
	m := l.machines[0]
	m.firmware = secure
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error("clean up:", err)
		}
	})
	for _, step := range []func(context.Context) error{l.own, l.buildAll, l.connectAll, l.serve, l.fillIn, l.turnOn, l.waitReady} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	lt := &labTest{lab: l, ctx: ctx}
	lt.timelines(t)
	b, err := l.server.lastBoot(ctx, m.name)
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, e := range b.Events {
		steps = append(steps, e.Step+" "+e.Detail)
	}
	for _, want := range []string{"loader tftp shimx64.efi", "loader tftp grubx64.efi", "by GRUB", "kernel node", "join", "ready"} {
		if all := strings.Join(steps, "\n"); !strings.Contains(all, want) {
			t.Errorf("no %q in its boot:\n%s", want, all)
		}
	}
	// The last byte of the variable says it (UEFI 2.10, section 3.3).
	got := lt.on(t, m, `mountpoint -q /sys/firmware/efi/efivars || mount -t efivarfs efivarfs /sys/firmware/efi/efivars
od -An -t u1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c`)
	if !strings.HasSuffix(got, " 1") {
		t.Errorf("its SecureBoot variable is %q", got)
	}
	if page, err := l.page(ctx, m, "/"); err != nil || !strings.Contains(page, l.fingerprint()) {
		t.Errorf("its page: %v", err)
	}
}
