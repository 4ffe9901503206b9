package boot_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
)

func installs(phase cluster.InstallPhase, booted int) cluster.Target {
	t := target()
	t.Profile = &cluster.Profile{
		Meta: cluster.Meta{Name: "disk"}, Image: "node", Boot: cluster.BootInstall,
		Install: &cluster.Installation{Device: "/dev/vda", Args: []string{"inst.dev={{.Install.Device}}", "inst.url={{.SystemConfigURL}}", "seed={{.SystemSeedURL}}"}},
	}
	t.Image = &cluster.Image{Meta: cluster.Meta{Name: "node"}, Initrd: []cluster.File{{}}, Args: []string{"url={{.ConfigURL}}", "live={{.SeedURL}}"}}
	t.Install = cluster.Install{Host: "web1", Phase: phase, Booted: booted}
	return t
}

// Each firmware is told to install while the installation stands open, and is
// left to its disk as soon as it does not.
func TestDecideInstall(t *testing.T) {
	const script = "http://10.0.0.1:8080/boot.ipxe"
	firmware := map[string]struct {
		q                     boot.Request
		loader, url           string // while it is to be installed
		leaveLoader, leaveURL string // when it is not
	}{
		"BIOS":              {boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{0}}, "undionly.kpxe", "", "", ""},
		"UEFI":              {boot.Request{Class: boot.ClassPXE, Archs: []boot.Arch{7}}, "snponly.efi", "", "boot-from-disk", ""},
		"UEFI HTTP":         {boot.Request{Class: boot.ClassHTTP, Archs: []boot.Arch{16}}, "", "http://10.0.0.1:8080/loaders/snponly.efi", "", "http://10.0.0.1:8080/loaders/boot-from-disk"},
		"iPXE":              {boot.Request{Class: boot.ClassPXE, IPXE: true}, "", script, "", script},
		"iPXE without HTTP": {boot.Request{Class: boot.ClassPXE, IPXE: true, Features: []boot.Feature{boot.FeatureBzImage}}, "", "tftp://10.0.0.1/undionly.kpxe", "", ""},
	}
	for name, f := range firmware {
		for _, row := range []struct {
			target   cluster.Target
			installs bool
		}{
			{installs("", 0), false}, // this server does not know yet
			{installs(cluster.InstallWanted, 0), true},
			{installs(cluster.InstallBegun, 1), true},
			{installs(cluster.InstallBegun, cluster.MaxInstalls), false},
			{installs(cluster.InstallFailed, cluster.MaxInstalls), false},
			{installs(cluster.InstallDone, 1), false},
		} {
			r, err := boot.Decide(f.q, row.target, boot.Policy{Server: here, Loaders: loaders})
			loader, url := f.loader, f.url
			if !row.installs {
				loader, url = f.leaveLoader, f.leaveURL
			}
			if err != nil || r.Loader != loader || r.URL != url || r.Why == "" {
				t.Errorf("%s, %q booted %d times: %+v, %v, want %q %q", name, row.target.Install.Phase, row.target.Install.Booted, r, err, loader, url)
			}
		}
	}
}

func TestScriptInstall(t *testing.T) {
	got, err := boot.Script(cluster.BootInstall, installs(cluster.InstallBegun, 2), visit)
	const who = "mac=52-54-00-12-34-56&uuid=4c4c4544-0042-3510-8051-b4c04f4d3132"
	for _, want := range []string{
		"host web1 is installed to /dev/vda (boot 2 of 3 that may try)",
		" url=http://10.0.0.1:8080/ignition?installer=1&" + who + " live=http://10.0.0.1:8080/cloud/52-54-00-12-34-56/installer/",
		" inst.dev=/dev/vda inst.url=http://10.0.0.1:8080/ignition?" + who + " seed=http://10.0.0.1:8080/cloud/52-54-00-12-34-56/ ||",
	} {
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("error %v, no %q in:\n%s", err, want, got)
		}
	}
	failed := installs(cluster.InstallFailed, cluster.MaxInstalls)
	mode, _ := boot.CourseOf(failed)
	got, err = boot.Script(mode, failed, visit)
	if err != nil || !strings.Contains(string(got), "sanboot") || strings.Contains(string(got), "kernel") || !strings.Contains(string(got), "pilotlight host reinstall web1") {
		t.Errorf("error %v, got:\n%s", err, got)
	}
}

// Before it was told everything, no server installs anything.
func TestInstalls(t *testing.T) {
	var nothing *boot.Installs
	if i := nothing.Of("web1"); i.Pending() {
		t.Errorf("%+v", i)
	}
	ctx, stop := context.WithCancel(t.Context())
	store := new(clustertest.Memory)
	s := &boot.Installs{Store: store}
	if i := s.Of("web1"); i.Pending() || i.Host != "web1" {
		t.Errorf("before it runs: %+v", i)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	becomes := func(h cluster.HostName, want cluster.InstallPhase) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); s.Of(h).Phase != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is %+v, not %s", h, s.Of(h), want)
			}
		}
	}
	becomes("web1", cluster.InstallWanted)
	begun, err := s.Change(ctx, "web1", func(i cluster.Install) cluster.Install { return i.Begin("b1", time.Now()) })
	if err != nil || begun.Phase != cluster.InstallBegun || s.Of("web1") != begun {
		t.Errorf("%+v, %v, then %+v", begun, err, s.Of("web1"))
	}
	other := &boot.Installs{Store: store} // another server
	if _, err := other.Change(ctx, "web1", func(i cluster.Install) cluster.Install { return i.Done("host", time.Now()) }); err != nil {
		t.Fatal(err)
	}
	becomes("web1", cluster.InstallDone)
	stop()
	<-done
}
