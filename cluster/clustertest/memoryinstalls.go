package clustertest

import (
	"context"
	"maps"
	"slices"

	"github.com/pilotlight/pilotlight/cluster"
)

// ChangeInstall writes what next makes of where a host stands.
func (m *Memory) ChangeInstall(_ context.Context, h cluster.HostName, next func(cluster.Install) cluster.Install) (cluster.Install, error) {
	defer m.lock()()
	was, ok := m.installs[h]
	if !ok {
		was.Phase = cluster.InstallWanted
	}
	was.Host = h
	is := next(was)
	if is.Host, is.Revision = h, was.Revision; is == was {
		return was, nil
	}
	m.rev++
	is = again(is)
	is.Revision = m.rev
	m.installs[h] = is
	signal(&m.installed)
	return is, nil
}

// WatchInstalls tells of every record at the start, and whenever one changes of
// those that did.
func (m *Memory) WatchInstalls(ctx context.Context, all func([]cluster.Install), one func(cluster.Install)) {
	list, changed := m.listInstalls()
	all(list)
	seen := cluster.Revision(0)
	for {
		for _, i := range list {
			seen = max(seen, i.Revision)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		list, changed = m.listInstalls()
		for _, i := range list {
			if i.Revision > seen {
				one(i)
			}
		}
	}
}

func (m *Memory) listInstalls() ([]cluster.Install, <-chan struct{}) {
	defer m.lock()()
	return slices.Collect(maps.Values(m.installs)), m.installed
}
