package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/pilotlight/pilotlight/cluster"
)

// memberTime is how long a member has to say how it is.
const memberTime = 2 * time.Second

// Members returns every member and how it is, by name.
func (s *Store) Members(ctx context.Context) ([]cluster.Member, error) {
	list, err := s.client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the members of etcd: %w", err)
	}
	out := make([]cluster.Member, len(list.Members))
	index := make([]uint64, len(out)) // of what each has taken over
	var asked sync.WaitGroup
	for i, m := range list.Members {
		out[i] = member(m)
		if out[i].Client == "" {
			out[i].Problem = "it has not started yet"
			continue
		}
		asked.Go(func() { index[i] = s.ask(ctx, &out[i]) })
	}
	asked.Wait()
	newest := slices.Max(index)
	for i := range out {
		if out[i].Version != "" {
			out[i].Behind = newest - index[i]
		}
	}
	slices.SortFunc(out, func(a, b cluster.Member) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return out, nil
}

func member(m *pb.Member) cluster.Member {
	first := func(urls []string) string {
		if len(urls) == 0 {
			return ""
		}
		return urls[0]
	}
	return cluster.Member{ID: m.ID, Name: cluster.ServerName(m.Name), Peer: first(m.PeerURLs), Client: first(m.ClientURLs), Learner: m.IsLearner}
}

// ask fills in how a member is, and returns how much of the log it has taken over.
func (s *Store) ask(ctx context.Context, m *cluster.Member) uint64 {
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	st, err := s.client.Status(ctx, m.Client)
	if err != nil {
		m.Problem = "it does not answer at " + m.Client
		return 0
	}
	m.Version, m.DBSize, m.Leader = st.Version, st.DbSize, st.Leader == m.ID
	m.Problem = strings.Join(st.Errors, "; ")
	return st.RaftAppliedIndex
}

// AddLearner makes room for one more member, that is told everything and has no
// vote, and returns all of them as NAME=URL,NAME=URL, which its start takes. One of
// the same name that never started is replaced.
func (s *Store) AddLearner(ctx context.Context, name cluster.ServerName, peer string) (string, error) {
	list, err := s.client.MemberList(ctx)
	if err != nil {
		return "", fmt.Errorf("list the members of etcd: %w", err)
	}
	for _, m := range list.Members {
		switch has := member(m); {
		case has.Peer == peer && has.Name == "" && has.Learner: // a join that was broken off
			if _, err := s.client.MemberRemove(ctx, m.ID); err != nil {
				return "", fmt.Errorf("take out what is left of an earlier join: %w", err)
			}
		case has.Name == name:
			return "", fmt.Errorf("there is a server %s at %s: give the new one another name with --name, or type: pilotlight server remove %s: %w", name, has.Peer, name, cluster.ErrConflict)
		case has.Peer == peer:
			return "", fmt.Errorf("server %s is at %s: give the new one an address of its own with --etcd-peer, or type: pilotlight server remove %s: %w", has.Name, peer, has.Name, cluster.ErrConflict)
		}
	}
	added, err := s.client.MemberAddAsLearner(ctx, []string{peer})
	if errors.Is(err, rpctypes.ErrMemberNotFound) {
		// etcd makes the number of a member of its URL and the second, and this one
		// is that of a member that was just removed.
		pause(ctx, time.Second)
		added, err = s.client.MemberAddAsLearner(ctx, []string{peer})
	}
	if err != nil {
		return "", fmt.Errorf("add a member to etcd: %w", err)
	}
	var all []string
	for _, m := range added.Members {
		called := cluster.ServerName(m.Name)
		if m.ID == added.Member.ID {
			called = name
		}
		for _, u := range m.PeerURLs {
			all = append(all, string(called)+"="+u)
		}
	}
	return strings.Join(all, ","), nil
}

// Promote gives votes to the learners that are ready, as many as make the number
// of votes odd, and returns the names of those that got one.
func (s *Store) Promote(ctx context.Context, members []cluster.Member) ([]cluster.ServerName, error) {
	var done []cluster.ServerName
	for _, m := range cluster.PromotableMembers(members) {
		_, err := s.client.MemberPromote(ctx, m.ID)
		switch {
		case err == nil:
			done = append(done, m.Name)
		case errors.Is(err, rpctypes.ErrMemberLearnerNotReady), errors.Is(err, rpctypes.ErrMemberNotLearner):
			// It is behind still, or another server was faster.
		default:
			return done, fmt.Errorf("give server %s a vote: %w", m.Name, err)
		}
	}
	return done, nil
}

// RemoveMember takes a server out of etcd, and what it told of itself. It fails
// with cluster.ErrNotFound when there is none of that name.
func (s *Store) RemoveMember(ctx context.Context, name cluster.ServerName) error {
	list, err := s.client.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("list the members of etcd: %w", err)
	}
	i := slices.IndexFunc(list.Members, func(m *pb.Member) bool { return m.Name == string(name) })
	if i < 0 {
		return fmt.Errorf("server %s: %w", name, cluster.ErrNotFound)
	}
	if len(list.Members) == 1 {
		return fmt.Errorf("server %s is the only one: %w", name, cluster.ErrConflict)
	}
	for try := 1; ; try++ {
		_, err := s.client.MemberRemove(ctx, list.Members[i].ID)
		switch {
		case err == nil:
			return s.ForgetServer(ctx, name)
		case !errors.Is(err, rpctypes.ErrUnhealthy) || ctx.Err() != nil:
			return fmt.Errorf("remove server %s from etcd: %w", name, err)
		case try > removeTries:
			return fmt.Errorf("server %s has a vote that the others need, since one of them is away: start that one first: %w", name, cluster.ErrConflict)
		}
		pause(ctx, time.Second)
	}
}

// removeTries outlast the 5 s for which etcd does not count on a connection between
// members that is new (etcdserver.HealthInterval).
const removeTries = 7

// Tell has the others reach a member at a URL from now on.
func (s *Store) Tell(ctx context.Context, id uint64, peer string) error {
	if _, err := s.client.MemberUpdate(ctx, id, []string{peer}); err != nil {
		return fmt.Errorf("tell the other servers that this one is at %s now: %w", peer, err)
	}
	return nil
}

// Reach sets which members are asked. A learner answers nearly nothing, so its
// server asks those that have a vote.
func (s *Store) Reach(endpoints ...string) {
	slices.Sort(endpoints)
	if len(endpoints) > 0 && !slices.Equal(slices.Sorted(slices.Values(s.client.Endpoints())), endpoints) {
		s.client.SetEndpoints(endpoints...)
	}
}
