package ignition

import (
	"fmt"
	"sync"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// fleet is n hosts of one profile, whose documents are shared as a Snapshot
// shares them.
func fleet(n int, config cluster.Config) []Input {
	inputs := make([]Input, n)
	shared := testInput(config)
	for i := range inputs {
		inputs[i] = namedInput(fmt.Sprintf("web%d", i), config)
		inputs[i].Target.Profile, inputs[i].Target.Group = shared.Target.Profile, shared.Target.Group
		inputs[i].Target.Network = shared.Target.Network
	}
	return inputs
}

func TestCacheCompilesOnce(t *testing.T) {
	var c Cache
	in := testInput(goldenConfig(t, "testdata/golden/fcos.bu"))
	first, err := c.Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Compile(in)
	if err != nil || again != first {
		t.Error("the same documents are compiled twice")
	}
	other := testInput(goldenConfig(t, "testdata/golden/fcos.bu")) // other addresses, the same content
	if again, err = c.Compile(other); err != nil || again != first {
		t.Error("the same content is compiled twice")
	}
	if again, err = c.Compile(other); err != nil || again != first {
		t.Error("the same content is compiled twice")
	}
	if want := mustCompile(t, in); want.Digest() != first.Digest() {
		t.Error("the cache compiles something else")
	}
}

// TestCacheSeesChanges: nobody is served what was true before.
func TestCacheSeesChanges(t *testing.T) {
	var c Cache
	config := goldenConfig(t, "testdata/golden/fcos.bu")
	in := testInput(config)
	before, err := c.Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*Input){
		"agent":     func(in *Input) { in.Agent.URL += "x" },
		"servers":   func(in *Input) { in.Agent.Config.Etcd = []string{"10.0.0.2:2379"} },
		"CA":        func(in *Input) { in.Agent.Config.CA += "x" },
		"server":    func(in *Input) { in.Server.URL += "x" },
		"keys":      func(in *Input) { in.Target.SSHKeys = []string{"ssh-rsa AAAA new"} },
		"variables": func(in *Input) { in.Target.Variables = map[string]any{"port": 1, "motd": "x"} },
		"profile": func(in *Input) {
			p := *in.Target.Profile
			p.Config.Butane += "\n# x"
			p.Name = "db"
			in.Target.Profile = &p
		},
	} {
		changed := in // the same documents, but for what f changes
		f(&changed)
		after, err := c.Compile(changed)
		if err != nil {
			t.Fatal(name, err)
		}
		if name == "profile" {
			continue // a comment changes nothing
		}
		if after.Digest() == before.Digest() {
			t.Errorf("%s: served as before", name)
		}
		if again, _ := c.Compile(in); again.Digest() != before.Digest() {
			t.Errorf("%s: the old one is gone", name)
		}
	}
}

// TestCacheShares: hosts for which a template says the same share all but what
// is theirs.
func TestCacheShares(t *testing.T) {
	var c Cache
	config := cluster.Config{Butane: "variant: fcos\nversion: 1.5.0\n"}
	var first *Config
	for _, in := range fleet(50, config) {
		got, err := c.Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = got
		}
		if got.ignition.shape != first.ignition.shape {
			t.Fatal("two shapes")
		}
		if want := mustCompile(t, in); got.Digest() != want.Digest() {
			t.Errorf("%s: the cache compiles something else", in.Target.Host.Name)
		}
	}
}

func TestCacheKeepsMistakes(t *testing.T) {
	var c Cache
	in := testInput(cluster.Config{Butane: "variant: fcos\nversion: 1.5.0\n# {{ .Variables.no }}"})
	_, err1 := c.Compile(in)
	_, err2 := c.Compile(in)
	if err1 == nil || err1 != err2 {
		t.Errorf("got %v, %v", err1, err2)
	}
	in.Target.Variables = map[string]any{"no": "yes"}
	if _, err := c.Compile(in); err != nil {
		t.Error(err)
	}
	in.Target.Host = nil
	if _, err := c.Compile(in); err == nil {
		t.Error("no host, no error")
	}
}

// TestCacheBounded: it forgets what was not asked for lately, and goes on.
func TestCacheBounded(t *testing.T) {
	c := Cache{MaxBytes: 24 << 10}
	inputs := fleet(40, cluster.Config{Butane: "variant: fcos\nversion: 1.5.0\n# {{ .Host.Name }}"})
	for range 2 {
		for _, in := range inputs {
			got, err := c.Compile(in)
			if err != nil || got.host != in.Target.Host.HostName() {
				t.Fatalf("%s: %v", in.Target.Host.Name, err)
			}
			if c.configs.bytes > 12<<10 || c.shapes.bytes > 12<<10 || len(c.seen) > 2*c.configs.len()+64 {
				t.Fatalf("%d and %d bytes, %d seen", c.configs.bytes, c.shapes.bytes, len(c.seen))
			}
		}
	}
	if c.configs.len() < 2 || c.configs.len() > 30 {
		t.Errorf("%d configs", c.configs.len())
	}
}

// TestConcurrent: any number of requests share a Cache and a Config.
func TestConcurrent(t *testing.T) {
	var c Cache
	inputs := fleet(8, goldenConfig(t, "testdata/golden/flatcar.bu"))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 40 {
				in := inputs[(i+g)%len(inputs)]
				config, err := c.Compile(in)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := config.Ignition(ContentType+";version=3.3.0", testToken)
				if err != nil || config.host != in.Target.Host.HostName() || len(body) < 1000 {
					t.Errorf("%d bytes, %v", len(body), err)
				}
			}
		})
	}
	wg.Wait()
	if c.shapes.len() != 1 || c.configs.len() != len(inputs) {
		t.Errorf("%d shapes, %d configs", c.shapes.len(), c.configs.len())
	}
}

func BenchmarkCacheHit(b *testing.B) {
	var c Cache
	inputs := fleet(1000, cluster.Config{Butane: "variant: fcos\nversion: 1.5.0\n"})
	for _, in := range inputs {
		if _, err := c.Compile(in); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := c.Compile(inputs[i%len(inputs)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkCacheNewHost is what one more host of a known profile costs.
func BenchmarkCacheNewHost(b *testing.B) {
	var c Cache
	config := cluster.Config{Butane: "variant: fcos\nversion: 1.5.0\n"}
	shared := testInput(config).Target.Profile
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		in := namedInput(fmt.Sprintf("web%d", i), config)
		in.Target.Profile = shared
		if _, err := c.Compile(in); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
