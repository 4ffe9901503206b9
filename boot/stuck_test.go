package boot_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

func TestStuck(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	boots := func(steps ...cluster.Step) (b cluster.Boot) {
		for i, s := range steps {
			b.Events = append(b.Events, cluster.Event{Step: s, At: start.Add(time.Duration(i) * time.Second)})
		}
		return b
	}
	const d, l, s, k, c, j = cluster.StepDHCP, cluster.StepLoader, cluster.StepScript, cluster.StepKernel, cluster.StepConfig, cluster.StepJoin
	for _, row := range []struct {
		boot  cluster.Boot
		after time.Duration
		why   string // part of it; empty when it does not hang
	}{
		{boots(), time.Hour, ""},
		{boots(d), time.Second, ""},
		{boots(d), time.Minute, "UDP 69"},
		{boots(d, l), time.Minute, "does not know this network card"},
		{boots(d, l, d), time.Minute, "UDP 69"},
		{boots(d, l, d, s), time.Minute, "what iPXE says"},
		{boots(d, s, k), time.Minute, ""},
		{boots(d, s, k, d), 4 * time.Minute, "does not start"}, // the new system has asked for its address
		{boots(d, s, k, c), 10 * time.Minute, "Ignition or cloud-init failed"},
		{boots(d, s, k, c, j), 20 * time.Minute, "site status"},
		{boots(d, s, k, c, j, cluster.StepReady), 20 * time.Hour, ""},
		{boots(d, s, k, c, cluster.StepInstalled), 20 * time.Hour, ""},
	} {
		why, stuck := boot.Stuck(row.boot, start.Add(row.after))
		if stuck != (row.why != "") || !strings.Contains(why, row.why) {
			t.Errorf("%v after %s: %q, want %q", row.boot.Events, row.after, why, row.why)
		}
	}
}

// What its disk does is not seen here, and is no hanging boot.
func TestStuckLocal(t *testing.T) {
	b := cluster.Boot{Events: []cluster.Event{{Step: cluster.StepDHCP, Local: true}}}
	if why, stuck := boot.Stuck(b, time.Now()); stuck {
		t.Error(why)
	}
}
