package assets

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

func newStore(t testing.TB) *Store {
	t.Helper()
	return openStore(t, t.TempDir())
}

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := New(Config{Dir: dir, Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		t.Fatal(err)
	}
	s.retryWait = time.Millisecond
	return s
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// content is n bytes that differ everywhere.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13 + i>>16)
	}
	return b
}

func writeFile(t testing.TB, path string, b []byte) cluster.File {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return cluster.File{URL: "file://" + path}
}

func mustRead(t testing.TB, s *Store, f cluster.File) []byte {
	t.Helper()
	file, err := s.Open(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantError(t testing.TB, err error, is error, says ...string) {
	t.Helper()
	if err == nil || is != nil && !errors.Is(err, is) {
		t.Fatalf("got %v, want %v", err, is)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("no %q in %v", s, err)
		}
	}
}

func TestLocalPinned(t *testing.T) {
	s := newStore(t)
	want := content(300 << 10)
	path := filepath.Join(t.TempDir(), "vmlinuz")
	f := writeFile(t, path, want)
	f.SHA256 = strings.ToUpper(digestOf(want))
	if s.Has(f) {
		t.Error("it is there already")
	}
	if got := mustRead(t, s, f); !bytes.Equal(got, want) {
		t.Error("another content")
	}
	if !s.Has(f) {
		t.Error("it is not there")
	}
	// The original changes, in place and then by being gone: what is pinned is served on.
	writeFile(t, path, content(10))
	if got := mustRead(t, s, f); !bytes.Equal(got, want) {
		t.Error("the change of the original shows")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, s, f); !bytes.Equal(got, want) {
		t.Error("the loss of the original shows")
	}
}

func TestLocalMismatch(t *testing.T) {
	s := newStore(t)
	f := writeFile(t, filepath.Join(t.TempDir(), "vmlinuz"), content(100))
	f.SHA256 = digestOf(content(99))
	_, err := s.Open(t.Context(), f)
	wantError(t, err, ErrMismatch, "vmlinuz", digestOf(content(100)), f.SHA256, "write the new sha256:")
	if s.Has(f) {
		t.Error("it is in the store")
	}
	emptyFolders(t, s)
}

// emptyFolders: nothing is left where things are on their way.
func emptyFolders(t *testing.T, s *Store) {
	t.Helper()
	for _, folder := range []string{blobsFolder, partialFolder, damagedFolder} {
		entries, err := os.ReadDir(filepath.Join(s.config.Dir, folder))
		if err != nil || len(entries) > 0 {
			t.Errorf("%s: %v, %v", folder, entries, err)
		}
	}
}

// TestLocalUnpinned: hashed when it is first used, again when it changed, and not
// in between; its digest is reported.
func TestLocalUnpinned(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var log bytes.Buffer
	s.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	path := filepath.Join(t.TempDir(), "initrd")
	f := writeFile(t, path, []byte("first"))
	digest, err := s.Digest(t.Context(), f)
	if err != nil || digest != digestOf([]byte("first")) {
		t.Fatalf("%s, %v", digest, err)
	}
	if !strings.Contains(log.String(), digest) || !strings.Contains(log.String(), path) {
		t.Errorf("not reported: %s", log.String())
	}
	if got := mustRead(t, s, f); string(got) != "first" {
		t.Errorf("got %s", got)
	}
	// It was written this very moment, so that no look at it would show another
	// write. After a while it is hashed once more, and then not again.
	time.Sleep(2100 * time.Millisecond)
	mustRead(t, s, f)
	log.Reset()
	mustRead(t, s, f)
	if log.Len() > 0 {
		t.Errorf("hashed once more: %s", log.String())
	}
	writeFile(t, path, []byte("again"))
	if got := mustRead(t, s, f); string(got) != "again" {
		t.Errorf("got %s", got)
	}
	if digest, err = s.Digest(t.Context(), f); err != nil || digest != digestOf([]byte("again")) {
		t.Errorf("%s, %v", digest, err)
	}
	// What was pinned by the first digest is there still.
	if got := mustRead(t, s, cluster.File{URL: f.URL, SHA256: digestOf([]byte("first"))}); string(got) != "first" {
		t.Errorf("got %s", got)
	}
}

// TestRestart: another process finds what was verified, without hashing it.
func TestRestart(t *testing.T) {
	s := newStore(t)
	f := writeFile(t, filepath.Join(t.TempDir(), "x"), content(1000))
	digest, err := s.Fetch(t.Context(), f, nil)
	if err != nil {
		t.Fatal(err)
	}
	again := openStore(t, s.config.Dir)
	if !again.Has(cluster.File{SHA256: digest}) {
		t.Error("forgotten")
	}
	if got, ok := again.index.blob(digest); !ok || got.Size != 1000 {
		t.Errorf("got %v", got)
	}
	for _, damage := range []string{"", "{", `{"blobs": null}`} {
		if err := os.WriteFile(filepath.Join(s.config.Dir, "index.json"), []byte(damage), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := mustRead(t, openStore(t, s.config.Dir), f); !bytes.Equal(got, content(1000)) {
			t.Errorf("index %q: another content", damage)
		}
	}
}

// damage flips a bit of a verified file.
func damage(t *testing.T, s *Store, digest string) {
	t.Helper()
	path := s.blobPath(digest)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	time.Sleep(20 * time.Millisecond) // a step of the file system's clock
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestDamaged: a file that changed in the store is moved aside at once, and comes
// back from where it came.
func TestDamaged(t *testing.T) {
	s := newStore(t)
	want := content(5000)
	f := writeFile(t, filepath.Join(t.TempDir(), "x"), want)
	f.SHA256 = digestOf(want)
	mustRead(t, s, f)
	damage(t, s, f.SHA256)
	_, err := s.Open(t.Context(), cluster.File{SHA256: f.SHA256})
	wantError(t, err, ErrDamaged, "damaged/"+f.SHA256, "the server fetches it by itself")
	_, err = s.Open(t.Context(), cluster.File{SHA256: f.SHA256})
	wantError(t, err, ErrNotFetched, "the server fetches it by itself")
	if got := mustRead(t, s, f); !bytes.Equal(got, want) {
		t.Error("it did not come back")
	}
	damage(t, s, f.SHA256)
	if got := mustRead(t, s, f); !bytes.Equal(got, want) {
		t.Error("it did not come back at once")
	}
}

// TestVerify finds what no look at a file shows: here the index is made to
// believe that the damaged file always looked so.
func TestVerify(t *testing.T) {
	s := newStore(t)
	var digests []string
	for _, n := range []int{10, 20, 30} {
		d, err := s.Fetch(t.Context(), writeFile(t, filepath.Join(t.TempDir(), "x"), content(n)), nil)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	damage(t, s, digests[1])
	file, err := os.Open(s.blobPath(digests[1]))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	now, err := lookAt(file)
	if err != nil {
		t.Fatal(err)
	}
	s.index.blobs[digests[1]] = now
	var done, total int64
	check, err := s.Verify(t.Context(), func(d, n int64) { done, total = d, n })
	if err != nil || check.Blobs != 2 || check.Bytes != 40 || len(check.Damaged) != 1 || done != 60 || total != 60 {
		t.Fatalf("%+v, %v, %d of %d", check, err, done, total)
	}
	if d := check.Damaged[0]; d.SHA256 != digests[1] || !errors.Is(d.Err, ErrDamaged) {
		t.Errorf("%+v", d)
	}
	_, err = s.Open(t.Context(), cluster.File{SHA256: digests[1]})
	wantError(t, err, ErrNotFetched)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCollect(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	dir := t.TempDir()
	pinned := writeFile(t, filepath.Join(dir, "a"), content(10))
	pinned.SHA256 = digestOf(content(10))
	unpinned := writeFile(t, filepath.Join(dir, "b"), content(20))
	time.Sleep(2100 * time.Millisecond)
	unused := writeFile(t, filepath.Join(dir, "c"), content(30))
	for _, f := range []cluster.File{pinned, unpinned, unused} {
		mustRead(t, s, f)
	}
	open, err := s.Open(t.Context(), unused)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	busy, err := openPartial(s.partialPath(digestOf([]byte("busy"))))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	writeFile(t, s.partialPath("left over"), content(5))
	damage(t, s, digestOf(content(30)))
	writeFile(t, filepath.Join(s.config.Dir, damagedFolder, "x"), content(7))

	if _, err := s.Collect([]cluster.File{pinned, {URL: "gopher://x"}}); err == nil || len(mustList(t, s)) != 3 {
		t.Fatalf("a mistake must keep everything: %v", err)
	}
	gone, err := s.Collect([]cluster.File{pinned, unpinned})
	if err != nil || gone != (Collected{Files: 3, Bytes: 42}) {
		t.Fatalf("%+v, %v", gone, err)
	}
	blobs := mustList(t, s)
	if len(blobs) != 2 || !s.Has(pinned) || !s.Has(unpinned) || s.Has(unused) {
		t.Errorf("%+v", blobs)
	}
	if _, err := os.Stat(busy.Name()); err != nil {
		t.Errorf("what is being fetched is gone: %v", err)
	}
	if b, err := io.ReadAll(open); err != nil || len(b) != 30 {
		t.Errorf("who has it open reads %d bytes, %v", len(b), err)
	}
}

func mustList(t *testing.T, s *Store) []Blob {
	t.Helper()
	blobs, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	return blobs
}

// TestRefused: what cannot be fetched says what to write.
func TestRefused(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	for _, tt := range []struct {
		f    cluster.File
		is   error
		says string
	}{
		{cluster.File{}, nil, "is no URL that can be fetched: write it like"},
		{cluster.File{URL: "ftp://example.org/x"}, nil, "write it like https://"},
		{cluster.File{URL: "file:x"}, nil, "names no file of this machine"},
		{cluster.File{URL: "file://other/x"}, nil, "names no file of this machine"},
		{cluster.File{URL: "file://" + dir}, nil, "it is no plain file"},
		{cluster.File{URL: "file://" + dir + "/no"}, nil, "there is no such file: put it there"},
		{cluster.File{URL: "http:///x", SHA256: digestOf(nil)}, nil, "has no host"},
		{cluster.File{URL: "://"}, nil, "is no URL"},
		{cluster.File{URL: "https://example.org/x"}, ErrUnpinned, "type: curl -fsSL 'https://example.org/x' | sha256sum"},
		{cluster.File{URL: "https://example.org/x", SHA256: "abc"}, nil, "is not a sha256: write its 64"},
		{cluster.File{URL: "https://example.org/x", SHA256: digestOf(nil)}, ErrNotFetched, "https://example.org/x: not fetched: the server fetches it by itself"},
		{cluster.File{SHA256: digestOf(nil)}, ErrNotFetched, "sha256:"},
	} {
		_, err := s.Open(t.Context(), tt.f)
		wantError(t, err, tt.is, tt.says)
		if tt.is != ErrNotFetched && s.Has(tt.f) {
			t.Errorf("%v is there", tt.f)
		}
	}
	_, err := s.Open(t.Context(), cluster.File{URL: "https://me:hunter2@example.org/x"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
	if _, err := New(Config{Dir: filepath.Join(writeFile(t, filepath.Join(dir, "f"), nil).URL[7:], "x")}); err == nil {
		t.Error("a store below a file")
	}
}
