package ignition

import "sync"

// programs are templates that were parsed, for the next host of the same profile.
// What is parsed of a source is always the same, so that it is nobody's state.
var programs = parsed{free: map[string][]*program{}}

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

func (p *parsed) take(source string) (*program, error) {
	p.mu.Lock()
	if free := p.free[source]; len(free) > 0 {
		one := free[len(free)-1]
		p.free[source] = free[:len(free)-1]
		p.mu.Unlock()
		return one, nil
	}
	p.mu.Unlock()
	return parseTemplate(source, false)
}

func (p *parsed) give(source string, one *program) {
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
