//go:build storm || integration

package storm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/etcd"
)

// watcher sees in etcd, from outside, when hosts are introduced and alive.
type watcher struct {
	client *clientv3.Client
	store  *etcd.Store
	owned  sync.WaitGroup
	stop   context.CancelFunc
	began  [2]int64 // etcd's revision and raft index

	mu           sync.Mutex
	introduced   map[string]time.Time // by host
	introduction map[string]int       // how many each has had
	alive        map[string]time.Time
	lost         map[string]int // how often a host stopped being alive
	changed      chan struct{}  // closed, and made anew, at each change
}

func (w *world) watch() *watcher {
	t := w.t
	t.Helper()
	first := w.servers[0]
	cert, err := tls.LoadX509KeyPair(filepath.Join(first.data, "server", "etcd.crt"), filepath.Join(first.data, "server", "etcd.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(first.data, "ca", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	var endpoints []string
	for _, s := range w.voters() {
		endpoints = append(endpoints, "https://"+s.address+":2379")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: roots}
	o := &watcher{
		introduced: map[string]time.Time{}, introduction: map[string]int{}, alive: map[string]time.Time{}, lost: map[string]int{},
		changed: make(chan struct{}),
	}
	if o.store, err = etcd.Open(etcd.ClientConfig{Endpoints: endpoints, TLS: config}); err != nil {
		t.Fatal(err)
	}
	o.client, err = clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: config, DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
		DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.began, err = o.progress(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.stop = cancel
	for folder, see := range map[string]func(*clientv3.Event){
		cluster.IntroductionsFolder: o.seeIntroduction, cluster.NodesFolder: o.seeNode,
	} {
		events := o.client.Watch(ctx, folder, clientv3.WithPrefix(), clientv3.WithRev(o.began[0]+1))
		o.owned.Go(func() {
			for r := range events {
				for _, e := range r.Events {
					see(e)
				}
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		o.owned.Wait()
		_, _ = o.client.Close(), o.store.Close()
	})
	return o
}

// progress is how many changes etcd has made, and how many its log has.
func (o *watcher) progress(ctx context.Context) (at [2]int64, err error) {
	all := o.client.Endpoints()
	r, err := o.client.Status(ctx, all[len(all)-1]) // the first may have been killed
	if err != nil {
		return at, err
	}
	return [2]int64{r.Header.Revision, int64(r.RaftIndex)}, nil
}

func (o *watcher) seeIntroduction(e *clientv3.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	host := strings.TrimPrefix(string(e.Kv.Key), cluster.IntroductionsFolder)
	if e.Type == clientv3.EventTypeDelete {
		delete(o.introduced, host)
	} else {
		o.introduced[host] = time.Now()
		o.introduction[host]++
	}
	o.tell()
}

func (o *watcher) seeNode(e *clientv3.Event) {
	host, rest, _ := strings.Cut(strings.TrimPrefix(string(e.Kv.Key), cluster.NodesFolder), "/")
	if rest != "alive" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, was := o.alive[host]
	switch {
	case e.Type == clientv3.EventTypeDelete:
		delete(o.alive, host)
		o.lost[host]++
	case !was:
		o.alive[host] = time.Now()
	}
	o.tell()
}

func (o *watcher) tell() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// until waits until so many hosts are introduced, and alive.
func (o *watcher) until(ctx context.Context, introduced, alive int) error {
	for {
		o.mu.Lock()
		done, changed := len(o.introduced) >= introduced && len(o.alive) >= alive, o.changed
		o.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (o *watcher) counts() (introduced, alive int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.introduced), len(o.alive)
}
