package api

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

func TestStateOf(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	introduced := func(d time.Duration) *cluster.Introduction { return &cluster.Introduction{At: ago(d)} }
	booted := func(d time.Duration) cluster.Boot {
		return cluster.Boot{Events: []cluster.Event{{At: ago(d + time.Second)}, {At: ago(d)}}}
	}
	alive := &cluster.Alive{}
	desired := &cluster.Desired{Containers: []cluster.Container{{Site: "www"}}}
	status := func(rev cluster.Revision, h cluster.Health, current bool) *cluster.Status {
		return &cluster.Status{Revision: rev, Containers: []cluster.ContainerStatus{{Site: "www", Health: h, Current: current}}}
	}
	for name, c := range map[string]struct {
		node cluster.Node
		boot cluster.Boot
		want cluster.State
	}{
		"nothing":             {cluster.Node{}, cluster.Boot{}, cluster.StateApproved},
		"boots":               {cluster.Node{}, booted(time.Minute), cluster.StateBooting},
		"hangs":               {cluster.Node{}, booted(bootingFor + time.Second), cluster.StateApproved},
		"introduced just now": {cluster.Node{Introduction: introduced(time.Second)}, booted(2 * time.Second), cluster.StateBooting},
		"silent since":        {cluster.Node{Introduction: introduced(time.Minute)}, booted(2 * time.Minute), cluster.StateLost},
		"boots again":         {cluster.Node{Introduction: introduced(time.Hour)}, booted(time.Minute), cluster.StateBooting},
		"hangs again":         {cluster.Node{Introduction: introduced(time.Hour)}, booted(20 * time.Minute), cluster.StateLost},
		"died soon after ready": {
			cluster.Node{Introduction: introduced(time.Minute), Status: status(5, cluster.HealthHealthy, true)},
			cluster.Boot{Events: []cluster.Event{{At: ago(70 * time.Second)}, {Step: cluster.StepJoin, At: ago(time.Minute)}, {Step: cluster.StepReady, At: ago(50 * time.Second)}, {Step: cluster.StepLoader, At: ago(time.Second)}}},
			cluster.StateLost,
		},
		"retired": {
			cluster.Node{},
			cluster.Boot{Events: []cluster.Event{{At: ago(70 * time.Second)}, {Step: cluster.StepJoin, At: ago(time.Minute)}, {Step: cluster.StepReady, At: ago(50 * time.Second)}}},
			cluster.StateApproved,
		},
		"alive":                {cluster.Node{Alive: alive, Introduction: introduced(time.Hour)}, cluster.Boot{}, cluster.StateJoined},
		"nothing told":         {cluster.Node{Alive: alive, Status: status(1, cluster.HealthHealthy, true)}, cluster.Boot{}, cluster.StateJoined},
		"ready":                {cluster.Node{Alive: alive, Desired: desired, DesiredAt: 5, Status: status(5, cluster.HealthHealthy, true)}, cluster.Boot{}, cluster.StateReady},
		"ready, nothing to do": {cluster.Node{Alive: alive, Desired: &cluster.Desired{}, DesiredAt: 5, Status: &cluster.Status{Revision: 6}}, cluster.Boot{}, cluster.StateReady},
		"behind":               {cluster.Node{Alive: alive, Desired: desired, DesiredAt: 6, Status: status(5, cluster.HealthHealthy, true)}, cluster.Boot{}, cluster.StateJoined},
		"starting":             {cluster.Node{Alive: alive, Desired: desired, DesiredAt: 5, Status: status(5, cluster.HealthStarting, true)}, cluster.Boot{}, cluster.StateJoined},
		"the old one runs":     {cluster.Node{Alive: alive, Desired: desired, DesiredAt: 5, Status: status(5, cluster.HealthHealthy, false)}, cluster.Boot{}, cluster.StateJoined},
		"ready, booted since":  {cluster.Node{Alive: alive, Desired: desired, DesiredAt: 5, Status: status(5, cluster.HealthHealthy, true)}, booted(time.Second), cluster.StateReady},
	} {
		if got := StateOf(c.node, c.boot, cluster.Install{}, now); got != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
}

func TestHosts(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	mac := func(i byte) []cluster.MAC { return []cluster.MAC{{2, 0, 0, 0, 0, i}} }
	docs := []cluster.Document{
		&cluster.Profile{Meta: cluster.Meta{Name: "p"}, Boot: cluster.BootLocal}, &cluster.Group{Meta: cluster.Meta{Name: "g"}, Profile: "p", Match: cluster.Match{Labels: map[string]string{"r": "1"}}},
		&cluster.Network{Meta: cluster.Meta{Name: "lan"}, CIDR: netip.MustParsePrefix("10.0.0.0/24")},
		&cluster.Host{Meta: cluster.Meta{Name: "fixed", Labels: map[string]string{"r": "1"}}, MACs: mac(1), Address: netip.MustParseAddr("10.0.0.1")},
		&cluster.Host{Meta: cluster.Meta{Name: "leased"}, MACs: []cluster.MAC{{2}}, Profile: "p"},
		&cluster.Host{Meta: cluster.Meta{Name: "broken"}, MACs: mac(3)},
	}
	must(t, r.store.Apply(ctx, r.Snapshot(), docs, nil, nil))
	at := time.Now().UTC().Round(0)
	must(t, r.store.SaveBoot(ctx, cluster.Boot{ID: "1", Host: "fixed", Events: []cluster.Event{{Step: cluster.StepDHCP, At: at}, {Step: cluster.StepKernel, At: at}}}))
	must(t, r.store.AllowNode(ctx, "leased"))
	must(t, r.store.SetAlive(ctx, "leased", &cluster.Alive{}))
	must(t, r.store.SetStatus(ctx, "leased", cluster.Status{Agent: "1.2", Message: "no Docker", Containers: []cluster.ContainerStatus{{Site: "b"}, {Site: "a"}}}))
	r.Machines = machines{store: r.store, seen: []cluster.Discovered{
		{Identity: cluster.Identity{MAC: mac(1)[0]}}, {Identity: cluster.Identity{MAC: mac(9)[0], Port: cluster.SwitchPort{Circuit: "eth7"}}, Address: netip.MustParseAddr("10.0.0.9")},
	}}
	list, err := r.admin().Hosts(ctx)
	if err != nil || len(list) != 4 {
		t.Fatalf("%+v, %v", list, err)
	}
	seen, broken, fixed, leased := list[0], list[1], list[2], list[3]
	if seen.State != cluster.StateDiscovered || seen.Name != "02-00-00-00-00-09" || seen.Address != "10.0.0.9" || seen.Seen == nil || seen.Message != "at switch port eth7" {
		t.Errorf("%+v", seen)
	}
	if broken.State != cluster.StateApproved || broken.Message == "" || broken.Profile != "" || broken.Address != "" {
		t.Errorf("%+v", broken)
	}
	if fixed.State != cluster.StateBooting || fixed.Group != "g" || fixed.Profile != "p" || fixed.Address != "10.0.0.1" || fixed.LastStep != cluster.StepKernel || !fixed.LastStepAt.Equal(at) {
		t.Errorf("%+v", fixed)
	}
	if leased.State != cluster.StateJoined || !leased.Alive || leased.Address != "10.0.0.77" || leased.Message != "no Docker" || leased.Agent != "1.2" {
		t.Errorf("%+v", leased)
	}
	must(t, r.store.SetAlive(ctx, "leased", nil))
	silent, err := r.admin().Services(ctx)
	if err != nil || silent[0].Health != cluster.HealthUnknown || !strings.Contains(silent[0].Message, "its host is silent") {
		t.Errorf("of a silent host %+v, %v", silent, err)
	}
	must(t, r.store.SetAlive(ctx, "leased", &cluster.Alive{}))
	services, err := r.admin().Services(ctx)
	if err != nil || len(services) != 2 || services[0].Site != "a" || services[1].Host != "leased" {
		t.Errorf("%+v, %v", services, err)
	}
}
