package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pin/tftp/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

const (
	// blockSize is the largest block: with TFTP's, UDP's and IP's headers it
	// fills an Ethernet frame. Larger ones would be sent in fragments, which
	// some ROMs do not put together (pin/tftp#51).
	blockSize = 1468
	timeout   = time.Second // for one block, then it is sent again
	retries   = 5
	limit     = 2048 // transfers at a time; a client that is refused asks again
)

// Server serves the files of one directory. Its fields are set before Serve and
// not changed after.
type Server struct {
	// Root holds the loaders: os.DirFS("/usr/lib/ipxe"). Only clean relative
	// names are looked up in it. Its symbolic links are the operator's doing
	// and are followed: Debian's ipxe.efi is one.
	Root       fs.FS
	Snapshot   func() *cluster.Snapshot             // may be nil: then nothing is recorded
	Owner      func(netip.Addr) (cluster.MAC, bool) // whose address it is; may be nil
	Recorder   *boot.Recorder
	Logger     *slog.Logger          // nil is silence
	Registerer prometheus.Registerer // nil keeps the metrics to itself

	metrics *metrics
	setUp   sync.Once
	running atomic.Int64
	warning *rate.Limiter // a stranger can provoke warnings: the log takes so many
}

type metrics struct {
	transfers *prometheus.CounterVec
	bytes     prometheus.Counter
	seconds   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		transfers: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotlight_tftp_transfers_total", Help: "TFTP read requests, by outcome.",
		}, []string{"outcome"}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "pilotlight_tftp_sent_bytes_total", Help: "Bytes of files that were sent whole over TFTP.",
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "pilotlight_tftp_transfer_seconds", Help: "Time that a whole TFTP transfer took.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
	}
}

// Serve answers what comes on conn, a UDP socket on port 69, until ctx is done.
// Then it closes conn, ends the transfers that are under way, waits for them,
// and returns nil. It may be called more than once, with a socket each.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	s.setUp.Do(func() {
		s.metrics = newMetrics(s.Registerer)
		s.warning = rate.NewLimiter(5, 50)
	})
	t := tftp.NewServer(func(name string, to io.ReaderFrom) error { return s.read(ctx, name, to) }, nil)
	t.SetBlockSize(blockSize)
	t.SetTimeout(timeout)
	t.SetRetries(retries)
	// The library would wait a random time, up to a second more, between one
	// try and the next; the timeout is wait enough.
	t.SetBackoff(func(int) time.Duration { return 0 })

	defer conn.Close()
	var stopping sync.WaitGroup
	ended := make(chan struct{})
	stopping.Go(func() {
		select {
		case <-ctx.Done():
		case <-ended:
		}
		t.Shutdown()
	})
	err := t.Serve(conn)
	close(ended)
	stopping.Wait()
	t.Shutdown() // once more: now that no request can begin, it waits for all of them
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve tftp: %w", err)
	}
	return nil
}

// read answers one read request. Its error goes to the client as it is.
func (s *Server) read(ctx context.Context, name string, to io.ReaderFrom) error {
	defer s.running.Add(-1)
	if s.running.Add(1) > limit {
		s.metrics.transfers.WithLabelValues("refused").Inc()
		return errBusy
	}
	start := time.Now()
	client := remote(to)
	log := s.logger().With("file", printable(name), "client", client)
	f, err := s.open(name)
	if err != nil {
		s.metrics.transfers.WithLabelValues("refused").Inc()
		if s.warning.Allow() {
			log.Warn("a file was asked for over TFTP that is not there", "error", err)
		}
		return err
	}
	defer f.Close()
	s.record(client, name)
	if info, err := f.Stat(); err == nil {
		to.(tftp.OutgoingTransfer).SetSize(info.Size())
	}
	body := &reader{ctx: ctx, file: f}
	n, err := to.ReadFrom(body)
	switch took := time.Since(start); {
	case err == nil:
		s.metrics.transfers.WithLabelValues("sent").Inc()
		s.metrics.bytes.Add(float64(n))
		s.metrics.seconds.Observe(took.Seconds())
		log.Debug("sent a file over TFTP", "bytes", n, "took", took)
	case !body.begun.Load():
		// ROMs ask for the size in a request that they never take up, or end
		// with an error packet, and then ask again for the file.
		s.metrics.transfers.WithLabelValues("probed").Inc()
		log.Debug("a client only asked for a file's size over TFTP")
	default:
		s.metrics.transfers.WithLabelValues("broken").Inc()
		if s.warning.Allow() {
			log.Warn("a TFTP transfer broke off; the client will try again", "bytes", n, "took", took, "error", err)
		}
	}
	return nil
}

// What a client is told.
var (
	errNotFile = errors.New("file not found")
	errBusy    = errors.New("too many transfers at a time, try again")
	errStopped = errors.New("the server is being stopped")
)

// open opens a file by a clean relative name. One slash in front is what many
// ROMs put there.
func (s *Server) open(name string) (fs.File, error) {
	clean := strings.TrimPrefix(name, "/")
	if !fs.ValidPath(clean) || clean == "." || strings.ContainsAny(clean, "\\\x00") {
		return nil, errNotFile
	}
	f, err := s.Root.Open(clean)
	if err != nil {
		return nil, errNotFile
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errNotFile
	}
	return f, nil
}

func (s *Server) record(client netip.Addr, name string) {
	if s.Owner == nil || s.Snapshot == nil {
		return
	}
	mac, ok := s.Owner(client)
	if !ok {
		return
	}
	if h, ok := s.Snapshot().Identify(cluster.Identity{MAC: mac}); ok {
		s.Recorder.Record(boot.Sighting{MAC: mac, Host: h.HostName(), Event: cluster.Event{
			Step: cluster.StepLoader, Addr: client, Detail: "tftp " + strings.TrimPrefix(name, "/"),
		}})
	}
}

func (s *Server) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

// reader is a file that ends with its context, and that knows whether the
// client wanted more of it than its size.
type reader struct {
	ctx   context.Context
	file  fs.File
	begun atomic.Bool
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, errStopped
	}
	r.begun.Store(true)
	return r.file.Read(b)
}

func remote(to io.ReaderFrom) netip.Addr {
	u := to.(tftp.OutgoingTransfer).RemoteAddr()
	return u.AddrPort().Addr().Unmap()
}

// printable keeps what a stranger sends from upsetting a log or a terminal.
func printable(s string) string {
	const longest = 128
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s[:min(len(s), longest)])
}
