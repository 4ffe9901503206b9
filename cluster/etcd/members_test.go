package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// several starts the first of some servers, each with a store of its own.
func several(t *testing.T) (*site, *Store) {
	t.Helper()
	s, err := newSite(t.TempDir())
	must(t, err)
	s.config.Several = true
	must(t, s.start())
	t.Cleanup(func() { s.member.Close() })
	return s, s.store(t)
}

// joined starts one more server, through the store of another.
func joined(t *testing.T, by *Store, first *site, name cluster.ServerName) (*site, *Store) {
	t.Helper()
	s := *first
	var err error
	s.config.Name, s.config.Dir = string(name), filepath.Join(t.TempDir(), "etcd")
	s.config.Client, err = freePort()
	must(t, err)
	s.config.Peer, err = freePort()
	must(t, err)
	s.config.Join, err = by.AddLearner(t.Context(), name, "https://"+s.config.Peer.String())
	must(t, err)
	must(t, s.start())
	t.Cleanup(func() { s.member.Close() })
	st, err := Open(ClientConfig{Endpoints: []string{first.endpoint()}, TLS: s.tls(t, RootUser), Member: s.member})
	must(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return &s, st
}

// eventually asks until it is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// settle does what each server does from time to time.
func settle(t *testing.T, sites []*site, stores []*Store) (votes int) {
	t.Helper()
	for i, s := range sites {
		at := s.member.Standing()
		if at.Votes {
			votes++
			at.Voters = []string{s.endpoint()}
		}
		stores[i].Reach(at.Voters...)
	}
	members, err := stores[0].Members(t.Context())
	must(t, err)
	_, err = stores[0].Promote(t.Context(), members)
	must(t, err)
	return votes
}

func names(members []cluster.Member) (out []string) {
	for _, m := range members {
		state := "votes"
		if m.Learner {
			state = "learns"
		}
		out = append(out, fmt.Sprintf("%s %s", m.Name, state))
	}
	return out
}

// TestServers takes an installation from one server to three, and has them lose
// one after the other.
func TestServers(t *testing.T) {
	a, first := several(t)
	must(t, first.Apply(t.Context(), load(t, first), []cluster.Document{&cluster.Profile{Meta: cluster.Meta{Name: "web"}}}, nil, nil))
	b, second := joined(t, first, a, "b")
	sites, stores := []*site{a, b}, []*Store{first, second}
	if votes := settle(t, sites, stores); votes != 1 {
		t.Errorf("of two servers %d vote", votes)
	}
	if _, ok := load(t, second).Get(cluster.Ref{Kind: cluster.KindProfile, Name: "web"}); !ok {
		t.Error("the second server does not see what was applied before it joined")
	}

	t.Run("refused", func(t *testing.T) {
		free, err := freePort()
		must(t, err)
		for name, peer := range map[cluster.ServerName]string{"b": free.String(), "c": b.config.Peer.String()} {
			if _, err := first.AddLearner(t.Context(), name, "https://"+peer); !errors.Is(err, cluster.ErrConflict) {
				t.Errorf("%s at %s: %v", name, peer, err)
			}
		}
	})
	t.Run("broken off", func(t *testing.T) {
		peer, err := freePort()
		must(t, err)
		for range 2 { // the second finds what the first left
			_, err := first.AddLearner(t.Context(), "c", "https://"+peer.String())
			must(t, err)
		}
		all, err := first.Members(t.Context())
		must(t, err)
		if len(all) != 3 {
			t.Errorf("%d members", len(all))
		}
		for _, m := range all {
			if m.Name == "" {
				_, err := first.client.MemberRemove(t.Context(), m.ID)
				must(t, err)
			}
		}
	})

	c, third := joined(t, second, a, "c")
	sites, stores = append(sites, c), append(stores, third)
	eventually(t, "three votes", func() bool { return settle(t, sites, stores) == 3 })

	// The server that was first is gone, with whatever it led.
	a.member.Close()
	eventually(t, "an etcd that goes on", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := second.Commit(ctx, []cluster.Lease{{Network: "lan", Address: loopback, MAC: cluster.MAC{2}}}, nil)
		return err == nil || errors.Is(err, cluster.ErrConflict) // it was done, and the answer lost
	})
	members, err := third.Members(t.Context())
	must(t, err)
	if got := names(members); !slices.Equal(got, []string{"b votes", "c votes", "test votes"}) || members[2].Problem == "" || members[0].Leader == members[1].Leader {
		t.Errorf("members %+v", members)
	}
	must(t, third.RemoveMember(t.Context(), "test"))
	if err := third.RemoveMember(t.Context(), "test"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}

	// One of two that is removed ends, and says why.
	must(t, second.RemoveMember(t.Context(), "c"))
	if err := c.member.Wait(t.Context()); !errors.Is(err, errRemoved) {
		t.Errorf("a removed member ended with %v", err)
	}
	if err := second.RemoveMember(t.Context(), "b"); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("the last one was removed: %v", err)
	}
	if leases, _, err := second.Leases(t.Context()); err != nil || len(leases) != 1 {
		t.Errorf("%d leases, %v", len(leases), err)
	}
}

// TestRecover has the only server with a vote be lost, disk and all. The one that
// was told everything goes on as the only one.
func TestRecover(t *testing.T) {
	a, first := several(t)
	b, second := joined(t, first, a, "b")
	settle(t, []*site{a, b}, []*Store{first, second})
	_, err := second.Commit(t.Context(), []cluster.Lease{{Network: "lan", Address: loopback, MAC: cluster.MAC{2}}}, nil)
	must(t, err)
	eventually(t, "a learner that is told", func() bool {
		members, err := first.Members(t.Context())
		must(t, err)
		return members[0].Behind == 0
	})
	a.member.Close()
	b.member.Close()

	if _, err := os.Stat(filepath.Join(b.config.Dir, "member")); err != nil {
		t.Fatal(err)
	}
	b.config.Join = ""
	must(t, a.start())
	if _, err := Recover(t.Context(), b.config); !errors.Is(err, ErrNotGone) {
		t.Errorf("recovered beside one that leads: %v", err)
	}
	a.member.Close()
	before, err := Recover(t.Context(), b.config)
	must(t, err)
	if has, err := HasMember(before); !has || err != nil {
		t.Errorf("what was there is not at %s: %v", before, err)
	}
	must(t, b.start())
	st := b.store(t)
	if leases, _, err := st.Leases(t.Context()); err != nil || len(leases) != 1 {
		t.Errorf("%d leases, %v", len(leases), err)
	}
	b.member.Close()

	must(t, b.start()) // and so from then on
	members, err := st.Members(t.Context())
	must(t, err)
	if got := names(members); !slices.Equal(got, []string{"b votes"}) {
		t.Errorf("members %v", got)
	}
	must(t, st.Ping(t.Context()))
}

// TestPeerMoves has a member be reached at another address than before.
func TestPeerMoves(t *testing.T) {
	a, st := several(t)
	a.member.Close()
	var err error
	a.config.Peer, err = freePort()
	must(t, err)
	must(t, a.start())
	url := "https://" + a.config.Peer.String()
	was := a.member.Standing()
	if !was.Votes || was.Peer == url || !slices.Equal(was.Voters, []string{a.endpoint()}) {
		t.Errorf("standing %+v", was)
	}
	must(t, st.Tell(t.Context(), was.ID, url))
	if is := a.member.Standing(); is.Peer != url {
		t.Errorf("standing %+v", is)
	}
	members, err := st.Members(t.Context())
	must(t, err)
	if members[0].Peer != url {
		t.Errorf("known at %s, is at %s", members[0].Peer, url)
	}
}

// TestPrepared has a host be let in before it joins; not one that was shut out, whose
// certificate may hold still.
func TestPrepared(t *testing.T) {
	s := empty(t)
	opens := func() bool {
		_, err := shared.as(t, "node:early").Get(t.Context(), cluster.DesiredKey("early"))
		return err == nil
	}
	must(t, s.PrepareNode(t.Context(), "early"))
	if !opens() {
		t.Error("a host that is prepared is not let in")
	}
	must(t, s.ForgetNode(t.Context(), "early"))
	must(t, s.PrepareNode(t.Context(), "early")) // its document was applied again
	if opens() {
		t.Error("a host that was shut out is let in again before it joins")
	}
	must(t, s.AllowNode(t.Context(), "early")) // it joined
	if !opens() {
		t.Error("a host that joined again is not let in")
	}
	must(t, s.ForgetNode(t.Context(), "early"))
}

func TestInvites(t *testing.T) {
	s := empty(t)
	must(t, s.PutInvite(t.Context(), "h", "operator:ann", time.Minute))
	if by, err := s.Invite(t.Context(), "h"); err != nil || by != "operator:ann" {
		t.Errorf("%q, %v", by, err)
	}
	must(t, s.TakeInvite(t.Context(), "h"))
	if err := s.TakeInvite(t.Context(), "h"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("used twice: %v", err)
	}
	if _, err := s.Invite(t.Context(), "h"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("used up: %v", err)
	}
}

// TestWatchLeases shows what one server learns of what another does, from the member
// of its own process and over a connection.
func TestWatchLeases(t *testing.T) {
	t.Run("inside", func(t *testing.T) { watchLeases(t, empty(t)) })
	t.Run("connected", func(t *testing.T) {
		empty(t)
		s, err := Open(ClientConfig{Endpoints: []string{shared.endpoint()}, TLS: shared.tls(t, RootUser)})
		must(t, err)
		defer s.Close()
		watchLeases(t, s)
	})
}

func watchLeases(t *testing.T, s *Store) {
	lease := func(mac byte) cluster.Lease {
		return cluster.Lease{Network: "lan", Address: loopback, MAC: cluster.MAC{mac}, Expires: time.Unix(1e9, 0).UTC()}
	}
	before, err := s.Commit(t.Context(), []cluster.Lease{lease(1)}, nil)
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	all, some, done := make(chan []cluster.Lease, 1), make(chan []cluster.Lease, 4), make(chan struct{})
	go func() {
		defer close(done)
		s.WatchLeases(ctx, func(l []cluster.Lease, at cluster.Revision) {
			if at < before {
				t.Errorf("at revision %d, written at %d", at, before)
			}
			all <- l
		}, func(l ...cluster.Lease) { some <- l })
	}()
	if got := <-all; len(got) != 1 || !got[0].Equal(lease(1)) || got[0].Revision != before {
		t.Errorf("at the start %+v", got)
	}
	changed, err := s.Commit(t.Context(), []cluster.Lease{lease(2)}, []cluster.Lease{lease(1)})
	must(t, err)
	if got := <-some; len(got) != 1 || !got[0].Equal(lease(2)) || got[0].Revision != changed {
		t.Errorf("then %+v", got)
	}
	gone, err := s.Commit(t.Context(), nil, []cluster.Lease{lease(2)})
	must(t, err)
	if got := <-some; len(got) != 1 || !got[0].Equal(cluster.Lease{Network: "lan", Address: loopback}) || got[0].Revision != gone {
		t.Errorf("and then %+v", got)
	}
	stop()
	<-done
}

func TestWatchServers(t *testing.T) {
	s := empty(t)
	ctx, stop := context.WithCancel(t.Context())
	told, done := make(chan []cluster.Server, 4), make(chan struct{})
	go func() {
		defer close(done)
		s.WatchServers(ctx, func(all []cluster.Server) { told <- all })
	}()
	if got := <-told; len(got) != 0 {
		t.Errorf("at the start %+v", got)
	}
	one := cluster.Server{Name: "a", HTTPS: 8443, Votes: true}
	must(t, s.PutServer(t.Context(), one))
	if got := <-told; len(got) != 1 || !got[0].Equal(one) {
		t.Errorf("then %+v", got)
	}
	must(t, s.ForgetServer(t.Context(), "a"))
	if got := <-told; len(got) != 0 {
		t.Errorf("and then %+v", got)
	}
	stop()
	<-done
}

func load(t *testing.T, s *Store) *cluster.Snapshot {
	t.Helper()
	snap, err := s.Load(t.Context())
	must(t, err)
	return snap
}

// A member that is removed while it is asked many things ends as one that is not: it
// has closed its store by then, which etcd's own answers do not bear.
func TestRemovedWhileItIsAsked(t *testing.T) {
	a, first := several(t)
	second, _ := joined(t, first, a, "asked")
	client := second.as(t, RootUser)
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for ctx.Err() == nil {
				if _, err := client.Get(ctx, "/pilotlight", clientv3.WithSerializable()); err != nil {
					return
				}
			}
		})
	}
	must(t, first.RemoveMember(t.Context(), "asked"))
	if err := second.member.Wait(t.Context()); !errors.Is(err, errRemoved) {
		t.Errorf("it ended with %v", err)
	}
	stop()
	asking.Wait()
}

// A server that joins may find the others away, or busy, for a moment.
func TestJoinsWhileTheOthersRestart(t *testing.T) {
	a, first := several(t)
	s := *a
	var err error
	s.config.Name, s.config.Dir = "early", filepath.Join(t.TempDir(), "etcd")
	s.config.Client, err = freePort()
	must(t, err)
	s.config.Peer, err = freePort()
	must(t, err)
	s.config.Join, err = first.AddLearner(t.Context(), "early", "https://"+s.config.Peer.String())
	must(t, err)
	a.member.Close()
	back := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() { back <- a.start() })
	err = s.start()
	must(t, <-back)
	must(t, err)
	s.member.Close()
}

// A server that joins may ask a member that has not heard of it yet.
func TestJoinsBeforeAllKnow(t *testing.T) {
	a, first := several(t)
	s := *a
	var err error
	s.config.Name, s.config.Dir = "late", filepath.Join(t.TempDir(), "etcd")
	s.config.Client, err = freePort()
	must(t, err)
	s.config.Peer, err = freePort()
	must(t, err)
	peer := "https://" + s.config.Peer.String()
	s.config.Join = fmt.Sprintf("%s=https://%s,late=%s", a.config.Name, a.config.Peer, peer)
	added := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() {
		_, err := first.AddLearner(t.Context(), "late", peer)
		added <- err
	})
	must(t, s.start())
	defer s.member.Close()
	must(t, <-added)
}
