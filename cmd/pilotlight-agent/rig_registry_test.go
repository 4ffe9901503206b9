//go:build integration

package main

import (
	"archive/tar"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/pilotlight/pilotlight/cluster/join"
)

// startRegistry runs Debian's docker-registry on loopback, where Docker asks
// for no TLS.
func (r *rig) startRegistry() {
	r.registry = fmt.Sprintf("127.0.0.1:%d", freePort(r.t))
	config := filepath.Join(r.dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", filepath.Join(r.dir, "registry"), r.registry)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r.eventually("the registry answers", func() error {
		res, err := http.Get("http://" + r.registry + "/v2/")
		if err == nil {
			res.Body.Close()
		}
		return err
	})
}

func (r *rig) build(dir string) string {
	out := filepath.Join(r.dir, filepath.Base(dir))
	r.command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./"+dir)
	return out
}

// push makes an image FROM scratch of one program, and returns its reference.
func (r *rig) push(repository, program string, config v1.Config) string {
	t := r.t
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	b := must(os.ReadFile(program))(t)
	if err := w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(b))}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(b)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l := must(tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil }))(t)
	image := must(mutate.AppendLayers(empty.Image, l))(t)
	config.Entrypoint = []string{"/app"}
	image = must(mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: "amd64", OS: "linux", Config: config,
		RootFS: must(image.ConfigFile())(t).RootFS,
	}))(t)
	ref := must(name.ParseReference(r.registry + "/" + repository + ":latest"))(t)
	if err := remote.Write(ref, image, remote.WithTransport(r.pusher())); err != nil {
		t.Fatal(err)
	}
	return r.registry + "/" + repository + "@" + must(image.Digest())(t).String()
}

// privateRegistry serves images to whoever has a certificate of the servers'
// authority.
func (r *rig) privateRegistry(address string) string {
	listener := must(net.Listen("tcp", address+":0"))(r.t)
	base := filepath.Join(r.dir, "server", "registry")
	if err := r.ca.Ensure(base, join.Subject{CommonName: "registry", Addresses: []netip.Addr{netip.MustParseAddr(address)}, Server: true}); err != nil {
		r.t.Fatal(err)
	}
	pair := must(tls.LoadX509KeyPair(base+".crt", base+".key"))(r.t)
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: r.ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	r.t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// pusher is who pushes: it has the servers' certificate.
func (r *rig) pusher() http.RoundTripper {
	base := filepath.Join(r.dir, "server", "server")
	pair := must(tls.LoadX509KeyPair(base+".crt", base+".key"))(r.t)
	return &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: r.ca.Pool()}}
}
