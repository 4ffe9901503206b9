package httpboot_test

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
)

// installing is a rig with a host that is to be installed, and a way to boot it
// from power-on to its script.
func installing(t *testing.T) (r *rig, boots func() string, change func(func(cluster.Install) cluster.Install)) {
	r = newRig(t)
	snap := cluster.NewSnapshot(1, []cluster.Document{
		&cluster.Network{Meta: cluster.Meta{Name: "lan"}, CIDR: netip.MustParsePrefix("10.0.0.0/24"), DHCP: cluster.DHCPAuthoritative},
		&cluster.Image{Meta: cluster.Meta{Name: "node"}, Kernel: cluster.File{URL: "kernel"}, Args: []string{"config={{.ConfigURL}}"}},
		&cluster.Profile{Meta: cluster.Meta{Name: "disk"}, Image: "node", Boot: cluster.BootInstall, Install: &cluster.Installation{Device: "/dev/vda"}},
		&cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{mac1}, Profile: "disk"},
	})
	r.handler.Snapshot = func() *cluster.Snapshot { return snap }
	r.handler.Installs = &boot.Installs{Store: new(clustertest.Memory)}
	at := time.Now()
	boots = func() string {
		at = at.Add(time.Minute)
		r.handler.Recorder.Record(boot.Sighting{MAC: mac1, Host: "web1", Firmware: true, Event: cluster.Event{Step: cluster.StepDHCP, At: at}})
		var body string
		for range 2 { // iPXE asks again when a download fails
			w := r.do("GET", "/ipxe?mac="+mac1.Hyphens(), addr1)
			if w.Code != 200 {
				return w.Body.String()
			}
			body = w.Body.String()
		}
		return body
	}
	change = func(next func(cluster.Install) cluster.Install) {
		t.Helper()
		if _, err := r.handler.Installs.Change(t.Context(), "web1", next); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { stop(); <-done })
	if got := boots(); !strings.Contains(got, "is not known yet") {
		t.Errorf("before the server knows where installations stand: %s", got)
	}
	go func() { defer close(done); r.handler.Installs.Run(ctx) }()
	for r.handler.Installs.Of("web1").Phase == "" {
		time.Sleep(time.Millisecond)
	}
	return r, boots, change
}

const (
	runsInstaller = "config=http://10.0.0.1:8080/ignition?installer=1"
	leavesToDisk  = "is left to its disk"
)

func TestInstallOnce(t *testing.T) {
	r, boots, change := installing(t)
	r.do("HEAD", "/ipxe?mac="+mac1.Hyphens(), addr1)
	if w := r.do("GET", "/ignition?installer=1&mac="+mac1.Hyphens(), addr1); w.Code != 503 || !strings.Contains(w.Body.String(), "asks as an installer, which it is not to run") {
		t.Errorf("before it was booted: %d %s", w.Code, w.Body)
	}
	if got := boots(); !strings.Contains(got, runsInstaller) || !strings.Contains(got, "boot 1 of 3") {
		t.Errorf("the first boot: %s", got)
	}
	for _, path := range []string{"/ignition?installer=1&mac=" + mac1.Hyphens(), "/ignition?mac=" + mac1.Hyphens()} {
		if w := r.do("GET", path, addr1); w.Code != 200 || r.configs.last.Installer != strings.Contains(path, "installer") {
			t.Errorf("%s: %d, made for %+v", path, w.Code, r.configs.last)
		}
	}
	for _, file := range []string{"user-data", "meta-data"} {
		if w := r.do("GET", "/cloud/"+mac1.Hyphens()+"/installer/"+file, addr1); w.Code != 200 {
			t.Errorf("%s: %d %s", file, w.Code, w.Body)
		}
	}
	change(func(i cluster.Install) cluster.Install { return i.Done("10.0.0.51", time.Now()) })
	if w := r.do("GET", "/loaders/snponly.efi", addr1); w.Code != 404 || !strings.Contains(w.Body.String(), "boots from the local disk") {
		t.Errorf("its loader once it is installed: %d %s", w.Code, w.Body)
	}
	if w := r.do("GET", "/loaders/snponly.efi", addr2); w.Code != 200 {
		t.Errorf("another machine's loader: %d", w.Code)
	}
	for range 5 {
		if got := boots(); !strings.Contains(got, leavesToDisk) || strings.Contains(got, "kernel") {
			t.Errorf("once it is installed: %s", got)
		}
	}
	if w := r.do("GET", "/ignition?installer=1&mac="+mac1.Hyphens(), addr1); w.Code != 503 {
		t.Errorf("an installer's config once it is installed: %d", w.Code)
	}
	change(func(i cluster.Install) cluster.Install { return cluster.Install{Phase: cluster.InstallWanted} })
	if got := boots(); !strings.Contains(got, runsInstaller) || !strings.Contains(got, "boot 1 of 3") {
		t.Errorf("when it is wanted again: %s", got)
	}
}

// An installer that never says that it is done is booted three times, and then
// never again.
func TestInstallLoopEnds(t *testing.T) {
	_, boots, _ := installing(t)
	ran := 0
	for range 10 {
		if strings.Contains(boots(), runsInstaller) {
			ran++
		}
	}
	if got := boots(); ran != cluster.MaxInstalls || !strings.Contains(got, leavesToDisk) || !strings.Contains(got, "pilotlight host reinstall web1") {
		t.Errorf("the installer was booted %d times; then: %s", ran, got)
	}
}

// The same by each way that TFTP has: three boots that run the installer, each of
// which may ask more than once, with all that it fetches; and then never again.
func TestInstallLoopEndsByTFTP(t *testing.T) {
	for what, row := range map[string]struct{ config, then, runs string }{
		"GRUB":         {"grub/machine.cfg", "images/node/kernel", runsInstaller},
		"U-Boot":       {"pxelinux.cfg/01-52-54-00-00-00-01", "images/node/kernel", runsInstaller},
		"Raspberry Pi": {"9ffefdef/config.txt", "9ffefdef/pilotlight/kernel", "kernel=pilotlight/kernel"},
	} {
		t.Run(what, func(t *testing.T) {
			r, _, _ := installing(t)
			at, now, ran := boot.ServerAt(netip.MustParseAddr("10.0.0.1"), 8080, 8443), time.Now(), 0
			get := func(name string) string { // as TFTP does
				if why, left := r.handler.Left(addr1, name); left {
					return "left: " + why
				}
				f, err := r.handler.File(t.Context(), addr1, at, name)
				if err != nil {
					return err.Error()
				}
				defer f.Close()
				b, err := io.ReadAll(f)
				if err != nil {
					t.Error(err)
				}
				return string(b)
			}
			for range 10 {
				now = now.Add(time.Hour)
				r.handler.Recorder.Record(boot.Sighting{MAC: mac1, Host: "web1", Firmware: true, Event: cluster.Event{Step: cluster.StepDHCP, At: now}})
				first := get(row.config)
				if again := get(row.config); strings.Contains(first, row.runs) && again != first {
					t.Errorf("asked again in the same boot:\n%s\nthen:\n%s", first, again)
				}
				if !strings.Contains(first, row.runs) {
					if got := get(row.then); !strings.HasPrefix(got, "left: host web1") {
						t.Errorf("a kernel when it is left to its disk: %s", got)
					}
					continue
				}
				ran++
				if got := get(row.then); got != "the kernel" {
					t.Errorf("boot %d: %s", ran, got)
				}
				if got := get("9ffefdef/cmdline.txt"); what == "Raspberry Pi" && !strings.Contains(got, runsInstaller) {
					t.Errorf("boot %d: its arguments are %s", ran, got)
				}
			}
			if ran != cluster.MaxInstalls {
				t.Errorf("the installer was booted %d times", ran)
			}
			if got := get(row.config); strings.Contains(got, runsInstaller) || !strings.Contains(got, "disk") && !strings.Contains(got, "DISK") && !strings.Contains(got, "LOCALBOOT") {
				t.Errorf("then: %s", got)
			}
		})
	}
}
