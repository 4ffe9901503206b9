package cluster

import (
	"net/netip"
	"reflect"
	"testing"
)

func TestUplinksFrom(t *testing.T) {
	addr, net := netip.MustParseAddr, netip.MustParsePrefix
	a := Server{Name: "a", Addresses: []netip.Addr{addr("192.0.2.1"), addr("10.0.0.1"), addr("2001:db8::1")}, HTTPS: 8443, Etcd: 2379, Votes: true}
	b := Server{Name: "b", Addresses: []netip.Addr{addr("10.0.0.2"), addr("192.0.2.2")}, HTTPS: 8444, Etcd: 2380, Votes: true}
	c := Server{Name: "c", Addresses: []netip.Addr{addr("10.0.0.3")}, HTTPS: 8443, Etcd: 2379} // a learner
	all := []Server{a, b, c}
	for name, k := range map[string]struct {
		network netip.Prefix
		first   ServerName
		want    Uplinks
	}{
		"on the network, the asker's server first": {net("10.0.0.0/24"), "b", Uplinks{
			[]string{"https://10.0.0.2:8444", "https://10.0.0.1:8443", "https://10.0.0.3:8443"}, []string{"10.0.0.2:2380", "10.0.0.1:2379"},
		}},
		"through routers": {net("10.9.0.0/24"), "", Uplinks{
			[]string{"https://192.0.2.1:8443", "https://10.0.0.2:8444", "https://10.0.0.3:8443"}, []string{"192.0.2.1:2379", "10.0.0.2:2380"},
		}},
		"of one family": {net("2001:db8::/64"), "c", Uplinks{[]string{"https://[2001:db8::1]:8443"}, []string{"[2001:db8::1]:2379"}}},
		"nobody knows where it is": {netip.Prefix{}, "", Uplinks{
			[]string{"https://192.0.2.1:8443", "https://10.0.0.2:8444", "https://10.0.0.3:8443"}, []string{"192.0.2.1:2379", "10.0.0.2:2380"},
		}},
	} {
		if got := UplinksFrom(k.network, all, k.first); !reflect.DeepEqual(got, k.want) {
			t.Errorf("%s: %+v, want %+v", name, got, k.want)
		}
	}
}

func TestUplinksOr(t *testing.T) {
	a := Uplinks{[]string{"https://10.0.0.1:8443"}, []string{"10.0.0.1:2379"}}
	b := Uplinks{[]string{"https://10.0.0.2:8443", "https://10.0.0.1:8443"}, []string{"10.0.0.1:2379"}}
	want := Uplinks{[]string{"https://10.0.0.1:8443", "https://10.0.0.2:8443"}, []string{"10.0.0.1:2379"}}
	if got := a.Or(b); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if got := (Uplinks{}).Or(a); !reflect.DeepEqual(got, a) || got.IsZero() || !(Uplinks{}).IsZero() {
		t.Errorf("%+v", got)
	}
}

// Votes are kept odd: two servers are no safer than one, and stop twice as often.
func TestPromotableMembers(t *testing.T) {
	voter := Member{Name: "v", Version: "3.7.3"}
	ready := Member{Name: "l", Version: "3.7.3", Learner: true}
	away := Member{Name: "l", Learner: true}
	unborn := Member{Learner: true, Version: "3.7.3"}
	for name, c := range map[string]struct {
		members []Member
		want    int
	}{
		"one":                                {[]Member{voter}, 0},
		"a second waits for a third":         {[]Member{voter, ready}, 0},
		"both get a vote at once":            {[]Member{voter, ready, ready}, 2},
		"one that does not answer":           {[]Member{voter, ready, away}, 0},
		"one that has not started":           {[]Member{voter, ready, unborn}, 0},
		"a fourth waits":                     {[]Member{voter, voter, voter, ready}, 0},
		"five":                               {[]Member{voter, voter, voter, ready, ready}, 2},
		"one of three was removed":           {[]Member{voter, voter, ready}, 1},
		"a voter that does not answer votes": {[]Member{{Name: "v"}, ready, ready}, 2},
	} {
		if got := PromotableMembers(c.members); len(got) != c.want {
			t.Errorf("%s: %d get a vote, want %d", name, len(got), c.want)
		}
	}
	for votes, want := range map[int]int{0: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 2} {
		if got := MayFail(votes); got != want {
			t.Errorf("of %d votes %d may fail, want %d", votes, got, want)
		}
	}
}

// TestUplinksAt: what userdata says of the servers does not depend on which of them
// says it, or a pointer would not be followed at the others of one name.
func TestUplinksAt(t *testing.T) {
	a := Server{Name: "a", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, HTTPS: 8443, Etcd: 2379, Votes: true}
	b := Server{Name: "b", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, HTTPS: 8443, Etcd: 2379}
	for etcd, want := range map[string]Uplinks{
		"name:2379": {
			Servers: []string{"https://there", "https://10.0.0.1:8443", "https://10.0.0.2:8443"}, Etcd: []string{"name:2379", "10.0.0.1:2379"},
		},
		"10.0.0.2:2379": { // which only learns
			Servers: []string{"https://there", "https://10.0.0.1:8443", "https://10.0.0.2:8443"}, Etcd: []string{"10.0.0.1:2379"},
		},
	} {
		for _, servers := range [][]Server{{a, b}, {b, a}} {
			if got := UplinksAt("https://there", etcd, netip.Prefix{}, servers); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v", etcd, got)
			}
		}
	}
	if got := UplinksAt("https://there", "10.0.0.2:2379", netip.Prefix{}, []Server{b}); len(got.Etcd) != 1 {
		t.Errorf("no etcd at all: %+v", got)
	}
}
