package registry

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// asking is a registry that asks others as a fellow.
func asking(t *testing.T, urls ...string) *httptest.Server {
	return serve(t, t.TempDir(), &Fellows{Client: &http.Client{Transport: as("fellow")}, At: func() []string { return urls }})
}

func absent(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && e.StatusCode == http.StatusNotFound
}

// TestFellowsGiveImages: an image that was pushed to one server is pulled from
// another, also when the one is gone by then.
func TestFellowsGiveImages(t *testing.T) {
	one := serve(t, t.TempDir(), nil)
	two := asking(t, "http://127.0.0.1:1", one.URL)
	img := randomImage(t)
	if err := remote.Write(image(t, one, img, "a/web"), img, remote.WithTransport(as("pusher"))); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 5 { // hosts all pull at once
		all.Go(func() {
			if err := pull(image(t, two, img, "a/web"), "puller"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	one.Close()
	if err := pull(image(t, two, img, "a/web"), "puller"); err != nil {
		t.Errorf("it is not kept: %v", err)
	}
	other := randomImage(t)
	if err := pull(image(t, two, other, "a/web"), "puller"); !absent(err) {
		t.Errorf("what nobody has: %v", err)
	}
}

// TestFellowsGiveLists: an image of several architectures.
func TestFellowsGiveLists(t *testing.T) {
	one := serve(t, t.TempDir(), nil)
	two := asking(t, one.URL)
	list, err := random.Index(2000, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := list.Digest()
	if err != nil {
		t.Fatal(err)
	}
	at := func(s *httptest.Server) name.Digest {
		ref, err := name.NewDigest(strings.TrimPrefix(s.URL, "http://") + "/web@" + hash.String())
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	if err := remote.WriteIndex(at(one), list, remote.WithTransport(as("pusher"))); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Index(at(two), remote.WithTransport(as("puller")))
	if err != nil {
		t.Fatal(err)
	}
	want, err := list.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := got.RawManifest(); err != nil || !bytes.Equal(raw, want) {
		t.Errorf("another list, %v", err)
	}
}

// TestFellowsDoNotGoInCircles: two that ask each other find out that neither has it.
func TestFellowsDoNotGoInCircles(t *testing.T) {
	var urls [2]string
	var servers [2]*httptest.Server
	for i := range servers {
		servers[i] = serve(t, t.TempDir(), &Fellows{Client: &http.Client{Transport: as("fellow")}, At: func() []string { return []string{urls[1-i]} }})
		urls[i] = servers[i].URL
	}
	if err := pull(image(t, servers[0], randomImage(t), "web"), "puller"); !absent(err) {
		t.Error(err)
	}
	// A stranger gets nothing fetched.
	if err := pull(image(t, servers[0], randomImage(t), "web"), "nobody"); !denied(err) {
		t.Error(err)
	}
	// A fellow reads and does not write.
	img := randomImage(t)
	if err := remote.Write(image(t, servers[0], img, "web"), img, remote.WithTransport(as("fellow"))); !denied(err) {
		t.Error(err)
	}
}

// TestFellowLies: what is not its digest is not kept.
func TestFellowLies(t *testing.T) {
	img := randomImage(t)
	one := serve(t, t.TempDir(), nil)
	if err := remote.Write(image(t, one, img, "web"), img, remote.WithTransport(as("pusher"))); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"/blobs/", "/manifests/"} {
		liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			res, err := as("puller").RoundTrip(mustGet(t, one.URL+r.URL.Path))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			var body bytes.Buffer
			if _, err := body.ReadFrom(res.Body); err != nil {
				t.Error(err)
			}
			b := body.Bytes()
			if strings.Contains(r.URL.Path, what) {
				b[len(b)/2] ^= 1
			}
			w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
			_, _ = w.Write(b)
		}))
		two := asking(t, liar.URL)
		if err := pull(image(t, two, img, "web"), "puller"); !absent(err) {
			t.Errorf("%s: %v", what, err)
		}
		liar.Close()
	}
}

func mustGet(t *testing.T, url string) *http.Request {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Error(err)
	}
	return r
}

// A fellow that stops in the middle is left for the next.
func TestFellowThatHangs(t *testing.T) {
	one, img := serve(t, t.TempDir(), nil), randomImage(t)
	if err := remote.Write(image(t, one, img, "a/web"), img, remote.WithTransport(as("pusher"))); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	stuck := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-over
	}))
	defer stuck.Close()
	defer close(over)
	two := serve(t, t.TempDir(), &Fellows{Client: &http.Client{Transport: as("fellow")}, At: func() []string { return []string{stuck.URL, one.URL} }, Patience: 2 * time.Second})
	if err := pull(image(t, two, img, "a/web"), "puller"); err != nil {
		t.Error(err)
	}
}
