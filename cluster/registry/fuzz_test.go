package registry

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// By whatever name something is pushed or asked for, nothing is written beside the
// registry's directory, nothing outside it is read, and it is no fault of ours.
func FuzzName(f *testing.F) {
	top := f.TempDir()
	dir := filepath.Join(top, "registry")
	if err := os.WriteFile(filepath.Join(top, "secret"), []byte("a secret of the server's"), 0o600); err != nil {
		f.Fatal(err)
	}
	h, err := Open(f.Context(), dir, func(*http.Request) Role { return Pusher }, nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "web/manifests/latest", "web/blobs/sha256:" + strings.Repeat("0", 64), "../secret/manifests/a", "a/../../secret/blobs/sha256:00", "web/blobs/uploads/", "_catalog?n=-1", "web/tags/list?n=x", "a%2f..%2f..%2fsecret/manifests/a"} {
		for _, m := range []string{"GET", "PUT", "POST", "DELETE"} {
			f.Add(m, s, []byte(`{"schemaVersion":2}`))
		}
	}
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		r, err := http.NewRequestWithContext(t.Context(), method, "https://server"+Prefix+path, strings.NewReader(string(body)))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != http.StatusNotImplemented || strings.Contains(w.Body.String(), "a secret of the server's") {
			t.Errorf("%s %q: %d %s", method, path, w.Code, w.Body)
		}
		beside, err := os.ReadDir(top)
		if err != nil || len(beside) > 2 {
			t.Fatalf("%s %q: beside the registry there is %v, %v", method, path, beside, err)
		}
	})
}
