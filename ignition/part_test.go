package ignition

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

func installerInput(c cluster.Config) Input {
	in := testInput(cluster.Config{Butane: "variant: fcos\nversion: 1.4.0\n"})
	in.Target.Profile.Boot = cluster.BootInstall
	in.Target.Profile.Install = &cluster.Installation{Device: "/dev/vda", Config: c}
	in.Installer = &Installer{Done: "https://10.0.0.1:8443/v1/installed"}
	return in
}

// What an installer is told: the operator's part, who it is, and how to say that
// it is done; and nothing of the agent, which is the installed system's.
func TestInstaller(t *testing.T) {
	for name, c := range map[string]cluster.Config{
		"none":   {},
		"butane": {Butane: "variant: fcos\nversion: 1.4.0\nstorage:\n  files:\n    - path: /etc/disk\n      contents: {inline: \"{{ .Install.Device }}\"}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustCompile(t, installerInput(c))
			got, err := c.Ignition(ContentType+";version=3.0.0", testToken)
			if err != nil {
				t.Fatal(err)
			}
			text := string(got)
			for _, want := range []string{
				InstalledFile, caFile, cluster.InstallTokenFile, testToken, HostnameFile, InstalledUnit, "RequiredBy=coreos-installer.target",
				"https:%2F%2F10.0.0.1:8443%2Fv1%2Finstalled", testKey,
			} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			for _, no := range []string{AgentFile, AgentUnit, cluster.AgentTokenFile, cluster.AgentConfigFile} {
				if strings.Contains(text, no) {
					t.Errorf("%q is in an installer's config", no)
				}
			}
			if name == "butane" && !strings.Contains(text, "%2Fdev%2Fvda") {
				t.Errorf("no disk in\n%s", text)
			}
			if !json.Valid(got) {
				t.Error("it is no JSON")
			}
		})
	}
}

func TestInstallerCloudConfig(t *testing.T) {
	c := mustCompile(t, installerInput(cluster.Config{CloudConfig: "#cloud-config\nautoinstall:\n  late-commands: [" + InstalledFile + "]\n"}))
	got, err := c.CloudConfig(testToken)
	text := string(got)
	if err != nil || !strings.Contains(text, "path: "+InstalledFile) || !strings.Contains(text, testToken) || strings.Contains(text, "runcmd") || strings.Contains(text, AgentUnit) {
		t.Errorf("error %v, got\n%s", err, text)
	}
}

// A mistake is where it is: in install.config, not in config.
func TestInstallerMistakes(t *testing.T) {
	for want, configs := range map[string][]cluster.Config{
		"install.config.butane": {
			{Butane: "variant: fcos\nversion: 1.4.0\nnonsense: 1\n"},
			{Butane: "{{ .Variables.nothing }}"},
			{Butane: "variant: fcos\nversion: 1.4.0\nstorage: {files: [{path: " + cluster.InstallTokenFile + "}]}"},
		},
		"install.config.ignition":       {{Ignition: "{}"}},
		"install.config.cloud_config":   {{CloudConfig: "packages: [x]\n"}},
		"install.config.cloud_parts[1]": {{CloudParts: []string{"#!/bin/sh\n", "packages: [x]\n"}}},
	} {
		for _, config := range configs {
			_, err := Compile(installerInput(config))
			var bad *Error
			if !errors.As(err, &bad) || !strings.HasPrefix(bad.Problems[0].Field, want) {
				t.Errorf("%+v: %v, want one at %s", config, err, want)
			}
		}
	}
	in := installerInput(cluster.Config{})
	in.Target.Profile.Install = nil
	if _, err := Compile(in); err == nil || !strings.Contains(err.Error(), "set boot: install") {
		t.Errorf("a profile that installs nothing: %v", err)
	}
}

// The cache tells an installer's config from its system's.
func TestInstallerCache(t *testing.T) {
	var cache Cache
	in := installerInput(cluster.Config{})
	for range 2 {
		installer, err := cache.Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		system := in
		system.Installer = nil
		other, err := cache.Compile(system)
		if err != nil || other.Digest() == installer.Digest() {
			t.Errorf("%v, the same digest %s", err, other.Digest())
		}
	}
}
