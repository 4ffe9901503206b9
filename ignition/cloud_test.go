package ignition

import (
	"errors"
	"net/netip"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// TestCloudKeepsContent: every key of the operator is there afterwards, with its
// value, and lists have only grown at their end.
func TestCloudKeepsContent(t *testing.T) {
	for _, name := range []string{"cloudinit.yaml", "coreos.yaml"} {
		config := goldenConfig(t, filepath.Join("testdata/golden", name))
		in := testInput(config)
		out, err := mustCompile(t, in).CloudConfig(testToken)
		if err != nil {
			t.Fatal(err)
		}
		rendered, _, _ := render(text{source: config.CloudConfig}, in.data())
		rendered = addressVariable.ReplaceAllStringFunc(rendered, func(s string) string {
			if s[0] == '\\' {
				return s
			}
			return "10.0.0.11"
		})
		var before, after map[string]any
		if err := yaml.Unmarshal([]byte(rendered), &before); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(out, &after); err != nil {
			t.Fatal(err)
		}
		contains(t, name, before, after)
		if !strings.Contains(string(out), "# The comments of an operator stay.") && name == "cloudinit.yaml" {
			t.Error("a comment is gone")
		}
	}
}

func contains(t *testing.T, at string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		got, _ := got.(map[string]any)
		for k, v := range want {
			contains(t, at+"."+k, v, got[k])
		}
	case []any:
		got, _ := got.([]any)
		for i, v := range want {
			if i >= len(got) {
				t.Fatalf("%s: %d entries", at, len(got))
			}
			contains(t, at, v, got[i])
		}
	default:
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s: %v became %v", at, want, got)
		}
	}
}

// TestCloudProblems: a conflict, or what its reader would pass over, is refused
// with its line.
func TestCloudProblems(t *testing.T) {
	for config, want := range map[string]string{
		"packages: []\n":                                 `its first line is "packages: []": write #cloud-config there`,
		"## template: jinja\n#cloud-config\n":            "write #cloud-config there",
		"#cloud-config x\n":                              "write #cloud-config there",
		"#cloud-config\n- a\n":                           "line 2: it is not a mapping",
		"#cloud-config\na: [\n":                          "config.cloud_config line 2: did not find expected",
		"#cloud-config\na: 1\n---\nb: 2\n":               "a second YAML document",
		"#cloud-config\na: 1\nb:\n  c: 1\n  c: 2\n":      "line 5: b.c: it is on line 4 already: write it once",
		"#cloud-config\nhostname: other\n":               "line 2: hostname: pilotlight names the host web1",
		"#cloud-config\nfqdn: other.example.org\n":       "line 2: fqdn: pilotlight names the host web1: begin it with {{ .Host.Name }}.",
		"#cloud-config\npakages: [curl]\n":               "line 2: pakages: cloud-init has no such key; did you mean packages:?",
		"#cloud-config\nruncmd: []\nwrite_filez: []\n":   "line 3: write_filez: cloud-init has no such key; did you mean write_files:?",
		"#cloud-config\nbananas: 7\n":                    "line 2: bananas: cloud-init has no such key; take it out, or write it as x-bananas",
		"#cloud-config\nruncmd: reboot\n":                "line 2: runcmd: it is not a list",
		"#cloud-config\nx-a: &a []\nruncmd: *a\n":        "line 3: runcmd: pilotlight adds to this list, which is an alias",
		"#cloud-config\nusers:\n  - name: ops\n":         "line 2: users: it has neither default nor core",
		"#cloud-config\nx: {{ .Variables.no }}\n":        `line 2: variable "no" is not set`,
		"#cloud-config\ncoreos: 7\n":                     "line 2: coreos: it is not a mapping",
		"#cloud-config\ncoreos:\nruncmd: []\n":           "line 3: runcmd: coreos-cloudinit, for which a config with coreos: is, has no such key",
		"#cloud-config\n\ncoreos:\n  x: $private_ipv6\n": "line 4: $private_ipv6: the host has no such address: write address:",
		"#cloud-config\nx-x: " + TokenPlaceholder + "\n": "which pilotlight fills in itself",
		"#cloud-config\nwrite_files:\n- path: /etc/passwd\n- path: /etc/pilotlight/agent.json\n":     "line 4: write_files.1: /etc/pilotlight/agent.json is written by pilotlight",
		"#cloud-config\nwrite_files:\n- path: /etc/systemd/system/pilotlight-agent.service\n":        "is written by pilotlight",
		"#cloud-config\nwrite_files:\n- {path: /opt/pilotlight/bin/fetch-agent}\n":                   "is written by pilotlight",
		"#cloud-config\ncoreos:\n  units:\n    - name: pilotlight-agent.service\n      mask: true\n": "line 4: coreos.units.0: pilotlight-agent.service is pilotlight's unit",
		"#cloud-config\ncoreos:\nwrite-files:\n  - path: /etc/hostname\n":                            "line 4: write_files.0: /etc/hostname is written by pilotlight: take it out of the config; the host's name:",
	} {
		_, err := Compile(testInput(cluster.Config{CloudConfig: config}))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", config, err)
		}
	}
	in := testInput(cluster.Config{CloudConfig: "#cloud-config\ncoreos:\n  x: $public_ipv4\n"})
	in.Target.Host.Address = netip.Addr{}
	if _, err := Compile(in); err == nil || !strings.Contains(err.Error(), "line 3: $public_ipv4: the host has no such address") {
		t.Errorf("got %v", err)
	}
	in.Address = netip.MustParseAddr("10.0.0.99")
	if b, err := mustCompile(t, in).RenderCloudConfig(); err != nil || !strings.Contains(string(b), "x: 10.0.0.99\n") {
		t.Errorf("got %s, %v", b, err)
	}
}

// TestCloudMerges: where pilotlight's part goes when the operator's is there.
func TestCloudMerges(t *testing.T) {
	for config, want := range map[string]string{
		"#cloud-config\nhostname: web1\nfqdn: web1.example.org\n":         "hostname: web1\nfqdn: web1.example.org\n",
		"#cloud-config\nusers:\n  - name: core\n":                         "  - name: core\n    ssh_authorized_keys:\n      - " + testKey + "\n",
		"#cloud-config\nruncmd: []\n":                                     "runcmd:\n  - [systemctl, daemon-reload]\n",
		"#cloud-config\nwrite_files:\n":                                   "write_files:\n  - path: /etc/pilotlight/agent.json\n",
		"#cloud-config\nssh_authorized_keys:\n  - ssh-rsa AAAA x\n":       "  - ssh-rsa AAAA x\n  - " + testKey + "\n",
		"#cloud-config\nssh_authorized_keys: ['" + testKey + " again']\n": "ssh_authorized_keys: ['" + testKey + " again']\n",
		"#cloud-config":                 "hostname: web1\n",
		"#cloud-config \r\n# nothing\n": "# nothing\n",
		"#cloud-config\nx-x: !!binary aGk=\nx-y: 0644\nx-z: 'on'\nx-w: on\n": "x-x: !!binary aGk=\nx-y: 0644\nx-z: 'on'\nx-w: on\n",
	} {
		b, err := Compile(testInput(cluster.Config{CloudConfig: config}))
		if err != nil {
			t.Errorf("%q: %v", config, err)
			continue
		}
		got, err := b.RenderCloudConfig()
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%q: %v\n%s", config, err, got)
		}
		if n := strings.Count(string(got), "AAAAC3NzaC1lZDI1NTE5AAAAIDfQ5sXG6Y2P0JH6mZ0b0m0Y9mY4tY0v1hQ8e1uH8k1s"); n != 1 {
			t.Errorf("%q: the key is there %d times", config, n)
		}
	}
}

// TestCloudToken: a token that YAML would read as a number stays a text.
func TestCloudToken(t *testing.T) {
	c := mustCompile(t, testInput(cluster.Config{CloudConfig: "#cloud-config\n"}))
	for _, token := range []string{"1234567890123456", "0x12345678901234", "~~~~~~~~~~~~~~~~", "1_000_000_000_000", testToken} {
		b, err := c.CloudConfig(token)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Files []struct {
				Path        string
				Permissions string
				Content     any
			} `yaml:"write_files"`
		}
		if err := yaml.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		for _, f := range doc.Files {
			if f.Path == cluster.AgentTokenFile && (f.Content != token || f.Permissions != "0600") {
				t.Errorf("%s became %v", token, f)
			}
		}
	}
}

func TestMetaData(t *testing.T) {
	id := func(f func(*Input)) string {
		in := testInput(cluster.Config{CloudConfig: "#cloud-config\n"})
		f(&in)
		b, err := mustCompile(t, in).MetaData()
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]string
		if err := yaml.Unmarshal(b, &m); err != nil || m["local-hostname"] != in.Target.Host.Name || !strings.HasPrefix(m["instance-id"], in.Target.Host.Name+"-") {
			t.Fatalf("%s: %v", b, err)
		}
		return m["instance-id"]
	}
	same := id(func(*Input) {})
	if got := id(func(in *Input) { in.Target.Profile.Config.CloudConfig += "x-x: 1\n" }); got != same {
		t.Error("a changed config is a new instance")
	}
	if got := id(func(in *Input) { in.Target.Host.UUID = "00000000-0042-3510-8051-b4c04f4d3132" }); got == same {
		t.Error("another machine is the same instance")
	}
}

// TestShellSyntax has the shell read the script that fetches the agent.
func TestShellSyntax(t *testing.T) {
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader(fetchScript(testInput(cluster.Config{}).Agent))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestCoreOSReads decodes a config as coreos-cloudinit does: keys with
// underscores, and nothing that it does not know.
func TestCoreOSReads(t *testing.T) {
	b, err := mustCompile(t, testInput(goldenConfig(t, "testdata/golden/coreos.yaml"))).CloudConfig(testToken)
	if err != nil {
		t.Fatal(err)
	}
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		t.Fatal(err)
	}
	underscores(&n)
	b, err = yaml.Marshal(&n)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		SSHAuthorizedKeys []string `yaml:"ssh_authorized_keys"`
		Hostname          string   `yaml:"hostname"`
		CoreOS            struct {
			Update map[string]string `yaml:"update"`
			Etcd2  map[string]string `yaml:"etcd2"`
			Units  []struct {
				Name, Content, Command string
				Mask, Enable, Runtime  bool
				DropIns                []struct{ Name, Content string } `yaml:"drop_ins"`
			} `yaml:"units"`
		} `yaml:"coreos"`
		WriteFiles []struct{ Encoding, Content, Owner, Path, Permissions string } `yaml:"write_files"`
	}
	d := yaml.NewDecoder(strings.NewReader(string(b)))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	units := c.CoreOS.Units
	if last := units[len(units)-1]; last.Name != AgentUnit || !last.Enable || last.Command != "start" || last.Content != fetchingUnit() || len(last.DropIns) != 1 {
		t.Errorf("got %+v", last)
	}
	if len(c.WriteFiles) != 4 || c.WriteFiles[0].Content != "mine 10.0.0.11\nliterally \\$private_ipv4\n" || c.Hostname != "web1" || len(c.SSHAuthorizedKeys) != 1 {
		t.Errorf("got %+v", c)
	}
}

func underscores(n *yaml.Node) {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			c.Value = strings.ReplaceAll(c.Value, "-", "_")
		}
		underscores(c)
	}
}
