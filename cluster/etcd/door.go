package etcd

import (
	"context"
	"slices"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
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
//
// A member that was removed is stopped by etcd itself, which closes the store and
// answers calls all the same: these panic (etcdserver/server.go, run). So none is let
// in once it stops, and those that are in by then are caught.
type door struct {
	open   context.Context
	close  context.CancelFunc // ends every stream, and lets no call in any more
	server atomic.Pointer[etcdserver.EtcdServer]
}

func newDoor() *door {
	ctx, cancel := context.WithCancel(context.Background())
	return &door{open: ctx, close: cancel}
}

func (d *door) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(d.call), grpc.ChainStreamInterceptor(d.stream),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsApart, PermitWithoutStream: true}),
	}
}

// pingsApart is how often a client may ask whether the member is there, as etcd has it.
// An agent does each ten seconds, of members too with which it has no watch: of three
// servers it has one with one. etcd's own policy would end those connections
// ("too_many_pings"), and each agent make them anew all the time.
const pingsApart = embed.DefaultGRPCKeepAliveMinTime

// stopping reports whether etcd stops, or has.
func (d *door) stopping() bool {
	server := d.server.Load()
	return d.open.Err() != nil || server != nil && stopping(server)
}

func stopping(server *etcdserver.EtcdServer) bool {
	select {
	case <-server.StoppingNotify():
		return true
	default:
		return false
	}
}

// caught makes an error of the panic of a call that was under way when etcd stopped.
func (d *door) caught(err *error) {
	if d.stopping() && recover() != nil {
		*err = rpctypes.ErrGRPCStopped
	}
}

func (d *door) call(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (out any, err error) {
	if err := admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	if d.stopping() {
		return nil, rpctypes.ErrGRPCStopped
	}
	defer d.caught(&err)
	return next(ctx, req)
}

func (d *door) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	if err := admit(s.Context(), info.FullMethod); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	defer context.AfterFunc(d.open, cancel)()
	defer d.caught(&err)
	return next(srv, &boundStream{s, ctx, d})
}

// boundStream is a stream that ends with its context.
type boundStream struct {
	grpc.ServerStream
	ctx  context.Context
	door *door
}

// RecvMsg implements grpc.ServerStream. What etcd does with a message it may do in
// another goroutine, where nobody catches.
func (s *boundStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if s.door.stopping() {
		return rpctypes.ErrGRPCStopped
	}
	return nil
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
