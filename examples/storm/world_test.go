//go:build storm || integration

package storm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// world is a bridge with servers on it, each in a network namespace of its own,
// and the machines, which share the namespace of this process.
type world struct {
	t         *testing.T
	config    config
	dir       string // of the servers, on a disk
	memory    string // of the machines, which have none
	bin       string
	agent     string
	servers   []*server
	wire      *wire
	addresses *addresses
	ledger    *ledger
	kernel    string            // SHA-256
	initrd    string            // SHA-256
	loaders   map[string]string // name -> SHA-256
}

// config is how big the storm is.
type config struct {
	machines int
	servers  int
	ramp     time.Duration // in which all are switched on
	pace     float64       // of clients that wait: 1 is that of real ones
	prepared bool          // they are switched on once etcd has a user for each
	limit    time.Duration // until all must be up
}

const (
	bridge    = "br0"
	network   = "10.98.0.0/16"
	ownPrefix = "10.98.255.250/16" // of this process, when it asks as no machine
	loaderDir = "/usr/lib/ipxe"    // Debian's ipxe
)

func (w *world) paced(d time.Duration) time.Duration {
	return time.Duration(float64(d) * w.config.pace)
}

func newWorld(t *testing.T, c config) *world {
	t.Helper()
	w := &world{t: t, config: c, dir: t.TempDir(), ledger: newLedger(), loaders: map[string]string{}}
	var err error
	if w.memory, err = os.MkdirTemp("/dev/shm", "storm-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(w.memory) })
	w.build()
	w.site()
	w.plugIn()
	return w
}

func (w *world) build() {
	w.t.Helper()
	w.bin, w.agent = filepath.Join(w.dir, "pilotlight"), filepath.Join(w.dir, "pilotlight-agent")
	for bin, pkg := range map[string]string{w.bin: "../../cmd/pilotlight", w.agent: "../../cmd/pilotlight-agent"} {
		c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, pkg)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			w.t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
	}
}

// plugIn makes the bridge, which is the machines' interface too.
func (w *world) plugIn() {
	t := w.t
	t.Helper()
	w.must("ip", "link", "set", "lo", "up")
	w.must("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0")
	t.Cleanup(func() { w.must("ip", "link", "del", bridge) })
	w.must("ip", "addr", "add", ownPrefix, "dev", bridge)
	w.must("ip", "link", "set", bridge, "up")
	on, err := net.InterfaceByName(bridge)
	if err != nil {
		t.Fatal(err)
	}
	if w.wire, err = newWire(on); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.wire.close(); err != nil {
			t.Error(err)
		}
	})
	if w.addresses, err = newAddresses(on.Index); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.addresses.close() })
}

// must runs a command and returns what it printed; a missing tool fails.
func (w *world) must(name string, args ...string) string {
	w.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const manifest = `kind: network
name: storm
cidr: %s
interface: eth0
dhcp: authoritative
pools: [10.98.1.0-%s]
---
kind: image
name: linux
kernel: {url: vmlinuz}
initrd: [{url: initrd}]
args: ["ignition.config.url={{ .ConfigURL }}"]
---
kind: profile
name: node
image: linux
config:
  butane: |
    variant: fcos
    version: 1.4.0
    storage:
      files:
        - {path: /etc/motd, contents: {inline: "{{ .Host.Name }}"}}
---
kind: policy
name: storm
registries: [registry.example/storm]
---
kind: site
name: www
services:
  web:
    image: registry.example/storm/www@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
`

const (
	kernelSize = 1 << 20
	initrdSize = 2 << 20
	spare      = 24 // addresses more than machines
)

// site writes what is served: a pool in which nearly every address is needed,
// and a document for each machine.
func (w *world) site() {
	t := w.t
	t.Helper()
	last := w.config.machines + spare
	text := fmt.Sprintf(manifest, network, fmt.Sprintf("10.98.%d.%d", 1+last>>8, last&255))
	for n := range w.config.machines {
		text += fmt.Sprintf("---\nkind: host\nname: %s\nmacs: [\"52:54:01:%02x:%02x:%02x\"]\nprofile: node\n", hostName(n), n>>16, n>>8&255, n&255)
	}
	dir := filepath.Join(w.dir, "site")
	noise := rand.NewChaCha8([32]byte{1})
	random := func(size int) []byte {
		b := make([]byte, size)
		_, _ = noise.Read(b) // never fails
		return b
	}
	kernel, initrd := random(kernelSize), random(initrdSize)
	w.kernel, w.initrd = digest(kernel), digest(initrd)
	err := os.MkdirAll(dir, 0o755)
	for name, body := range map[string][]byte{"all.yaml": []byte(text), "vmlinuz": kernel, "initrd": initrd} {
		path, old := filepath.Join(dir, name), time.Now().Add(-time.Hour) // nobody writes to them any more
		err = errors.Join(err, os.WriteFile(path, body, 0o644), os.Chtimes(path, old, old))
	}
	for _, name := range []string{"undionly.kpxe", "snponly.efi"} {
		body, readErr := os.ReadFile(filepath.Join(loaderDir, name))
		err = errors.Join(err, readErr)
		w.loaders[name] = digest(body)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
