package etcd

import (
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// hostCalls are the calls that a host may make. Of the rest etcd guards most
// by its roles, but not all: a host has no business with any of them.
var hostCalls = []string{
	"/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/DeleteRange", "/etcdserverpb.KV/Txn",
	"/etcdserverpb.Watch/Watch",
	"/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Lease/LeaseRevoke", "/etcdserverpb.Lease/LeaseKeepAlive",
}

// door is what every call to the member passes through.
type door struct {
	open  context.Context
	close context.CancelFunc // ends every stream, and lets no call in any more
}

func newDoor() *door {
	ctx, cancel := context.WithCancel(context.Background())
	return &door{ctx, cancel}
}

func (d *door) options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(d.call), grpc.ChainStreamInterceptor(d.stream)}
}

func (d *door) call(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	if d.open.Err() != nil {
		return nil, rpctypes.ErrGRPCStopped
	}
	return next(ctx, req)
}

func (d *door) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := admit(s.Context(), info.FullMethod); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	defer context.AfterFunc(d.open, cancel)()
	return next(srv, &boundStream{s, ctx})
}

// boundStream is a stream that ends with its context.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *boundStream) Context() context.Context { return s.ctx }

// admit lets the servers make every call, and others the calls of hosts.
func admit(ctx context.Context, method string) error {
	if slices.Contains(hostCalls, method) || caller(ctx) == RootUser {
		return nil
	}
	return rpctypes.ErrGRPCPermissionDenied
}

// caller returns the common name of the certificate that was verified.
func caller(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return ""
	}
	return info.State.VerifiedChains[0][0].Subject.CommonName
}
