package tftp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pin/tftp/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// limit is how many transfers there are at a time.
const limit = 2048

// Server serves the files of one directory. Its fields are set before Serve and
// not changed after.
type Server struct {
	// Root holds the loaders: os.DirFS("/usr/lib/ipxe"). Only clean relative
	// names are looked up in it. Its symbolic links are the operator's doing
	// and are followed: Debian's ipxe.efi is one.
	Root fs.FS

	// Files has what is beside Root: made for the machine that asks, or kept
	// elsewhere. fs.ErrNotExist sends a request on to Root; nil has nothing.
	Files func(ctx context.Context, client netip.Addr, name string) (fs.File, error)

	// Left says why the machine at an address is not to load a file: it boots from
	// its disk. nil leaves none to theirs.
	Left func(client netip.Addr, name string) (why string, left bool)

	BlockSize  int                                       // the largest block, if the path bears it; 0 is 1468
	Snapshot   func() *cluster.Snapshot                  // may be nil: then nothing is recorded
	Owner      func(netip.Addr) (cluster.Identity, bool) // whose address it is, and where that is plugged in; may be nil
	Recorder   *boot.Recorder
	Logger     *slog.Logger          // nil is silence
	Registerer prometheus.Registerer // nil keeps the metrics to itself

	metrics *metrics
	setUp   sync.Once
	running atomic.Int64
	eager   int64         // see eagerTransfers
	warning *rate.Limiter // a stranger can provoke warnings: the log takes so many
	refusal *rate.Limiter // and refusals of what is not a read request
}

// Serve answers what comes on conn, a UDP socket on port 69, until ctx is done.
// Then it closes conn, ends the transfers that are under way, waits for them,
// and returns nil. It may be called more than once, with a socket each.
func (s *Server) Serve(ctx context.Context, conn net.PacketConn) error {
	s.setUp.Do(func() {
		s.metrics = newMetrics(s.Registerer)
		s.eager = eagerTransfers()
		s.warning = rate.NewLimiter(5, 50)
		s.refusal = rate.NewLimiter(20, 100)
	})
	defer conn.Close()
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return fmt.Errorf("serve tftp: a %T is no UDP socket", conn)
	}
	if err := arrival(udp); err != nil {
		return fmt.Errorf("serve tftp: ask the socket for each packet's destination: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	f := &front{UDPConn: udp, ctx: ctx, stop: stop, server: s}
	library := tftp.NewServer(nil, nil) // it reads and writes no file
	var stopping sync.WaitGroup
	stopping.Go(func() {
		<-ctx.Done()
		library.Shutdown()
	})
	err := library.Serve(f)
	stop()
	stopping.Wait()
	library.Shutdown() // once more: now that no refusal can begin, it waits for all of them
	f.transfers.Wait()
	if err == nil {
		err = f.failed
	}
	if err != nil {
		return fmt.Errorf("serve tftp: %w", err)
	}
	return nil
}

// begin begins a transfer, if there is room for one more. If not it says nothing
// to the client, which asks again in a moment; an error would end its boot.
func (s *Server) begin(f *front, r request, local netip.Addr, client netip.AddrPort) {
	client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	if s.running.Add(1) > limit {
		s.running.Add(-1)
		s.metrics.outcome(outcomeRefused)
		s.warn(s.logger(), "too many TFTP transfers at a time; a client has to ask again", "client", client.Addr(), "transfers", limit)
		return
	}
	s.metrics.running.Inc()
	f.transfers.Go(func() {
		defer s.metrics.running.Dec()
		defer s.running.Add(-1)
		s.answer(f.ctx, r, local, client)
	})
}

// answer answers one read request.
func (s *Server) answer(ctx context.Context, r request, local netip.Addr, client netip.AddrPort) {
	log := s.logger().With("file", printable(r.file), "client", client.Addr())
	conn, err := dial(local, client)
	if err != nil {
		s.metrics.outcome(outcomeBroken)
		s.warn(log, "a TFTP client cannot be answered", "error", err)
		return
	}
	defer conn.Close()
	f, err := s.open(ctx, r, client.Addr())
	if err != nil {
		s.refuse(log, r.file, err)
		tell(conn, err)
		return
	}
	defer f.Close()
	s.record(client.Addr(), r.file)
	size, err := sizeOf(f, r.mode)
	if err != nil {
		s.metrics.outcome(outcomeBroken)
		s.warn(log, "a file cannot be read for TFTP", "error", err)
		tell(conn, errUnreadable)
		return
	}
	agreed := r.agree(size, min(cmp.Or(s.BlockSize, usualBlock), conn.largestBlock()))
	if agreed.window > 1 && agreed.block >= plainBlock { // smaller than an ERROR's message, that would be cut too
		conn.segment(agreed.block + header)
	}
	if agreed.window == 1 {
		conn.beEager(func() bool { return s.running.Load() <= s.eager })
	}
	t := &transfer{terms: agreed, channel: conn, file: newSource(f, size, agreed)}
	start := time.Now()
	err = t.run(ctx)
	s.conclude(log, t, time.Since(start), err)
	tell(conn, err)
}

// How a read request ends, for metrics and the log.
const (
	outcomeSent    = "sent"
	outcomeRefused = "refused"
	outcomeProbed  = "probed"         // the client wanted the file's size, or to know that it is there
	outcomeAborted = "aborted"        // by the client
	outcomeUnsure  = "unacknowledged" // all was sent; firmware that starts what it has does not always say so
	outcomeBroken  = "broken"
	outcomeLeft    = "left-to-disk" // the machine is to load nothing
)

// outcomeOf says how a transfer ended. ROMs ask for the size in a request that
// they end with an error packet, or never take up, and then ask again for the file.
func outcomeOf(t *transfer, err error) string {
	var byClient *clientError
	silent := errors.Is(err, errSilent) || errors.Is(err, errGone)
	switch {
	case err == nil:
		return outcomeSent
	case errors.As(err, &byClient) && !t.taken(), silent && t.blocks.acked < 0:
		return outcomeProbed
	case errors.As(err, &byClient):
		return outcomeAborted
	case silent && t.blocks.sent == t.blocks.last:
		return outcomeUnsure
	}
	return outcomeBroken
}

// conclude counts a transfer that has ended, and tells the log.
func (s *Server) conclude(log *slog.Logger, t *transfer, took time.Duration, err error) {
	outcome := outcomeOf(t, err)
	s.metrics.sent(t, outcome, took)
	log = log.With("outcome", outcome, "block", t.block, "window", t.window, "blocks", max(0, t.blocks.acked), "resent", t.resent, "took", took)
	switch outcome {
	case outcomeSent:
		log.Debug("sent a file over TFTP")
	case outcomeProbed:
		log.Debug("a client only asked for a file's size over TFTP")
	case outcomeAborted, outcomeUnsure:
		log.Debug("a client ended a TFTP transfer", "reason", err)
	default:
		s.warn(log, "a TFTP transfer broke off; the client will try again", "error", err)
	}
}

func (s *Server) warn(log *slog.Logger, message string, args ...any) {
	if s.warning.Allow() {
		log.Warn(message, args...)
	}
}

// refuse counts a file that a client does not get, and tells the log.
func (s *Server) refuse(log *slog.Logger, name string, err error) {
	var left *leftError
	switch {
	case errors.As(err, &left):
		s.metrics.outcome(outcomeLeft)
		log.Debug("a machine that boots from its disk asked for a loader", "reason", left.why)
	case isProbe(strings.TrimPrefix(name, "/")):
		s.metrics.outcome(outcomeProbed)
		log.Debug("a client looked whether a file is there", "error", err)
	default:
		s.metrics.outcome(outcomeRefused)
		s.warn(log, "a file was asked for over TFTP that is not there", "error", err)
	}
}

// isProbe reports whether a file is one that loaders look for and do without:
// iPXE its script, shim what may revoke it, GRUB its modules, words and fonts,
// U-Boot a device tree, and a Raspberry Pi much of what is in its own folder.
func isProbe(name string) bool {
	if _, pi := boot.PiFile(name); pi {
		return true
	}
	return slices.Contains([]string{boot.AutoexecFile, "revocations.efi", "shim_certificate.efi", "bootsig.bin"}, path.Base(name)) ||
		strings.HasPrefix(name, "grub/") || strings.HasPrefix(name, "dtb/")
}

// leftError is for a machine that is to load nothing.
type leftError struct{ why string }

// Error implements error.
func (e *leftError) Error() string { return e.why }

// What a client is told beside errStopped and errChanged.
var (
	errNotFile    = errors.New("file not found")
	errMode       = errors.New("only the modes octet and netascii are served")
	errUnreadable = errors.New("the file cannot be read")
)

// tell tells a client why it does not get a file, unless it ended that itself.
func tell(conn *socket, err error) {
	code, message := uint16(codeUndefined), errUnreadable
	var byClient *clientError
	switch {
	case err == nil, errors.As(err, &byClient), errors.Is(err, errSilent), errors.Is(err, errGone):
		return
	case errors.Is(err, errNotFile):
		code, message = codeNotFound, errNotFile
	case errors.Is(err, errMode):
		code, message = codeIllegal, errMode
	case errors.Is(err, errStopped), errors.Is(err, errChanged):
		message = err
	case errors.As(err, new(*leftError)):
		code, message = codeNotFound, err
	}
	conn.SetDeadline(time.Now().Add(timeout))
	conn.Write(errorPacket(code, message.Error()))
}

// open opens a file by a clean relative name. One slash in front is what many
// ROMs put there.
func (s *Server) open(ctx context.Context, r request, client netip.Addr) (fs.File, error) {
	if r.mode != "octet" && r.mode != netasciiMode {
		return nil, errMode
	}
	clean := strings.TrimPrefix(r.file, "/")
	if !fs.ValidPath(clean) || clean == "." || strings.ContainsAny(clean, "\\\x00") {
		return nil, errNotFile
	}
	if s.Left != nil {
		if why, left := s.Left(client, clean); left {
			return nil, &leftError{why}
		}
	}
	f, err := s.find(ctx, client, clean)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotFile, err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errNotFile
	}
	return f, nil
}

func (s *Server) find(ctx context.Context, client netip.Addr, name string) (fs.File, error) {
	if s.Files != nil {
		if f, err := s.Files(ctx, client, name); !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return s.Root.Open(name)
}

func (s *Server) record(client netip.Addr, name string) {
	if s.Owner == nil || s.Snapshot == nil {
		return
	}
	who, ok := s.Owner(client)
	if !ok {
		return
	}
	if h, ok := s.Snapshot().Identify(who); ok {
		s.Recorder.Record(boot.Sighting{MAC: who.MAC, Host: h.HostName(), Event: cluster.Event{
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
