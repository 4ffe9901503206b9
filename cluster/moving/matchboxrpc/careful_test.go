package matchboxrpc

import (
	"testing"

	pb "github.com/poseidon/matchbox/matchbox/server/serverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pilotlight/pilotlight/cluster"
)

func TestNothingInIt(t *testing.T) {
	if _, err := (groups{&Server{}}).GroupPut(t.Context(), &pb.GroupPutRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a request without a group: %v", err)
	}
	err := (&Server{}).put(t.Context(), &cluster.Matchbox{Type: cluster.MatchboxGeneric, ID: "b", Body: "\xff\xfe"})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("what is no text: %v", err)
	}
}

// What an operator copied of the API's documents is the operator's, and what one
// deleted stays away until its object is put again.
func TestOperatorsWordCounts(t *testing.T) {
	w := &world{t: t, docs: map[cluster.Ref]cluster.Document{}}
	w.must(cluster.MatchboxIgnition, "t", aButane)
	w.must(cluster.MatchboxProfile, "p", aProfile)
	w.must(cluster.MatchboxGroup, "g", aGroup)
	again := *w.docs[cluster.Ref{Kind: cluster.KindProfile, Name: "p"}].(*cluster.Profile)
	again.Name = "mine"
	w.docs[again.Ref()] = &again
	delete(w.docs, cluster.Ref{Kind: cluster.KindHost, Name: "g"})
	w.must(cluster.MatchboxProfile, "other", `{"id":"other"}`)
	if !w.has(cluster.KindProfile, "mine") {
		t.Error("a copy that an operator made is gone")
	}
	if w.has(cluster.KindHost, "g") {
		t.Error("a host that an operator deleted is back")
	}
}
