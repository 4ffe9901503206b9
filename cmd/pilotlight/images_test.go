package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/assets"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/cluster"
)

// A download that takes long does not hold back those of images that are applied
// meanwhile.
func TestSlowImageHoldsNothingBack(t *testing.T) {
	asked, slow := make(chan string, 100), make(chan struct{})
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		switch r.URL.Path {
		case "/slow":
			select {
			case <-slow:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(w, r.URL.Path)
	}))
	defer source.Close()
	defer close(slow)
	store, err := assets.New(assets.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	image := func(name string) cluster.Document {
		return &cluster.Image{Meta: cluster.Meta{Name: name}, Kernel: cluster.File{
			URL: source.URL + "/" + name, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte("/"+name)))}}
	}
	s := &server{log: slog.New(slog.DiscardHandler)}
	b := &bootServices{s: s, files: store, images: newImages()}
	snap := cluster.NewSnapshot(0, []cluster.Document{image("slow")})
	s.snap.Store(snap)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { b.keepImages(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	await := func(path string) {
		t.Helper()
		for {
			select {
			case got := <-asked:
				if got == path {
					return
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("%s is not fetched", path)
			}
		}
	}
	await("/slow")
	for _, name := range []string{"fast", "faster"} {
		snap = snap.With(0, []cluster.Document{image(name)}, nil)
		s.snap.Store(snap)
		b.images.look()
		await("/" + name)
	}
}

// What failed is tried again though another is still on its way, and what is there is
// left alone.
func TestFetches(t *testing.T) {
	files := []imageFile{{File: cluster.File{URL: "a"}}, {File: cluster.File{URL: "b"}}}
	asked := make(chan string, 10)
	answers := map[string]chan error{"a": make(chan error), "b": make(chan error)}
	f := newFetches(func(_ context.Context, file imageFile) error {
		asked <- file.URL
		return <-answers[file.URL]
	}, func(cluster.File) bool { return true })
	f.start(t.Context(), files)
	<-asked
	<-asked
	answers["b"] <- errors.New("no")
	f.end(<-f.ended)
	f.start(t.Context(), files) // not yet
	f.doubt()
	f.start(t.Context(), files)
	if got := <-asked; got != "b" || len(f.running) != 2 {
		t.Errorf("%s is asked for again; %v run", got, f.running)
	}
	answers["b"] <- nil
	f.end(<-f.ended)
	f.doubt()
	f.start(t.Context(), files)
	if len(f.running) != 1 || len(f.missing) != 0 || len(asked) != 0 {
		t.Errorf("%v run, %v is missing, though b is there", f.running, f.missing)
	}
	answers["a"] <- nil
	f.end(<-f.ended)
}

// Machines that ask for what could not be fetched just now, as all on a network may
// as often as they like, do not have it fetched at once again.
func TestAskingForWhatFailed(t *testing.T) {
	store, err := assets.New(assets.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	b := &bootServices{files: store, images: newImages()}
	f := cluster.File{URL: "http://192.0.2.1/kernel", SHA256: fmt.Sprintf("%x", sha256.Sum256(nil))}
	for _, failed := range []error{nil, assets.ErrMismatch} {
		b.images.note(f, failed)
		if _, err := b.Open(t.Context(), f); !errors.Is(err, httpboot.ErrNotReady) {
			t.Fatal(err)
		}
		if woken := len(b.images.changed) == 1; woken != (failed == nil) {
			t.Errorf("failed before: %v, looked for again: %t", failed, woken)
		}
		select {
		case <-b.images.changed:
		default:
		}
	}
}
