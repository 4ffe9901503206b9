package tftp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	timeout = time.Second     // for an acknowledgement, then what is under way is sent again; it doubles
	longest = 4 * time.Second // up to here
	tries   = 6               // in a row without progress; then the client is given up
	// soon is the least that is waited for a client to go on, see hurry. The
	// slowest firmware takes in a window of 64 blocks in less.
	soon = 50 * time.Millisecond
)

// How a transfer can end before its time.
var (
	errSilent  = errors.New("the client fell silent")
	errGone    = errors.New("the client's port is closed")
	errStopped = errors.New("the server is being stopped")
)

// clientError is what a client ended the transfer with.
type clientError struct {
	code    uint16
	message string
}

func (e *clientError) Error() string { return fmt.Sprintf("the client says %d %q", e.code, e.message) }

// channel is a socket with the client at its other end.
type channel interface {
	io.ReadWriter
	// WriteBlocks sends datagrams of size bytes, of which the last may be shorter.
	WriteBlocks(b []byte, size int) error
	SetDeadline(time.Time) error
}

// transfer sends one file to one client.
type transfer struct {
	terms
	channel channel
	file    io.ReaderAt

	blocks   blocks
	tries    int           // in a row without a sign of progress
	refusals int           // in a row
	hurrying bool          // the client was given a moment, see hurry
	hurried  bool          // that was since the last progress
	sentAt   time.Time     // what is under way
	slowest  time.Duration // that the client took to answer
	in       [128]byte     // a packet of the client's: an ACK, or an ERROR with its message

	size    int64 // of the file as it is sent, once its end was read
	windows int64 // that were sent
	resent  int64 // blocks that were sent again
}

// run sends the file, until the client has it whole or an error says why not.
// It sends from the first block that the client lacks; what comes back, or that
// nothing does, decides where that is (RFC 1350, section 2; RFC 7440, section 4).
func (t *transfer) run(ctx context.Context) error {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		t.channel.SetDeadline(time.Unix(1, 0)) // wakes what waits for the client
		close(woken)
	})
	defer func() {
		if !stop() {
			<-woken // or it would be the end of a deadline that is set later
		}
	}()
	if len(t.agreed) > 0 {
		t.blocks.acked = -1
	}
	for !t.blocks.whole() {
		if t.tries == tries {
			return errSilent
		}
		t.sentAt, t.hurrying = time.Now(), false
		t.channel.SetDeadline(t.sentAt.Add(t.patience()))
		if ctx.Err() != nil {
			return errStopped
		}
		if err := t.send(t.blocks.acked + 1); err != nil {
			return err
		}
		err := t.await(ctx)
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case !t.hurrying:
			t.tries++
		}
	}
	return nil
}

// taken is whether the client has acknowledged anything.
func (t *transfer) taken() bool {
	return t.blocks.acked > 0 || t.blocks.acked == 0 && len(t.agreed) > 0
}

// patience is how long an acknowledgement may take: what was agreed on, or
// longer with every try.
func (t *transfer) patience() time.Duration {
	if t.timeout > 0 {
		return t.timeout
	}
	return min(timeout<<t.tries, longest)
}

// chunks are buffers of what one system call sends, which is what fits into one
// UDP packet's length.
var chunks = sync.Pool{New: func() any { return new([1 << 16]byte) }}

const (
	header   = 4     // of a DATA packet
	maxChunk = 65000 // bytes, headers included, that the kernel takes at a time
	maxCut   = 64    // into as many datagrams at most (UDP_MAX_SEGMENTS)
)

// send sends the OACK, or from a block on what the client's window has room for.
// That something was not sent is no error: it may be later.
func (t *transfer) send(from int64) error {
	if t.blocks.acked < 0 {
		t.note(write(t.channel, oack(t.agreed)))
		return nil
	}
	buf := chunks.Get().(*[1 << 16]byte)
	defer chunks.Put(buf)
	next, end := from, t.blocks.acked+int64(t.window)
	most := max(1, min(maxChunk/(t.block+header), maxCut))
	for next <= end && (t.blocks.last == 0 || next <= t.blocks.last) {
		n, packets, err := t.pack(buf[:], next, int(min(end-next+1, int64(most))))
		if err != nil {
			return err
		}
		t.note(t.channel.WriteBlocks(packets, t.block+header))
		next += int64(n)
	}
	if next > from {
		t.windows++
		t.resent += t.blocks.send(from, next-1)
	}
	return nil
}

// pack makes DATA packets of n blocks from one on, less if the file ends. They
// are read at once, to the end of the room that they take with their headers,
// and then each moved forward to its place.
func (t *transfer) pack(buf []byte, from int64, n int) (int, []byte, error) {
	raw := buf[n*header:][:n*t.block]
	offset := (from - 1) * int64(t.block)
	got, err := t.file.ReadAt(raw, offset)
	switch {
	case err == io.EOF:
		t.size = offset + int64(got)
		t.blocks.last = from + int64(got/t.block) // it is shorter than a block, or empty
		n = min(n, got/t.block+1)
	case err != nil && got < len(raw):
		return 0, nil, err
	}
	out := buf[:0]
	for i := range n {
		out = binary.BigEndian.AppendUint16(out, opData)
		out = binary.BigEndian.AppendUint16(out, uint16(from+int64(i)))
		out = append(out, raw[i*t.block:min((i+1)*t.block, got)]...)
	}
	return n, out, nil
}

// await waits until the next window is due. An os.ErrDeadlineExceeded says that
// the client was silent for so long.
func (t *transfer) await(ctx context.Context) error {
	for {
		n, err := t.channel.Read(t.in[:])
		if ctx.Err() != nil {
			return errStopped
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		t.note(err)
		if t.refusals > 1 {
			return errGone
		}
		if err != nil {
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return err
			}
			continue
		}
		t.refusals = 0
		switch packet := t.in[:n]; {
		case opcode(packet) == opError:
			return newClientError(packet)
		case opcode(packet) == opAck && n >= header:
			due, err := t.acknowledged(binary.BigEndian.Uint16(packet[2:]))
			if due || err != nil {
				return err
			}
		}
	}
}

// acknowledged is whether an acknowledgement makes the next window due. Most do,
// that of a whole window as well as that within one, which tells of a gap. But
// two kinds may mean either of two things. One of the same block once more may
// be a copy that the network made, or a client's word that it lacks the first
// block of the window (EDK2 sends one for each block that it did not expect,
// NetworkPkg/Mtftp4Dxe/Mtftp4Rrq.c). And one within a window that was sent
// before may tell of a gap, or answer the first copy, with the rest on its way.
//
// To answer the wrong kind with a window doubles every window from then on: the
// Sorcerer's Apprentice (RFC 1123, section 4.2.3.1), with windows for buckets.
// So in these cases the client has what its window has room for beyond what is
// under way, and a moment to go on, before all is sent again.
func (t *transfer) acknowledged(number uint16) (due bool, err error) {
	now := time.Now()
	is := t.blocks.ack(number)
	if is == partly || is == complete {
		t.slowest = max(t.slowest, now.Sub(t.sentAt))
		t.tries, t.hurried = 0, false
	}
	switch {
	case is == complete, is == partly && !t.blocks.repeat:
		return true, nil
	case is == partly:
		t.hurry(now)
		return false, t.send(t.blocks.sent + 1)
	case is == again && t.window > 1 && !t.hurried:
		t.hurry(now)
	}
	return false, nil
}

// hurry has what is under way sent again unless the client goes on in the time
// that it takes at most, or soon.
func (t *transfer) hurry(now time.Time) {
	t.hurrying, t.hurried = true, true
	t.channel.SetDeadline(now.Add(min(max(2*t.slowest, soon), t.patience())))
}

// note counts refusals without a packet between them: a single one may be a
// client between two sockets. The kernel tells of one at the next call, whichever.
func (t *transfer) note(err error) {
	if errors.Is(err, syscall.ECONNREFUSED) {
		t.refusals++
	}
}

func write(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

func newClientError(packet []byte) *clientError {
	e := new(clientError)
	if len(packet) >= header {
		e.code, e.message = binary.BigEndian.Uint16(packet[2:]), printable(string(packet[header:]))
	}
	return e
}
