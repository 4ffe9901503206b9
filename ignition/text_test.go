package ignition

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

func TestText(t *testing.T) {
	in := testInput(cluster.Config{Text: "d-i netcfg/get_hostname string {{ .Host.Name }}\nlate {{ .SetupURL }} {{ .Variables.port }}\n"})
	in.SetupURL = "http://10.0.0.1:8080/setup?mac=x&installer=1"
	c := mustCompile(t, in)
	got, err := c.Text()
	if want := "d-i netcfg/get_hostname string web1\nlate http://10.0.0.1:8080/setup?mac=x&installer=1 10000000\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	other := in
	other.SetupURL += "2"
	var cache Cache
	for _, one := range []Input{in, other} {
		c, err := cache.Compile(one)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Text(); err != nil || !strings.Contains(string(got), one.SetupURL+" ") {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := mustCompile(t, testInput(cluster.Config{})).Text(); !errors.Is(err, ErrNoConfig) {
		t.Error(err)
	}
	_, err = Compile(testInput(cluster.Config{Text: "a\n{{ .Variables.none }}\n"}))
	if bad := new(Error); !errors.As(err, &bad) || bad.Problems[0].Line != 2 || !strings.Contains(err.Error(), `variable "none" is not set`) {
		t.Error(err)
	}
}

func TestSetupRefuses(t *testing.T) {
	in := testInput(cluster.Config{})
	if _, err := Setup(in, "short", nil); !errors.Is(err, ErrToken) {
		t.Error(err)
	}
	if _, err := Setup(in, testToken, &Said{Token: "'; evil", URL: "https://x"}); !errors.Is(err, ErrToken) {
		t.Error(err)
	}
}

// TestFlatcarInstalls: what a machine that boots Flatcar to install it runs.
func TestFlatcarInstalls(t *testing.T) {
	in := testInput(cluster.Config{})
	in.Target.Profile.Install = &cluster.Installation{Device: "/dev/disk/by-id/it's"}
	in.Installer = &Installer{Done: "https://10.0.0.1:8443/v1/installed", Flatcar: &FlatcarInstall{
		Device: in.Target.Profile.Install.Device, Release: "4593.2.5", Base: "http://10.0.0.1:8080/images/flatcar/disk", Channel: "stable",
		Config: "http://10.0.0.1:8080/ignition?mac=x&uuid=y",
	}}
	c := mustCompile(t, in)
	body, err := c.Ignition("", testToken)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{InstallFile, InstalledFile, InstalledUnit, "ExecStart=" + InstallFile, testToken} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
	if strings.Contains(string(body), "coreos-installer") {
		t.Error("it waits for coreos-installer")
	}
	plain := in
	plain.Installer = &Installer{Done: in.Installer.Done}
	if one, err := mustCompile(t, plain).Ignition("", testToken); err != nil || strings.Contains(string(one), InstallFile+`"`) {
		t.Errorf("the others' installer runs flatcar-install: %v", err)
	}

	// What it does, with programs that stand for those of Flatcar.
	dir := t.TempDir()
	for _, name := range []string{"curl", "flatcar-install", "installed", "systemctl"} {
		script := "#!/bin/sh\necho " + name + ` "$@" >> ` + dir + "/log\n"
		if name == "flatcar-install" {
			script += "[ ! -e " + dir + "/broken ]\n"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func() (string, error) {
		script := strings.NewReplacer(InstalledFile, "installed", "/run/", dir+"/").Replace(in.Installer.Flatcar.script())
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("%s", out)
		}
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		_ = os.Remove(filepath.Join(dir, "log"))
		return string(log), err
	}
	got, err := run()
	want := "curl --fail --silent --show-error --connect-timeout 10 --max-time 60 --retry 120 --retry-delay 5 --retry-all-errors --output " + dir + "/pilotlight-system.ign http://10.0.0.1:8080/ignition?mac=x&uuid=y\n" +
		"flatcar-install -d /dev/disk/by-id/it's -o  -i " + dir + "/pilotlight-system.ign -V 4593.2.5 -b http://10.0.0.1:8080/images/flatcar/disk\n" +
		"installed\nsystemctl --no-block reboot\n"
	if err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := run(); err == nil || strings.Contains(got, "installed\n") || strings.Contains(got, "reboot") {
		t.Errorf("an installation that failed: %v, %s", err, got)
	}
}
