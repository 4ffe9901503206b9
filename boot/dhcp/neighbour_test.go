package dhcp

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// entry is what the kernel answers with: RTM_NEWNEIGH and its attributes.
func entry(a netip.Addr, state uint16, attrs ...[]byte) []byte {
	host := binary.NativeEndian
	b := make([]byte, unix.SizeofNlMsghdr+ndmsgLength)
	host.PutUint16(b[4:], unix.RTM_NEWNEIGH)
	host.PutUint16(b[unix.SizeofNlMsghdr+8:], state)
	attr := func(kind uint16, value []byte) {
		h := make([]byte, attrLength)
		host.PutUint16(h, uint16(attrLength+len(value)))
		host.PutUint16(h[2:], kind)
		b = append(append(b, h...), value...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	attr(unix.NDA_DST, a.AsSlice())
	for _, v := range attrs {
		attr(unix.NDA_LLADDR, v)
	}
	host.PutUint32(b, uint32(len(b)))
	return b
}

func TestNeighbour(t *testing.T) {
	a, m := netip.MustParseAddr("10.0.0.70"), mac(1)
	for _, row := range []struct {
		what   string
		answer []byte
		ok     bool
	}{
		{"somebody answers", entry(a, unix.NUD_REACHABLE, m[:]), true},
		{"somebody did a while ago", entry(a, unix.NUD_STALE, m[:]), true},
		{"nobody answered yet", entry(a, unix.NUD_INCOMPLETE, m[:]), false},
		{"nobody answers", entry(a, unix.NUD_FAILED, m[:]), false},
		{"no hardware address", entry(a, unix.NUD_NOARP), false},
		{"one of another kind of link", entry(a, unix.NUD_REACHABLE, make([]byte, 20)), false},
		{"another's", entry(a.Next(), unix.NUD_REACHABLE, m[:]), false},
		{"nothing", nil, false},
		{"no message", []byte("what is this?"), false},
		{"cut off", entry(a, unix.NUD_REACHABLE, m[:])[:20], false},
	} {
		if got, err := parseNeighbour(row.answer, a); (err == nil) != row.ok || row.ok && got != m {
			t.Errorf("%s: %s, %v", row.what, got, err)
		}
	}
}

// The kernel understands the question: it knows no such neighbour.
func TestNeighbourAsks(t *testing.T) {
	var n Neighbours
	if m, ok := n.Of(netip.MustParseAddr("127.0.0.2")); ok {
		t.Errorf("%s answers for a loopback address", m)
	}
	if m, ok := n.Of(netip.MustParseAddr("203.0.113.1")); ok {
		t.Errorf("%s answers for an address that is on no link", m)
	}
}
