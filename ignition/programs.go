package ignition

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// programs are templates that were parsed, for the next host of the same profile.
// What is parsed of a source is always the same, so that it is nobody's state.
var programs = parsed{free: map[string][]*program{}}

// key tells texts apart by all that is parsed of them.
func (t text) key() string {
	if len(t.includes) == 0 {
		return t.source
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t.includes)) {
		fmt.Fprintf(&b, "%q %q ", name, t.includes[name])
	}
	return b.String() + t.source
}

// parsed keeps programs that nobody runs now, by their sources. A program counts
// while it runs, so that one is of one user at a time.
type parsed struct {
	mu   sync.Mutex
	free map[string][]*program
}

const (
	maxSources = 64
	maxFree    = 8        // of a source
	maxSource  = 64 << 10 // bytes
)

func (p *parsed) take(t text) (*program, error) {
	source := t.key()
	p.mu.Lock()
	if free := p.free[source]; len(free) > 0 {
		one := free[len(free)-1]
		p.free[source] = free[:len(free)-1]
		p.mu.Unlock()
		return one, nil
	}
	p.mu.Unlock()
	return parseTemplate(t, false)
}

func (p *parsed) give(t text, one *program) {
	source := t.key()
	p.mu.Lock()
	defer p.mu.Unlock()
	free, known := p.free[source]
	if len(source) > maxSource || len(free) >= maxFree {
		return
	}
	if !known && len(p.free) >= maxSources {
		clear(p.free)
	}
	p.free[source] = append(free, one)
}
