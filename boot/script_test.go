package boot_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

var visit = boot.Visit{
	Identity: cluster.Identity{MAC: mac1, UUID: "4c4c4544-0042-3510-8051-b4c04f4d3132"},
	Address:  netip.MustParseAddr("10.0.0.50"), Server: here,
}

func live() cluster.Target {
	t := target()
	t.Image = &cluster.Image{
		Meta: cluster.Meta{Name: "flatcar"}, Initrd: []cluster.File{{}, {}}, Rootfs: &cluster.File{SHA256: "abc"},
		Args: []string{"flatcar.first_boot=1", "ignition.config.url={{.ConfigURL}}", "rootfs={{.RootfsURL}}#{{.RootfsSHA256}}"},
	}
	t.Profile = &cluster.Profile{Meta: cluster.Meta{Name: "web"}, Image: "flatcar", Args: []string{
		"console={{.Variables.console}}", `{{if eq .Host.Name "other"}}debug{{end}}`, "ds=nocloud-net;s={{.SeedURL}}", "ip={{.Address}}", "from={{.Server.Secure}}",
	}}
	t.Variables = map[string]any{"console": "ttyS1,115200n8"}
	return t
}

func TestScript(t *testing.T) {
	const want = `#!ipxe

echo pilotlight: host web1 boots image flatcar, profile web
imgfree
kernel http://10.0.0.1:8080/images/flatcar/kernel initrd=initrd0 initrd=initrd1 flatcar.first_boot=1 ignition.config.url=http://10.0.0.1:8080/ignition?mac=52-54-00-12-34-56&uuid=4c4c4544-0042-3510-8051-b4c04f4d3132 rootfs=http://10.0.0.1:8080/images/flatcar/rootfs#abc console=ttyS1,115200n8 ds=nocloud-net;s=http://10.0.0.1:8080/cloud/52-54-00-12-34-56/ ip=10.0.0.50 from=https://10.0.0.1:8443 || goto failed
initrd --name initrd0 http://10.0.0.1:8080/images/flatcar/initrd/0 || goto failed
initrd --name initrd1 http://10.0.0.1:8080/images/flatcar/initrd/1 || goto failed
boot || goto failed

:failed
echo pilotlight: host web1 could not boot image flatcar
imgfree
exit 1
`
	got, err := boot.Script(cluster.BootLive, live(), visit)
	if err != nil || string(got) != want {
		t.Errorf("error %v, got:\n%s\nwant:\n%s", err, got, want)
	}
}

func TestScriptLocal(t *testing.T) {
	got, err := boot.Script(cluster.BootLocal, local(), visit)
	if err != nil || !strings.Contains(string(got), "sanboot --no-describe --drive 0x80 ||\nexit\n") {
		t.Errorf("error %v, got:\n%s", err, got)
	}
}

// Whatever happens, the script ends in another try, a reboot or an exit, and
// every chain to it says what to do when it fails.
func TestEntry(t *testing.T) {
	got := string(boot.Entry(here))
	if !strings.HasPrefix(got, "#!ipxe\n") || !strings.Contains(got, "\nreboot\n") {
		t.Errorf("got:\n%s", got)
	}
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "chain ") && !strings.Contains(line, "|| ") && !strings.HasSuffix(line, "||\n") {
			t.Errorf("nothing is said of when this fails: %s", line)
		}
		for _, word := range []string{"inc ", "iflinkwait", "prompt", "shell"} {
			if strings.HasPrefix(line, word) {
				t.Errorf("old ROMs do not know, or a machine hangs in: %s", line)
			}
		}
	}
}

func TestScriptRefuses(t *testing.T) {
	for _, row := range []struct {
		what   string
		change func(*cluster.Target)
		want   string
	}{
		{"a variable that is not set", func(t *cluster.Target) { t.Variables = map[string]any{} }, `profile web: args[0]: "console={{.Variables.console}}": variable "console" is not set: write variables: {console: ...} in profile web or host web1`},
		{"what is no template", func(t *cluster.Target) { t.Profile.Args = []string{"{{"} }, `profile web: args[0]: "{{": unclosed action: correct the {{ ... }} there`},
		{"a line's end in a variable", func(t *cluster.Target) { t.Variables["console"] = "x\nsanboot http://evil" }, "holds a control character"},
		{"a line's end in an argument", func(t *cluster.Target) { t.Image.Args = []string{"a\r\nb"} }, "image flatcar: args[0]: \"a\\r\\nb\": it holds a control character"},
		{"two at once", func(t *cluster.Target) { t.Image.Args, t.Profile.Args = []string{"{{.Nope}}"}, []string{"{{"} }, `can't evaluate field Nope in type boot.Facts: correct the {{ ... }} there; profile web: args[0]`},
		{"more than a kernel reads", func(t *cluster.Target) { t.Profile.Args = []string{strings.Repeat("x", 2048)} }, "a kernel reads only 2047"},
		{"no image", func(t *cluster.Target) { t.Image = nil }, "names none"},
	} {
		t.Run(row.what, func(t *testing.T) {
			target := live()
			row.change(&target)
			_, err := boot.Script(cluster.BootLive, target, visit)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
}
