package tftp

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseRead(t *testing.T) {
	for _, c := range []struct {
		name, packet string
		want         request
		no           bool
	}{
		{"plain", "\x00\x01f\x00octet\x00", request{file: "f", mode: "octet"}, false},
		{"in capitals", "\x00\x01f\x00OCTET\x00", request{file: "f", mode: "octet"}, false},
		{"with options", "\x00\x01f\x00octet\x00BlkSize\x001428\x00x\x00y\x00", request{"f", "octet", []option{{"BlkSize", "1428"}, {"x", "y"}}}, false},
		{"with an option without a value", "\x00\x01f\x00octet\x00blksize\x00", request{"f", "octet", []option{{"blksize", ""}}}, false},
		{"with half an option", "\x00\x01f\x00octet\x00blksize", request{file: "f", mode: "octet"}, false},
		{"without the last NUL", "\x00\x01f\x00octet", request{file: "f", mode: "octet"}, false},
		{"filled up", "\x00\x01f\x00octet\x00\x00\x00\x00\x00", request{file: "f", mode: "octet"}, false},
		{"without a mode", "\x00\x01f", request{}, true},
		{"a write", "\x00\x02f\x00octet\x00", request{}, true},
		{"nothing", "", request{}, true},
		{"half an opcode", "\x00", request{}, true},
	} {
		got, ok := parseRead([]byte(c.packet))
		if ok == c.no || ok && (got.file != c.want.file || got.mode != c.want.mode || !slices.Equal(got.options, c.want.options)) {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
}

func TestAgree(t *testing.T) {
	ask := func(s string) (r request) {
		for _, f := range strings.Fields(s) {
			name, value, _ := strings.Cut(f, "=")
			r.options = append(r.options, option{name, value})
		}
		return r
	}
	const s = time.Second
	for _, c := range []struct {
		asked  string
		block  int
		window int
		wait   time.Duration
		oack   string
	}{
		{"", 512, 1, 0, ""},
		{"blksize=1428 tsize=0 windowsize=16 timeout=3", 1428, 16, 3 * s, "blksize=1428 tsize=5000 windowsize=16 timeout=3"},
		{"WINDOWSIZE=4 BlkSize=1024", 1024, 4, 0, "WINDOWSIZE=4 BlkSize=1024"},
		{"blksize=8", 8, 1, 0, "blksize=8"},
		{"blksize=65464", 1468, 1, 0, "blksize=1468"},
		{"windowsize=65535", 512, 64, 0, "windowsize=64"},
		{"blksize=512 blksize=1024", 512, 1, 0, "blksize=512"},
		// What the RFCs do not allow, and what no RFC knows.
		{"blksize=7", 512, 1, 0, ""}, {"blksize=65465", 512, 1, 0, ""}, {"blksize=70000", 512, 1, 0, ""},
		{"blksize=-1", 512, 1, 0, ""}, {"blksize=", 512, 1, 0, ""}, {"blksize=1e3", 512, 1, 0, ""},
		{"windowsize=0", 512, 1, 0, ""}, {"windowsize=65536", 512, 1, 0, ""}, {"windowsize=99999999999999999999", 512, 1, 0, ""},
		{"timeout=0", 512, 1, 0, ""}, {"timeout=255", 512, 1, 0, ""}, {"timeout=256", 512, 1, 0, ""}, {"tsize=much", 512, 1, 0, ""},
		{"multicast= utimeout=100 blksize=600", 600, 1, 0, "blksize=600"},
	} {
		got := ask(c.asked).agree(5000, usualBlock)
		if got.block != c.block || got.window != c.window || got.timeout != c.wait || !slices.Equal(got.agreed, ask(c.oack).options) {
			t.Errorf("%q: %+v", c.asked, got)
		}
	}
	if got := ask("tsize=0").agree(-1, usualBlock); len(got.agreed) > 0 {
		t.Errorf("a size that is not known is %v", got.agreed)
	}
	if got := ask("blksize=1428").agree(0, 1418); got.block != 1418 {
		t.Errorf("over a path for 1418 bytes, blocks of %d are agreed on", got.block)
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"\x00\x01undionly.kpxe\x00octet\x00tsize\x000\x00blksize\x001456\x00windowsize\x004\x00",
		"\x00\x01pxelinux.cfg/default\x00netascii\x00", "\x00\x01\x00\x00\x00\x00", "\x00\x02f\x00octet\x00", "\x00\x04\x00\x01", "\x00",
		"\x00\x01f\x00octet\x00blksize\x007\x00windowsize\x000\x00timeout\x00256\x00tsize\x00-1\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		r, ok := parseRead(packet)
		if !ok {
			return
		}
		got := r.agree(1<<40, usualBlock)
		if got.block < leastBlock || got.block > usualBlock || got.window < 1 || got.window > largestWindow || got.timeout < 0 || got.timeout > longestTimeout {
			t.Errorf("%+v", got)
		}
		for _, o := range got.agreed {
			if !slices.ContainsFunc(r.options, func(asked option) bool { return asked.name == o.name }) {
				t.Errorf("%q was not asked for", o.name)
			}
		}
		if answer := oack(got.agreed); len(answer) > 128 || bytes.Count(answer, []byte{0}) != 1+2*len(got.agreed) {
			t.Errorf("the answer is %q", answer)
		}
	})
}
