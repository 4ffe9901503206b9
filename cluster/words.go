package cluster

import (
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The names of things are types of their own, so that a host's name cannot be
// handed over where a site's is meant.
type (
	NetworkName string
	ImageName   string
	ProfileName string
	GroupName   string
	HostName    string
	SiteName    string
	ServiceName string
	SecretName  string
	PolicyName  string
)

// Revision is etcd's revision of a key or of the whole store. It only grows.
type Revision int64

// MAC is an Ethernet hardware address.
type MAC [6]byte

// ParseMAC reads 52:54:00:12:34:56, 52-54-00-12-34-56, 5254.0012.3456 or
// 525400123456, in either case.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	digits := s
	for _, form := range []struct {
		separator string
		length    int // of the whole
		every     int // digits between two separators
	}{{":", 17, 2}, {"-", 17, 2}, {".", 14, 4}} {
		if len(s) != form.length || !strings.Contains(s, form.separator) {
			continue
		}
		parts := strings.Split(s, form.separator)
		if slices.ContainsFunc(parts, func(p string) bool { return len(p) != form.every }) {
			break
		}
		digits = strings.Join(parts, "")
	}
	if len(digits) != 2*len(m) {
		return m, fmt.Errorf("%q is not a MAC address; write it like 52:54:00:12:34:56", s)
	}
	if _, err := hex.Decode(m[:], []byte(digits)); err != nil {
		return MAC{}, fmt.Errorf("%q is not a MAC address; write it like 52:54:00:12:34:56", s)
	}
	return m, nil
}

// String returns the usual form, 52:54:00:12:34:56.
func (m MAC) String() string { return m.text(':') }

// Hyphens returns 52-54-00-12-34-56, the form that is safe in URLs and file
// names, and that iPXE's :hexhyp and pxelinux use.
func (m MAC) Hyphens() string { return m.text('-') }

func (m MAC) text(between byte) string {
	const digits = "0123456789abcdef"
	var b [3*len(m) - 1]byte
	for i, octet := range m {
		b[3*i], b[3*i+1] = digits[octet>>4], digits[octet&15]
		if i < len(m)-1 {
			b[3*i+2] = between
		}
	}
	return string(b[:])
}

// IsZero reports whether no address is set.
func (m MAC) IsZero() bool { return m == MAC{} }

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMAC(string(b))
	return err
}

// UUID is a machine's SMBIOS UUID in lower case with hyphens.
type UUID string

// ParseUUID reads a UUID in its usual form, in either case.
func ParseUUID(s string) (UUID, error) {
	u := strings.ToLower(strings.Trim(s, "{}"))
	ok := len(u) == 36
	for i := 0; ok && i < len(u); i++ {
		switch i {
		case 8, 13, 18, 23:
			ok = u[i] == '-'
		default:
			ok = strings.IndexByte("0123456789abcdef", u[i]) >= 0
		}
	}
	if !ok {
		return "", fmt.Errorf("%q is not a UUID; write it like 4c4c4544-0042-3510-8051-b4c04f4d3132 (dmidecode -s system-uuid)", s)
	}
	return UUID(u), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(b []byte) (err error) {
	*u, err = ParseUUID(string(b))
	return err
}

// Duration is a time.Duration that is written like 90s, 1h30m or 2d in
// manifests and in JSON.
type Duration time.Duration

// ParseDuration reads what time.ParseDuration reads and is not less than 0,
// and days before it: 2d, 1d12h.
func ParseDuration(s string) (Duration, error) {
	bad := fmt.Errorf("%q is not a duration; write it like 90s, 12h or 2d", s)
	rest, days := s, time.Duration(0)
	if number, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(number, 10, 16) // to 179 years
		if err != nil {
			return 0, bad
		}
		rest, days = after, time.Duration(n)*24*time.Hour
		if rest == "" {
			return Duration(days), nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64-days || strings.HasPrefix(rest, "-") || days > 0 && strings.HasPrefix(rest, "+") {
		return 0, bad
	}
	return Duration(days + d), nil
}

// String returns the shortest usual form: 1h, not 1h0m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

// Range is a run of addresses, first and last included. It is written
// 10.0.0.100-10.0.0.200; a single address is a range of one.
type Range struct{ First, Last netip.Addr }

// ParseRange reads FIRST-LAST or a single address.
func ParseRange(s string) (Range, error) {
	first, last, found := strings.Cut(s, "-")
	if !found {
		last = first
	}
	a, err := netip.ParseAddr(strings.TrimSpace(first))
	if err == nil {
		var b netip.Addr
		b, err = netip.ParseAddr(strings.TrimSpace(last))
		if err == nil && a.BitLen() == b.BitLen() && a.Zone() == "" && b.Zone() == "" && a.Compare(b) <= 0 {
			return Range{a, b}, nil
		}
	}
	return Range{}, fmt.Errorf("%q is not an address range; write it like 10.0.0.100-10.0.0.200, lower address first", s)
}

// Contains reports whether a lies within the range.
func (r Range) Contains(a netip.Addr) bool {
	return a.BitLen() == r.First.BitLen() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// String returns FIRST-LAST.
func (r Range) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}

// MarshalText implements encoding.TextMarshaler.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Range) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRange(string(b))
	return err
}

// Arch is a processor architecture, in the words of uname -m.
type Arch string

// The architectures that pilotlight boots.
const (
	X86_64  Arch = "x86_64"
	AArch64 Arch = "aarch64"
)
