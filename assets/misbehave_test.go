package assets

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// TestMirrorMisbehaves: what is wrong is not served, and says so; what can be
// mended is.
func TestMirrorMisbehaves(t *testing.T) {
	body := content(1 << 20)
	for name, tt := range map[string]struct {
		handle   func(m *mirror) func(n int, w http.ResponseWriter, r *http.Request)
		is       error
		says     string // empty means that it comes
		requests int32
	}{
		"a bit flip": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			bad := bytes.Clone(body)
			bad[500000] ^= 4
			return func(_ int, w http.ResponseWriter, _ *http.Request) { w.Write(bad) }
		}, ErrMismatch, "when it was changed on purpose write the new sha256:", 1},
		"truncated": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(_ int, w http.ResponseWriter, _ *http.Request) { w.Write(body[:1000]) }
		}, ErrMismatch, "write the new sha256:", 1},
		"says more than it sends": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "2000")
				w.Write(body[:1000])
				w.(http.Flusher).Flush()
				die()
			}
		}, nil, "the server ended after 1000 of 2000 bytes, 5 times", 5},
		"says less than it has": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(_ int, w http.ResponseWriter, _ *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
				conn.Write(body)
			}
		}, ErrMismatch, "write the new sha256:", 1},
		"no length": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.(http.Flusher).Flush()
				w.Write(body)
			}
		}, nil, "", 1},
		"dies half-way": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(n int, w http.ResponseWriter, r *http.Request) {
				if n < 4 {
					m.half(w, r)
				}
				m.serve(w, r)
			}
		}, nil, "", 4},
		"dies, and knows no ranges": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(n int, w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Range")
				if n == 1 {
					m.half(w, r)
				}
				m.serve(w, r)
			}
		}, nil, "", 2},
		"dies always at the same place": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(_ int, w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Range")
				m.half(w, r)
			}
		}, nil, "what came is kept, so try again when the server is well", 5},
		"another range": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(n int, w http.ResponseWriter, r *http.Request) {
				switch n {
				case 1:
					m.half(w, r)
				case 2:
					w.Header().Set("Content-Range", "bytes 7-9/10")
					w.WriteHeader(http.StatusPartialContent)
				default:
					m.serve(w, r)
				}
			}
		}, nil, "", 3},
		"not there": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }
		}, nil, "the server answered 404 Not Found: correct its url", 1},
		"busy": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(n int, w http.ResponseWriter, r *http.Request) {
				if n < 3 {
					w.WriteHeader(503)
					return
				}
				m.serve(w, r)
			}
		}, nil, "", 3},
		"down": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }
		}, nil, "the server answered 502 Bad Gateway, 5 times", 5},
		"stalls": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(n int, w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
					w.Write(body[:1000])
					w.(http.Flusher).Flush()
					<-r.Context().Done()
					return
				}
				m.serve(w, r)
			}
		}, nil, "", 2},
		"endless": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(_ int, w http.ResponseWriter, _ *http.Request) {
				for range 200 {
					if _, err := w.Write(body); err != nil {
						return
					}
				}
			}
		}, nil, "it has more than the 4.0 MiB that are allowed: correct its url", 1},
		"too large": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "5000000000")
			}
		}, nil, "it has 4.7 GiB, more than the 4.0 MiB that are allowed", 1},
		"gzip that nobody asked for": {func(m *mirror) func(int, http.ResponseWriter, *http.Request) {
			return func(_ int, w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Accept-Encoding"); got != "identity" {
					t.Errorf("Accept-Encoding: %s", got)
				}
				m.serve(w, r)
			}
		}, nil, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t, body)
			m.handle = tt.handle(m)
			s := newStore(t)
			s.config.MaxBytes = 4 << 20
			s.stall = 100 * time.Millisecond
			_, err := s.Fetch(t.Context(), m.file(), nil)
			if n := m.requests.Load(); n != tt.requests {
				t.Errorf("%d requests (%q), %v", n, m.ranges, err)
			}
			if tt.is == nil && tt.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := mustRead(t, s, m.file()); !bytes.Equal(got, body) {
					t.Error("another content")
				}
				return
			}
			wantError(t, err, tt.is, m.URL, tt.says)
			if s.Has(m.file()) {
				t.Error("it is in the store")
			}
			_, err = s.Open(t.Context(), m.file())
			wantError(t, err, ErrNotFetched)
		})
	}
}
