package assets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// mirror serves one file, and misbehaves as it is told to.
type mirror struct {
	*httptest.Server
	body     []byte
	requests atomic.Int32
	ranges   []string
	handle   func(n int, w http.ResponseWriter, r *http.Request) // of the nth request, from 1; nil means well
}

func newMirror(t testing.TB, body []byte) *mirror {
	m := &mirror{body: body}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(m.requests.Add(1))
		if m.handle != nil {
			m.ranges = append(m.ranges, r.Header.Get("Range"))
			m.handle(n, w, r)
			return
		}
		m.serve(w, r)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) serve(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(m.body))
}

func (m *mirror) file() cluster.File {
	return cluster.File{URL: m.URL + "/vmlinuz", SHA256: digestOf(m.body)}
}

// die ends the connection in the middle of what it is sending.
func die() { panic(http.ErrAbortHandler) }

// half sends the first half of what is left, and dies.
func (m *mirror) half(w http.ResponseWriter, r *http.Request) {
	from := 0
	fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
	rest := m.body[from:]
	w.Header().Set("Content-Length", fmt.Sprint(len(rest)))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(m.body)-1, len(m.body)))
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(rest[:len(rest)/2])
	w.(http.Flusher).Flush()
	die()
}

func TestDownload(t *testing.T) {
	m := newMirror(t, content(3<<20))
	s := newStore(t)
	f := m.file()
	_, err := s.Open(t.Context(), f)
	wantError(t, err, ErrNotFetched)
	var done, total int64
	digest, err := s.Fetch(t.Context(), f, func(d, n int64) { done, total = d, n })
	if err != nil || digest != f.SHA256 || done != 3<<20 || total != 3<<20 {
		t.Fatalf("%s, %v, %d of %d", digest, err, done, total)
	}
	if got := mustRead(t, s, f); !bytes.Equal(got, m.body) {
		t.Error("another content")
	}
	if _, err := s.Fetch(t.Context(), f, nil); err != nil || m.requests.Load() != 1 {
		t.Errorf("fetched %d times, %v", m.requests.Load(), err)
	}
	info, err := os.Stat(s.blobPath(digest))
	if err != nil || info.Mode() != 0o444 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestResume: what came before the server died is not asked for again, also by
// another process.
func TestResume(t *testing.T) {
	body := content(1 << 20)
	m := newMirror(t, body)
	m.handle = func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			m.half(w, r)
		}
		w.WriteHeader(http.StatusBadGateway)
	}
	s := newStore(t)
	if _, err := s.Fetch(t.Context(), m.file(), nil); err == nil {
		t.Fatal("no error")
	}
	m.ranges, m.handle = nil, func(_ int, w http.ResponseWriter, r *http.Request) { m.serve(w, r) }
	s = openStore(t, s.config.Dir)
	if _, err := s.Fetch(t.Context(), m.file(), nil); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(m.ranges, " "); got != "bytes=524288-" {
		t.Errorf("ranges %s", got)
	}
	if got := mustRead(t, s, m.file()); !bytes.Equal(got, body) {
		t.Error("another content")
	}
}

// TestResumeOfAnother: what was left over is of another file, or longer than the
// file is.
func TestResumeOfAnother(t *testing.T) {
	for name, left := range map[string][]byte{"another": bytes.Repeat([]byte{1}, 1000), "longer": content(5000), "whole": content(3000)} {
		m := newMirror(t, content(3000))
		s := newStore(t)
		writeFile(t, s.partialPath(m.file().SHA256), left)
		if _, err := s.Fetch(t.Context(), m.file(), nil); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := mustRead(t, s, m.file()); !bytes.Equal(got, m.body) {
			t.Errorf("%s: another content", name)
		}
	}
}

// TestFetchedOnce: who asks for what is being fetched waits for it.
func TestFetchedOnce(t *testing.T) {
	m := newMirror(t, content(1<<20))
	gate := make(chan struct{})
	m.handle = func(_ int, w http.ResponseWriter, r *http.Request) {
		<-gate
		m.serve(w, r)
	}
	s := newStore(t)
	var wg sync.WaitGroup
	var told atomic.Int32
	for range 20 {
		wg.Go(func() {
			var once sync.Once
			if _, err := s.Fetch(t.Context(), m.file(), func(int64, int64) { once.Do(func() { told.Add(1) }) }); err != nil {
				t.Error(err)
			}
			if got := mustRead(t, s, m.file()); !bytes.Equal(got, m.body) {
				t.Error("another content")
			}
		})
	}
	for { // until all wait
		s.mu.Lock()
		f := s.flights[m.file().SHA256]
		s.mu.Unlock()
		if f != nil {
			f.mu.Lock()
			n := len(f.progress)
			f.mu.Unlock()
			if n == 20 {
				break
			}
		}
		time.Sleep(time.Millisecond)
	}
	close(gate)
	wg.Wait()
	if n := m.requests.Load(); n != 1 || told.Load() != 20 {
		t.Errorf("%d requests, %d were told", n, told.Load())
	}
}

// TestGiveUp: who stops waiting does not take the file from who waits on.
func TestGiveUp(t *testing.T) {
	m := newMirror(t, content(1<<20))
	gate, asked := make(chan struct{}), make(chan struct{}, 10)
	m.handle = func(_ int, w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-gate:
			m.serve(w, r)
		case <-r.Context().Done():
		}
	}
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := s.Fetch(ctx, m.file(), nil)
		first <- err
	}()
	<-asked
	second := make(chan error)
	go func() {
		_, err := s.Fetch(t.Context(), m.file(), nil)
		second <- err
	}()
	third, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.Fetch(third, m.file(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	time.Sleep(10 * time.Millisecond) // until the second one waits
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-asked
	close(gate)
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// TestParallel: no more downloads run at a time than may.
func TestParallel(t *testing.T) {
	var now, most atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		io.WriteString(w, r.URL.Path)
	}))
	defer srv.Close()
	s, err := New(Config{Dir: t.TempDir(), Parallel: 2})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 12 {
		path := fmt.Sprintf("/%d", i)
		wg.Go(func() {
			if _, err := s.Fetch(t.Context(), cluster.File{URL: srv.URL + path, SHA256: digestOf([]byte(path))}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n != 2 {
		t.Errorf("%d at a time", n)
	}
}

// TestTwoProcesses: another process that fetches the same file is not disturbed.
func TestTwoProcesses(t *testing.T) {
	m := newMirror(t, content(1000))
	s := newStore(t)
	other, err := openPartial(s.partialPath(m.file().SHA256))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Fetch(t.Context(), m.file(), nil)
	wantError(t, err, errInUse, "wait for it")
	other.Close()
	if _, err := s.Fetch(t.Context(), m.file(), nil); err != nil {
		t.Error(err)
	}
}

// TestNoRoom: a file for which there is no room is not begun.
func TestNoRoom(t *testing.T) {
	m := newMirror(t, content(10))
	m.handle = func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "9000000000000000000")
	}
	s := newStore(t)
	s.config.MaxBytes = 1<<63 - 1
	_, err := s.Fetch(t.Context(), m.file(), nil)
	wantError(t, err, ErrDiskFull, m.URL, "it needs 8381903171.5 GiB", "make room there, or type: pilotlight image collect")
	emptyFolders(t, s)
}

func BenchmarkOpen(b *testing.B) {
	s := newStore(b)
	f := writeFile(b, b.TempDir()+"/x", content(1<<20))
	f.SHA256 = digestOf(content(1 << 20))
	for b.Loop() {
		file, err := s.Open(b.Context(), f)
		if err != nil {
			b.Fatal(err)
		}
		file.Close()
	}
}
