package ignition

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

func testPointer() Pointer {
	return Pointer{
		URL: "https://10.0.0.1:8443/v1/config", Token: TokenPlaceholder, SHA256: strings.Repeat("ab", 32),
		CA: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
	}
}

// TestPointerGolden: the pointers, to be read in the diff.
func TestPointerGolden(t *testing.T) {
	for l, name := range map[Language]string{LanguageIgnition: "ignition.json", LanguageCloudInit: "cloud-init.txt", LanguageCoreOS: "coreos.sh"} {
		got, err := testPointer().For(l)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata/pointer", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: %v\n%s", path, err, got)
		}
		if len(got) > 8<<10 {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
}

func TestPointerRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Pointer){
		"http":       func(p *Pointer) { p.URL = "http://10.0.0.1/v1/config" },
		"a quote":    func(p *Pointer) { p.URL += "'" },
		"a hash":     func(p *Pointer) { p.SHA256 = "ab" },
		"no token":   func(p *Pointer) { p.Token = "" },
		"a newline":  func(p *Pointer) { p.Token += "\nX-Other: 1" },
		"upper case": func(p *Pointer) { p.SHA256 = strings.ToUpper(p.SHA256) },
	} {
		p := testPointer()
		spoil(&p)
		for _, l := range []Language{LanguageIgnition, LanguageCloudInit, LanguageCoreOS} {
			if out, err := p.For(l); err == nil || out != nil {
				t.Errorf("%s, %s: %s", name, l, out)
			}
		}
	}
	if _, err := testPointer().For(LanguageText); !errors.Is(err, ErrNoConfig) {
		t.Error(err)
	}
}

// TestPointed: what is served is the config in its language, whoever asks, and each
// time the same bytes.
func TestPointed(t *testing.T) {
	for name, test := range map[string]struct {
		config cluster.Config
		want   Language
		kind   string
	}{
		"Butane":     {goldenConfig(t, "testdata/golden/fcos.bu"), LanguageIgnition, ContentType},
		"cloud-init": {goldenConfig(t, "testdata/golden/cloudinit.yaml"), LanguageCloudInit, CloudConfigType},
		"coreos":     {goldenConfig(t, "testdata/golden/coreos.yaml"), LanguageCoreOS, CloudConfigType},
		"nothing":    {cluster.Config{}, LanguageIgnition, ContentType},
	} {
		c := mustCompile(t, testInput(test.config))
		got := c.Languages()[0]
		body, kind, err := c.Pointed(got, "", testToken)
		again, _, _ := mustCompile(t, testInput(test.config)).Pointed(got, "", testToken)
		if got != test.want || kind != test.kind || err != nil || !strings.Contains(string(body), testToken) || string(body) != string(again) {
			t.Errorf("%s: %s, %s, %v\n%s", name, got, kind, err, body)
		}
	}
	c := mustCompile(t, testInput(cluster.Config{Text: "d-i x"}))
	if _, _, err := c.Pointed(LanguageText, "", testToken); c.Languages()[0] != LanguageText || !errors.Is(err, ErrNoConfig) {
		t.Errorf("%s, %v", c.Languages(), err)
	}
	if _, _, err := mustCompile(t, testInput(cluster.Config{})).Pointed(LanguageCoreOS, "", testToken); !errors.Is(err, ErrNoConfig) {
		t.Error(err)
	}
	// What is said for every language is there for two, and a written one comes first.
	in := testInput(cluster.Config{})
	in.Target.Profile.NetworkConfig = "version: 2\nrenderer: networkd\nethernets: {all: {match: {name: \"e*\"}, dhcp4: true}}\n"
	if got := mustCompile(t, in).Languages(); !slices.Equal(got, []Language{LanguageIgnition, LanguageCloudInit}) {
		t.Errorf("%s", got)
	}
	in = testInput(goldenConfig(t, "testdata/golden/cloudinit.yaml"))
	in.Target.Profile.Config.Butane = goldenConfig(t, "testdata/golden/fcos.bu").Butane
	if got := mustCompile(t, in).Languages(); !slices.Equal(got, []Language{LanguageCloudInit, LanguageIgnition}) {
		t.Errorf("%s", got)
	}
}

// TestSecureAgent: a host that comes from elsewhere fetches the agent by HTTPS, from
// the server that it trusts already.
func TestSecureAgent(t *testing.T) {
	for _, path := range []string{"testdata/golden/cloudinit.yaml", "testdata/golden/coreos.yaml"} {
		in := testInput(goldenConfig(t, path))
		plain := mustCompile(t, in).Digest()
		in.Agent.URL = "https://10.0.0.1:8443/agent/x86_64"
		c := mustCompile(t, in)
		body, err := c.RenderCloudConfig()
		if err != nil || !strings.Contains(string(body), "--cacert "+caFile) || !strings.Contains(string(body), "path: "+caFile) || c.Digest() == plain {
			t.Errorf("%s: %v\n%s", path, err, body)
		}
	}
	in := testInput(cluster.Config{CloudConfig: "#cloud-config\nwrite_files: [{path: " + caFile + ", content: x}]\n"})
	mustCompile(t, in)
	in.Agent.URL = "https://10.0.0.1:8443/agent/x86_64"
	if _, err := Compile(in); err == nil || !strings.Contains(err.Error(), "is written by pilotlight") {
		t.Error(err)
	}
}
