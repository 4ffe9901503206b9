package join

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

const maxRequest = 64 << 10

// Handler serves the three calls of Client, installers that are done, and machines
// that follow a pointer to their config. Renewal needs the host's certificate, which
// the listener must ask for and verify.
func (i *Introducer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+PathJoin, func(w http.ResponseWriter, r *http.Request) {
		var in Request
		if !read(w, r, &in) {
			return
		}
		out, err := i.Introduce(r.Context(), remote(r), in)
		respond(w, i.log(), out, err)
	})
	mux.HandleFunc("POST "+PathInstalled, i.serveInstalled)
	mux.HandleFunc("GET "+PathConfig, i.serveConfig)
	mux.HandleFunc("GET "+PathCertificates+"{key}", func(w http.ResponseWriter, r *http.Request) {
		out, err := i.Certificate(r.Context(), r.PathValue("key"))
		respond(w, i.log(), out, err)
	})
	mux.HandleFunc("POST "+PathRenew, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			respond(w, i.log(), Response{}, refuse(http.StatusUnauthorized, "renewal needs the host's present certificate"))
			return
		}
		cert := r.TLS.PeerCertificates[0]
		host, ok := strings.CutPrefix(cert.Subject.CommonName, cluster.UserOf(""))
		if !ok {
			respond(w, i.log(), Response{}, refuse(http.StatusForbidden, "%s is not a host", cert.Subject.CommonName))
			return
		}
		var in RenewRequest
		if !read(w, r, &in) {
			return
		}
		out, err := i.Renew(r.Context(), remote(r), cert, cluster.HostName(host), in.CSR)
		respond(w, i.log(), out, err)
	})
	return mux
}

// remote is the address of the other end of the connection. Headers such as
// X-Forwarded-For are anybody's word and count for nothing.
func remote(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr().Unmap()
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	if err := d.Decode(into); err != nil { // its text may quote a token
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "the request is not the JSON that was expected; is the agent of this server's version?"})
		return false
	}
	return true
}

func respond(w http.ResponseWriter, log *slog.Logger, out any, err error) {
	var refusal *Refusal
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, out)
	case errors.As(err, &refusal):
		writeJSON(w, refusal.Status, map[string]string{"error": refusal.Reason})
	case errors.Is(err, errBusy):
		w.Header().Set("Retry-After", "2")
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"error": err.Error() + "; try again"})
	default:
		log.Error("introduction failed", "err", err)
		w.Header().Set("Retry-After", "5")
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"error": "the server could not ask etcd; try again"})
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the asker is gone when this fails
}
