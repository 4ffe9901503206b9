package etcd

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// turns keeps apart two kinds of calls that spoil each other: each change of
// etcd's users makes etcd refuse every call that is under way ("revision in
// header is old"). When a thousand hosts join, six changes each, a call that is
// merely asked again comes to nothing for tens of seconds, the leases of DHCP
// among them. So the calls of a kind go together, and the kinds take turns.
//
// etcd writes its users to disk at each change (authBatchTx.Unlock), before
// anything that comes behind. So only a few of those take a turn.
//
// It orders the calls of one Store. Those of other servers, and of agents, are
// asked again as ever.
type turns struct {
	mu      sync.Mutex
	kind    kind
	inside  int
	waiting [kinds][]*turn
}

type kind int

const (
	work  kind = iota // what reads and writes keys
	users             // what changes etcd's users and their roles
	kinds
)

// turn is a call that waits, or is under way.
type turn struct {
	come chan struct{} // closed when it may begin
	in   bool          // of turns.mu
}

// turnPatience is how long a call waits for its turn. One that hangs is not to
// hold up all others: whoever has waited so long goes ahead, and may be refused.
const turnPatience = 2 * time.Second

// usersAtOnce is how many changes of users are under way in one turn.
const usersAtOnce = 4

// begin waits until calls of a kind may be under way, and returns what is to be
// called when this one is over.
func (t *turns) begin(ctx context.Context, k kind) (end func()) {
	mine := t.enter(k)
	end = func() { t.leave(k, mine) }
	select {
	case <-mine.come:
		return end
	default:
	}
	timer := time.NewTimer(turnPatience)
	defer timer.Stop()
	select {
	case <-mine.come:
	case <-timer.C:
	case <-ctx.Done():
	}
	return end
}

func (t *turns) enter(k kind) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := &turn{come: make(chan struct{})}
	t.waiting[k] = append(t.waiting[k], mine)
	if t.inside == 0 || t.kind == k {
		t.next()
	}
	return mine
}

func (t *turns) leave(k kind, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !mine.in { // it went ahead
		for i, w := range t.waiting[k] {
			if w == mine {
				t.waiting[k] = append(t.waiting[k][:i], t.waiting[k][i+1:]...)
				break
			}
		}
		return
	}
	t.inside--
	t.next()
}

// next lets in who may go now. mu is held.
func (t *turns) next() {
	rival := len(t.waiting[other(t.kind)]) > 0
	switch {
	case t.inside == 0 && rival:
		t.kind = other(t.kind)
	case rival: // no more of this kind until it has had its turn
		return
	}
	n := len(t.waiting[t.kind])
	if t.kind == users {
		n = min(n, usersAtOnce-t.inside)
	}
	for _, w := range t.waiting[t.kind][:n] {
		w.in = true
		t.inside++
		close(w.come)
	}
	t.waiting[t.kind] = t.waiting[t.kind][n:]
}

func other(k kind) kind { return users - k }

// kindOf sorts etcd's calls by their names.
func kindOf(method string) kind {
	call, auth := strings.CutPrefix(method, "/etcdserverpb.Auth/")
	switch {
	case !auth, call == "Authenticate", call == "AuthStatus", strings.HasSuffix(call, "Get"), strings.HasSuffix(call, "List"):
		return work
	}
	return users
}

// call is a client's interceptor: calls of two kinds are not under way together.
func (t *turns) call(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	inTurn := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
		defer t.begin(ctx, kindOf(method))()
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	return retryStale(ctx, method, req, reply, cc, inTurn, opts...)
}
