package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// inside makes the reads and transactions that a boot waits for at the member in its
// own process, without a socket, TLS and HTTP/2 between them, which cost more than
// those. It is a pb.KVClient of which only Range and Txn differ.
//
// It makes them as the user root, by the certificate that would be shown on a
// connection: etcd's own checks of users and roles are passed as by any client.
type inside struct {
	pb.KVClient // the connection, for all else and while the member has no vote
	server      *etcdserver.EtcdServer
	member      pb.KVServer
	as          *peer.Peer
	turns       *turns
}

func newInside(m *Member, conn *clientv3.Client, as tls.Certificate, order *turns) *inside {
	state := tls.ConnectionState{HandshakeComplete: true, VerifiedChains: [][]*x509.Certificate{{as.Leaf}}}
	return &inside{
		KVClient: clientv3.RetryKVClient(conn),
		server:   m.etcd.Server,
		member:   v3rpc.NewQuotaKVServer(m.etcd.Server),
		as:       &peer.Peer{Addr: new(net.UnixAddr), AuthInfo: credentials.TLSInfo{State: state}},
		turns:    order,
	}
}

// Txn implements pb.KVClient.
func (i *inside) Txn(ctx context.Context, in *pb.TxnRequest, opts ...grpc.CallOption) (out *pb.TxnResponse, err error) {
	if !i.votes() {
		return i.KVClient.Txn(ctx, in, opts...)
	}
	err = i.call(ctx, pb.KV_Txn_FullMethodName, func(ctx context.Context) (err error) {
		out, err = i.member.Txn(ctx, in)
		return err
	})
	return out, err
}

// Range implements pb.KVClient.
func (i *inside) Range(ctx context.Context, in *pb.RangeRequest, opts ...grpc.CallOption) (out *pb.RangeResponse, err error) {
	if !i.votes() {
		return i.KVClient.Range(ctx, in, opts...)
	}
	err = i.call(ctx, pb.KV_Range_FullMethodName, func(ctx context.Context) (err error) {
		out, err = i.member.Range(ctx, in)
		return err
	})
	return out, err
}

// votes reports whether the member has a vote. A learner would pass on what it is
// told, but etcd has it refuse.
func (i *inside) votes() bool { return votes(i.server) }

// votes reports it of any member. (Its own IsLearner panics in one that was removed.)
func votes(s *etcdserver.EtcdServer) bool {
	at := s.Cluster().Member(s.MemberID())
	return at != nil && !at.IsLearner
}

// call has something done at the member, as root and in its turn.
func (i *inside) call(ctx context.Context, method string, do func(context.Context) error) error {
	own := metadata.NewIncomingContext(peer.NewContext(ctx, i.as), metadata.MD{})
	err := i.turns.call(own, method, nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) (err error) {
		if stopping(i.server) { // its store is closed, or will be: see door
			return rpctypes.ErrGRPCStopped
		}
		defer func() {
			if stopping(i.server) && recover() != nil {
				err = rpctypes.ErrGRPCStopped
			}
		}()
		return do(ctx)
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // etcd speaks of its own patience then
	}
	return err
}
