package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/etcd"
)

// membershipCheck is how often a server looks where it stands among the others.
const membershipCheck = 2 * time.Second

// servers returns those that share the etcd, this one among them once it has told
// of itself.
func (s *server) servers() []cluster.Server {
	if all := s.fellows.Load(); all != nil {
		return *all
	}
	return nil
}

// isFellow reports whether an address is that of another server.
func (s *server) isFellow(a netip.Addr) bool {
	return slices.ContainsFunc(s.servers(), func(o cluster.Server) bool {
		return o.Name != s.place.Name && slices.Contains(o.Addresses, a)
	})
}

// isFellowCard reports whether a hardware address is that of another server.
func (s *server) isFellowCard(m cluster.MAC) bool {
	return slices.ContainsFunc(s.servers(), func(o cluster.Server) bool {
		return o.Name != s.place.Name && slices.Contains(o.Cards, m)
	})
}

// startFellows makes this server and the others known to each other, before machines
// are answered, and keeps it so.
func (s *server) startFellows(ctx context.Context) error {
	all, _, err := s.store.Servers(ctx)
	if err != nil {
		return err
	}
	s.fellows.Store(&all)
	s.settle(ctx)
	s.group.Go(func() error {
		s.store.WatchServers(ctx, func(all []cluster.Server) {
			s.fellows.Store(&all)
			s.poke()
			s.boot.images.look()
		})
		return nil
	})
	s.group.Go(func() error {
		tick := time.NewTicker(membershipCheck)
		defer tick.Stop()
		for {
			s.settle(ctx)
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
	return nil
}

// settle looks where this server stands: which members of etcd it asks, and what
// it tells the others of itself.
func (s *server) settle(ctx context.Context) {
	at := s.member.Standing()
	s.reach(at)
	is := cluster.Server{
		Name: s.place.Name, Addresses: s.foundAt(), Cards: hardware(*s.cards.Load()), HTTP: s.o.http.Port(), HTTPS: s.o.https.Port(), Etcd: s.o.etcd.Port(), Votes: at.Votes,
	}
	if slices.ContainsFunc(s.servers(), is.Equal) {
		return
	}
	if err := s.store.PutServer(ctx, is); err != nil && ctx.Err() == nil {
		s.log.Warn("the other servers are not told of this one; trying again", "err", err)
	}
}

// reach has the store ask this server's own member, or those that have a vote while
// it has none.
func (s *server) reach(at etcd.Standing) {
	if at.Votes {
		s.store.Reach(s.ownEtcd())
		return
	}
	s.store.Reach(at.Voters...)
}

func (s *server) ownEtcd() string {
	return "https://" + netip.AddrPortFrom(loopbackIfAny(s.o.etcd.Addr()), s.o.etcd.Port()).String()
}

// foundAt is where hosts may find this server: at the address that HTTPS was told, or
// at all that it has and that networks say it has.
func (s *server) foundAt() (out []netip.Addr) {
	if only := s.o.https.Addr(); !only.IsUnspecified() {
		return []netip.Addr{only}
	}
	all := s.ownAddresses(*s.cards.Load())
	for _, a := range all {
		if !a.IsLoopback() {
			out = append(out, a)
		}
	}
	if len(out) == 0 { // nobody else is on this machine's network, if it has one
		return all
	}
	return out
}

// hardware returns the hardware addresses of cards.
func hardware(cards []card) (out []cluster.MAC) {
	for _, c := range cards {
		if !c.mac.IsZero() {
			out = append(out, c.mac)
		}
	}
	return out
}

// promote gives votes to learners while this server leads.
func (s *server) promote(ctx context.Context) {
	tick := time.NewTicker(membershipCheck)
	defer tick.Stop()
	for {
		if s.member.Standing().Learners > 0 {
			s.promoteReady(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *server) promoteReady(ctx context.Context) {
	members, err := s.store.Members(ctx)
	if err == nil {
		var done []cluster.ServerName
		done, err = s.store.Promote(ctx, members)
		for _, name := range done {
			s.log.Info("a server has a vote now", "server", name)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("servers that wait for a vote; trying again", "err", err)
	}
}

// addServer makes room for one more server, and has this one start as one of
// several from now on.
func (s *server) addServer(ctx context.Context, name cluster.ServerName, peer netip.AddrPort) (string, error) {
	if s.place.Peer.Addr().IsLoopback() && !peer.Addr().IsLoopback() {
		return "", fmt.Errorf("server %s listens for the others at %s, where nobody else reaches it: start it again with --etcd-peer ADDRESS:%d first: %w",
			s.place.Name, s.place.Peer, s.place.Peer.Port(), cluster.ErrConflict)
	}
	members, err := s.store.AddLearner(ctx, name, "https://"+peer.String())
	if err != nil {
		return "", err
	}
	now := s.place
	if now.Several = true; now == s.place {
		return members, nil
	}
	return members, s.data.putPlace(now) // the times of etcd's elections are those of several from the next start on
}

// Invite implements api.Servers.
func (s *server) Invite(ctx context.Context, by string) (out api.Invitation, err error) {
	for _, a := range s.foundAt() {
		out.Servers = append(out.Servers, "https://"+netip.AddrPortFrom(a, s.o.https.Port()).String())
	}
	if s.place.Peer.Addr().IsLoopback() {
		out.Note = fmt.Sprintf("server %s listens for others at %s, where only this machine reaches it: for servers on others start it again with --etcd-peer ADDRESS:%d",
			s.place.Name, s.place.Peer, s.place.Peer.Port())
	}
	out.Token, err = s.inviter.Invite(ctx, by, out.Servers)
	return out, err
}

// Members implements api.Servers.
func (s *server) Members(ctx context.Context) ([]cluster.Member, error) { return s.store.Members(ctx) }

// RemoveMember implements api.Servers.
func (s *server) RemoveMember(ctx context.Context, name cluster.ServerName) error {
	if name == s.place.Name && len(s.servers()) > 1 {
		return fmt.Errorf("server %s is the one that you ask, and would be gone before it is done: ask another, pilotlight --server https://OTHER:%d server remove %s: %w",
			name, s.o.https.Port(), name, cluster.ErrConflict)
	}
	return s.store.RemoveMember(ctx, name)
}
