package tftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// conn is what a client, and a transfer, need of a socket.
type conn interface {
	io.ReadWriter
	SetDeadline(time.Time) error
}

// end is one end of a network in memory, for synctest: packets take a while and
// keep their order.
type end struct {
	in      chan []byte
	other   *end
	latency time.Duration

	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{}
	last     time.Time // when the last packet that was sent arrives
	sent     int       // datagrams
}

// network returns its two ends.
func network(latency time.Duration) (*end, *end) {
	a := &end{in: make(chan []byte, 4096), changed: make(chan struct{}, 1), latency: latency}
	b := &end{in: make(chan []byte, 4096), changed: make(chan struct{}, 1), latency: latency}
	a.other, b.other = b, a
	return a, b
}

func (e *end) SetDeadline(at time.Time) error {
	e.mu.Lock()
	e.deadline = at
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
	return nil
}

func (e *end) Read(b []byte) (int, error) {
	for {
		e.mu.Lock()
		due := e.deadline
		e.mu.Unlock()
		var wake <-chan time.Time
		if !due.IsZero() {
			wait := time.Until(due)
			if wait <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			t := time.NewTimer(wait)
			defer t.Stop()
			wake = t.C
		}
		select {
		case p := <-e.in:
			return copy(b, p), nil
		case <-wake:
			return 0, os.ErrDeadlineExceeded
		case <-e.changed:
		}
	}
}

func (e *end) Write(b []byte) (int, error) {
	p := append([]byte(nil), b...)
	deliver := func() {
		select {
		case e.other.in <- p:
		default: // a full receive buffer
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent++
	if e.latency == 0 {
		deliver()
		return len(b), nil
	}
	at := time.Now().Add(e.latency)
	if !at.After(e.last) {
		at = e.last.Add(time.Nanosecond)
	}
	e.last = at
	time.AfterFunc(time.Until(at), deliver)
	return len(b), nil
}

// WriteBlocks implements channel.
func (e *end) WriteBlocks(b []byte, size int) error {
	for len(b) > size {
		e.Write(b[:size])
		b = b[size:]
	}
	return write(e, b)
}

// fault is what befalls a packet.
type fault int

const (
	none fault = iota
	lost
	doubled
	swapped // with the next one
)

// fate says what befalls the n-th packet in a direction.
type fate func(toClient bool, n int, packet []byte) fault

// percent is chance, the same with every run.
func percent(seed uint64, loss, double, swap int) fate {
	r := rand.New(rand.NewPCG(seed, 7))
	return func(bool, int, []byte) fault {
		switch x := r.IntN(100); {
		case x < loss:
			return lost
		case x < loss+double:
			return doubled
		case x < loss+double+swap:
			return swapped
		}
		return none
	}
}

// faulty is a client's socket on a network that does not deliver everything,
// once, and in order.
type faulty struct {
	conn
	fate    fate
	in, out int
	waiting [][]byte // packets that are to be read next
	heldIn  []byte
	heldOut []byte
}

func (f *faulty) Write(b []byte) (int, error) {
	n := f.out
	f.out++
	p := append([]byte(nil), b...)
	held := f.heldOut
	f.heldOut = nil
	switch f.fate(false, n, p) {
	case lost:
	case doubled:
		f.conn.Write(p)
		f.conn.Write(p)
	case swapped:
		f.heldOut = p
	default:
		f.conn.Write(p)
	}
	if held != nil {
		f.conn.Write(held)
	}
	return len(b), nil
}

func (f *faulty) Read(b []byte) (int, error) {
	for len(f.waiting) == 0 {
		n, err := f.conn.Read(b)
		if err != nil {
			if f.heldIn == nil {
				return n, err
			}
			f.waiting, f.heldIn = append(f.waiting, f.heldIn), nil
			break
		}
		p := append([]byte(nil), b[:n]...)
		held := f.heldIn
		f.heldIn = nil
		count := f.in
		f.in++
		switch f.fate(true, count, p) {
		case lost:
		case doubled:
			f.waiting = append(f.waiting, p, p)
		case swapped:
			f.heldIn = p
		default:
			f.waiting = append(f.waiting, p)
		}
		if held != nil {
			f.waiting = append(f.waiting, held)
		}
	}
	p := f.waiting[0]
	f.waiting = f.waiting[1:]
	return copy(b, p), nil
}

// manner is how a client behaves where the RFCs leave it to it.
type manner struct {
	complains bool          // it acknowledges once more for each block that it did not expect, as EDK2 does
	patience  time.Duration // after which it acknowledges once more; 0: it leaves that to the server
	lingers   bool          // after the last block it waits for whether its acknowledgement arrived
}

// receive is a client's part of a transfer, from the OACK on if there is one:
// RFC 7440 from the receiver's side. It knows the terms from its request.
func receive(c conn, t terms, how manner) ([]byte, error) {
	var file []byte
	got, acked, told := int64(0), int64(0), int64(-1)
	acknowledge := func() {
		c.Write(binary.BigEndian.AppendUint16([]byte{0, opAck}, uint16(got)))
		acked = got
	}
	in := make([]byte, 1<<16)
	for done := false; ; {
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		if how.patience > 0 {
			c.SetDeadline(time.Now().Add(how.patience))
		}
		if done {
			c.SetDeadline(time.Now().Add(30 * time.Second))
		}
		n, err := c.Read(in)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && done:
			return file, nil
		case errors.Is(err, os.ErrDeadlineExceeded) && how.patience > 0:
			if got > 0 || len(t.agreed) > 0 {
				acknowledge()
			}
			continue
		case err != nil:
			return file, fmt.Errorf("after %d blocks: %w", got, err)
		}
		switch p := in[:n]; {
		case opcode(p) == opOack:
			if got == 0 {
				acknowledge()
			}
		case opcode(p) != opData:
			return file, fmt.Errorf("after %d blocks: %q", got, p)
		case binary.BigEndian.Uint16(p[2:]) != uint16(got+1):
			// A gap is told once. If the last block comes again, its sender lacks
			// the acknowledgement.
			behind := int16(binary.BigEndian.Uint16(p[2:]) - uint16(got))
			if how.complains || behind == 0 || behind > 0 && told != got {
				told = got
				acknowledge()
			}
		default:
			file = append(file, p[header:]...)
			got++
			last := n-header < t.block
			if last || got-acked == int64(t.window) {
				acknowledge()
			}
			if last && !how.lingers {
				return file, nil
			}
			done = done || last
		}
	}
}
