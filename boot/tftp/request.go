package tftp

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// Opcodes (RFC 1350, section 5; RFC 2347) and error codes.
const (
	opRead  = 1
	opWrite = 2
	opData  = 3
	opAck   = 4
	opError = 5
	opOack  = 6

	codeUndefined = 0
	codeNotFound  = 1
	codeIllegal   = 4
)

const (
	plainBlock    = 512 // without the option
	leastBlock    = 8   // RFC 2348, section 2
	greatestBlock = 65464
	// usualBlock is the largest block unless Server.BlockSize says otherwise:
	// with TFTP's, UDP's and IP's headers it fills an Ethernet frame. Larger ones
	// would be sent in fragments, which some ROMs do not put together (pin/tftp#51).
	usualBlock = 1468
	// largestWindow bounds what is under way to one client at a time: more
	// than fits into a usual receive buffer would be lost to no purpose.
	largestWindow = 64
	// longestTimeout is the longest that a client may have us wait: a stranger
	// who goes away then does not hold a place for long. A client that asks for
	// more is not answered about it, and goes by its own clock (RFC 2349).
	longestTimeout = 10 * time.Second
)

const netasciiMode = "netascii"

// request is a read request.
type request struct {
	file, mode string
	options    []option // as they came, in the client's spelling and order
}

type option struct{ name, value string }

// parseRead reads a read request (RFC 1350, section 5; RFC 2347). The NUL that
// ends the packet may be missing: ROMs that leave it out have always been served.
// Others fill the packet up with NULs.
func parseRead(packet []byte) (r request, ok bool) {
	if opcode(packet) != opRead {
		return r, false
	}
	fields := strings.Split(string(packet[2:]), "\x00")
	if len(fields) < 2 {
		return r, false
	}
	r.file, r.mode = fields[0], strings.ToLower(fields[1])
	for rest := fields[2:]; len(rest) >= 2 && rest[0] != ""; rest = rest[2:] {
		r.options = append(r.options, option{rest[0], rest[1]})
	}
	return r, true
}

// opcode is 0, which is none, for a packet too short to have one.
func opcode(packet []byte) uint16 {
	if len(packet) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(packet)
}

// terms is how a file is sent.
type terms struct {
	block   int           // bytes in each block but the last
	window  int           // blocks that are sent before one is acknowledged
	timeout time.Duration // that the client asked for; 0 is ours
	agreed  []option      // what the client is told in the OACK; none: there is no OACK
}

// agree picks of a client's options those that it may have. Unknown ones, and
// values that the RFCs do not allow, are passed over in silence, as RFC 2347
// has it: the client then goes without. A size below 0 is not known.
func (r request) agree(size int64, largestBlock int) terms {
	t := terms{block: plainBlock, window: 1}
	seen := make(map[string]bool)
	for _, o := range r.options {
		name := strings.ToLower(o.name)
		if seen[name] { // an option may be given once (RFC 2347)
			continue
		}
		seen[name] = true
		n, err := strconv.Atoi(o.value)
		if err != nil {
			continue
		}
		switch {
		case name == "blksize" && leastBlock <= n && n <= greatestBlock:
			t.block = max(leastBlock, min(n, largestBlock))
			n = t.block
		case name == "windowsize" && 1 <= n && n <= 65535: // RFC 7440, section 3
			t.window = min(n, largestWindow)
			n = t.window
		case name == "timeout" && 1 <= n && time.Duration(n)*time.Second <= longestTimeout:
			t.timeout = time.Duration(n) * time.Second
		case name == "tsize" && n >= 0 && size >= 0:
			t.agreed = append(t.agreed, option{o.name, strconv.FormatInt(size, 10)})
			continue
		default:
			continue
		}
		t.agreed = append(t.agreed, option{o.name, strconv.Itoa(n)})
	}
	return t
}

// oack is the answer that names what was agreed on.
func oack(agreed []option) []byte {
	b := []byte{0, opOack}
	for _, o := range agreed {
		b = append(append(b, o.name...), 0)
		b = append(append(b, o.value...), 0)
	}
	return b
}

func errorPacket(code uint16, message string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, opError}, code)
	return append(append(b, message...), 0)
}
