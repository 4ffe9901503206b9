package httpboot

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// httpError is an error with the status that it is answered with.
type httpError struct {
	status int
	err    error
}

// Error implements error.
func (e *httpError) Error() string { return e.err.Error() }

// Unwrap implements errors.Unwrap.
func (e *httpError) Unwrap() error { return e.err }

func status(code int, format string, args ...any) error {
	return &httpError{code, fmt.Errorf(format, args...)}
}

// notReady is for what the operator or time will put right. A machine that asks
// is to ask again.
func notReady(format string, args ...any) error {
	return status(http.StatusServiceUnavailable, format, args...)
}

// statusOf says what an error is answered with. Whatever the machine did not
// bring about itself is a 503: it asks again, and the operator has time.
func statusOf(err error) int {
	if e, ok := errors.AsType[*httpError](err); ok {
		return e.status
	}
	if errors.Is(err, ErrNotAcceptable) {
		return http.StatusNotAcceptable
	}
	return http.StatusServiceUnavailable
}

// wrap makes a handler of a function that returns its error: it counts, limits,
// answers errors and logs.
func (h *Handler) wrap(name string, g gate, f func(http.ResponseWriter, *http.Request) error) http.Handler {
	seconds := h.metrics.seconds.WithLabelValues(name)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		w := &writer{ResponseWriter: rw}
		err := g.enter(r.Context())
		if err == nil {
			err = func() error {
				defer g.leave()
				return f(w, r)
			}()
		}
		if err != nil && w.status == 0 {
			code := statusOf(err)
			if code == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", retryAfter)
			}
			http.Error(w, "pilotlight: "+shorten(err.Error()), code)
		}
		w.begun()
		took := time.Since(start)
		h.metrics.requests.WithLabelValues(name, strconv.Itoa(w.status)).Inc()
		h.metrics.bytes.Add(float64(w.sent))
		seconds.Observe(took.Seconds())
		h.log(r, name, w, took, err)
	})
}

// log notes an answer. What a query says beside the machine's MAC is left out.
func (h *Handler) log(r *http.Request, name string, w *writer, took time.Duration, err error) {
	level := slog.LevelDebug
	if err != nil {
		level = slog.LevelWarn
	}
	if !h.logger().Enabled(r.Context(), level) || err != nil && !h.warning.Allow() {
		return
	}
	log := h.logger().With("what", name, "client", r.RemoteAddr, "method", r.Method, "path", printable(r.URL.Path), "status", w.status)
	if err != nil {
		log.Warn("refused an HTTP request", "mac", printable(r.FormValue("mac")), "error", shorten(err.Error()))
		return
	}
	log.Debug("answered an HTTP request", "bytes", w.sent, "took", took)
}

// writer notes the status and the size of an answer. It keeps the ReadFrom of
// what it wraps, without which a file would be copied through user space
// instead of being handed to sendfile.
type writer struct {
	http.ResponseWriter
	status int
	sent   int64
}

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements io.Writer.
func (w *writer) Write(b []byte) (int, error) {
	w.begun()
	n, err := w.ResponseWriter.Write(b)
	w.sent += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom.
func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	w.begun()
	n, err := io.Copy(w.ResponseWriter, r) // which finds the ReadFrom of net/http, if it is that
	w.sent += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) begun() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	bytes    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_boot_http_requests_total", Help: "HTTP requests of machines that boot, by what was asked for and status.",
		}, []string{"what", "status"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pilotlight_boot_http_seconds", Help: "Time from such a request to the end of its answer.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300},
		}, []string{"what"}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_boot_http_sent_bytes_total", Help: "Bytes sent to machines that boot.",
		}),
	}
}

// shorten bounds an error's text, which may quote what a stranger sent.
func shorten(s string) string {
	const longest = 2 << 10
	if len(s) <= longest {
		return s
	}
	return s[:longest] + " ... (cut)"
}

// printable keeps what a stranger sends from upsetting a log or a terminal.
func printable(s string) string {
	const longest = 128
	out := make([]byte, 0, min(len(s), longest))
	for i := 0; i < len(s) && len(out) < longest; i++ {
		if s[i] >= ' ' && s[i] <= '~' {
			out = append(out, s[i])
		}
	}
	return string(out)
}
