package matchboxrpc

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"sort"

	"github.com/poseidon/matchbox/matchbox/rpc/rpcpb"
	pb "github.com/poseidon/matchbox/matchbox/server/serverpb"
	"github.com/poseidon/matchbox/matchbox/storage/storagepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/moving/matchbox"
)

// maxMessage is how long a call may be; etcd takes no more in a transaction.
const maxMessage = 2 << 20

// GRPC returns the server, which speaks TLS as config says: it has to ask for a
// certificate and to verify it.
func (s *Server) GRPC(config *tls.Config) *grpc.Server {
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)), grpc.UnaryInterceptor(s.guard), grpc.MaxRecvMsgSize(maxMessage))
	rpcpb.RegisterGroupsServer(g, groups{s})
	rpcpb.RegisterProfilesServer(g, profiles{s})
	rpcpb.RegisterIgnitionServer(g, ignition{s})
	rpcpb.RegisterGenericServer(g, generic{s})
	rpcpb.RegisterSelectServer(g, choice{s})
	return g
}

type groups struct{ *Server }

func (s groups) GroupPut(ctx context.Context, in *pb.GroupPutRequest) (*pb.GroupPutResponse, error) {
	g := in.GetGroup()
	if g == nil {
		return nil, status.Error(codes.InvalidArgument, "the request has no group")
	}
	if err := g.AssertValid(); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "a group has an id and a profile: %v", err)
	}
	body, err := json.Marshal(g)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	d := &cluster.Matchbox{Type: cluster.MatchboxGroup, ID: g.Id, Body: string(body)}
	if _, err := groupOf(d); err != nil {
		return nil, err
	}
	return &pb.GroupPutResponse{}, s.put(ctx, d)
}

func (s groups) GroupGet(ctx context.Context, in *pb.GroupGetRequest) (*pb.GroupGetResponse, error) {
	d, err := s.get(ctx, cluster.MatchboxGroup, in.GetId())
	if err != nil {
		return nil, err
	}
	g, err := decode[storagepb.Group](d)
	return &pb.GroupGetResponse{Group: g}, err
}

func (s groups) GroupDelete(ctx context.Context, in *pb.GroupDeleteRequest) (*pb.GroupDeleteResponse, error) {
	return &pb.GroupDeleteResponse{}, s.remove(ctx, cluster.MatchboxGroup, in.GetId())
}

func (s groups) GroupList(ctx context.Context, _ *pb.GroupListRequest) (*pb.GroupListResponse, error) {
	all, err := list[storagepb.Group](ctx, s.Server, cluster.MatchboxGroup)
	return &pb.GroupListResponse{Groups: all}, err
}

type profiles struct{ *Server }

func (s profiles) ProfilePut(ctx context.Context, in *pb.ProfilePutRequest) (*pb.ProfilePutResponse, error) {
	p := in.GetProfile()
	if p == nil || p.Id == "" {
		return nil, status.Error(codes.InvalidArgument, "a profile has an id")
	}
	if p.CloudId != "" {
		return nil, status.Errorf(codes.InvalidArgument, "profile %s names cloud-config %s: matchbox's API has no way to write one; write cloud_config: in a profile of a manifest", p.Id, p.CloudId)
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	d := &cluster.Matchbox{Type: cluster.MatchboxProfile, ID: p.Id, Body: string(body)}
	ours, err := profileOf(d)
	if err != nil {
		return nil, err
	}
	if d.Pins, err = s.pins(ctx, ours); err != nil {
		return nil, err
	}
	return &pb.ProfilePutResponse{}, s.put(ctx, d)
}

func (s profiles) ProfileGet(ctx context.Context, in *pb.ProfileGetRequest) (*pb.ProfileGetResponse, error) {
	d, err := s.get(ctx, cluster.MatchboxProfile, in.GetId())
	if err != nil {
		return nil, err
	}
	p, err := decode[storagepb.Profile](d)
	return &pb.ProfileGetResponse{Profile: p}, err
}

func (s profiles) ProfileDelete(ctx context.Context, in *pb.ProfileDeleteRequest) (*pb.ProfileDeleteResponse, error) {
	return &pb.ProfileDeleteResponse{}, s.remove(ctx, cluster.MatchboxProfile, in.GetId())
}

func (s profiles) ProfileList(ctx context.Context, _ *pb.ProfileListRequest) (*pb.ProfileListResponse, error) {
	all, err := list[storagepb.Profile](ctx, s.Server, cluster.MatchboxProfile)
	return &pb.ProfileListResponse{Profiles: all}, err
}

type ignition struct{ *Server }

func (s ignition) IgnitionPut(ctx context.Context, in *pb.IgnitionPutRequest) (*pb.IgnitionPutResponse, error) {
	return &pb.IgnitionPutResponse{}, s.put(ctx, &cluster.Matchbox{Type: cluster.MatchboxIgnition, ID: in.GetName(), Body: string(in.GetConfig())})
}

func (s ignition) IgnitionGet(ctx context.Context, in *pb.IgnitionGetRequest) (*pb.IgnitionGetResponse, error) {
	d, err := s.get(ctx, cluster.MatchboxIgnition, in.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.IgnitionGetResponse{Config: []byte(d.Body)}, nil
}

func (s ignition) IgnitionDelete(ctx context.Context, in *pb.IgnitionDeleteRequest) (*pb.IgnitionDeleteResponse, error) {
	return &pb.IgnitionDeleteResponse{}, s.remove(ctx, cluster.MatchboxIgnition, in.GetName())
}

type generic struct{ *Server }

func (s generic) GenericPut(ctx context.Context, in *pb.GenericPutRequest) (*pb.GenericPutResponse, error) {
	return &pb.GenericPutResponse{}, s.put(ctx, &cluster.Matchbox{Type: cluster.MatchboxGeneric, ID: in.GetName(), Body: string(in.GetConfig())})
}

func (s generic) GenericGet(ctx context.Context, in *pb.GenericGetRequest) (*pb.GenericGetResponse, error) {
	d, err := s.get(ctx, cluster.MatchboxGeneric, in.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.GenericGetResponse{Config: []byte(d.Body)}, nil
}

func (s generic) GenericDelete(ctx context.Context, in *pb.GenericDeleteRequest) (*pb.GenericDeleteResponse, error) {
	return &pb.GenericDeleteResponse{}, s.remove(ctx, cluster.MatchboxGeneric, in.GetName())
}

// choice says which group or profile labels lead to, among what was put.
type choice struct{ *Server }

func (s choice) SelectGroup(ctx context.Context, in *pb.SelectGroupRequest) (*pb.SelectGroupResponse, error) {
	all, err := list[storagepb.Group](ctx, s.Server, cluster.MatchboxGroup)
	if err != nil {
		return nil, err
	}
	sort.Sort(sort.Reverse(storagepb.ByReqs(all))) // the most selectors first
	for _, g := range all {
		if g.Matches(in.GetLabels()) {
			return &pb.SelectGroupResponse{Group: g}, nil
		}
	}
	return nil, status.Error(codes.NotFound, "matchbox: No matching Group")
}

func (s choice) SelectProfile(ctx context.Context, in *pb.SelectProfileRequest) (*pb.SelectProfileResponse, error) {
	g, err := s.SelectGroup(ctx, &pb.SelectGroupRequest{Labels: in.GetLabels()})
	if err != nil {
		return nil, err
	}
	p, err := profiles(s).ProfileGet(ctx, &pb.ProfileGetRequest{Id: g.Group.Profile})
	if status.Code(err) == codes.NotFound {
		return nil, status.Error(codes.NotFound, "matchbox: No matching Profile")
	}
	return &pb.SelectProfileResponse{Profile: p.GetProfile()}, err
}

func decode[T any](d *cluster.Matchbox) (*T, error) {
	out := new(T)
	if err := json.Unmarshal([]byte(d.Body), out); err != nil {
		return nil, status.Errorf(codes.DataLoss, "%s %q cannot be read: %v", d.Type, d.ID, err)
	}
	return out, nil
}

func list[T any](ctx context.Context, s *Server, t cluster.MatchboxType) (out []*T, err error) {
	snap, err := s.Documents.Load(ctx)
	if err != nil {
		return nil, failed(err)
	}
	for _, d := range objects(snap) {
		if d.Type != t {
			continue
		}
		one, err := decode[T](d)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// groupOf is a kept group in the importer's words.
func groupOf(d *cluster.Matchbox) (matchbox.Group, error) {
	g, err := decode[storagepb.Group](d)
	if err != nil {
		return matchbox.Group{}, err
	}
	out := matchbox.Group{ID: g.Id, Name: g.Name, Profile: g.Profile, Selector: g.Selector, File: fmt.Sprintf("group %s", g.Id)}
	if len(g.Metadata) > 0 {
		if err := json.Unmarshal(g.Metadata, &out.Metadata); err != nil {
			return out, status.Errorf(codes.InvalidArgument, "group %s: its metadata is no JSON mapping: %v", g.Id, err)
		}
	}
	return out, nil
}

// profileOf is a kept profile in the importer's words.
func profileOf(d *cluster.Matchbox) (matchbox.Profile, error) {
	p, err := decode[storagepb.Profile](d)
	if err != nil {
		return matchbox.Profile{}, err
	}
	out := matchbox.Profile{ID: p.Id, Name: p.Name, IgnitionID: p.IgnitionId, GenericID: p.GenericId, File: fmt.Sprintf("profile %s", p.Id)}
	if b := p.Boot; b != nil {
		out.Boot = &matchbox.Boot{Kernel: b.Kernel, Initrd: b.Initrd, Args: b.Args}
	}
	return out, nil
}
