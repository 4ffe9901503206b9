package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// Of a site of any size a bounded number of hosts is prepared: etcd's work for each
// grows with those that are.
func TestPrepareHosts(t *testing.T) {
	site := func(hosts int) *cluster.Snapshot {
		var docs []cluster.Document
		for i := range hosts {
			docs = append(docs, &cluster.Host{Meta: cluster.Meta{Name: fmt.Sprint("h", i)}})
		}
		return cluster.NewSnapshot(0, docs)
	}
	done := map[cluster.HostName]bool{}
	var asked []cluster.HostName
	one := func(h cluster.HostName) error { asked = append(asked, h); return nil }
	if !prepareHosts(site(9), done, 4, one) || !slices.Equal(asked, []cluster.HostName{"h0", "h1", "h2", "h3"}) {
		t.Errorf("of 9 hosts 4 are to be prepared, not %v", asked)
	}
	asked = nil
	if !prepareHosts(site(3), done, 4, one) || asked != nil || len(done) != 3 {
		t.Errorf("prepared again: %v; known: %v", asked, done)
	}
	if !prepareHosts(site(4), done, 4, one) || !slices.Equal(asked, []cluster.HostName{"h3"}) {
		t.Errorf("h3, which was gone, is to be prepared again, not %v", asked)
	}
	if prepareHosts(site(9), map[cluster.HostName]bool{}, 4, func(cluster.HostName) error { return errors.New("no") }) {
		t.Error("a failure counts as done")
	}
}
