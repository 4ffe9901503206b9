package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"
)

// script is a client that sends what it is to, whatever comes, and is silent
// where a packet is empty. It checks every block that it gets.
type script struct {
	t       *testing.T
	packets [][]byte
	file    []byte
	block   int
	reads   int // that gave a packet or the end of waiting
	windows int // that were sent
	high    int64
}

func (s *script) SetDeadline(time.Time) error { return nil }

func (s *script) Read(b []byte) (int, error) {
	s.reads++
	if len(s.packets) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	p := s.packets[0]
	s.packets = s.packets[1:]
	if len(p) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return copy(b, p), nil
}

func (s *script) Write(b []byte) (int, error) {
	if opcode(b) != opOack {
		s.t.Fatalf("%q was sent beside blocks", b)
	}
	s.windows++
	return len(b), nil
}

func (s *script) WriteBlocks(b []byte, size int) error {
	if size != s.block+header {
		s.t.Fatalf("blocks of %d bytes", size)
	}
	s.windows++
	for len(b) > 0 {
		p := b[:min(size, len(b))]
		b = b[len(p):]
		// Which one it is, is told by its number and what came before it.
		n := s.high + int64(int16(binary.BigEndian.Uint16(p[2:])-uint16(s.high)))
		if opcode(p) != opData || n < 1 || n > s.high+1 {
			s.t.Fatalf("after block %d, %d came", s.high, n)
		}
		s.high = max(s.high, n)
		start := min((int(n)-1)*s.block, len(s.file))
		if want := s.file[start:min(start+s.block, len(s.file))]; !bytes.Equal(p[header:], want) {
			s.t.Fatalf("block %d is not the file's", n)
		}
	}
	return nil
}

// Whatever a client sends, a transfer ends, sends nothing but the file, and for
// each packet or silence a window at most.
func FuzzTransfer(f *testing.F) {
	ack := func(numbers ...byte) (out []byte) {
		for _, n := range numbers {
			out = append(out, 4, 0, opAck, 0, n)
		}
		return out
	}
	f.Add(uint8(1), uint8(1), uint16(100), ack(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13))
	f.Add(uint8(4), uint8(8), uint16(200), ack(0, 4, 8, 8, 6, 10, 14, 12, 12, 12, 18))
	f.Add(uint8(16), uint8(3), uint16(1000), append(ack(0, 16, 20), 0, 0, 5, 0, opError, 0, 8, 0))
	f.Add(uint8(64), uint8(0), uint16(0), []byte{0, 1, 4, 2, 0, 4, 5, 0, 4, 255, 255, 0})
	f.Fuzz(func(t *testing.T, window, block uint8, size uint16, sent []byte) {
		set := terms{block: max(leastBlock, int(block)), window: max(1, int(window)%(largestWindow+1)), agreed: []option{{"tsize", "1"}}}
		if window&128 != 0 {
			set.agreed = nil
		}
		s := &script{t: t, file: random(int(size)), block: set.block}
		for len(sent) > 0 {
			n := min(int(sent[0])%8, len(sent)-1)
			s.packets = append(s.packets, sent[1:1+n])
			sent = sent[1+n:]
		}
		x := &transfer{terms: set, channel: s, file: bytes.NewReader(s.file)}
		err := x.run(context.Background())
		var said *clientError
		if err != nil && !errors.Is(err, errSilent) && !errors.As(err, &said) {
			t.Fatal(err)
		}
		if whole := int64(int(size)/set.block + 1); err == nil && x.blocks.acked != whole {
			t.Fatalf("it ended at block %d of %d", x.blocks.acked, whole)
		}
		if chunks := (set.window*(set.block+header))/maxChunk + 1; s.windows > (s.reads+1)*chunks {
			t.Fatalf("%d windows for %d packets", s.windows, s.reads)
		}
	})
}
