package assets

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// fellow serves what another store has, as a server does.
func fellow(t *testing.T, of *Store, asked *int) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		of.ServeFellow(w, r, r.URL.Path[len(BlobPath):])
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestFellows: what a fellow has comes from there, whatever else is gone.
func TestFellows(t *testing.T) {
	m := newMirror(t, content(1<<20))
	path := t.TempDir() + "/x"
	here := writeFile(t, path, content(5000))
	here.SHA256 = digestOf(content(5000))
	one, two := newStore(t), newStore(t)
	for _, f := range []cluster.File{m.file(), here} {
		if _, err := one.Fetch(t.Context(), f, nil); err != nil {
			t.Fatal(err)
		}
	}
	m.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	var asked int
	at := fellow(t, one, &asked)
	two.config.Fellow = http.DefaultClient
	two.config.Fellows = func() []string { return []string{"http://127.0.0.1:1", at} }
	for _, f := range []cluster.File{m.file(), here} {
		if _, err := two.Fetch(t.Context(), f, nil); err != nil {
			t.Fatal(err)
		}
		if got, want := mustRead(t, two, f), mustRead(t, one, f); !bytes.Equal(got, want) {
			t.Error("another content")
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
	// What neither has: the publisher's failure is told.
	_, err := two.Fetch(t.Context(), cluster.File{URL: m.URL + "/other", SHA256: digestOf([]byte("other"))}, nil)
	wantError(t, err, nil, m.URL)
	// A file of this machine that is nowhere.
	_, err = two.Open(t.Context(), cluster.File{URL: "file://" + path, SHA256: digestOf([]byte("other"))})
	wantError(t, err, nil, "there is no such file")
}

// TestFellowLies: a fellow whose file is wrong, or whose link breaks, is passed
// over, and what came of it does not spoil what the publisher sends.
func TestFellowLies(t *testing.T) {
	for name, lie := range map[string]http.HandlerFunc{
		"another file": func(w http.ResponseWriter, _ *http.Request) { w.Write(content(1 << 19)) },
		"a longer one": func(w http.ResponseWriter, _ *http.Request) { w.Write(content(1<<20 + 1)) },
		"broken off":   func(w http.ResponseWriter, _ *http.Request) { w.Write(content(1 << 20)[:1000]); die() },
		"broken off, wrong": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1048576")
			w.Write(make([]byte, 1000))
			w.(http.Flusher).Flush()
			die()
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, s := newMirror(t, content(1<<20)), newStore(t)
			liar := httptest.NewServer(lie)
			defer liar.Close()
			s.config.Fellow = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			s.config.Fellows = func() []string { return []string{liar.URL} }
			if _, err := s.Fetch(t.Context(), m.file(), nil); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(mustRead(t, s, m.file()), m.body) {
				t.Error("another content")
			}
		})
	}
}

// TestFellowGetsNothingDamaged: what is not what its name says is given to nobody.
func TestFellowGetsNothingDamaged(t *testing.T) {
	m, s := newMirror(t, content(5000)), newStore(t)
	digest, err := s.Fetch(t.Context(), m.file(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.blobPath(digest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.blobPath(digest), make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{digest, "../index.json", "", digest[1:]} {
		w := httptest.NewRecorder()
		s.ServeFellow(w, httptest.NewRequest(http.MethodGet, "/", nil), name)
		if w.Code != http.StatusNotFound {
			t.Errorf("%q: %d", name, w.Code)
		}
	}
}
