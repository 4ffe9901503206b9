package link

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPartition: a network that swallows everything ends no connection. The
// watch is found to be hung, and the host comes back when the network does.
func TestPartition(t *testing.T) {
	h := newHouse(t)
	var stalled atomic.Bool
	proxy := stalling(t, h.addr, &stalled)
	var log lockedBuffer
	l := h.host("web1", func(c *Config) {
		c.Endpoints, c.Silence = []string{proxy}, time.Second
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	told, _ := h.run(l)
	h.next(told)
	stalled.Store(true)
	if err := h.store.Assign(t.Context(), h.node(t, "web1"), desired("meanwhile"), nil, nil); err != nil {
		t.Fatal(err)
	}
	h.until("it is seen that the watch hangs", func() bool { return strings.Contains(log.String(), errSilence.Error()) })
	stalled.Store(false)
	h.until("told what was decided meanwhile", func() bool { return h.next(told).Desired != nil })
}

// stalling passes bytes on to address, and while stalled keeps them back.
func stalling(t *testing.T, address string, stalled *atomic.Bool) string {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { _ = l.Close() })
	pass := func(to, from net.Conn) {
		defer to.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			for stalled.Load() && t.Context().Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
			if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", address)
			if err != nil {
				_ = in.Close()
				continue
			}
			go pass(in, out)
			go pass(out, in)
		}
	}()
	return l.Addr().String()
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

var _ io.Writer = (*lockedBuffer)(nil)

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
