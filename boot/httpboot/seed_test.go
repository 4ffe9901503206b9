package httpboot_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// TestInstance boots hosts again: cloud-init does the first boot's work at each
// boot of a live system, and once on a disk.
func TestInstance(t *testing.T) {
	for mode, perBoot := range map[cluster.BootMode]bool{"": true, cluster.BootLive: true, cluster.BootInstall: false, cluster.BootLocal: false} {
		r := newRig(t)
		host := &cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{mac1}, Profile: "p"}
		profile := &cluster.Profile{Meta: cluster.Meta{Name: "p"}, Boot: mode}
		at := time.Now()
		seeds := func(path string) string {
			snap := cluster.NewSnapshot(1, []cluster.Document{
				&cluster.Network{Meta: cluster.Meta{Name: "lan"}, CIDR: netip.MustParsePrefix("10.0.0.0/24"), DHCP: cluster.DHCPAuthoritative}, host, profile,
			})
			r.handler.Snapshot = func() *cluster.Snapshot { return snap }
			at = at.Add(time.Minute)
			for _, step := range []cluster.Step{cluster.StepDHCP, cluster.StepScript} {
				r.handler.Recorder.Record(boot.Sighting{MAC: mac1, Host: "web1", Firmware: step == cluster.StepDHCP, Event: cluster.Event{Step: step, At: at}})
			}
			w := r.do("GET", boot.SeedPath+mac1.Hyphens()+"/"+path, addr1)
			if w.Code != 200 {
				t.Fatalf("boot: %q: %d %s", mode, w.Code, w.Body)
			}
			return w.Body.String()
		}
		first := seeds("meta-data")
		profile = &cluster.Profile{Meta: profile.Meta, Boot: mode, Config: cluster.Config{CloudConfig: "#cloud-config\nx: 1\n"}}
		if again := seeds("meta-data"); (again != first) != perBoot {
			t.Errorf("boot: %q: the second boot after %s is %s", mode, first, again)
		}
		if installer := seeds(boot.InstallerFolder + "meta-data"); installer == seeds(boot.InstallerFolder+"meta-data") {
			t.Errorf("boot: %q: an installer is the same instance at each boot", mode)
		}
		before := seeds("meta-data")
		host = &cluster.Host{Meta: host.Meta, MACs: host.MACs, Profile: "p", UUID: "22345678-9abc-def0-1122-334455667788"}
		if seeds("meta-data") == before {
			t.Errorf("boot: %q: another machine is the same instance", mode)
		}
	}
}
