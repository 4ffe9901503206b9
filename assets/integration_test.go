//go:build integration

package assets

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// tinyDisk is a file system of 1 MiB. It needs root.
func tinyDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount a tmpfs: %v: run make integration as root", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestIntegrationDiskFull: a full disk is an error that says so, leaves nothing behind, and
// takes nothing from what is there.
func TestIntegrationDiskFull(t *testing.T) {
	dir := tinyDisk(t)
	s := openStore(t, dir)
	small := newMirror(t, content(100<<10))
	if _, err := s.Fetch(t.Context(), small.file(), nil); err != nil {
		t.Fatal(err)
	}
	large := newMirror(t, content(2<<20))
	_, err := s.Fetch(t.Context(), large.file(), nil) // it says its length: not begun
	wantError(t, err, ErrDiskFull, large.URL, "it needs 2.0 MiB", dir, "type: pilotlight image collect")

	large.handle = func(_ int, w http.ResponseWriter, _ *http.Request) { // it does not: the disk fills up
		w.(http.Flusher).Flush()
		w.Write(large.body)
	}
	_, err = s.Fetch(t.Context(), large.file(), nil)
	wantError(t, err, ErrDiskFull, large.URL, "make room in "+dir, "type: pilotlight image collect")

	local := writeFile(t, filepath.Join(t.TempDir(), "x"), large.body)
	_, err = s.Open(t.Context(), local)
	wantError(t, err, ErrDiskFull, local.URL, "make room in "+dir)

	entries, err := os.ReadDir(filepath.Join(dir, partialFolder))
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if got := mustRead(t, s, small.file()); !bytes.Equal(got, small.body) {
		t.Error("another content")
	}
}

// TestIntegrationAdmitOnFullDisk: neither does a file that is vouched for by its signature stay
// by halves, nor one that a fellow sends.
func TestIntegrationAdmitOnFullDisk(t *testing.T) {
	dir := tinyDisk(t)
	s := openStore(t, dir)
	large := newMirror(t, content(2<<20))
	large.handle = func(_ int, w http.ResponseWriter, _ *http.Request) { // it does not say its length
		w.(http.Flusher).Flush()
		w.Write(large.body)
	}
	_, err := s.Admit(t.Context(), large.URL+"/disk", func(*os.File) error { return nil }, nil)
	wantError(t, err, ErrDiskFull, large.URL, "make room in "+dir, "type: pilotlight image collect")

	one := newStore(t)
	near := writeFile(t, filepath.Join(t.TempDir(), "x"), large.body)
	near.SHA256 = digestOf(large.body)
	if _, err := one.Fetch(t.Context(), near, nil); err != nil {
		t.Fatal(err)
	}
	var asked int
	at := fellow(t, one, &asked)
	s.config.Fellow, s.config.Fellows = http.DefaultClient, func() []string { return []string{at} }
	_, err = s.Fetch(t.Context(), large.file(), nil)
	wantError(t, err, ErrDiskFull, "type: pilotlight image collect")
	if asked != 1 {
		t.Errorf("the fellow was asked %d times", asked)
	}
	entries, err := os.ReadDir(filepath.Join(dir, partialFolder))
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
