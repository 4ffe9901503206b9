package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
)

// A group lets in as many as it says, and no more; who is not let in is left
// alone for a while.
func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		docs := []cluster.Document{
			&cluster.Profile{Meta: cluster.Meta{Name: "node"}, Boot: cluster.BootLocal},
			&cluster.Group{Meta: cluster.Meta{Name: "rack"}, Match: cluster.Match{MAC: "52:54:00"}, Profile: "node", Admit: 2},
			&cluster.Group{Meta: cluster.Meta{Name: "others"}, Profile: "node"},
		}
		snapshot := func() *cluster.Snapshot {
			mu.Lock()
			defer mu.Unlock()
			return cluster.NewSnapshot(1, docs)
		}
		var log bytes.Buffer
		broken := true
		a := newAdmission(snapshot, func(_ context.Context, h *cluster.Host) (api.ApplyResponse, error) {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				return api.ApplyResponse{}, fmt.Errorf("etcd is away")
			}
			docs = append(docs, h)
			return api.ApplyResponse{}, nil
		}, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.run(ctx) }()
		mac := func(i byte) cluster.MAC { return cluster.MAC{0x52, 0x54, 0, 0, 0, i} }
		asks := func(m cluster.MAC, want bool) {
			t.Helper()
			if got := a.admit(m, cluster.X86_64, nil); got != want {
				t.Errorf("%s: %t, not %t", m, got, want)
			}
			synctest.Wait()
		}
		asks(cluster.MAC{2, 0, 0, 0, 0, 1}, false) // its group lets nobody in
		asks(mac(1), true)
		asks(mac(1), false) // etcd was away
		broken = false
		time.Sleep(admissionRest)
		asks(mac(1), true)
		if h, ok := snapshot().Host("host-52-54-00-00-00-01"); !ok || h.Labels[admittedBy] != "rack" || h.MACs[0] != mac(1) {
			t.Errorf("%+v", h)
		}
		asks(mac(2), true)
		asks(mac(3), true)
		asks(mac(3), false)
		if n := len(snapshot().Documents(cluster.KindHost)); n != 2 {
			t.Errorf("%d hosts", n)
		}
		if !strings.Contains(log.String(), "group rack has let in 2 machines, and admit: 2 is all") {
			t.Error(log.String())
		}
		stop()
		<-done
	})
}
