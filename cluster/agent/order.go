package agent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// dependencies returns what a container still has to wait for.
func (p *planner) dependencies(c cluster.Container) string {
	for _, name := range c.Service.DependsOn {
		st, ok := p.status[Key{c.Site, name}]
		if !ok {
			continue // its site does not run it on this host
		}
		switch {
		case st.Current && (st.Health == cluster.HealthHealthy || p.finished[Key{c.Site, name}]):
		case st.Health == cluster.HealthHealthy:
			return fmt.Sprintf("waits for the new version of %s", name)
		default:
			return fmt.Sprintf("waits for %s, which is %s", name, st.Health)
		}
	}
	return ""
}

// blocker returns a container of another service that has a port which this
// one needs, and that is about to give it up.
func (p *planner) blocker(t turn) *Found {
	for i := range p.Found {
		f := &p.Found[i]
		if f.Key == t.slot.Key || !f.up() || !collide(t.want.Service.Ports, f.Ports) {
			continue
		}
		if want, ok := p.wanted[f.Key]; !ok || Hash(want) != f.Hash {
			return f
		}
	}
	return nil
}

// prepared reports whether the new version of a service is made, and only has
// to be started.
func (p *planner) prepared(k Key) bool {
	want, ok := p.wanted[k]
	return ok && slices.ContainsFunc(p.Found, func(f Found) bool {
		return f.Slot == SlotOf(want) && f.Phase == PhaseCreated
	})
}

// collide reports whether two containers cannot run beside each other.
func collide(a, b []cluster.Port) bool {
	return slices.ContainsFunc(a, func(x cluster.Port) bool {
		return x.Host != 0 && slices.ContainsFunc(b, func(y cluster.Port) bool {
			anywhere := !x.HostIP.IsValid() || !y.HostIP.IsValid() || x.HostIP.IsUnspecified() || y.HostIP.IsUnspecified()
			return x.Host == y.Host && strings.EqualFold(x.Protocol, y.Protocol) && (anywhere || x.HostIP == y.HostIP)
		})
	})
}

// byDependency sorts so that what others wait for comes first.
func byDependency(all []cluster.Container) []cluster.Container {
	index := map[Key]int{}
	for i, c := range all {
		index[KeyOf(c)] = i
	}
	out := make([]cluster.Container, 0, len(all))
	seen := make([]bool, len(all))
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return // a loop ends here too; Check refuses those
		}
		seen[i] = true
		for _, name := range all[i].Service.DependsOn {
			if j, ok := index[Key{all[i].Site, name}]; ok {
				visit(j)
			}
		}
		out = append(out, all[i])
	}
	for i := range all {
		visit(i)
	}
	return out
}
