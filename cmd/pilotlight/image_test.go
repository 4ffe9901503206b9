package main

import (
	"bytes"
	"testing"
)

// TestProgress: one line on a terminal, of all files and the one that is waited for;
// nothing elsewhere.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	p.tell("kernel", 1, 2)
	p.end()
	if out.Len() > 0 {
		t.Errorf("not on a terminal: %q", &out)
	}
	p = &progress{w: &out, width: 40, of: map[string][2]int64{}}
	p.tell("kernel", 10<<20, 10<<20)
	p.tell("rootfs", 5<<20, 10<<20)
	p.tell("initrd", 5, -1) // how long it is is not known
	if got, want := p.line(), " 75%  15.0 MiB of 20.0 MiB  rootfs"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	out.Reset()
	p.tell("a file with a name that is longer than the terminal is wide", 1, 3)
	if got := out.String(); len(got) > 40+len("\r\x1b[K") {
		t.Errorf("it wraps: %q", got)
	}
	p.end()
	if got := out.String(); got[len(got)-4:] != "\r\x1b[K" {
		t.Errorf("it leaves its line: %q", got)
	}
}
