package boot_test

import (
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// A machine goes through its boots: each line is a request, and what it is told.
func TestChained(t *testing.T) {
	old := boot.Request{MAC: mac1, Class: boot.ClassPXE, IPXE: true, Features: []boot.Feature{boot.FeatureBzImage}}
	current := old
	current.Features = []boot.Feature{boot.FeatureHTTP, boot.FeatureBzImage}
	other := old
	other.MAC = cluster.MAC{0x52, 0x54, 0, 0, 0, 9}
	var c boot.Chained
	now := time.Now()
	for i, row := range []struct {
		q           boot.Request
		transaction string
		after       time.Duration
		chains      bool
		err         bool
	}{
		{old, "1", 0, true, false},
		{old, "1", time.Second, true, false}, // its answer was lost
		{current, "2", time.Second, false, false},
		{old, "3", time.Second, true, false}, // it was turned off and on
		{old, "4", time.Second, false, true}, // the one that it was chained to is as old
		{other, "5", 0, true, false},
		{old, "6", time.Second, false, true},
		{old, "7", time.Minute, true, false}, // the next boot
	} {
		now = now.Add(row.after)
		row.q.Chained = c.Before(row.q, row.transaction, now)
		r, err := boot.Decide(row.q, target(), boot.Policy{Server: here, Loaders: loaders})
		c.Note(row.q, r, row.transaction, now)
		if r.Chain != row.chains || (err != nil) != row.err {
			t.Errorf("%d: %+v, %v", i, r, err)
		}
	}
}
