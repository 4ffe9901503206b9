package main

import (
	"slices"
	"sync"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/link"
)

// uplinks is where the servers are: as the host's first config says, until the
// servers themselves say otherwise.
type uplinks struct {
	first cluster.Uplinks

	mu    sync.Mutex
	now   cluster.Uplinks
	link  *link.Link // that is up, or nil
	place func()     // puts the certificate where Docker looks for those of each server
}

func newUplinks(c cluster.AgentConfig) *uplinks {
	return &uplinks{first: cluster.Uplinks{Servers: c.Servers, Etcd: c.Etcd}}
}

// found takes over what the servers say.
func (u *uplinks) found(now cluster.Uplinks) {
	u.mu.Lock()
	moved := !slices.Equal(u.now.Servers, now.Servers)
	u.now = now
	if u.link != nil && len(now.Etcd) > 0 {
		u.link.Reach(now.Etcd...)
	}
	place := u.place
	u.mu.Unlock()
	if moved && place != nil {
		place()
	}
}

// servers are those to ask for a certificate, one after the other. The first config's
// come last: they may all be gone.
func (u *uplinks) servers() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.now.Or(u.first).Servers
}

func (u *uplinks) etcd() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.now.Etcd) > 0 {
		return u.now.Etcd
	}
	return u.first.Etcd
}

// up notes the link that is up.
func (u *uplinks) up(l *link.Link) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.link = l
}
