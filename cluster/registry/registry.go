// Package registry is an OCI registry inside the server, so that a site's image
// has a place to come from where there is no other.
//
// It keeps blobs in a directory and serves them to whoever the caller lets
// through. Who may push and who may pull is the caller's to say; which images
// may run is cluster.Policy's.
package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the driver that Open asks for
	"github.com/sirupsen/logrus"
)

// Prefix is the path below which registries answer (OCI distribution
// specification 1.1, section "Endpoints").
const Prefix = "/v2/"

// maxPath is the length of the longest path that means something: a name of 255
// characters and a tag of 128.
const maxPath = len(Prefix) + 255 + len("/manifests/") + 128

// Role says what somebody may do.
type Role int

// The roles.
const (
	Nobody Role = iota
	Puller
	Fellow // another server, which is told only what is here
	Pusher
)

// Open serves the registry kept in dir. role says what the asker may do; what is
// not here is asked of the fellows, who may be nil.
func Open(ctx context.Context, dir string, role func(*http.Request) Role, fellows *Fellows) (http.Handler, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the registry's directory: %w", err)
	}
	logrus.SetLevel(logrus.ErrorLevel) // the library logs each request otherwise
	logrus.SetFormatter(&troubles{&logrus.JSONFormatter{}})
	c := &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem": configuration.Parameters{"rootdirectory": dir},
			"delete":     configuration.Parameters{"enabled": true},
		},
	}
	c.Log.Level = "error"
	c.Log.AccessLog.Disabled = true
	c.Catalog.MaxEntries = 1000
	c.HTTP.Secret = rand.Text() // signs the state of uploads, which do not outlive the process
	app := handlers.NewApp(ctx, c)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := role(r)
		needed := Pusher
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			needed = Puller
		}
		if got < needed {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"hosts may pull and operators may push, each with a certificate of this server's authority"}]}`)
			return
		}
		if len(r.URL.Path) > maxPath { // the library takes it for a fault of its own
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprint(w, `{"errors":[{"code":"NAME_INVALID","message":"a repository's name has at most 255 characters"}]}`)
			return
		}
		if needed == Puller && got != Fellow {
			fellows.ensure(r, app)
		}
		app.ServeHTTP(w, r)
	}), nil
}

// troubles writes what the library takes for errors, but for a client that asks
// nonsense, or whether something is there and hears that it is not: every push
// begins so.
type troubles struct{ logrus.Formatter }

// Format implements logrus.Formatter.
func (t *troubles) Format(e *logrus.Entry) ([]byte, error) {
	if code := fmt.Sprint(e.Data["err.code"]); strings.HasSuffix(code, " unknown") || strings.HasSuffix(code, " invalid") {
		return nil, nil
	}
	return t.Formatter.Format(e)
}
