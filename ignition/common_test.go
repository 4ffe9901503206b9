package ignition

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/pilotlight/pilotlight/cluster"
)

func num(n int) *int { return &n }

// commonProfile says everything that can be said once for every language.
func commonProfile() cluster.Profile {
	return cluster.Profile{
		Meta: cluster.Meta{Name: "web"},
		Includes: cluster.Includes{
			"banner":   "This is {{ .Host.Name }}.\n",
			"lines.bu": "one\ntwo {{ .Variables.port }}\n",
		},
		Common: &cluster.Common{
			Users: []cluster.CommonUser{
				{Name: "alice", Comment: "Alice Ng", Groups: []string{"docker"}, Shell: "/bin/bash", Sudo: true, SSHKeys: []string{testKey}},
				{Name: "metrics", System: true, PasswordHash: "!", Home: "/var/lib/metrics"},
			},
			Files: []cluster.CommonFile{
				{Path: "/etc/motd", Contents: "{{ template \"banner\" . }}\tSay \"hello\" — 100% {{ .Variables.port }}\n"},
				{Path: "/srv/alice.sh", Mode: "0750", User: "alice", Contents: "#!/bin/sh\nexit 0\n"},
				{Path: "/etc/empty"},
			},
			Units: []cluster.CommonUnit{
				{Name: "hello.service", Enabled: true, Contents: "[Unit]\nDescription=Hello from {{ .Host.Name }}\n\n[Service]\nType=oneshot\nExecStart=/bin/true\n\n[Install]\nWantedBy=multi-user.target\n"},
				{Name: "docker.service", Dropins: []cluster.CommonDropin{{Name: "10-log.conf", Contents: "[Service]\nEnvironment=LOG=1\n"}}},
				{Name: "update-engine.service", Mask: true},
			},
		},
		NetworkConfig: cluster.StaticNetwork,
		Firewall: &cluster.Firewall{
			Allow: []cluster.FirewallRule{
				{Ports: []cluster.PortRange{{First: 22, Last: 22}}, From: sources4("192.0.2.0/24", "2001:db8::/32")},
				{Ports: []cluster.PortRange{{First: 443, Last: 443}, {First: 80, Last: 80}}},
				{Ports: []cluster.PortRange{{First: 8000, Last: 8100}, {First: 8050, Last: 8200}}, Protocol: cluster.UDP, From: sources4("10.0.0.0/8", "10.1.0.0/16")},
			},
			Trusted: []string{"wg0"},
		},
	}
}

func sources4(texts ...string) (out []cluster.Source) {
	for _, s := range texts {
		out = append(out, cluster.Source{Prefix: netip.MustParsePrefix(s)})
	}
	return out
}

func commonInput(config cluster.Config) Input {
	in := testInput(config)
	p := commonProfile()
	p.Config = config
	in.Target.Profile = &p
	in.Target.Network = &cluster.Network{
		Meta: cluster.Meta{Name: "lab"}, CIDR: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"),
		DNS: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Domain: "lab.example.org",
	}
	return in
}

// One profile in the three languages, for four systems.
func TestCommon(t *testing.T) {
	for _, test := range []struct {
		name   string
		config cluster.Config
	}{
		{"fcos", cluster.Config{Butane: "variant: fcos\nversion: 1.4.0\nstorage:\n  files:\n    - path: /etc/own\n      contents:\n        inline: |\n{{ include \"lines.bu\" . | indent 10 }}"}},
		{"flatcar", cluster.Config{Butane: "variant: flatcar\nversion: 1.0.0\n"}},
		{"coreos", cluster.Config{CloudConfig: "#cloud-config\ncoreos:\nwrite_files:\n  - path: /etc/own\n    content: x\n"}},
		{"cloudinit", cluster.Config{CloudConfig: "#cloud-config\npackages: [nftables]\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := mustCompile(t, commonInput(test.config))
			got, err := c.Render("")
			if test.config.CloudConfig != "" {
				got, err = c.RenderCloudConfig()
			}
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, filepath.Join("testdata/common", test.name+".golden"), got)
			if test.name == "cloudinit" {
				compareGolden(t, "testdata/common/network-config.golden", c.NetworkConfig())
			}
		})
	}
}

// A profile without a config says what it says in both languages.
func TestCommonWithoutConfig(t *testing.T) {
	in := commonInput(cluster.Config{})
	in.Target.Profile.NetworkConfig = "version: 2\nrenderer: networkd\nethernets: {eno1: {dhcp4: true}}\n"
	c := mustCompile(t, in)
	cloud, err := c.RenderCloudConfig()
	if err != nil {
		t.Fatal(err)
	}
	ign, err := c.Render("")
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range [][]byte{cloud, ign} {
		if !strings.Contains(string(body), "alice") || !strings.Contains(string(body), "firewall") {
			t.Errorf("it lacks what the profile says:\n%s", body)
		}
	}
	in.Target.Image = &cluster.Image{Meta: cluster.Meta{Name: "i"}, Stream: "flatcar/stable"}
	if got := mustCompile(t, in).Languages(); len(got) != 1 || got[0] != LanguageIgnition {
		t.Errorf("Flatcar is told by %v", got)
	}
}

// Hosts with the same texts share a shape; a host with another text does not get it.
func TestCommonInCache(t *testing.T) {
	var cache Cache
	body := func(name string, static bool) string {
		in := commonInput(cluster.Config{})
		in.Target.Host.Name, in.Agent.Config.Host = name, cluster.HostName(name)
		in.Target.Profile.NetworkConfig = ""
		if static {
			in.Target.Profile.Common.Files[0].Contents = "the same\n"
			in.Target.Profile.Common.Units = nil
		}
		c, err := cache.Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.Render("")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if one := body("web1", false); !strings.Contains(one, "This%20is%20web1") {
		t.Errorf("not of this host:\n%s", one)
	}
	if two := body("web2", false); !strings.Contains(two, "This%20is%20web2") || strings.Contains(two, "web1") {
		t.Errorf("not of this host:\n%s", two)
	}
	if shapes := cache.shapes.len(); shapes != 2 {
		t.Fatalf("%d shapes, want 2", shapes)
	}
	body("web1", true)
	body("web2", true)
	if shapes := cache.shapes.len(); shapes != 3 {
		t.Errorf("%d shapes, want 3: what is the same is not shared", shapes)
	}
}

// Each mistake is found at its own field, and all of them at once.
func TestCommonMistakes(t *testing.T) {
	problems := func(t *testing.T, in Input) string {
		t.Helper()
		_, err := Compile(in)
		var bad *Error
		if !errors.As(err, &bad) {
			t.Fatalf("got %v, want an *Error", err)
		}
		return bad.Error()
	}
	for _, test := range []struct {
		name string
		edit func(*cluster.Profile, *cluster.Host)
		want []string
	}{
		{"a variable that is not set, twice", func(p *cluster.Profile, _ *cluster.Host) {
			p.Common.Files[0].Contents = "a\n{{ .Variables.zone }}\n"
			p.Common.Units[1].Dropins[0].Contents = "{{ .Variables.other }}\n"
		}, []string{`common.files[0].contents line 2: variable "zone" is not set`, `common.units[1].dropins[0].contents line 1: variable "other" is not set`}},
		{"a mistake in an include", func(p *cluster.Profile, _ *cluster.Host) {
			p.Includes["banner"] = "x\n{{ .Host.Nome }}\n"
		}, []string{`includes.banner line 2: at <.Host.Nome>: can't evaluate field Nome`}},
		{"no such include", func(p *cluster.Profile, _ *cluster.Host) {
			p.Common.Files[0].Contents = "{{ template \"baner\" . }}\n"
		}, []string{`common.files[0].contents line 1`, `"baner" not defined`, "includes: has banner, lines.bu"}},
		{"what pilotlight writes", func(p *cluster.Profile, _ *cluster.Host) {
			p.Common.Files[0].Path = "/etc/hostname"
			p.Common.Units[0].Name = AgentUnit
		}, []string{"common.files[0].path: /etc/hostname is written by pilotlight", "common.units[0].name: pilotlight-agent.service is pilotlight's unit"}},
		{"what the config has too", func(p *cluster.Profile, _ *cluster.Host) {
			p.Config.Butane = "variant: flatcar\nversion: 1.0.0\npasswd:\n  users:\n    - name: alice\nstorage:\n  files:\n    - path: /etc/motd\n      contents: {inline: x}\nsystemd:\n  units:\n    - name: hello.service\n      enabled: true\n"
		}, []string{"common.files[0].path: /etc/motd is in the profile's config too", "common.units[0].name: hello.service is in", "common.users[0].name: alice is in"}},
		{"what the cloud_config has too", func(p *cluster.Profile, _ *cluster.Host) {
			p.Config = cluster.Config{CloudConfig: "#cloud-config\nusers:\n  - default\n  - name: alice\nwrite_files:\n  - {path: /etc/motd, content: x}\n  - {path: /etc/systemd/system/hello.service, content: x}\n"}
		}, []string{"common.files[0].path: /etc/motd is in the profile's config too", "common.units[0].name: hello.service is in", "common.users[0].name: alice is in"}},
		{"coreos-cloudinit's users have no number", func(p *cluster.Profile, _ *cluster.Host) {
			p.Config = cluster.Config{CloudConfig: "#cloud-config\ncoreos: {}\n"}
			p.Common.Users[0].UID = num(2000)
		}, []string{"common.users[0].uid: coreos-cloudinit"}},
		{"a network file that coreos-cloudinit's config has too", func(p *cluster.Profile, _ *cluster.Host) {
			p.Config = cluster.Config{CloudConfig: "#cloud-config\ncoreos:\n  units:\n    - {name: pilotlight-firewall.service, command: start}\nwrite_files:\n  - {path: /etc/systemd/network/10-pilotlight-lan0.network, content: x}\n"}
		}, []string{"network_config: /etc/systemd/network/10-pilotlight-lan0.network is in", "firewall: pilotlight-firewall.service is in"}},
		{"what the profile's own words write twice", func(p *cluster.Profile, _ *cluster.Host) {
			p.Config = cluster.Config{CloudConfig: "#cloud-config\n"}
			p.Common.Files = []cluster.CommonFile{
				{Path: FirewallFile, Contents: "flush ruleset\n"}, {Path: "/etc/sudoers.d/pilotlight-alice"}, {Path: "/etc/systemd/system/hello.service"},
				{Path: "/srv/a"}, {Path: "/srv/a/b"},
			}
			p.Common.Units = append(p.Common.Units, cluster.CommonUnit{Name: FirewallUnit, Mask: true})
		}, []string{
			"common.files[0].path: /etc/pilotlight/firewall.nft is written because of firewall, too",
			"common.files[1].path: /etc/sudoers.d/pilotlight-alice is written because of common.users[0].sudo, too",
			"common.files[2].path: /etc/systemd/system/hello.service is written because of common.units[0].name, too",
			"common.files[3].path: /srv/a is a file, and /srv/a/b of common.files[4].path is below it",
			"common.units[3].name: pilotlight-firewall.service is written because of firewall, too",
		}},
		{"what the profile's own words write twice, in Ignition", func(p *cluster.Profile, _ *cluster.Host) {
			p.Common.Files = append(p.Common.Files, cluster.CommonFile{Path: "/etc/systemd/network/10-pilotlight-lan0.network"})
			p.Common.Units = append(p.Common.Units, cluster.CommonUnit{Name: FirewallUnit, Dropins: []cluster.CommonDropin{{Name: "a.conf", Contents: "[Unit]\n"}}})
		}, []string{
			"common.files[3].path: /etc/systemd/network/10-pilotlight-lan0.network is written because of network_config, too",
			"common.units[3].name: pilotlight-firewall.service is written because of firewall, too",
		}},
		{"who sets up the network is not known", func(p *cluster.Profile, _ *cluster.Host) {
			p.Config = cluster.Config{Ignition: `{"ignition": {"version": "3.3.0"}}` + "\n"}
		}, []string{"network_config: what sets up the network on this host is not known"}},
		{"static without an address", func(_ *cluster.Profile, h *cluster.Host) { h.Address = netip.Addr{} },
			[]string{"network_config: static: host web1 has no address"}},
		{"static without a card", func(_ *cluster.Profile, h *cluster.Host) { h.MACs = nil },
			[]string{"network_config: static: host web1 has no macs:"}},
		{"a network of netplan's with mistakes", func(p *cluster.Profile, _ *cluster.Host) {
			p.NetworkConfig = "network:\n  version: 2\n  ethernets:\n    {{ .Variables.nested.a | len }}:\n      addresses: [10.0.0.5]\n    eno1:\n      adresses: [10.0.0.5/24]\n"
		}, []string{"network_config line 7: adresses is nothing that pilotlight can set up"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := commonInput(cluster.Config{Butane: "variant: flatcar\nversion: 1.0.0\n"})
			test.edit(in.Target.Profile, in.Target.Host)
			got := problems(t, in)
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("it lacks %q:\n%s", want, got)
				}
			}
		})
	}
}

// The installer of a system is told nothing that is for the system.
func TestCommonIsNotTheInstallers(t *testing.T) {
	in := commonInput(cluster.Config{})
	in.Target.Profile.Boot, in.Target.Profile.Install = cluster.BootInstall, &cluster.Installation{Device: "/dev/sda"}
	in.Target.Profile.NetworkConfig = ""
	in.Installer = &Installer{Done: "https://10.0.0.1:8443/v1/installed"}
	c := mustCompile(t, in)
	b, err := c.Render("")
	if err != nil || strings.Contains(string(b), "alice") {
		t.Errorf("%v:\n%s", err, b)
	}
}

// A file has the text that was written, whatever it begins and ends with.
func TestCommonFileIsAsWritten(t *testing.T) {
	texts := []string{"\n", "\n\na\n", "\n  a\nb\n", "  a\n b", "a\n\n\n", "\ta \n", " ", "a\r\nb\r\n", "\u2028a\n", "a\n\u0085b\n", "- a: b\n", "\ufeffa\n", "x\n \n", "\x01\n"}
	in := commonInput(cluster.Config{CloudConfig: "#cloud-config\nwrite_files:\n  - path: /own\n    content: |\n\n      a\n  - path: /folded\n    content: >\n\n      a\n"})
	p := *in.Target.Profile
	p.Common = &cluster.Common{}
	for i, text := range texts {
		p.Common.Files = append(p.Common.Files, cluster.CommonFile{Path: fmt.Sprintf("/srv/%d", i), Contents: text})
	}
	in.Target.Profile = &p
	c, err := Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	body, err := c.RenderCloudConfig()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		WriteFiles []struct{ Path, Content string } `yaml:"write_files"`
	}
	if err := yaml.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	for _, f := range got.WriteFiles {
		var i int
		if n, _ := fmt.Sscanf(f.Path, "/srv/%d", &i); n == 1 && f.Content != texts[i] {
			t.Errorf("%q became %q", texts[i], f.Content)
		}
		if own := f.Path == "/own" || f.Path == "/folded"; own && f.Content != "\na\n" {
			t.Errorf("%s of the operator's config became %q", f.Path, f.Content)
		}
	}
}
