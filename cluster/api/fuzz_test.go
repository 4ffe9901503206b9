package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

// Whatever an operator's client sends, it is told what is wrong with it: it is
// never a fault of ours, and never half an answer.
func FuzzAPI(f *testing.F) {
	store := new(clustertest.Memory)
	id, err := secret.NewIdentity()
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{
		Applier: Applier{Store: store}, Store: store, Recipient: id.Recipient(), Machines: machines{store: store},
		Snapshot: func() *cluster.Snapshot { s, _ := store.Load(context.Background()); return s },
	}
	h := s.Handler(func(*http.Request) (string, bool) { return "operator:fuzz", true })
	for _, q := range [][3]string{
		{"POST", "/v1/apply", `{"documents":[{"kind":"network","name":"lan","cidr":"10.0.0.0/24","dhcp":"authoritative"}],"delete":["host/web1"],"dry_run":true}`},
		{"POST", "/v1/apply", `{"documents":[{"kind":"host","name":"a","macs":["52:54:00:00:00:01"]}]}`},
		{"GET", "/v1/documents?kind=host", ""}, {"GET", "/v1/hosts", ""}, {"POST", "/v1/hosts/web1/retire", ""}, {"POST", "/v1/hosts/web1/reinstall", "{}"},
		{"PUT", "/v1/secrets/key", `{"value":"YQ=="}`}, {"GET", "/v1/secrets", ""}, {"GET", "/v1/boots?host=a", ""}, {"GET", "/v1/audit?last=-1", ""},
		{"GET", "/v1/explain?who=52:54:00:00:00:01", ""}, {"GET", "/v1/render?host=a", ""}, {"GET", "/v1/sites", ""},
	} {
		f.Add(q[0], q[1], []byte(q[2]))
	}
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		if strings.Contains(path, "watch") {
			return // which goes on until its client does not
		}
		r, err := http.NewRequestWithContext(context.Background(), method, "https://server/"+strings.TrimPrefix(path, "/"), strings.NewReader(string(body)))
		if err != nil {
			return
		}
		r.Host = "server"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %q %q: %d %s", method, path, body, w.Code, w.Body)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q: half an answer: %s", method, path, w.Body)
		}
	})
}
