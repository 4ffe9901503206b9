package control

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// TestUplinks has servers join and go: hosts are told once there are several, and
// that there is one again.
func TestUplinks(t *testing.T) {
	r := newRig(t, &cluster.Host{Meta: cluster.Meta{Name: "h1"}, Profile: "web"}, &cluster.Profile{Meta: cluster.Meta{Name: "web"}})
	one := cluster.Server{Name: "one", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, HTTPS: 8443, Etcd: 2379, Votes: true}
	two := cluster.Server{Name: "two", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.3")}, HTTPS: 8443, Etcd: 2379}
	var servers []cluster.Server
	r.Servers = func() []cluster.Server { return servers }
	r.introduce("h1")
	for _, c := range []struct {
		servers []cluster.Server
		want    cluster.Uplinks
	}{
		{[]cluster.Server{one}, cluster.Uplinks{}},
		{[]cluster.Server{one, two}, cluster.Uplinks{Servers: []string{"https://10.0.0.2:8443", "https://10.0.0.3:8443"}, Etcd: []string{"10.0.0.2:2379"}}},
		{[]cluster.Server{two}, cluster.Uplinks{Servers: []string{"https://10.0.0.3:8443"}}},
	} {
		servers = c.servers
		r.step()
		if got := r.desired("h1").Uplinks; !reflect.DeepEqual(got, c.want) {
			t.Errorf("of %d servers a host is told %+v, want %+v", len(servers), got, c.want)
		}
	}
}
