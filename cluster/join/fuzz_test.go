package join

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster/clustertest"
)

// Whatever a stranger sends, nobody is let in without a token that was minted,
// nothing is written down for good, and it is told no more than a line.
func FuzzJoin(f *testing.F) {
	store := new(clustertest.Memory)
	ca, err := OpenCA(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	i := &Introducer{CA: ca, Records: store, Nodes: store, Auditor: store}
	h := i.Handler()
	f.Add(http.MethodPost, PathJoin, []byte(`{"token":"x","csr":"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----","recipient":"age1"}`))
	f.Add(http.MethodPost, PathInstalled, []byte(`{"token":""}`))
	f.Add(http.MethodPost, PathRenew, []byte(`{"csr":"x"}`))
	f.Add(http.MethodGet, PathCertificates+"00", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		r, err := http.NewRequestWithContext(context.Background(), method, "https://server/"+strings.TrimPrefix(path, "/"), strings.NewReader(string(body)))
		if err != nil {
			return
		}
		r.RemoteAddr = "10.0.0.9:1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code < 300 || w.Code >= 500 || w.Body.Len() > 4<<10 {
			t.Errorf("%s %q: %d with %d bytes", method, path, w.Code, w.Body.Len())
		}
		if nodes, _ := store.Nodes(context.Background()); len(nodes) > 0 {
			t.Fatalf("there are hosts: %v", nodes)
		}
	})
}
