package ignition

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	testToken = "plt1_Zm9vYmFyYmF6cXV4-0123456789.~"
	testKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDfQ5sXG6Y2P0JH6mZ0b0m0Y9mY4tY0v1hQ8e1uH8k1s ops@office"
)

// testInput is host web1 with everything that a template can speak of, and the
// given config.
func testInput(config cluster.Config) Input {
	host := &cluster.Host{
		Meta:    cluster.Meta{Name: "web1", Labels: map[string]string{"role": "web"}},
		MACs:    []cluster.MAC{{0x52, 0x54, 0, 0x12, 0x34, 0x56}},
		UUID:    "4c4c4544-0042-3510-8051-b4c04f4d3132",
		Address: netip.MustParseAddr("10.0.0.11"),
	}
	ca := "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
	return Input{
		Target: cluster.Target{
			Host:    host,
			Group:   &cluster.Group{Meta: cluster.Meta{Name: "frontends"}, Profile: "web"},
			Profile: &cluster.Profile{Meta: cluster.Meta{Name: "web"}, Config: config},
			Network: &cluster.Network{Meta: cluster.Meta{Name: "lab"}, Domain: "lab.example.org"},
			Variables: map[string]any{
				"port": float64(10000000), "motd": "It's a \"web\" host: <be careful>\n",
				"nested": map[string]any{"a": []any{"x", float64(2)}},
			},
			SSHKeys: []string{testKey},
		},
		Agent: Agent{
			URL:    "http://10.0.0.1:8080/agent/x86_64",
			SHA256: strings.Repeat("ab", 32), SHA512: strings.Repeat("cd", 64),
			Config: cluster.AgentConfig{
				Host: "web1", Servers: []string{"https://10.0.0.1:8443"}, Etcd: []string{"10.0.0.1:2379"},
				CA: ca, MAC: host.MACs[0], UUID: host.UUID,
			},
		},
		Server: Server{URL: "http://10.0.0.1:8080", Secure: "https://10.0.0.1:8443", CA: ca},
	}
}

// namedInput is testInput for another host.
func namedInput(name string, config cluster.Config) Input {
	in := testInput(config)
	in.Target.Host.Name, in.Agent.Config.Host = name, cluster.HostName(name)
	return in
}

func mustCompile(t testing.TB, in Input) *Config {
	t.Helper()
	c, err := Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// goldenConfig reads one of testdata/golden as what its name says it is.
func goldenConfig(t testing.TB, path string) cluster.Config {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	switch filepath.Ext(path) {
	case ".bu":
		return cluster.Config{Butane: string(b)}
	case ".ign":
		return cluster.Config{Ignition: string(b)}
	}
	return cluster.Config{CloudConfig: string(b)}
}

func goldenFiles(t testing.TB) []string {
	t.Helper()
	var files []string
	for _, ext := range []string{"bu", "ign", "yaml"} {
		more, err := filepath.Glob("testdata/golden/*." + ext)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	if len(files) < 6 {
		t.Fatalf("only %d golden files", len(files))
	}
	return files
}

func TestGolden(t *testing.T) {
	for _, path := range goldenFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c := mustCompile(t, testInput(goldenConfig(t, path)))
			if w := c.Warnings(); len(w) > 0 {
				t.Errorf("warnings: %v", w)
			}
			got, err := c.Render("")
			if filepath.Ext(path) == ".yaml" {
				got, err = c.RenderCloudConfig()
			}
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, path+".golden", got)
		})
	}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; go test -update writes it anew. Got:\n%s", path, got)
	}
}

// TestServedIsRendered: what an operator is shown is what a host gets, but for
// the token.
func TestServedIsRendered(t *testing.T) {
	in := testInput(goldenConfig(t, "testdata/golden/fcos.bu"))
	in.Target.Profile.Config.CloudConfig = "#cloud-config\n"
	c := mustCompile(t, in)
	for _, accept := range []string{"", ContentType + ";version=3.4.0"} {
		served, err := c.Ignition(accept, testToken)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := c.Render(accept)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.ReplaceAll(served, []byte(testToken), []byte(TokenPlaceholder)); !bytes.Equal(got, shown) {
			t.Errorf("served\n%s\nshown\n%s", got, shown)
		}
		if n := bytes.Count(served, []byte(testToken)); n != 1 {
			t.Errorf("the token is there %d times", n)
		}
	}
	served, err := c.CloudConfig(testToken)
	if err != nil {
		t.Fatal(err)
	}
	shown, _ := c.RenderCloudConfig()
	if got := bytes.ReplaceAll(served, []byte(testToken), []byte(TokenPlaceholder)); !bytes.Equal(got, shown) {
		t.Errorf("served\n%s\nshown\n%s", got, shown)
	}
}

// TestTwice: the same Input makes the same bytes, and no Input is changed.
func TestTwice(t *testing.T) {
	for _, path := range goldenFiles(t) {
		in := testInput(goldenConfig(t, path))
		before, _ := json.Marshal(in)
		a, b := mustCompile(t, in), mustCompile(t, in)
		after, _ := json.Marshal(in)
		if a.Digest() != b.Digest() || a.ETag() != b.ETag() || len(a.Digest()) != 64 {
			t.Errorf("%s: %s and %s", path, a.Digest(), b.Digest())
		}
		if !bytes.Equal(before, after) {
			t.Errorf("%s: the Input was changed", path)
		}
	}
}

// TestDigest: the digest changes with each thing that changes what is served.
func TestDigest(t *testing.T) {
	change := map[string]func(*Input){
		"nothing":    func(*Input) {},
		"agent":      func(in *Input) { in.Agent.SHA256 = strings.Repeat("ef", 32) },
		"no sha512":  func(in *Input) { in.Agent.SHA512 = "" },
		"agent URL":  func(in *Input) { in.Agent.URL += "2" },
		"servers":    func(in *Input) { in.Agent.Config.Servers = nil },
		"name":       func(in *Input) { in.Target.Host.Name = "web2"; in.Agent.Config.Host = "web2" },
		"keys":       func(in *Input) { in.Target.SSHKeys = nil },
		"variable":   func(in *Input) { in.Target.Variables["motd"] = "x" },
		"address":    func(in *Input) { in.Address = netip.MustParseAddr("10.0.0.12") },
		"host's MAC": func(in *Input) { in.Target.Host.MACs = nil },
	}
	seen := map[string]string{}
	for name, f := range change {
		in := testInput(goldenConfig(t, "testdata/golden/fcos.bu"))
		in.Target.Profile.Config.CloudConfig = "#cloud-config\n"
		f(&in)
		d := mustCompile(t, in).Digest()
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
}

func TestInputRefused(t *testing.T) {
	for want, f := range map[string]func(*Input){
		"no host":                    func(in *Input) { in.Target.Host = nil },
		"gets no profile":            func(in *Input) { in.Target.Profile = nil },
		`host "web2"'s`:              func(in *Input) { in.Agent.Config.Host = "web2" },
		"is not the URL of a server": func(in *Input) { in.Agent.URL = "file:///agent" },
		"a shell or a unit":          func(in *Input) { in.Agent.URL = "http://10.0.0.1/a'b" },
		"agent's sha256":             func(in *Input) { in.Agent.SHA256 = "ABCD" },
		"agent's sha512":             func(in *Input) { in.Agent.SHA512 = in.Agent.SHA256 },
	} {
		in := testInput(cluster.Config{})
		f(&in)
		if _, err := Compile(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	in := testInput(cluster.Config{})
	in.Agent.URL = "http://ops:hunter2@10.0.0.1/agent"
	if _, err := Compile(in); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password in a URL: %v", err)
	}
}

func TestErrNoConfig(t *testing.T) {
	onlyCloud := mustCompile(t, testInput(cluster.Config{CloudConfig: "#cloud-config\n"}))
	if b, err := onlyCloud.Ignition("", testToken); !errors.Is(err, ErrNoConfig) || b != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if v := onlyCloud.Versions(); v != nil {
		t.Errorf("versions %v", v)
	}
	in := testInput(cluster.Config{})
	in.Target.Image = &cluster.Image{Meta: cluster.Meta{Name: "i"}, Stream: "fedora-coreos/stable"} // which does not read the other
	none := mustCompile(t, in)
	if b, err := none.CloudConfig(testToken); !errors.Is(err, ErrNoConfig) || b != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if b, err := none.MetaData(); !errors.Is(err, ErrNoConfig) || b != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if b, err := none.Ignition("", testToken); err != nil || !bytes.Contains(b, []byte(AgentFile)) {
		t.Errorf("got %q, %v", b, err)
	}
}
