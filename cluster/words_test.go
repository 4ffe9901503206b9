package cluster

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestParseMAC(t *testing.T) {
	want := MAC{0x52, 0x54, 0x00, 0xab, 0xcd, 0xef}
	for _, s := range []string{"52:54:00:ab:cd:ef", "52-54-00-AB-CD-EF", "5254.00ab.cdef", "525400abcdef", "525400ABCDEF"} {
		if got, err := ParseMAC(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "52:54:00:ab:cd", "52:54:00:ab:cd:ef:01", "52:54:00:ab:cd:eg", "5:254:00:ab:cd:ef", "52:54-00:ab-cd:ef", "52:54:00:ab:cd:ef ",
		"::::525400abcdef", "5254:00ab:cdef", "52.54.00.ab.cd.ef", "525400abcde", "52540.0ab.cdef", "5２:54:00:ab:cd:e",
	} {
		if got, err := ParseMAC(s); err == nil || !strings.Contains(err.Error(), "write it like 52:54:00:12:34:56") || got != (MAC{}) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if want.Hyphens() != "52-54-00-ab-cd-ef" || want.IsZero() || !(MAC{}).IsZero() {
		t.Error(want.Hyphens())
	}
}

func TestParseUUID(t *testing.T) {
	const want = "4c4c4544-0042-3510-8051-b4c04f4d3132"
	for _, s := range []string{want, strings.ToUpper(want), "{" + want + "}"} {
		if got, err := ParseUUID(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", want[1:], want + "0", strings.ReplaceAll(want, "-", ""), strings.Replace(want, "4c", "4g", 1), strings.Replace(want, "-", "0", 1)} {
		if got, err := ParseUUID(s); err == nil || !strings.Contains(err.Error(), "dmidecode") {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2d": 2 * day, "1d12h": 36 * time.Hour, "0d": 0, "1.5h": 90 * time.Minute, "100ms": 100 * time.Millisecond, "65535d": 65535 * day,
	} {
		if got, err := ParseDuration(s); err != nil || time.Duration(got) != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "d", "5", "1h2d", "-1d", "-5s", "1.5d", "1d-1h", "1d+1h", "1d2d", "65536d", "65535d999999h", "2 d", "soon", "1d12", "nand", "-0s"} {
		if got, err := ParseDuration(s); err == nil || !strings.Contains(err.Error(), "write it like 90s, 12h or 2d") {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for want, d := range map[string]time.Duration{"0s": 0, "1m": time.Minute, "1h": time.Hour, "1h30m": 90 * time.Minute, "48h": 2 * day, "1m10s": 70 * time.Second, "10s": 10 * time.Second, "1h0m5s": time.Hour + 5*time.Second} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v is written %s", d, got)
		}
	}
}

func TestParseRange(t *testing.T) {
	for s, want := range map[string]string{
		"10.0.0.1-10.0.0.9": "10.0.0.1-10.0.0.9", " 10.0.0.1 - 10.0.0.9 ": "10.0.0.1-10.0.0.9", "10.0.0.1": "10.0.0.1", "10.0.0.1-10.0.0.1": "10.0.0.1", "fd00::1-fd00::ff": "fd00::1-fd00::ff",
	} {
		if got, err := ParseRange(s); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-", "10.0.0.9-10.0.0.1", "10.0.0.1-", "-10.0.0.1", "10.0.0.1-fd00::1", "10.0.0.0/24", "10.0.0.1-9", "fe80::1%a-fe80::2%a"} {
		if got, err := ParseRange(s); err == nil || !strings.Contains(err.Error(), "lower address first") {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	r, _ := ParseRange("10.0.0.5-10.0.0.7")
	for a, want := range map[string]bool{"10.0.0.4": false, "10.0.0.5": true, "10.0.0.7": true, "10.0.0.8": false, "::ffff:10.0.0.6": false, "fd00::1": false} {
		if r.Contains(netip.MustParseAddr(a)) != want {
			t.Errorf("%s in %s", a, r)
		}
	}
}

func TestTextRoundTrip(t *testing.T) {
	type all struct {
		M MAC
		U UUID
		D Duration
		R Range
	}
	want := all{MAC{1, 2, 3, 4, 5, 6}, "4c4c4544-0042-3510-8051-b4c04f4d3132", Duration(90 * time.Minute), Range{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}}
	body, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got all
	if err := json.Unmarshal(body, &got); err != nil || got != want {
		t.Errorf("%s: %+v, %v", body, got, err)
	}
	for _, bad := range []string{`{"M":"x"}`, `{"U":"x"}`, `{"D":"x"}`, `{"R":"x"}`} {
		if json.Unmarshal([]byte(bad), &got) == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func FuzzParseMAC(f *testing.F) {
	f.Add("52:54:00:12:34:56")
	f.Add("5254.0012.3456")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMAC(s)
		if err != nil {
			return
		}
		for _, form := range []string{m.String(), m.Hyphens()} {
			if again, err := ParseMAC(form); err != nil || again != m {
				t.Errorf("%q: %v, %v", s, again, err)
			}
		}
	})
}

func FuzzParseUUID(f *testing.F) {
	f.Add("4C4C4544-0042-3510-8051-B4C04F4D3132")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseUUID(s)
		if err != nil {
			return
		}
		if again, err := ParseUUID(string(u)); err != nil || again != u || len(u) != 36 {
			t.Errorf("%q: %v, %v", s, again, err)
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"1d12h", "90s", "1h0m", "2562047h47m16.854775807s", "1µs"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if d < 0 {
			t.Errorf("%q is %d", s, d)
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q is written %s: %v, %v", s, d, again, err)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	f.Add("10.0.0.1-10.0.0.9")
	f.Add("fd00::1")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRange(s)
		if err != nil {
			return
		}
		if !r.Contains(r.First) || !r.Contains(r.Last) {
			t.Errorf("%q does not hold its ends", s)
		}
		if again, err := ParseRange(r.String()); err != nil || again != r {
			t.Errorf("%q is written %s: %v, %v", s, r, again, err)
		}
	})
}
