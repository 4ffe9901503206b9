//go:build integration

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

// A snapshot of etcd's own is restored by the command of docs/operate.md, and the
// tar of that page brings back all the rest: what was applied, the secret's
// version, the image that was pushed.
func TestIntegrationBackup(t *testing.T) {
	l := newLab(t)
	l.write("all.yaml", labManifest+hostManifest("n1", mac1))
	l.write("vmlinuz", "a kernel")
	server := l.serve()
	image := strings.TrimSpace(l.pilotlight("site", "push", someImage(t), "empty:1"))
	snapshot := filepath.Join(l.dir, "pilotlight.db")
	l.mustIn(l.server, "env", "ETCDCTL_API=3", "etcdctl", "--endpoints", "https://127.0.0.1:2379",
		"--cacert", l.data()+"/ca/ca.crt", "--cert", l.data()+"/server/etcd.crt", "--key", l.data()+"/server/etcd.key", "snapshot", "save", snapshot)
	before := l.pilotlight("get", "-o", "yaml")
	server.stop(syscall.SIGTERM)

	rest := filepath.Join(l.dir, "rest.tar.gz")
	must(t, "tar", "-C", l.data(), "-czf", rest, "ca", "server", "operator", "registry")
	must(t, "rm", "-rf", l.data())
	if err := os.Mkdir(l.data(), 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "tar", "-C", l.data(), "-xzf", rest)
	must(t, "env", "ETCDCTL_API=3", "etcdctl", "snapshot", "restore", snapshot, "--data-dir", l.data()+"/etcd", "--name", "pilotlight",
		"--initial-cluster", "pilotlight=https://127.0.0.1:2380", "--initial-advertise-peer-urls", "https://127.0.0.1:2380")
	l.serve()
	if after := l.pilotlight("get", "-o", "yaml"); after != before {
		t.Errorf("what was applied is\n%s\nand was\n%s", after, before)
	}
	blobs := must(t, "find", filepath.Join(l.data(), "registry"), "-type", "f")
	if !strings.Contains(blobs, strings.TrimPrefix(image[strings.Index(image, "@")+1:], "sha256:")) {
		t.Errorf("the registry has lost %s:\n%s", image, blobs)
	}
}

// someImage is an image in a directory in OCI's layout.
func someImage(t *testing.T) string {
	t.Helper()
	img, err := random.Image(1<<10, 1)
	if err != nil {
		t.Fatal(err)
	}
	path, err := layout.Write(t.TempDir(), empty.Index)
	if err == nil {
		err = path.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(path)
}
