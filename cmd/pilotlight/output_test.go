package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pilotlight/pilotlight/cluster"
)

// On a terminal of eighty columns nothing that matters is cut, and every row
// stays a row whatever a host reports.
func TestNarrowTables(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.Local)
	audit := auditTable([]cluster.AuditEntry{
		{At: at, Actor: "operator:admin", Action: "create", Subject: "host web1", OK: true},
		{At: at, Actor: "192.168.77.200", Action: "token.redeem", Subject: "host web1", Alarm: true, Detail: "the token was made for 192.168.77.11 and came from 192.168.77.200"},
	})
	want := `WHEN            ENDED  WHO             WHAT          TO         DETAIL
07-01 12:00:00  ok     operator:admin  create        host web1
07-01 12:00:00  ALARM  192.168.77.200  token.redeem  host web1
    the token was made for 192.168.77.11 and came from 192.168.77.200
`
	if got := audit.text(80); got != want {
		t.Errorf("got\n%s", got)
	}
	long := table{header: []string{"A", "B"}, rows: [][]string{{strings.Repeat("x", 90), "one\ntwo " + strings.Repeat("y", 90)}, {"z", "fits"}}}
	lines := strings.Split(long.text(80), "\n")
	for _, l := range lines {
		if utf8.RuneCountInString(l) > 80 {
			t.Errorf("%q", l)
		}
	}
	if n := len(strings.Split(strings.TrimSpace(long.text(0)), "\n")); n != 3 {
		t.Errorf("%d lines of a header and two rows", n)
	}
	if !strings.Contains(long.text(80), "\n    one two\n") {
		t.Error(long.text(80))
	}
}
