package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/sirupsen/logrus"
)

const roleHeader = "X-Test-Role"

func serve(t *testing.T, dir string, fellows *Fellows) *httptest.Server {
	t.Helper()
	h, err := Open(t.Context(), dir, func(r *http.Request) Role {
		return map[string]Role{"puller": Puller, "fellow": Fellow, "pusher": Pusher}[r.Header.Get(roleHeader)]
	}, fellows)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// as speaks with a role, as certificates give it.
type as string

func (a as) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(roleHeader, string(a))
	return http.DefaultTransport.RoundTrip(r)
}

func image(t *testing.T, s *httptest.Server, img v1.Image, repository string) name.Digest {
	t.Helper()
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewDigest(strings.TrimPrefix(s.URL, "http://") + "/" + repository + "@" + hash.String())
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(10_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func denied(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && e.StatusCode == http.StatusForbidden && strings.Contains(err.Error(), "hosts may pull and operators may push")
}

func pull(ref name.Reference, role string) error {
	img, err := remote.Image(ref, remote.WithTransport(as(role)))
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return err
		}
		if _, err := new(bytes.Buffer).ReadFrom(r); err != nil { // the client checks the digest
			return err
		}
		_ = r.Close()
	}
	return nil
}

func TestRoles(t *testing.T) {
	dir := t.TempDir()
	s, img := serve(t, dir, nil), randomImage(t)
	ref := image(t, s, img, "site/www")
	for _, role := range []string{"", "nobody", "puller"} {
		if err := remote.Write(ref, img, remote.WithTransport(as(role))); !denied(err) {
			t.Errorf("%q pushes: %v", role, err)
		}
	}
	if err := remote.Write(ref, img, remote.WithTransport(as("pusher"))); err != nil {
		t.Fatal(err)
	}
	for role, allowed := range map[string]bool{"": false, "nobody": false, "puller": true, "pusher": true} {
		if err := pull(ref, role); allowed && err != nil || !allowed && !denied(err) {
			t.Errorf("%q pulls: %v", role, err)
		}
	}
	for _, role := range []string{"", "puller"} {
		if err := remote.Delete(ref, remote.WithTransport(as(role))); !denied(err) {
			t.Errorf("%q deletes: %v", role, err)
		}
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "X"} {
			if got := status(t, s, method, "/v2/site/www/blobs/uploads/", role); got != http.StatusForbidden {
				t.Errorf("%q %s: %d", role, method, got)
			}
		}
	}
	if err := remote.Delete(ref, remote.WithTransport(as("pusher"))); err != nil {
		t.Error(err)
	}
	if err := pull(ref, "puller"); err == nil {
		t.Error("what was deleted is pulled")
	}
}

func TestRestart(t *testing.T) {
	dir, img := t.TempDir(), randomImage(t)
	s := serve(t, dir, nil)
	if err := remote.Write(image(t, s, img, "site/www"), img, remote.WithTransport(as("pusher"))); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = serve(t, dir, nil)
	if err := pull(image(t, s, img, "site/www"), "puller"); err != nil {
		t.Error(err)
	}
	if err := pull(image(t, s, img, "other"), "puller"); err == nil {
		t.Error("pulled from where it is not")
	}
}

// status sends a path as it is written, which no client would.
func status(t *testing.T, s *httptest.Server, method, path, role string) int {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\n%s: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", method, path, roleHeader, role)
	var code int
	if _, err := fmt.Fscanf(conn, "HTTP/1.1 %d", &code); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return code
}

func TestGarbage(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "registry")
	if err := os.WriteFile(filepath.Join(parent, "data"), []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, dir, nil)
	logrus.SetOutput(io.Discard)
	t.Cleanup(func() { logrus.SetOutput(os.Stderr) })
	const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	for _, path := range []string{
		"/v2/../data", "/v2/../../data", "/v2/%2e%2e/%2e%2e/data", "/v2/a/../../../data", "/v2/..%2f..%2fdata", "/v2/a/blobs/..%2f..%2fdata", "/v2/a/blobs/" + digest, "/v2/a/blobs/sha256:x",
		"/v2/a/manifests/..%2f..%2f..%2fdata", "/v2/a/manifests/" + strings.Repeat("x", 300), "/v2/A/manifests/x", "/v2//manifests/x", "/v2/a/blobs/uploads/..%2f..%2fx", "/v2/a\x01/manifests/x", "/v2/%00/manifests/x", "/v2/" + strings.Repeat("a/", 200) + "manifests/x", "/v1/", "/", "/v2/_catalog/x",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"} {
			code := status(t, s, method, path, "pusher")
			if code < 300 || code >= 500 {
				t.Errorf("%s %q: %d", method, path, code)
			}
		}
	}
	err := filepath.WalkDir(parent, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !strings.HasPrefix(path, dir) && path != parent && path != filepath.Join(parent, "data") {
			t.Errorf("%s was made outside", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestOpenWithoutDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), filepath.Join(file, "x"), nil, nil); err == nil {
		t.Error("opened a registry in a file")
	}
}
