package boot_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

var update = flag.Bool("update", false, "write the golden files anew")

// system is a host of an image of a stream, of a profile that says no argument.
func system(os cluster.OS, arch cluster.Arch, mode cluster.BootMode) cluster.Target {
	t := target()
	t.Image = &cluster.Image{Meta: cluster.Meta{Name: "os"}, Stream: string(os) + "/stable", Arch: arch, Initrd: []cluster.File{{}}}
	if os == cluster.FedoraCoreOS {
		t.Image.Rootfs = &cluster.File{}
	}
	t.Profile = &cluster.Profile{Meta: cluster.Meta{Name: "db"}, Image: "os", Boot: mode}
	if mode == cluster.BootInstall {
		t.Profile.Install = &cluster.Installation{Device: "/dev/sda"}
		t.Install = cluster.Install{Phase: cluster.InstallBegun, Booted: 1}
	}
	return t
}

// TestKnownArgs: what each system boots with, live, installing and installed, by
// every loader.
func TestKnownArgs(t *testing.T) {
	var got strings.Builder
	for _, os := range []cluster.OS{cluster.FedoraCoreOS, cluster.Flatcar} {
		for _, arch := range []cluster.Arch{cluster.X86_64, cluster.AArch64} {
			for _, c := range []struct {
				name   string
				mode   cluster.BootMode
				served cluster.BootMode
			}{{"live", cluster.BootLive, cluster.BootLive}, {"install", cluster.BootInstall, cluster.BootInstall}, {"installed", cluster.BootInstall, cluster.BootLocal}} {
				to := system(os, arch, c.mode)
				if c.name == "installed" {
					to.Install.Phase = cluster.InstallDone
				}
				fmt.Fprintf(&got, "== %s, %s, %s\n", os, arch, c.name)
				if c.served != cluster.BootLocal {
					args, err := boot.Args(c.served, to, visit)
					if err != nil {
						t.Fatal(err)
					}
					got.WriteString(strings.Join(args, "\n") + "\n")
				}
				for _, loader := range []struct {
					name   string
					script func(cluster.BootMode, cluster.Target, boot.Visit) ([]byte, error)
				}{{"iPXE", boot.Script}, {"GRUB", boot.GRUBScript}} {
					text, err := loader.script(c.served, to, visit)
					if err != nil {
						t.Fatal(err)
					}
					fmt.Fprintf(&got, "-- by %s\n%s", loader.name, text)
				}
			}
		}
	}
	const golden = "testdata/systems.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}

// TestKnownArgsOverruled: what the operator writes counts, wherever it is written.
func TestKnownArgsOverruled(t *testing.T) {
	to := system(cluster.FedoraCoreOS, cluster.X86_64, cluster.BootInstall)
	to.Image.Args = []string{"ignition.platform.id=qemu"}
	to.Profile.Args = []string{"console=ttyS0", "console=tty0"}
	to.Profile.Install.Args = []string{"coreos.inst.ignition_url={{ .SystemConfigURL }}#x", "coreos.inst.insecure"}
	got, err := boot.Args(cluster.BootInstall, to, visit)
	want := []string{
		"coreos.live.rootfs_url=http://10.0.0.1:8080/images/os/rootfs", "ignition.firstboot",
		"ignition.config.url=http://10.0.0.1:8080/ignition?installer=1&mac=52-54-00-12-34-56&uuid=4c4c4544-0042-3510-8051-b4c04f4d3132",
		"coreos.inst.install_dev=/dev/sda",
		"ignition.platform.id=qemu", "console=ttyS0", "console=tty0",
		"coreos.inst.ignition_url=http://10.0.0.1:8080/ignition?mac=52-54-00-12-34-56&uuid=4c4c4544-0042-3510-8051-b4c04f4d3132#x", "coreos.inst.insecure",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	to = system(cluster.Flatcar, cluster.X86_64, cluster.BootLive)
	to.Profile.Config.CloudConfig = "#cloud-config\n"
	got, err = boot.Args(cluster.BootLive, to, visit)
	want = []string{"flatcar.first_boot=1", "cloud-config-url=http://10.0.0.1:8080/cloud-config?mac=52-54-00-12-34-56&uuid=4c4c4544-0042-3510-8051-b4c04f4d3132"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// TestTextArgs: another system's installer is told where its text is.
func TestTextArgs(t *testing.T) {
	to := system("", cluster.X86_64, cluster.BootInstall)
	to.Image.Stream = ""
	to.Profile.Install.Args = []string{"auto=true", "url={{ .TextURL }}", "setup={{ .SetupURL }}"}
	got, err := boot.Args(cluster.BootInstall, to, visit)
	who := "mac=52-54-00-12-34-56&uuid=4c4c4544-0042-3510-8051-b4c04f4d3132"
	want := []string{"auto=true", "url=http://10.0.0.1:8080/text?installer=1&" + who, "setup=http://10.0.0.1:8080/setup?installer=1&" + who}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	to.Profile.Boot = cluster.BootLive
	to.Profile.Args = []string{"inst.ks={{ .TextURL }}"}
	got, err = boot.Args(cluster.BootLive, to, visit)
	if diff := cmp.Diff([]string{"inst.ks=http://10.0.0.1:8080/text?" + who}, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}
