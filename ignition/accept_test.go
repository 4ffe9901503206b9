package ignition

import (
	"errors"
	"strings"
	"testing"
)

const ign = ContentType

var acceptTable = []struct {
	accept string
	want   int
	ok     bool
}{
	{"", lowest, true},
	{"*/*", lowest, true},
	{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", lowest, true},
	{"application/json", lowest, true},
	{"application/*", lowest, true},
	{ign, lowest, true},
	{ign + ";version=3.0.0", 0, true},
	{ign + ";version=3.3.0", 3, true},
	{ign + "; version=3.3.0", 3, true},
	{ign + ";version=\"3.3.0\"", 3, true},
	{strings.ToUpper(ign) + ";VERSION=3.3.0", 3, true},
	{ign + ";version=3.6.0, */*;q=0.1", 6, true},
	{ign + ";version=3.7.0-experimental, */*;q=0.1", 6, true},
	{ign + ";version=3.4.0-experimental", 3, true},
	{ign + ";version=3.9.0", 6, true},
	{ign + ";version=3.2.0;q=0.5, " + ign + ";version=3.1.0", 1, true},
	{ign + ";version=3.1.0, " + ign + ";version=3.2.0", 2, true},
	{ign + ";version=2.4.0, " + ign + ";version=3.1.0;q=0.5, */*;q=0.1", 1, true},

	// Ignition 0.35, of Container Linux, word for word.
	{"application/vnd.coreos.ignition+json; version=2.4.0, application/vnd.coreos.ignition+json; version=1; q=0.5, */*; q=0.1", 0, false},
	{ign + ";version=2.3.0, */*;q=0.1", 0, false},
	{ign + ";version=4.0.0", 0, false},
	{ign + ";version=3", 0, false},
	{ign + ";version=3.x.0", 0, false},
	{ign + ";version=3.-1.0", 0, false},
	{ign + ";version=3.99999999999999999999.0", 0, false},
	{ign + ";version=3.3.0;q=0", 0, false},
	{"*/*;q=0", 0, false},
	{"text/html", 0, false},
	{"garbage", 0, false},
	{",,,;;;===", 0, false},
	{strings.Repeat("*/*,", 1000), 0, false},
}

func TestChooseVersion(t *testing.T) {
	for _, tt := range acceptTable {
		got, err := chooseVersion(tt.accept)
		if tt.ok && (err != nil || got != tt.want) || !tt.ok && !errors.Is(err, ErrNotAcceptable) {
			t.Errorf("%.100s: got %d, %v", tt.accept, got, err)
		}
	}
}

// TestFollows: a pointer is for who says that it reads headers in a merge.
func TestFollows(t *testing.T) {
	for _, tt := range acceptTable {
		spec, ok := Follows(tt.accept)
		if want := tt.ok && tt.want >= 1; ok != want || ok && spec != specs[tt.want].version || !ok && spec != "" {
			t.Errorf("%.100s: %q, %v", tt.accept, spec, ok)
		}
	}
}

func TestNotAcceptable(t *testing.T) {
	c := mustCompile(t, testInput(goldenConfig(t, "testdata/golden/fcos.bu")))
	body, err := c.Ignition(ign+";version=2.4.0, */*;q=0.1", testToken)
	if !errors.Is(err, ErrNotAcceptable) || body != nil {
		t.Fatalf("got %q, %v", body, err)
	}
	if s := err.Error(); !strings.Contains(s, "2.4.0") || !strings.Contains(s, "boot a newer image") || !strings.Contains(s, "version=3.6.0") {
		t.Error(s)
	}
}

// FuzzAccept: whatever a stranger sends, there is a whole config of a version
// that is served, or an error, and never both.
func FuzzAccept(f *testing.F) {
	for _, tt := range acceptTable {
		f.Add(tt.accept)
	}
	c := mustCompile(f, testInput(goldenConfig(f, "testdata/golden/fcos.bu"))) // needs 3.3.0
	f.Fuzz(func(t *testing.T, accept string) {
		body, err := c.Ignition(accept, testToken)
		if (err == nil) != (len(body) > 1000) {
			t.Fatalf("%q: %d bytes, %v", accept, len(body), err)
		}
		if err != nil && (strings.Contains(err.Error(), testToken) || len(err.Error()) > 2000) {
			t.Fatalf("%q: %v", accept, err)
		}
		if minor, err := chooseVersion(accept); err == nil && (minor < lowest || minor > newest) {
			t.Fatalf("%q: %d", accept, minor)
		}
	})
}
