//go:build storm || integration

package storm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// log is what happened to one machine.
type log struct {
	mu    sync.Mutex
	times map[step][]time.Duration
	tries map[step]map[string]int // what was asked again within a step, and why
	fails map[step]map[string]int // boots that were begun anew, and why
	boots []time.Duration
}

func newLog() *log {
	return &log{times: map[step][]time.Duration{}, tries: map[step]map[string]int{}, fails: map[step]map[string]int{}}
}

func (l *log) took(s step, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times[s] = append(l.times[s], d)
}

func (l *log) booted(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boots = append(l.boots, d)
}

// again notes that something was asked again.
func (l *log) again(s step, why string) { l.note(l.tries, s, why) }

// failed notes that a boot was begun anew.
func (l *log) failed(s step, err error) { l.note(l.fails, s, reason(err)) }

func (l *log) note(in map[step]map[string]int, s step, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in[s] == nil {
		in[s] = map[string]int{}
	}
	in[s][why]++
}

// merge adds up what happened to all machines.
func merge(all []*machine) *log {
	sum := newLog()
	for _, m := range all {
		m.tell.mu.Lock()
		for s, d := range m.tell.times {
			sum.times[s] = append(sum.times[s], d...)
		}
		sum.boots = append(sum.boots, m.tell.boots...)
		for from, to := range map[*map[step]map[string]int]map[step]map[string]int{&m.tell.tries: sum.tries, &m.tell.fails: sum.fails} {
			for s, whys := range *from {
				for why, n := range whys {
					if to[s] == nil {
						to[s] = map[string]int{}
					}
					to[s][why] += n
				}
			}
		}
		m.tell.mu.Unlock()
	}
	return sum
}

// outcome is the figures of one storm.
type outcome struct {
	config     config
	introduced time.Duration // from the first power-on to the last introduction
	alive      time.Duration
	killedAt   int // hosts that were introduced
	back       time.Duration
	changes    int64 // of etcd
	entries    int64 // of its log
	acks       int
	wavered    int // hosts that stopped being alive
	log        *log
	servers    []*server
}

func (o *outcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d machines, %d server(s), all switched on within %s; clients wait %.2g times what real ones do\n", o.config.machines, o.config.servers, o.config.ramp, o.config.pace)
	fmt.Fprintf(&b, "first power-on to last introduction %s, to last alive %s; a boot %s\n", short(o.introduced), short(o.alive), spread(o.log.boots))
	if o.config.servers < 3 {
		fmt.Fprintf(&b, "server killed when %d were introduced, ready again after %s (%s of it its unit's RestartSec)\n", o.killedAt, short(o.back), restartAfter)
	} else {
		fmt.Fprintf(&b, "server killed for good when %d were introduced, the others ready again after %s\n", o.killedAt, short(o.back))
	}
	fmt.Fprintf(&b, "%d leases acknowledged, %d changes in etcd, %d entries in its log, %d hosts silent for a while\n", o.acks, o.changes, o.entries, o.wavered)
	for _, s := range o.servers {
		for i, u := range s.lives {
			fmt.Fprintf(&b, "%s, process %d: peak RSS %d MB, CPU %s\n", s.name, i+1, u.peak>>10, short(u.cpu))
		}
	}
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "step\tp50\tp95\tmax\tasked again\tboots begun anew")
	for _, s := range steps {
		d := o.log.times[s.step]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\n", s.step, short(quantile(d, .5)), short(quantile(d, .95)), short(quantile(d, 1)), total(o.log.tries[s.step]), total(o.log.fails[s.step]))
	}
	_ = w.Flush() // into memory
	for name, of := range map[string]map[step]map[string]int{"asked again": o.log.tries, "begun anew": o.log.fails} {
		for _, s := range steps {
			for _, why := range slices.Sorted(maps.Keys(of[s.step])) {
				fmt.Fprintf(&b, "%s, %s: %d x %.300s\n", name, s.step, of[s.step][why], why)
			}
		}
	}
	return b.String()
}

func total(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

func spread(d []time.Duration) string {
	return fmt.Sprintf("p50 %s, p95 %s, max %s", short(quantile(d, .5)), short(quantile(d, .95)), short(quantile(d, 1)))
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

func short(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
