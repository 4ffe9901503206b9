//go:build lab

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// vmPackages are what the lab needs of Debian to make a virtual machine's disk.
var vmPackages = []string{"e2fsprogs", "mmdebstrap", "zstd"}

// vmTest is a virtual machine in a lab of its own.
type vmTest struct {
	*labTest
	m *machine
}

// newVM starts a server with the manifests of a directory of examples/lab and the
// lab's site, and makes a machine ready that boots from a disk of its own, as a
// hypervisor's do. There is nothing of pilotlight on the disk, and cloud-init is. Add
// to the machine's extra what else QEMU is told, and boot it.
func newVM(t *testing.T, manifests string) *vmTest {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	t.Cleanup(cancel)
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	packages = append(packages, vmPackages...)
	l := newLab(settings{root: root, dir: filepath.Join(root, "build", "lab"), memory: defaultMemory, out: t.Output()})
	m := &machine{
		name: "v1", firmware: bios, mac: "52:54:00:99:00:21", uuid: "5c0ffee0-0000-4000-8000-525400990021",
		address: "10.99.0.21", tap: "tap0",
	}
	l.machines = []*machine{m}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error("clean up:", err)
		}
		assertGone(t, l)
	})
	build := func(ctx context.Context) error {
		if err := l.buildPrograms(ctx); err != nil {
			return err
		}
		f := facts{Key: l.key.public, Digest: l.sites[0].digest, User: siteUser}
		if err := writeManifests(l.settings, manifests, l.manifests(), f); err != nil {
			return err
		}
		if err := writeSite(l.settings, filepath.Join(l.manifests(), "www.yaml"), f); err != nil {
			return err
		}
		return plugIn(ctx, l, m)
	}
	for _, step := range []func(context.Context) error{l.own, build, l.connectAll, l.serve, l.fillIn} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return &vmTest{labTest: &labTest{lab: l, ctx: ctx}, m: m}
}

// boot turns the machine on, and waits until it has joined, its cloud-init is done,
// and its site answers.
func (v *vmTest) boot(t *testing.T) {
	t.Helper()
	if err := v.turnOn(v.ctx); err != nil {
		t.Fatal(err)
	}
	v.joins(v.ctx, t, v.m)
	if v.reaches(v.ctx, t, v.m, "cloud-init is done", "cloud-init status --wait") == "" {
		t.Fatal("cloud-init says nothing")
	}
	v.serves(t)
}

// serves waits until the machine's site answers.
func (v *vmTest) serves(t *testing.T) {
	t.Helper()
	err := v.m.await(v.ctx, "its site did not answer", func(ctx context.Context) error {
		_, err := v.page(ctx, v.m, "/healthz")
		return err
	})
	if err != nil {
		t.Fatal(v.withStatus(v.ctx, v.m, err))
	}
	v.allReady(t)
}

// prints runs commands on the machine, each of which is to print a text.
func (v *vmTest) prints(t *testing.T, wants map[string]string) {
	t.Helper()
	for command, want := range wants {
		if got := strings.TrimSpace(v.on(t, v.m, command)); !strings.Contains(got, want) {
			t.Errorf("%s prints %q, not %q", command, got, want)
		}
	}
}

// plugIn gives a machine a disk of its own, and the kernel that is on it: BIOS needs
// no boot loader so.
func plugIn(ctx context.Context, l *lab, m *machine) error {
	dir, err := vmImage(ctx, l.settings, l.say)
	if err != nil {
		return err
	}
	m.disk = filepath.Join(l.work, m.name+".disk")
	if _, err := output(ctx, nil, nil, nil, "cp", "--sparse=always", "--reflink=auto", filepath.Join(dir, "disk.img"), m.disk); err != nil {
		return err
	}
	m.extra = append(m.extra, "-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd.img"),
		"-append", "root=LABEL=root rw console=ttyS0 loglevel=4 mitigations=off")
	return nil
}

// vmImage makes a virtual machine's disk, or returns the one that is there.
func vmImage(ctx context.Context, s settings, say sayer) (string, error) {
	from := filepath.Join(s.root, "examples", "lab", "vmimage")
	env := []string{"LAB_APT_SOURCE=" + os.Getenv("LAB_APT_SOURCE")}
	return artifact{
		name: "vm", inputs: []string{from}, also: env,
		make: func(dir string) error {
			say("virtual machine: a first run takes three minutes, later ones have its disk")
			return progress(ctx, say, filepath.Join(s.dir, "log", "vm-image.log"), env, filepath.Join(from, "build.sh"), dir)
		},
	}.get(s.dir)
}

// joins waits until a machine's agent has joined.
func (l *lab) joins(ctx context.Context, t *testing.T, m *machine) {
	t.Helper()
	err := m.await(ctx, "joined", func(ctx context.Context) error {
		h, err := l.server.host(ctx, m.name)
		if err == nil && h.State != "joined" && h.State != "ready" {
			err = &notYet{h.State + " " + h.Message}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

type notYet struct{ state string }

func (e *notYet) Error() string { return "the host is " + strings.TrimSpace(e.state) }

// TestVM boots a virtual machine that nobody tells about pilotlight: its address
// comes by DHCP, and the rest from the metadata service, where its cloud-init looks.
// It restarts, and is the same instance behind the same firewall.
func TestVM(t *testing.T) {
	v := newVM(t, "vm")
	v.boot(t)
	v.prints(t, map[string]string{
		"cat /run/cloud-init/result.json":      "DataSourceEc2",
		"cloud-init query subplatform":         "metadata (http://169.254.169.254)",
		"cloud-init query local_hostname":      "v1",
		"cat /etc/motd":                        "v1: a virtual machine of pilotlight's lab",
		"hostname":                             "v1",
		"ip route get 169.254.169.254":         "169.254.169.254 via 10.99.0.1",
		"cat /proc/cmdline":                    "root=LABEL=root",
		"grep -c pilotlight /proc/cmdline ||:": "0",
		// The agent is alive: there is no token for whoever else asks.
		"curl -s http://169.254.169.254/latest/user-data | grep -c THE-INTRODUCTION-TOKEN": "1",
	})
	v.firewall(t)
	const identity = "cat /proc/sys/kernel/random/boot_id; cloud-init query instance_id; sha256sum /etc/ssh/ssh_host_ed25519_key.pub"
	before := strings.Fields(v.on(t, v.m, identity))
	_ = v.reaches(v.ctx, t, v.m, "it restarts", "systemctl --no-block reboot; echo yes")
	after := before
	for len(before) < 3 || len(after) < 3 || after[0] == before[0] {
		after = strings.Fields(v.reaches(v.ctx, t, v.m, "it is up again", identity))
	}
	if before[1] != after[1] || before[2] != after[2] {
		t.Errorf("it was %v, and is %v", before, after)
	}
	v.joins(v.ctx, t, v.m)
	v.serves(t)
	v.on(t, v.m, listener)
	v.knock(t, v.m, "after a restart of the machine", true)
	v.reachesOut(t, v.m)
}

// TestVMSession boots a virtual machine that says it is one of EC2, on a network where
// sessions are required: its cloud-init asks before its network is set up, by a DHCP
// client of its own, and with a session.
func TestVMSession(t *testing.T) {
	v := newVM(t, "vm")
	const other = "ec2c0fee-0000-4000-8000-525400990021"
	text, err := os.ReadFile(filepath.Join(v.manifests(), "vm.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer("metadata: optional", "metadata: required", v.m.uuid, other).Replace(string(text))
	if err := os.WriteFile(filepath.Join(v.manifests(), "vm.yaml"), []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := v.server.run(v.ctx, nil, "apply", "-f", v.manifests()); err != nil {
		t.Fatal(err)
	}
	v.m.uuid = other
	v.m.extra = append(v.m.extra, "-smbios", "type=1,serial="+other)
	v.boot(t)
	v.prints(t, map[string]string{
		"cat /run/cloud-init/result.json": "DataSourceEc2Local",
		"curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/hostname": "401",
		"cloud-init query local_hostname": "v1",
	})
}

// reaches logs in to a machine as soon as that can be done, and returns what a script
// prints that ends well.
func (l *lab) reaches(ctx context.Context, t *testing.T, m *machine, what, script string) (out string) {
	t.Helper()
	err := m.await(ctx, what, func(ctx context.Context) error {
		r, err := connect(ctx, l.network, m.address, l.key)
		if err != nil {
			return err
		}
		defer r.close()
		out, err = r.root(ctx, script)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
