// Package control is the leader's loop: it brings together which sites there
// are and which hosts, and writes what each host must run, with the secrets for
// it sealed to that host alone.
//
// The decision, Assign, is pure. The loop around it only reads, seals and
// writes what differs; it never talks to a host.
package control

import (
	"cmp"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// LostAfter is how long a host must be silent before what runs on it is placed
// elsewhere. It is longer than a liveness lease: a busy host misses a heartbeat
// now and then, and its healthy containers are not to be moved for that.
const LostAfter = time.Minute

// Assign decides what every introduced host must run. Hosts that were never
// introduced are left out: nothing could be sealed to them. lost are those that
// fell silent.
func Assign(snap *cluster.Snapshot, nodes []cluster.Node, versions map[cluster.SecretName]int, lost map[cluster.HostName]bool) map[cluster.HostName]cluster.Desired {
	out := map[cluster.HostName]cluster.Desired{}
	load := map[cluster.HostName]int{}
	var able []candidate
	for i := range nodes {
		n := &nodes[i]
		h, known := snap.Host(n.Host)
		if !known || n.Introduction == nil {
			continue
		}
		out[n.Host] = cluster.Desired{}
		able = append(able, candidate{host: h, node: n, lost: lost[n.Host]})
	}
	for _, d := range snap.Documents(cluster.KindSite) {
		site := d.(*cluster.Site)
		for _, h := range place(site, able, load) {
			desired := out[h]
			for _, s := range site.Services {
				if snap.Allowed(s.Image) { // Check refuses it at apply; a policy may have been narrowed since
					desired.Containers = append(desired.Containers, container(site, s, versions))
				}
			}
			out[h] = desired
			load[h] += len(site.Services)
		}
	}
	return out
}

type candidate struct {
	host *cluster.Host
	node *cluster.Node
	lost bool
}

// place returns the hosts of a site. A site with a number of replicas stays
// where it is while its hosts live; it moves, or grows, to the least loaded.
func place(site *cluster.Site, able []candidate, load map[cluster.HostName]int) []cluster.HostName {
	fit := slices.DeleteFunc(slices.Clone(able), func(c candidate) bool { return !site.Placement.Fits(c.host) })
	if n := site.Placement.Replicas; n > 0 && n < len(fit) {
		slices.SortFunc(fit, func(a, b candidate) int {
			return cmp.Or(
				compareBool(a.lost, b.lost),
				compareBool(!runs(a.node, site), !runs(b.node, site)),
				cmp.Compare(load[a.host.HostName()], load[b.host.HostName()]),
				cmp.Compare(a.host.Name, b.host.Name),
			)
		})
		fit = fit[:n]
	}
	names := make([]cluster.HostName, len(fit))
	for i, c := range fit {
		names[i] = c.host.HostName()
	}
	return names
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func runs(n *cluster.Node, site *cluster.Site) bool {
	return n.Desired != nil && slices.ContainsFunc(n.Desired.Containers, func(c cluster.Container) bool {
		return string(c.Site) == site.Name
	})
}

// container settles one service: a secret's newest version goes into it. A
// secret without a value is left out, and the agent waits for it.
func container(site *cluster.Site, s cluster.Service, versions map[cluster.SecretName]int) cluster.Container {
	c := cluster.Container{Site: cluster.SiteName(site.Name), Service: s}
	for _, m := range s.Secrets {
		v := cluster.Version{Name: m.Name, Version: versions[m.Name]}
		if v.Version > 0 && !slices.Contains(c.Secrets, v) {
			c.Secrets = append(c.Secrets, v)
		}
	}
	return c
}
