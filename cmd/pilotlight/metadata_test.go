package main

import (
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster/link"
)

// TestMayBeNew: a machine that was made anew is not taken for its old life, also by a
// server that was started in between.
func TestMayBeNew(t *testing.T) {
	now := time.Now()
	ago := func(terms float64) time.Time { return now.Add(-time.Duration(terms * float64(link.DefaultTTL))) }
	for _, k := range []struct {
		name           string
		began, started time.Time
		want           bool
	}{
		{"it has just begun", ago(.1), ago(99), true},
		{"it runs for long", ago(50), ago(99), false},
		{"it was never seen", time.Time{}, ago(99), false},
		{"it was not seen since the server started", time.Time{}, ago(1), true},
		{"nor for long", time.Time{}, ago(2.1), false},
	} {
		if got := mayBeNew(k.began, k.started, now); got != k.want {
			t.Errorf("%s: %v", k.name, got)
		}
	}
}
