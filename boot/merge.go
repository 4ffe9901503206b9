package boot

import (
	"cmp"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// bootTogether is how far apart two servers may begin what is one boot: they hear
// the same DISCOVER, by clocks that differ a little. No machine that is reset asks
// again so soon.
const bootTogether = 3 * time.Second

// Learn takes over what another server has saved of a machine's boot, so that a
// machine which goes from one server to another has one timeline. Of two beginnings
// the earlier counts, on both servers, and the later one is dropped by the server
// that saved it.
func (r *Recorder) Learn(b cluster.Boot) {
	if r == nil || b.Server == r.Server || b.Host == "" || len(b.Events) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.find(b.MAC)
	if t != nil && !isOneBoot(t.boot, b) {
		if t.boot.ID > b.ID {
			return // of a boot before
		}
		t = nil
	}
	if t == nil {
		t = r.put(b)
		t.last = b.Events[len(b.Events)-1].At
		return
	}
	was := t.boot
	t.boot = mergeBoots(was, b)
	t.last = t.boot.Events[len(t.boot.Events)-1].At
	if was.ID != t.boot.ID && t.saved {
		r.dropped = append(r.dropped, was)
	}
	if t.boot.ID != b.ID || !slices.EqualFunc(t.boot.Events, b.Events, sameEvent) {
		r.touch(t)
	} else {
		delete(r.dirty, t) // the other has saved all that is known here
	}
}

// isOneBoot reports whether two servers saw the same boot of a machine.
func isOneBoot(a, b cluster.Boot) bool {
	return a.ID == b.ID || a.Events[0].At.Sub(b.Events[0].At).Abs() < bootTogether
}

// mergeBoots returns what two servers saw of one boot. It is the same from either
// side.
func mergeBoots(a, b cluster.Boot) cluster.Boot {
	if b.ID < a.ID {
		a, b = b, a
	}
	all := slices.Concat(a.Events, b.Events)
	slices.SortStableFunc(all, func(x, y cluster.Event) int { return cmp.Or(x.At.Compare(y.At), cmp.Compare(x.Detail, y.Detail)) })
	out := all[:0:0]
	for _, e := range all {
		heard := func(o cluster.Event) bool { return sameEvent(o, e) && e.At.Sub(o.At) < bootTogether }
		if !slices.ContainsFunc(out, heard) && len(out) < maxEvents {
			out = append(out, e)
		}
	}
	a.Events = out
	return a
}

// sameEvent reports whether two servers tell of the same thing.
func sameEvent(a, b cluster.Event) bool {
	return a.Step == b.Step && a.Detail == b.Detail && a.Addr == b.Addr && a.Local == b.Local
}
