//go:build integration

package docker

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
	"github.com/pilotlight/pilotlight/cluster/agent/agenttest"
)

func real(t *testing.T) *Engine {
	t.Helper()
	e, err := New(cluster.HostName(fmt.Sprintf("docker-it-%d", os.Getpid())), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	if _, err := e.Version(t.Context()); err != nil {
		t.Fatalf("%v; apt-get install docker.io", err)
	}
	return e
}

// push makes an image FROM scratch of the agent's test program.
func push(t *testing.T) string {
	t.Helper()
	reg := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(reg.Close)
	program := filepath.Join(t.TempDir(), "app")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "../../cmd/pilotlight-agent/testdata/app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	_ = w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(b))})
	_, _ = w.Write(b)
	_ = w.Close()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	if image, err = mutate.Config(image, v1.Config{Entrypoint: []string{"/app"}, User: "7:8"}); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(reg.URL, "http://") + "/suite:latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	d, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return ref.Context().Name() + "@" + d.String()
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// TestIntegrationRuntime runs the suite on the machine's Docker Engine.
func TestIntegrationRuntime(t *testing.T) {
	agenttest.TestRuntime(t, agenttest.Subject{
		Runtime: real(t), Image: push(t), Serve: []string{"v1"}, Fail: []string{"v1", "fail"},
		Check: []string{"CMD", "/app", "check"}, Port: freePort(t),
	})
}

// TestIntegrationOneNetwork: services of a site that are made at the same time
// share one network, although Docker makes as many of a name as it is asked to.
func TestIntegrationOneNetwork(t *testing.T) {
	e, image := real(t), push(t)
	if err := e.Pull(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	if i, err := e.Image(t.Context(), image); err != nil || i == nil || i.User != "7:8" {
		t.Errorf("%+v %v", i, err)
	}
	site := cluster.SiteName(fmt.Sprintf("network-%d", os.Getpid()))
	ids := make([]string, 4)
	var all sync.WaitGroup
	for n := range ids {
		all.Go(func() {
			v := cluster.Service{Name: cluster.ServiceName(fmt.Sprintf("s%d", n)), Image: image}
			id, err := e.Create(t.Context(), agent.Spec{Slot: agent.SlotOf(cluster.Container{Site: site, Service: v}), Service: v})
			if err != nil {
				t.Error(err)
			}
			ids[n] = id
		})
	}
	all.Wait()
	if list, err := e.siteNetworks(t.Context(), site); err != nil || len(list) != 1 {
		t.Errorf("%d networks: %v", len(list), err)
	}
	for _, id := range ids {
		if err := e.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if err := e.RemoveNetwork(t.Context(), site); err != nil {
		t.Error(err)
	}
	if err := e.RemoveImage(t.Context(), image); err != nil {
		t.Error(err)
	}
}
