package boot

import (
	"context"
	"sync"

	"github.com/pilotlight/pilotlight/cluster"
)

// InstallStore keeps where the installations of hosts stand, for all servers.
type InstallStore interface {
	// ChangeInstall reads where a host stands, writes what next makes of it, and
	// returns that. When another server is faster it begins again; when nothing
	// changes nothing is written. A host of which there is no record is to be
	// installed.
	ChangeInstall(ctx context.Context, h cluster.HostName, next func(cluster.Install) cluster.Install) (cluster.Install, error)

	// WatchInstalls calls all with every record there is, at the start and
	// whenever one may have been missed, and one with each that changes; a record
	// that goes away has no phase. It returns when ctx ends.
	WatchInstalls(ctx context.Context, all func([]cluster.Install), one func(cluster.Install))
}

// Installs is this server's view of where installations stand, for answers that
// wait for nothing. Before it was told everything, no host is to be installed.
// The zero Installs, with a Store, is ready to Run.
type Installs struct {
	Store InstallStore

	mu     sync.RWMutex
	loaded bool
	byHost map[cluster.HostName]cluster.Install
}

// Run follows the store until ctx ends.
func (s *Installs) Run(ctx context.Context) { s.Store.WatchInstalls(ctx, s.all, s.one) }

func (s *Installs) all(list []cluster.Install) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded, s.byHost = true, make(map[cluster.HostName]cluster.Install, len(list))
	for _, i := range list {
		s.byHost[i.Host] = i
	}
}

func (s *Installs) one(i cluster.Install) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byHost == nil {
		s.byHost = map[cluster.HostName]cluster.Install{}
	}
	if i.Revision >= s.byHost[i.Host].Revision { // what this server wrote may be old already
		s.byHost[i.Host] = i
	}
}

// Of returns where a host stands. A nil Installs knows nothing.
func (s *Installs) Of(h cluster.HostName) cluster.Install {
	if s == nil {
		return cluster.Install{Host: h}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	i := s.byHost[h]
	i.Host = h
	switch {
	case !s.loaded:
		return cluster.Install{Host: h}
	case i.Phase == "":
		i.Phase = cluster.InstallWanted
	}
	return i
}

// Change makes next durable, and takes it over at once.
func (s *Installs) Change(ctx context.Context, h cluster.HostName, next func(cluster.Install) cluster.Install) (cluster.Install, error) {
	i, err := s.Store.ChangeInstall(ctx, h, next)
	if err == nil {
		s.one(i)
	}
	return i, err
}
