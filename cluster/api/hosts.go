package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

func compareStrings(pairs ...string) int {
	for i := 0; i < len(pairs); i += 2 {
		if c := cmp.Compare(pairs[i], pairs[i+1]); c != 0 {
			return c
		}
	}
	return 0
}

// Hosts returns every host that a document names, and every machine that was
// seen and that none names.
func (s *Server) Hosts(ctx context.Context) ([]HostStatus, error) {
	nodes, err := s.Store.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	boots, err := s.Store.Boots(ctx, "")
	if err != nil {
		return nil, err
	}
	byHost := map[cluster.HostName]cluster.Node{}
	for _, n := range nodes {
		byHost[n.Host] = n
	}
	last := map[cluster.HostName]cluster.Boot{}
	for _, b := range boots { // oldest first
		last[b.Host] = b
	}
	snap := s.Snapshot()
	out := []HostStatus{}
	for _, d := range snap.Documents(cluster.KindHost) {
		h := d.(*cluster.Host)
		out = append(out, s.host(snap, h, byHost[h.HostName()], last[h.HostName()]))
	}
	for _, seen := range s.Machines.Discovered() {
		if _, known := snap.Identify(seen.Identity); known {
			continue
		}
		out = append(out, HostStatus{
			Name: seen.MAC.Hyphens(), State: cluster.StateDiscovered, MACs: []cluster.MAC{seen.MAC},
			UUID: seen.UUID, Address: addr(seen.Address), Seen: &seen, Message: where(snap, seen.Identity),
		})
	}
	slices.SortFunc(out, func(a, b HostStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// where says where a machine that is no host is plugged in, and whose place that
// is.
func where(snap *cluster.Snapshot, id cluster.Identity) string {
	var out string
	if !id.Port.IsZero() {
		out = "at switch port " + id.Port.String()
	}
	if h, ok := snap.Misplaced(id); ok {
		out = fmt.Sprintf("%s, not answered: host %s has macs: and switch_port: %s, and only one of them is this machine's", cmp.Or(out, "at no switch port"), h.Name, h.SwitchPort)
	}
	return out
}

func (s *Server) host(snap *cluster.Snapshot, h *cluster.Host, n cluster.Node, b cluster.Boot) HostStatus {
	out := HostStatus{Name: h.Name, MACs: h.MACs, UUID: h.UUID, Alive: n.Alive != nil, State: StateOf(n, b, cluster.Install{}, time.Now())}
	if t, err := snap.Target(h, nil); err == nil {
		if t.Profile.Boot == cluster.BootInstall {
			i := s.Machines.Install(h.HostName())
			out.State, out.Install = StateOf(n, b, i, time.Now()), &i
			if i.Phase == cluster.InstallBegun || i.Phase == cluster.InstallFailed {
				out.Message = i.Why()
			}
		}
		out.Profile = t.Profile.Name
		if t.Group != nil {
			out.Group = t.Group.Name
		}
	} else {
		out.Message = err.Error()
	}
	out.Address = s.address(h, n)
	if n.Introduction != nil {
		out.Since, out.Expires = n.Introduction.At, n.Introduction.NotAfter
	}
	if st := n.Status; st != nil {
		out.Agent, out.Docker, out.Containers = st.Agent, st.Docker, containersOf(n)
		out.Message = cmp.Or(st.Message, out.Message)
	}
	if len(b.Events) > 0 {
		e := b.Events[len(b.Events)-1]
		out.LastStep, out.LastStepAt = e.Step, e.At
	}
	return out
}

func (s *Server) address(h *cluster.Host, n cluster.Node) string {
	if h.Address.IsValid() {
		return h.Address.String()
	}
	if a, ok := s.Machines.AddressOf(h); ok {
		return a.String()
	}
	if n.Introduction != nil {
		return addr(n.Introduction.Address)
	}
	return ""
}

func addr(a interface {
	IsValid() bool
	String() string
},
) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// bootingFor is how long after the last sign of a boot a host is taken to be
// still at it.
const bootingFor = 10 * time.Minute

// StateOf says where a host that a document names stands. i is zero for one that
// is not to be installed.
func StateOf(n cluster.Node, b cluster.Boot, i cluster.Install, now time.Time) cluster.State {
	var lastStep time.Time
	if len(b.Events) > 0 {
		lastStep = b.Events[len(b.Events)-1].At
	}
	over := slices.ContainsFunc(b.Events, func(e cluster.Event) bool { return e.Step == cluster.StepJoin }) // and what came after is no boot
	installed := i.Phase == cluster.InstallDone && (n.Introduction == nil || i.At.After(n.Introduction.At))
	switch {
	case n.Alive != nil && Ready(n):
		return cluster.StateReady
	case n.Alive != nil:
		return cluster.StateJoined
	case i.Phase == cluster.InstallBegun:
		return cluster.StateInstalling
	case i.Phase == cluster.InstallFailed:
		return cluster.StateFailed
	case installed && !lastStep.After(i.At.Add(time.Second)): // it has not booted since
		return cluster.StateInstalled
	case !over && now.Sub(lastStep) < bootingFor && (n.Introduction == nil || lastStep.After(n.Introduction.At)):
		return cluster.StateBooting
	case n.Introduction != nil && now.Sub(n.Introduction.At) > 30*time.Second:
		return cluster.StateLost
	case n.Introduction != nil:
		return cluster.StateBooting
	case installed:
		return cluster.StateInstalled
	}
	return cluster.StateApproved
}

// containersOf returns what a host says of its containers. Of one that is silent
// nobody knows whether they still run.
func containersOf(n cluster.Node) []cluster.ContainerStatus {
	if n.Alive != nil {
		return n.Status.Containers
	}
	out := slices.Clone(n.Status.Containers)
	for i, c := range out {
		out[i].Health = cluster.HealthUnknown
		out[i].Message = fmt.Sprintf("its host is silent; at %s it was %s", n.Status.At.UTC().Format(time.RFC3339), c.Health)
	}
	return out
}

// Ready reports whether a host runs all that it must, in good health.
func Ready(n cluster.Node) bool {
	if n.Status == nil || n.Desired == nil || n.Status.Revision < n.DesiredAt {
		return false
	}
	healthy := 0
	for _, c := range n.Status.Containers {
		if c.Current && c.Health == cluster.HealthHealthy {
			healthy++
		}
	}
	return healthy >= len(n.Desired.Containers)
}
