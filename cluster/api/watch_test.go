package api

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

func TestWatchBoots(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	running, stop := context.WithCancel(ctx)
	r.Running = running
	must(t, r.store.Apply(ctx, r.Snapshot(), []cluster.Document{
		&cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{{2}}}, &cluster.Host{Meta: cluster.Meta{Name: "web2"}, MACs: []cluster.MAC{{4}}},
	}, nil, nil))
	boot := func(h cluster.HostName, id string, at time.Time) cluster.Boot {
		return cluster.Boot{ID: id, Host: h, Events: []cluster.Event{{Step: cluster.StepDHCP, At: at}}}
	}
	now := time.Now()
	must(t, r.store.SaveBoot(ctx, boot("web1", "old", now.Add(-time.Hour))))
	must(t, r.store.SaveBoot(ctx, boot("web1", "recent", now.Add(-time.Minute))))
	got, done := make(chan cluster.Boot, 8), make(chan error, 1)
	go func() { done <- r.admin().WatchBoots(ctx, "web1", func(b cluster.Boot) { got <- b }) }()
	if b := <-got; b.ID != "recent" {
		t.Errorf("at first %+v", b)
	}
	must(t, r.store.SaveBoot(ctx, boot("web2", "other", now)))
	must(t, r.store.SaveBoot(ctx, boot("web1", "new", now)))
	if b := <-got; b.ID != "new" {
		t.Errorf("then %+v", b)
	}
	stop() // the server's end ends it
	if err := <-done; err == nil || !strings.Contains(err.Error(), "the server has stopped") {
		t.Error(err)
	}
	if err := r.admin().WatchBoots(ctx, "nobody", nil); err == nil || !strings.Contains(err.Error(), "there is no host") {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := r.admin().WatchBoots(gone, "", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
