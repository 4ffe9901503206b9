package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

func TestBootWatcher(t *testing.T) {
	var out bytes.Buffer
	w := newBootWatcher(&out, false)
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := cluster.Boot{ID: "2", Host: "web1", MAC: cluster.MAC{2}, Events: []cluster.Event{{Step: cluster.StepDHCP, At: start, Detail: "asks as BIOS"}}}
	said := func() string { defer out.Reset(); return out.String() }
	w.see(b)
	if s := said(); !strings.Contains(s, "web1") || !strings.Contains(s, "0.00s  dhcp      asks as BIOS") {
		t.Error(s)
	}
	w.see(b)
	w.see(cluster.Boot{ID: "1", Host: "web1", MAC: cluster.MAC{2}, Events: b.Events}) // the boot before it
	w.hanging(start.Add(time.Second))
	if s := said(); s != "" {
		t.Errorf("it says again: %s", s)
	}
	w.hanging(start.Add(time.Minute))
	if s := said(); !strings.Contains(s, "nothing for 1m0s after dhcp: it asks for no loader or script") {
		t.Error(s)
	}
	w.hanging(start.Add(2 * time.Minute))
	b.Events = append(b.Events, cluster.Event{Step: cluster.StepScript, At: start.Add(2 * time.Minute)})
	w.see(b)
	if s := said(); strings.Contains(s, "nothing") || !strings.Contains(s, "120.00s  script") || strings.Count(s, "\n") != 1 {
		t.Error(s)
	}
	b.ID, b.Events = "3", b.Events[:1] // it starts over
	w.json = true
	w.see(b)
	w.hanging(start.Add(time.Hour))
	for i, line := range strings.Split(strings.TrimSpace(said()), "\n") {
		var e watchedEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Boot != "3" || e.Host != "web1" || e.Step != cluster.StepDHCP || (e.Stuck != "") != (i == 1) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
