package tftp

// blocks is how far a transfer is. It counts blocks from 1 without end, while on
// the wire their numbers are 16 bits that begin again at 0 after 65535. The OACK
// takes the place of block 0, which is how it is acknowledged (RFC 2347).
type blocks struct {
	acked  int64 // the client has all up to this one
	sent   int64 // the last one under way
	high   int64 // the last one that was ever sent
	last   int64 // the last one of the file; 0 is not known yet
	repeat bool  // what is under way begins with what had been sent before
}

// verdict is what an acknowledgement means.
type verdict int

const (
	stale    verdict = iota // of long ago, or of a block that was not sent: no matter
	again                   // of the block that was the last one already
	partly                  // of a part of what is under way
	complete                // of all that is under way
)

// ack takes an acknowledgement. It can only be of what is under way, which is
// far less than the 65536 blocks after which numbers come again.
func (b *blocks) ack(number uint16) verdict {
	further := int64(number - uint16(b.acked))
	switch {
	case further > b.sent-b.acked:
		return stale
	case further == 0:
		return again
	}
	b.acked += further
	if b.acked < b.sent {
		return partly
	}
	return complete
}

// send says that blocks were sent, and how many of them had been before.
func (b *blocks) send(from, upTo int64) (resent int64) {
	if from == b.acked+1 {
		b.repeat = from <= b.high
	}
	resent = max(0, min(b.high, upTo)-from+1)
	b.sent = upTo
	b.high = max(b.high, upTo)
	return resent
}

// whole is whether the client has the whole file.
func (b *blocks) whole() bool { return b.last > 0 && b.acked == b.last }
