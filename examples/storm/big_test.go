//go:build storm

package storm

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	machines = flag.Int("machines", 1000, "how many boot")
	servers  = flag.String("servers", "1", "how many servers there are, one storm for each: 1,2,3")
	ramp     = flag.Duration("ramp", 15*time.Second, "in which all are switched on")
	pace     = flag.Float64("pace", 1, "of clients that wait; 1 is that of real ones")
	prepared = flag.Bool("prepared", true, "the hosts were applied long enough before")
	limit    = flag.Duration("limit", 10*time.Minute, "until all must be up")
)

// TestStorm is what make storm runs.
func TestStorm(t *testing.T) {
	for number := range strings.SplitSeq(*servers, ",") {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 3 {
			t.Fatalf("-servers %s: there are 1, 2 or 3", *servers)
		}
		t.Run(fmt.Sprintf("%d", n), func(t *testing.T) {
			storm(t, config{machines: *machines, servers: n, ramp: *ramp, pace: *pace, prepared: *prepared, limit: *limit})
		})
	}
}
