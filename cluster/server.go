package cluster

import (
	"net/netip"
	"slices"
	"strings"
)

// ServerName names a server among those that share one etcd.
type ServerName string

// Server is one of the servers that share an etcd, as it tells the others of
// itself.
type Server struct {
	Name      ServerName   `json:"name"`
	Addresses []netip.Addr `json:"addresses"` // where it is found, the best first; none of loopback
	Cards     []MAC        `json:"cards,omitempty"`
	HTTP      uint16       `json:"http"`
	HTTPS     uint16       `json:"https"`
	Etcd      uint16       `json:"etcd"`
	Votes     bool         `json:"votes"` // its etcd answers hosts; that of a learner does not
}

// Equal reports whether two servers say the same of themselves.
func (s Server) Equal(o Server) bool {
	return slices.Equal(s.Addresses, o.Addresses) && slices.Equal(s.Cards, o.Cards) && s.Name == o.Name && s.HTTP == o.HTTP && s.HTTPS == o.HTTPS && s.Etcd == o.Etcd && s.Votes == o.Votes
}

// From returns the address at which a machine on a network finds the server: one
// of that network, or else the best of the same family, which routers lead to.
func (s Server) From(network netip.Prefix) (netip.Addr, bool) {
	if i := slices.IndexFunc(s.Addresses, network.Contains); i >= 0 {
		return s.Addresses[i], true
	}
	i := slices.IndexFunc(s.Addresses, func(a netip.Addr) bool { return !network.IsValid() || a.Is6() == network.Addr().Is6() })
	if i < 0 {
		return netip.Addr{}, false
	}
	return s.Addresses[i], true
}

// Uplinks is where a host finds the servers, the best first.
type Uplinks struct {
	Servers []string `json:"servers,omitempty"` // https://ADDRESS:PORT, for join, renewal and the registry
	Etcd    []string `json:"etcd,omitempty"`    // ADDRESS:PORT
}

// IsZero reports whether nothing is said.
func (u Uplinks) IsZero() bool { return len(u.Servers) == 0 && len(u.Etcd) == 0 }

// Or returns u, and what is missing there of another list after it.
func (u Uplinks) Or(more Uplinks) Uplinks {
	return Uplinks{Servers: union(u.Servers, more.Servers), Etcd: union(u.Etcd, more.Etcd)}
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// UplinksFrom returns where a host on a network finds the servers: those of the
// name first before the others.
func UplinksFrom(network netip.Prefix, servers []Server, first ServerName) (u Uplinks) {
	servers = slices.SortedStableFunc(slices.Values(servers), func(a, b Server) int {
		switch {
		case a.Name == first && b.Name != first:
			return -1
		case b.Name == first && a.Name != first:
			return 1
		}
		return 0
	})
	for _, s := range servers {
		a, ok := s.From(network)
		if !ok {
			continue
		}
		u.Servers = append(u.Servers, "https://"+netip.AddrPortFrom(a, s.HTTPS).String())
		if s.Votes {
			u.Etcd = append(u.Etcd, netip.AddrPortFrom(a, s.Etcd).String())
		}
	}
	return u
}

// UplinksAt returns where a machine that is told one URL finds the servers: there,
// whoever answers, and then all of them. It is the same whichever server says so.
func UplinksAt(secure, etcd string, network netip.Prefix, servers []Server) Uplinks {
	servers = slices.SortedFunc(slices.Values(servers), func(a, b Server) int { return strings.Compare(string(a.Name), string(b.Name)) })
	all := UplinksFrom(network, servers, "")
	there := Uplinks{Servers: []string{secure}, Etcd: []string{etcd}}
	learns := slices.ContainsFunc(servers, func(s Server) bool {
		return !s.Votes && slices.ContainsFunc(s.Addresses, func(a netip.Addr) bool { return netip.AddrPortFrom(a, s.Etcd).String() == etcd })
	})
	if learns && len(all.Etcd) > 0 {
		there.Etcd = nil
	}
	return there.Or(all)
}

// Member is a server's part of etcd.
type Member struct {
	ID      uint64     `json:"id"`
	Name    ServerName `json:"name"` // empty until it has started once
	Peer    string     `json:"peer"` // its URL for other members
	Client  string     `json:"client"`
	Learner bool       `json:"learner"` // it is told everything, and has no vote
	Leader  bool       `json:"leader"`
	Version string     `json:"version,omitempty"` // of etcd; empty when it does not answer
	DBSize  int64      `json:"db_size,omitempty"`
	Behind  uint64     `json:"behind,omitempty"` // entries of the log that it has not taken over yet
	Problem string     `json:"problem,omitempty"`
}

// PromotableMembers returns the learners that are to be given a vote: as many as
// make the number of votes odd. With one vote only that server's loss stops the
// others; with two the loss of either does.
func PromotableMembers(members []Member) []Member {
	var ready []Member
	votes := 0
	for _, m := range members {
		switch {
		case !m.Learner:
			votes++
		case m.Name != "" && m.Version != "":
			ready = append(ready, m)
		}
	}
	n := len(ready)
	if (votes+n)%2 == 0 {
		n--
	}
	return ready[:max(n, 0)]
}

// MayFail returns how many servers with a vote may be lost before nothing can be
// changed any more.
func MayFail(votes int) int { return max(votes-1, 0) / 2 }
