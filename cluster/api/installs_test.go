package api

import (
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

func TestStateOfInstall(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return now.Add(-d) }
	booted := func(d time.Duration) cluster.Boot { return cluster.Boot{Events: []cluster.Event{{At: at(d)}}} }
	in := func(p cluster.InstallPhase, d time.Duration) cluster.Install {
		return cluster.Install{Phase: p, At: at(d)}
	}
	introduced := func(d time.Duration) cluster.Node {
		return cluster.Node{Introduction: &cluster.Introduction{At: at(d)}}
	}
	for name, c := range map[string]struct {
		node cluster.Node
		boot cluster.Boot
		in   cluster.Install
		want cluster.State
	}{
		"wanted":                     {cluster.Node{}, cluster.Boot{}, in(cluster.InstallWanted, 0), cluster.StateApproved},
		"boots to be installed":      {cluster.Node{}, booted(time.Second), in(cluster.InstallWanted, 0), cluster.StateBooting},
		"is being installed":         {cluster.Node{}, booted(time.Second), in(cluster.InstallBegun, time.Second), cluster.StateInstalling},
		"says that it is done":       {cluster.Node{}, booted(time.Minute), in(cluster.InstallDone, time.Minute), cluster.StateInstalled},
		"boots from its disk":        {cluster.Node{}, booted(time.Second), in(cluster.InstallDone, time.Minute), cluster.StateBooting},
		"installed, and off":         {cluster.Node{}, booted(time.Hour), in(cluster.InstallDone, 2*time.Hour), cluster.StateInstalled},
		"never done":                 {cluster.Node{}, booted(time.Second), in(cluster.InstallFailed, time.Second), cluster.StateFailed},
		"is being installed again":   {introduced(time.Hour), booted(time.Second), in(cluster.InstallBegun, time.Second), cluster.StateInstalling},
		"installed again":            {introduced(time.Hour), booted(time.Minute), in(cluster.InstallDone, time.Minute), cluster.StateInstalled},
		"was introduced, and is off": {introduced(time.Hour), booted(2 * time.Hour), in(cluster.InstallDone, 3*time.Hour), cluster.StateLost},
	} {
		if got := StateOf(c.node, c.boot, c.in, now); got != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
}

func TestReinstall(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	docs := []cluster.Document{
		&cluster.Image{Meta: cluster.Meta{Name: "i"}, Kernel: cluster.File{URL: "file:///k"}},
		&cluster.Profile{Meta: cluster.Meta{Name: "disk"}, Image: "i", Boot: cluster.BootInstall, Install: &cluster.Installation{Device: "/dev/sda"}},
		&cluster.Profile{Meta: cluster.Meta{Name: "live"}, Image: "i"},
		&cluster.Host{Meta: cluster.Meta{Name: "db1"}, MACs: []cluster.MAC{{2}}, Profile: "disk"},
		&cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{{4}}, Profile: "live"},
	}
	must(t, r.store.Apply(ctx, r.Snapshot(), docs, nil, nil))
	c := r.admin()
	state := func() HostStatus {
		t.Helper()
		list, err := c.Hosts(ctx)
		if err != nil || list[0].Name != "db1" || list[1].Install != nil {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[0]
	}
	if h := state(); h.State != cluster.StateApproved || h.Install.Phase != cluster.InstallWanted {
		t.Errorf("%+v", h)
	}
	if i, err := c.Installed(ctx, "db1"); err != nil || i.Phase != cluster.InstallDone || state().State != cluster.StateInstalled {
		t.Errorf("%+v, %v, %+v", i, err, state())
	}
	if i, err := c.Reinstall(ctx, "db1"); err != nil || i.Phase != cluster.InstallWanted || i.By != "operator:admin" || i.Booted != 0 {
		t.Errorf("%+v, %v", i, err)
	}
	for range cluster.MaxInstalls + 1 {
		_, err := r.store.ChangeInstall(ctx, "db1", func(i cluster.Install) cluster.Install { return i.Begin("", time.Now()) })
		must(t, err)
	}
	if h := state(); h.State != cluster.StateFailed || !strings.Contains(h.Message, "pilotlight host reinstall db1") {
		t.Errorf("%+v", h)
	}
	for host, want := range map[string]string{"web1": "its profile live boots live; set boot: install", "none": "there is no host"} {
		if _, err := c.Reinstall(ctx, host); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", host, err)
		}
	}
	audit, err := r.store.AuditLog(ctx, cluster.AuditQuery{About: "host db1"})
	if err != nil || len(audit.Entries) != 2 || audit.Entries[0].Action != "host.installed" || audit.Entries[1].Action != "host.reinstall" {
		t.Errorf("%+v, %v", audit, err)
	}
}
