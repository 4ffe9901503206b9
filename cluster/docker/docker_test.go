package docker

import (
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
)

const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func engine(t *testing.T) *Engine {
	t.Helper()
	e, err := New("web1", "unix:///nonexistent.sock", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func spec(v cluster.Service) agent.Spec {
	v.Name = "web"
	if v.Image == "" {
		v.Image = "reg:5000/web" + digest
	}
	return agent.Spec{Slot: agent.Slot{Key: agent.Key{Site: "shop", Service: "web"}, Hash: "abc"}, Service: v}
}

func TestContainersAreHardenedByDefault(t *testing.T) {
	config, host, err := engine(t).translate(spec(cluster.Service{}))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(host.CapDrop, []string{"ALL"}) || len(host.CapAdd) > 0 || !slices.Equal(host.SecurityOpt, []string{"no-new-privileges:true"}) ||
		*host.PidsLimit != DefaultPids || host.Privileged || host.NetworkMode != "pilotlight-shop" {
		t.Errorf("%+v", host)
	}
	if host.LogConfig.Config["max-size"] == "" || host.LogConfig.Config["max-file"] == "" {
		t.Errorf("logs do not rotate: %+v", host.LogConfig)
	}
	if host.RestartPolicy.Name != container.RestartPolicyUnlessStopped || *config.StopTimeout != 10 {
		t.Errorf("restart %+v, stop %d", host.RestartPolicy, *config.StopTimeout)
	}
	if len(host.Mounts) > 0 || len(host.Binds) > 0 {
		t.Errorf("mounts %+v %v", host.Mounts, host.Binds)
	}
}

func TestTranslate(t *testing.T) {
	s := spec(cluster.Service{
		Image: "reg:5000/web:1.2" + digest, Entrypoint: []string{"/e"}, Command: []string{"c"}, WorkingDir: "/w", User: "1000:1000",
		Environment: map[string]string{"B": "2", "A": "1"}, CapAdd: []string{"NET_BIND_SERVICE"}, ReadOnly: true, Init: true,
		Ports: []cluster.Port{
			{Host: 80, Container: 8080, Protocol: "tcp"},
			{HostIP: netip.MustParseAddr("10.0.0.1"), Host: 53, Container: 53, Protocol: "udp"},
			{Container: 9090, Protocol: "tcp"},
		},
		Volumes: []cluster.Volume{{Source: "data", Target: "/data"}, {Source: "/srv", Target: "/srv", ReadOnly: true}},
		Tmpfs:   []string{"/tmp", "/run:size=1m,mode=0700"}, Restart: "on-failure:3", StopSignal: "SIGINT", StopGrace: cluster.Duration(90 * time.Second),
		MemoryLimit: 64 << 20, CPULimit: 1.5, PidsLimit: 7,
		Labels: map[string]string{"a": "b", LabelHost: "another", "io.pilotlight.x": "y"},
		Health: &cluster.Healthcheck{Test: []string{"CMD", "x"}, Interval: cluster.Duration(time.Second), Timeout: cluster.Duration(2 * time.Second), StartPeriod: cluster.Duration(3 * time.Second), Retries: 4},
	})
	s.Secrets = "/run/pilotlight/secrets/shop/web/abc"
	config, host, err := engine(t).translate(s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(map[string]any{"config": config, "host": map[string]any{
		"ports": host.PortBindings, "mounts": host.Mounts, "tmpfs": host.Tmpfs, "restart": host.RestartPolicy, "ro": host.ReadonlyRootfs, "init": host.Init,
		"caps": host.CapAdd, "memory": host.Memory, "swap": host.MemorySwap, "cpus": host.NanoCPUs, "pids": host.PidsLimit,
	}}, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "translate.json")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, append(got, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
		t.Error(d)
	}
}

func TestTranslateRefuses(t *testing.T) {
	for says, v := range map[string]cluster.Service{
		"has no digest":           {Image: "reg/web:latest"},
		"write REGISTRY/NAME":     {Image: "Not An Image"},
		"on-failure:3":            {Restart: "on-failure:x"},
		"choose another target":   {Volumes: []cluster.Volume{{Source: "x", Target: "/run/secrets"}}},
		"choose another target; ": {Volumes: []cluster.Volume{{Source: "x", Target: "/run/secrets/y"}}},
	} {
		_, _, err := engine(t).translate(spec(v))
		if err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(says, "; ")) {
			t.Errorf("%+v: %v", v, err)
		}
	}
}

// TestFound reads what the engine of the machine said of a container.
func TestFound(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "inspect.json"))
	if err != nil {
		t.Fatal(err)
	}
	var said container.InspectResponse
	if err := json.Unmarshal(b, &said); err != nil {
		t.Fatal(err)
	}
	f, ok := found(said)
	if !ok {
		t.Fatal("not ours")
	}
	want := agent.Found{
		Slot: agent.Slot{Key: agent.Key{Site: "shop", Service: "web"}, Hash: "abc"}, ID: "6f2c", Image: "reg:5000/web" + digest,
		Restart: "on-failure:3", Phase: agent.PhaseRunning, Health: cluster.HealthHealthy, Restarts: 2,
		Ports:   []cluster.Port{{Host: 80, Container: 8080, Protocol: "tcp"}},
		Created: time.Date(2026, 8, 1, 10, 0, 0, 0, time.UTC), Started: time.Date(2026, 8, 1, 10, 0, 1, 5e8, time.UTC),
	}
	if d := cmp.Diff(want, f, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
	delete(said.Config.Labels, LabelHash)
	if _, ok := found(said); ok {
		t.Error("a container without a hash is ours")
	}
	if _, ok := found(container.InspectResponse{}); ok {
		t.Error("nothing is ours")
	}
}

func TestAuthFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	auth := AuthFile(path)
	if _, _, ok := auth("reg:5000"); ok {
		t.Error("a file that is not there knows a password")
	}
	text := `{"auths":{"reg:5000":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("user:pass:word")) + `"},"https://index.docker.io/v1/":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("hub:x")) + `"},"bad":{"auth":"%"}}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for registry, want := range map[string]string{"reg:5000": "user pass:word", "docker.io": "hub x"} {
		if user, password, ok := auth(registry); !ok || user+" "+password != want {
			t.Errorf("%s: %s %s %t", registry, user, password, ok)
		}
	}
	for _, none := range []string{"other", "bad"} {
		if _, _, ok := auth(none); ok {
			t.Errorf("%s has a password", none)
		}
	}
}

func TestFollowPull(t *testing.T) {
	for in, want := range map[string]string{
		`{"status":"Pulling"}{"status":"Done"}`:                             "",
		`{"status":"Pulling"}{"error":"manifest unknown","errorDetail":{}}`: "manifest unknown",
		`{"status":"Pulling"}{"stat`:                                        "unexpected EOF",
		"":                                                                  "",
	} {
		err := followPull(strings.NewReader(in))
		if got := ""; err != nil {
			if got = err.Error(); got != want {
				t.Errorf("%s: %v", in, err)
			}
		} else if want != "" {
			t.Errorf("%s: no error", in)
		}
	}
}

func TestPlaceCertificates(t *testing.T) {
	dir := t.TempDir()
	place := func(ca string) {
		t.Helper()
		if err := PlaceCertificates(dir, "reg:5000", []byte(ca), []byte("cert"), []byte("key")); err != nil {
			t.Fatal(err)
		}
	}
	place("ca")
	key := filepath.Join(dir, "reg:5000", "client.key")
	before, err := os.Stat(key)
	if err != nil || before.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", before, err)
	}
	place("new ca")
	if after, err := os.Stat(key); err != nil || !os.SameFile(before, after) {
		t.Error("a file that was right was replaced")
	}
	entries, err := os.ReadDir(filepath.Join(dir, "reg:5000"))
	if err != nil || len(entries) != 3 {
		t.Errorf("%v %v", entries, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "reg:5000", "ca.crt")); err != nil || string(b) != "new ca" {
		t.Errorf("%s %v", b, err)
	}
	if err := PlaceCertificates("/dev/null", "r", nil, nil, nil); err == nil || !strings.Contains(err.Error(), "--certs.d DIR") {
		t.Errorf("%v", err)
	}
}

// What a directory of the host comes to there counts, not what it is called.
func TestHostPathBehindALink(t *testing.T) {
	dir := t.TempDir()
	for link, to := range map[string]string{"etc": "/etc", "all": "/", "good": dir, "gone": filepath.Join(dir, "nothing")} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, refused := range map[string]bool{"etc": true, "etc/ssh": true, "all": true, "good": false, "gone": false, "missing": false} {
		if err := onHost(filepath.Join(dir, path)); (err != nil) != refused {
			t.Errorf("%s: %v", path, err)
		}
	}
}
