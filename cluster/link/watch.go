package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

// A watch that hears nothing asks for a sign of life, and is begun anew when
// none comes: behind a partition it may hang without an error.
var (
	errSilence = errors.New("the watch has gone silent")
	errEnded   = errors.New("the watch ended")
)

// view is what lies under the host's prefix, as far as it is told.
type view struct {
	host    cluster.HostName
	desired *cluster.Desired
	rev     cluster.Revision
	broken  map[string]string // key -> why it cannot be read
	secrets map[string]*secret.Sealed
}

// watch reads the host's prefix and follows it, again and again until ctx ends.
func (l *Link) watch(ctx context.Context, told func(agent.State)) {
	backoff := agent.Backoff{Min: retryMin, Max: retryMax}
	for ctx.Err() == nil {
		err := l.follow(ctx, func(s agent.State) {
			backoff.Reset()
			told(s)
		})
		if ctx.Err() != nil {
			return
		}
		wait := backoff.Next()
		if errors.Is(err, rpctypes.ErrCompacted) {
			wait = 0 // nothing is wrong: we were away for long
		}
		l.Log.Warn("etcd is not read; what runs stays", "err", l.explain(err), "again", wait.Round(time.Millisecond).String())
		agent.Sleep(ctx, wait)
	}
}

// follow gets the prefix as of a revision, and watches from the next one.
func (l *Link) follow(ctx context.Context, told func(agent.State)) error {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	defer cancel(nil)
	folder := cluster.NodeFolder(l.Host)
	var got *clientv3.GetResponse
	err := l.retryOldAuth(ctx, func(ctx context.Context) (err error) {
		got, err = l.client.Get(ctx, folder, clientv3.WithPrefix())
		return err
	})
	if err != nil {
		return err
	}
	v := &view{host: l.Host, broken: map[string]string{}, secrets: map[string]*secret.Sealed{}}
	alive := false
	for _, kv := range got.Kvs {
		v.put(string(kv.Key), kv.Value, cluster.Revision(kv.ModRevision))
		alive = alive || string(kv.Key) == cluster.AliveKey(l.Host)
	}
	if !alive {
		l.revive()
	}
	told(v.state())

	// Every call below may hang, the first one included.
	watchdog := time.AfterFunc(l.Silence, func() { cancel(errSilence) })
	defer watchdog.Stop()
	err = l.events(ctx, v, got.Header.Revision+1, func() { watchdog.Reset(l.Silence) }, told)
	if cause := context.Cause(ctx); errors.Is(cause, errSilence) {
		return cause
	}
	return err
}

// events follows the prefix from a revision on, and calls heard at each sign of
// life.
func (l *Link) events(ctx context.Context, v *view, from int64, heard func(), told func(agent.State)) error {
	events := l.client.Watch(ctx, cluster.NodeFolder(l.Host), clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithProgressNotify())
	tick := time.NewTicker(l.Silence / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			// Asking does not wait for the answer, which comes as an event.
			if err := l.client.RequestProgress(ctx); err != nil {
				return err
			}
		case r, ok := <-events:
			if !ok {
				return errEnded
			}
			if err := r.Err(); err != nil {
				return err
			}
			heard()
			if l.apply(v, r.Events) {
				told(v.state())
			}
		}
	}
}

// apply takes the events of one transaction over, and reports whether what the
// host is told has changed.
func (l *Link) apply(v *view, events []*clientv3.Event) bool {
	news := false
	for _, e := range events {
		key := string(e.Kv.Key)
		switch {
		case key == cluster.StatusKey(l.Host): // an echo of our own
		case key == cluster.AliveKey(l.Host):
			if e.Type == clientv3.EventTypeDelete {
				l.revive()
			}
		case e.Type == clientv3.EventTypeDelete:
			v.delete(key)
			news = true
		default:
			v.put(key, e.Kv.Value, cluster.Revision(e.Kv.ModRevision))
			news = true
		}
	}
	return news
}

func (v *view) put(key string, value []byte, rev cluster.Revision) {
	delete(v.broken, key)
	switch {
	case key == cluster.DesiredKey(v.host):
		d := new(cluster.Desired)
		if err := json.Unmarshal(value, d); err != nil {
			v.broken[key] = fmt.Sprintf("what to run cannot be read: %v; what runs stays", err)
			return // and the last one that could be read holds
		}
		v.desired, v.rev = d, rev
	case strings.HasPrefix(key, cluster.NodeSecretsFolder(v.host)):
		s := new(secret.Sealed)
		delete(v.secrets, key)
		if err := json.Unmarshal(value, s); err != nil {
			v.broken[key] = fmt.Sprintf("the sealed secret at %s cannot be read: %v", key, err)
			return
		}
		if at := cluster.NodeSecretKey(v.host, s.Version); at != key {
			v.broken[key] = fmt.Sprintf("the sealed secret at %s belongs at %s", key, at)
			return
		}
		v.secrets[key] = s
	}
}

func (v *view) delete(key string) {
	delete(v.broken, key)
	delete(v.secrets, key)
	if key == cluster.DesiredKey(v.host) {
		v.desired, v.rev = nil, 0
	}
}

// state is a copy of the view.
func (v *view) state() agent.State {
	s := agent.State{Desired: v.desired, Revision: v.rev, Secrets: make(map[cluster.Version]*secret.Sealed, len(v.secrets))}
	for _, sealed := range v.secrets {
		s.Secrets[sealed.Version] = sealed
	}
	for key, problem := range v.broken {
		if s.Problem == "" || key == cluster.DesiredKey(v.host) {
			s.Problem = problem
		}
	}
	return s
}
