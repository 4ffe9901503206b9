package main

import (
	"slices"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// The host's first config counts until the servers say where they are; and as the
// last resort for a certificate, never for etcd.
func TestUplinks(t *testing.T) {
	u := newUplinks(cluster.AgentConfig{Servers: []string{"https://10.0.0.2:8443"}, Etcd: []string{"10.0.0.2:2379"}})
	placed := 0
	u.place = func() { placed++ }
	check := func(what string, servers, etcd []string, places int) {
		t.Helper()
		if !slices.Equal(u.servers(), servers) || !slices.Equal(u.etcd(), etcd) || placed != places {
			t.Errorf("%s: servers %q, etcd %q, placed %d times", what, u.servers(), u.etcd(), placed)
		}
	}
	check("at first", []string{"https://10.0.0.2:8443"}, []string{"10.0.0.2:2379"}, 0)
	moved := cluster.Uplinks{Servers: []string{"https://10.0.0.3:8443", "https://10.0.0.4:8443"}, Etcd: []string{"10.0.0.3:2379", "10.0.0.4:2379"}}
	u.found(moved)
	check("moved", []string{"https://10.0.0.3:8443", "https://10.0.0.4:8443", "https://10.0.0.2:8443"}, moved.Etcd, 1)
	u.found(moved)
	check("told again", []string{"https://10.0.0.3:8443", "https://10.0.0.4:8443", "https://10.0.0.2:8443"}, moved.Etcd, 1)
	u.found(cluster.Uplinks{Servers: moved.Servers}) // none votes that is known
	check("no etcd", []string{"https://10.0.0.3:8443", "https://10.0.0.4:8443", "https://10.0.0.2:8443"}, []string{"10.0.0.2:2379"}, 1)
}
