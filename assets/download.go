package assets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attempts is how often a download may fail in a row without a new byte.
const attempts = 5

// finalError is one that another attempt would meet again.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

func final(format string, args ...any) error { return finalError{fmt.Errorf(format, args...)} }

// download fetches src into its partial file, from where an earlier attempt
// ended, and settles it.
func (s *Store) download(ctx context.Context, src source, tell Progress) (string, error) {
	part, err := openPartial(s.partialPath(src.key()))
	if err != nil {
		return "", err
	}
	defer part.Close()
	resumed, err := part.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	for {
		if err := s.complete(ctx, src, part, tell); err != nil {
			if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, ErrDiskFull) {
				os.Remove(part.Name()) // who shares the disk needs the room
			}
			return "", err
		}
		digest, err := s.settle(ctx, part, src)
		if !errors.Is(err, ErrMismatch) && !errors.Is(err, ErrRefused) {
			return digest, err
		}
		if resumed == 0 {
			os.Remove(part.Name())
			return "", err
		}
		resumed = 0 // its beginning was of another file: once more from there
		if err := part.Truncate(0); err != nil {
			return "", err
		}
	}
}

var errInUse = errors.New("another process is fetching it into the same store: wait for it, or give this server a directory of its own")

// openPartial opens the file of an interrupted download, or a new one. Two
// processes must not write to it.
func openPartial(path string) (*os.File, error) {
	part, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if !lock(part) {
		part.Close()
		return nil, errInUse
	}
	return part, nil
}

// lock marks a partial file as being written, until it is closed. It reports
// whether nobody else had.
func lock(f *os.File) bool { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil }

// complete makes attempts until the file is whole.
func (s *Store) complete(ctx context.Context, src source, part *os.File, tell Progress) error {
	best, failed := int64(-1), 0
	for {
		err := s.attempt(ctx, src, part, tell)
		var last finalError
		if err == nil || src.once || errors.As(err, &last) || ctx.Err() != nil {
			return err
		}
		size, seekErr := part.Seek(0, io.SeekEnd)
		if seekErr != nil {
			return seekErr
		}
		if failed++; size > best {
			best, failed = size, 1
		}
		if failed >= attempts {
			return fmt.Errorf("%w, %d times: what came is kept, so try again when the server is well", err, failed)
		}
		s.config.Log.Warn("a download was interrupted and goes on", "url", src.name, "at", size, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.retryWait << (failed - 1)):
		}
	}
}

// attempt asks for what is missing and appends it.
func (s *Store) attempt(ctx context.Context, src source, part *os.File, tell Progress) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	offset, err := part.Seek(0, io.SeekEnd)
	if err != nil {
		return finalError{err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, src.url, nil)
	if err != nil {
		return finalError{err}
	}
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	client := s.config.Client
	if src.client != nil {
		client = src.client
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if offset, err = startOf(resp, part, offset); err != nil {
		return err
	}
	total := int64(-1)
	if resp.ContentLength >= 0 {
		total = offset + resp.ContentLength
	}
	if err := s.room(total, offset); err != nil {
		return err
	}
	body := &watched{Reader: resp.Body, timer: time.AfterFunc(s.stall, func() { cancel(errStalled) }), stall: s.stall}
	defer body.timer.Stop()
	return s.pour(ctx, part, body, offset, total, tell)
}

var errStalled = errors.New("the server sends nothing any more")

// startOf returns at which byte of the file the response begins, and makes the
// partial file end there.
func startOf(resp *http.Response, part *os.File, offset int64) (int64, error) {
	switch code := resp.StatusCode; {
	case code == http.StatusPartialContent:
		if start, ok := contentStart(resp.Header.Get("Content-Range")); !ok || start != offset {
			return 0, errors.Join(part.Truncate(0), fmt.Errorf("asked for the bytes from %d on, the server sent %q", offset, resp.Header.Get("Content-Range")))
		}
		return offset, nil
	case code == http.StatusOK:
		_, err := part.Seek(0, io.SeekStart)
		return 0, errors.Join(part.Truncate(0), err)
	case code == http.StatusRequestedRangeNotSatisfiable:
		return 0, errors.Join(part.Truncate(0), errors.New("the file is shorter than what came of it before"))
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return 0, fmt.Errorf("the server answered %s", resp.Status)
	}
	return 0, final("the server answered %s: correct its url", resp.Status)
}

// contentStart reads S of "bytes S-E/T".
func contentStart(s string) (int64, bool) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	first, _, found := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, ok && found && err == nil
}

// room refuses a file for which there is none.
func (s *Store) room(total, have int64) error {
	if total > s.config.MaxBytes {
		return final("it has %s, more than the %s that are allowed: correct its url", human(total), human(s.config.MaxBytes))
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.config.Dir, &fs); err != nil {
		return nil // then the disk says so itself
	}
	if free := int64(fs.Bavail) * int64(fs.Bsize); total-have > free {
		return final("%w: it needs %s, and %s has %s: make room there, or type: pilotlight image collect",
			ErrDiskFull, human(total-have), s.config.Dir, human(free))
	}
	return nil
}

// pour appends the body to the partial file.
func (s *Store) pour(ctx context.Context, part *os.File, body io.Reader, done, total int64, tell Progress) error {
	buf := make([]byte, 256<<10)
	for {
		n, readErr := body.Read(buf)
		if n > 0 {
			if _, err := part.Write(buf[:n]); err != nil {
				return finalError{err}
			}
			done += int64(n)
			tell(done, total)
		}
		switch {
		case done > s.config.MaxBytes:
			return final("it has more than the %s that are allowed: correct its url", human(s.config.MaxBytes))
		case readErr == nil:
		case errors.Is(readErr, io.EOF) && (total < 0 || done == total):
			return nil
		case errors.Is(context.Cause(ctx), errStalled):
			return fmt.Errorf("%w, after %d of %d bytes", errStalled, done, total)
		case errors.Is(readErr, io.EOF), errors.Is(readErr, io.ErrUnexpectedEOF):
			return fmt.Errorf("the server ended after %d of %d bytes", done, total)
		default:
			return readErr
		}
	}
}

// watched is a body that puts off its alarm whenever something comes.
type watched struct {
	io.Reader
	timer *time.Timer
	stall time.Duration
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if n > 0 {
		w.timer.Reset(w.stall)
	}
	return n, err
}

func human(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}
