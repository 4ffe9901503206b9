package httpboot_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/cluster"
)

const (
	tokenHeader = "X-aws-ec2-metadata-token"
	lifeHeader  = "X-aws-ec2-metadata-token-ttl-seconds"
	testKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH9yh3SSlkEHFhzpFmuC2rUnkoo6a9cVgXTDmqmpSm1s"
)

var (
	addr3    = netip.MustParseAddr("10.0.0.53") // an Ignition profile
	addr4    = netip.MustParseAddr("10.3.0.54") // where sessions are required
	stranger = netip.MustParseAddr("10.0.0.99")
	pending  = netip.MustParseAddr("10.0.0.60") // lent to a machine that no document names
)

// newMetadataRig has networks with metadata of each kind.
func newMetadataRig(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	network := func(name, cidr string, mode cluster.MetadataMode) *cluster.Network {
		return &cluster.Network{Meta: cluster.Meta{Name: name}, CIDR: netip.MustParsePrefix(cidr), DHCP: cluster.DHCPAuthoritative, Metadata: mode}
	}
	host := func(name, profile string, last byte) *cluster.Host {
		return &cluster.Host{Meta: cluster.Meta{Name: name}, MACs: []cluster.MAC{{0x52, 0x54, 0, 0, 0, last}}, Profile: cluster.ProfileName(profile), Arch: cluster.X86_64}
	}
	snap := cluster.NewSnapshot(1, []cluster.Document{
		network("lan", "10.0.0.0/24", cluster.MetadataOptional), network("safe", "10.3.0.0/24", cluster.MetadataRequired), network("dark", "10.4.0.0/24", ""),
		&cluster.Profile{
			Meta: cluster.Meta{Name: "vm"}, Boot: cluster.BootLocal, Config: cluster.Config{CloudConfig: "#cloud-config\n"},
			SSHKeys: []string{testKey + " me@home", testKey + "X a=b\x00", testKey + "Y me@home"},
		},
		&cluster.Profile{Meta: cluster.Meta{Name: "ign"}, Boot: cluster.BootLocal, Config: cluster.Config{Butane: "variant: fcos\n"}},
		&cluster.Profile{Meta: cluster.Meta{Name: "bare"}, Boot: cluster.BootLocal},
		host("web1", "vm", 1), host("web2", "bare", 2), host("web3", "ign", 3), host("web4", "vm", 4), host("web5", "vm", 5),
	})
	lent := map[netip.Addr]byte{addr1: 1, addr2: 2, addr3: 3, addr4: 4, pending: 9, netip.MustParseAddr("10.4.0.55"): 5}
	r.handler.Snapshot = func() *cluster.Snapshot { return snap }
	r.handler.Owner = func(a netip.Addr) (cluster.Identity, bool) {
		last, ok := lent[a]
		return cluster.Identity{MAC: cluster.MAC{0x52, 0x54, 0, 0, 0, last}}, ok
	}
	var err error
	if r.handler.Sessions, err = httpboot.NewSessions([]byte("a secret of all servers")); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMetadata(t *testing.T) {
	r := newMetadataRig(t)
	const macs = "network/interfaces/macs/52:54:00:00:00:01/"
	for _, row := range []struct {
		what string
		path string
		from netip.Addr
		code int
		body string // all of it, with 200; else part of it
	}{
		{"an instance's ID", "/latest/meta-data/instance-id", addr1, 200, (&cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{mac1}}).InstanceID()},
		{"in cloud-init's least version", "/2009-04-04/meta-data/local-hostname", addr1, 200, "web1"},
		{"in its best version", "/2021-03-23/meta-data/hostname", addr1, 200, "web1"},
		{"in a version that EC2 has not", "/2009-04-05/meta-data/hostname", addr1, 404, ""},
		{"what a version has", "/2009-04-04", addr1, 200, "dynamic/\nmeta-data/\nuser-data"},
		{"the same with a slash", "/2009-04-04/", addr1, 200, "dynamic/\nmeta-data/\nuser-data"},
		{"without a config", "/latest/", addr2, 200, "dynamic/\nmeta-data/\nuser-data"},
		{"the names of metadata", "/latest/meta-data/", addr1, 200, "hostname\ninstance-id\nlocal-hostname\nlocal-ipv4\nmac\nnetwork/\nplacement/\npublic-keys/"},
		{"a directory without its slash", "/latest/meta-data/placement", addr1, 200, "availability-zone"},
		{"the network", "/latest/meta-data/placement/availability-zone", addr1, 200, "lan"},
		{"an address", "/latest/meta-data/local-ipv4", addr1, 200, "10.0.0.51"},
		{"the cards", "/latest/meta-data/network/interfaces/macs/", addr1, 200, "52:54:00:00:00:01/"},
		{"a card", "/latest/meta-data/" + macs, addr1, 200, "device-number\nlocal-hostname\nlocal-ipv4s\nmac\nsubnet-ipv4-cidr-block"},
		{"its subnet", "/latest/meta-data/" + macs + "subnet-ipv4-cidr-block", addr1, 200, "10.0.0.0/24"},
		{"another's card", "/latest/meta-data/network/interfaces/macs/52:54:00:00:00:02/mac", addr1, 404, ""},
		{"keys, of which two have one name, and one has an odd one", "/latest/meta-data/public-keys/", addr1, 200, "0=me@home\n1=a-b-\n2=key-2"},
		{"a key's directory", "/latest/meta-data/public-keys/0/", addr1, 200, "openssh-key"},
		{"a key", "/latest/meta-data/public-keys/0/openssh-key", addr1, 200, testKey + " me@home"},
		{"a key that is not there", "/latest/meta-data/public-keys/3/openssh-key", addr1, 404, ""},
		{"no keys", "/latest/meta-data/public-keys/", addr2, 404, ""},
		{"a value is no directory", "/latest/meta-data/instance-id/", addr1, 404, ""},
		{"what EC2 has and we do not", "/latest/meta-data/ami-id", addr1, 404, ""},
		{"a byte that is none of a path", "/latest/meta-data/%00", addr1, 404, ""},
		{"a cloud-config", "/latest/user-data", addr1, 200, "user-data of web1 for \n"},
		{"an Ignition config", "/2019-10-01/user-data", addr3, 200, "user-data of web3 for \n"},
		{"what it is", "/latest/dynamic/instance-identity/document", addr3, 200, "{\n  \"architecture\": \"x86_64\",\n  \"availabilityZone\": \"lan\",\n  \"instanceId\": \"" +
			(&cluster.Host{Meta: cluster.Meta{Name: "web3"}, MACs: []cluster.MAC{{0x52, 0x54, 0, 0, 0, 3}}}).InstanceID() + "\",\n  \"privateIp\": \"10.0.0.53\"\n}"},
		{"what it gets with none of its own", "/latest/user-data", addr2, 200, "user-data of web2 for \n"},
		{"an address that is lent to nobody", "/latest/meta-data/instance-id", stranger, 503, "is lent to nobody"},
		{"and its user-data", "/latest/user-data", stranger, 503, "is lent to nobody"},
		{"a machine that no document names yet", "/latest/meta-data/instance-id", pending, 503, "apply one with kind: host"},
		{"a network without metadata", "/latest/meta-data/instance-id", netip.MustParseAddr("10.4.0.55"), 404, "has metadata: off"},
		{"no network", "/latest/user-data", netip.MustParseAddr("192.168.1.9"), 404, "is on no network"},
		{"without a session, where one is required", "/latest/meta-data/instance-id", addr4, 401, "PUT /latest/api/token first"},
		{"and the user-data", "/latest/user-data", addr4, 401, "PUT /latest/api/token first"},
		{"a session is no file", "/latest/api/token", addr1, 405, "PUT"},
	} {
		t.Run(row.what, func(t *testing.T) {
			w := r.do("GET", row.path, row.from)
			if got := w.Body.String(); w.Code != row.code || row.code == 200 && got != row.body || !strings.Contains(got, row.body) {
				t.Errorf("%d, want %d with %q:\n%q", w.Code, row.code, row.body, got)
			}
			if w.Code == 503 && w.Header().Get("Retry-After") == "" {
				t.Error("it does not say when to ask again")
			}
		})
	}
	if w := r.do("GET", "/", addr1); w.Code != 200 || !strings.HasSuffix(w.Body.String(), "\nlatest") || !strings.HasPrefix(w.Body.String(), "1.0\n") {
		t.Errorf("the versions are %d %q", w.Code, w.Body)
	}
	if strings.Contains(r.log.String(), secret) {
		t.Error("a token is in the log")
	}
}

// TestMetadataHead asks for a config's headers, which makes none.
func TestMetadataHead(t *testing.T) {
	r := newMetadataRig(t)
	if w := r.do("HEAD", "/latest/user-data", addr1); w.Code != 200 || w.Body.Len() != 0 || r.configs.made.Load() != 0 {
		t.Errorf("%d, %d bytes, %d configs made", w.Code, w.Body.Len(), r.configs.made.Load())
	}
}

// TestMetadataWaits has a machine ask again, whatever it asks for.
func TestMetadataWaits(t *testing.T) {
	r := newMetadataRig(t)
	r.handler.Wait = func(_ context.Context, m httpboot.Machine) error {
		return fmt.Errorf("%w: %s waits", httpboot.ErrNotReady, m.Host.Name)
	}
	for _, w := range []*httptest.ResponseRecorder{
		r.do("GET", "/latest/user-data", addr1), r.do("GET", "/2009-04-04/meta-data/instance-id", addr1), r.do("PUT", "/latest/api/token", addr4, lifeHeader, "60"),
	} {
		if w.Code != 503 || !strings.Contains(w.Body.String(), "waits") || r.configs.made.Load() != 0 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

func TestMetadataSessions(t *testing.T) {
	r := newMetadataRig(t)
	put := func(from netip.Addr, header ...string) *httptest.ResponseRecorder {
		t.Helper()
		return r.do("PUT", "/latest/api/token", from, header...)
	}
	for _, row := range []struct {
		what   string
		from   netip.Addr
		header []string
		code   int
	}{
		{"no life", addr1, nil, 400},
		{"a life of no seconds", addr1, []string{lifeHeader, "0"}, 400},
		{"too long a life", addr1, []string{lifeHeader, "21601"}, 400},
		{"a life that is no number", addr1, []string{lifeHeader, "1h"}, 400},
		{"by a proxy", addr1, []string{lifeHeader, "60", "X-Forwarded-For", "10.0.0.9"}, 403},
		{"by a proxy that says nothing", addr1, []string{lifeHeader, "60", "X-Forwarded-For", ""}, 403},
		{"a stranger", stranger, []string{lifeHeader, "60"}, 503},
		{"a machine that no document names yet", pending, []string{lifeHeader, "60"}, 503},
		{"the longest", addr4, []string{lifeHeader, "21600"}, 200},
	} {
		if w := put(row.from, row.header...); w.Code != row.code {
			t.Errorf("%s: %d, not %d: %s", row.what, w.Code, row.code, w.Body)
		}
	}
	w := put(addr4, lifeHeader, "60")
	token := w.Body.String()
	if w.Header().Get(lifeHeader) != "60" || w.Header().Get("Connection") != "close" {
		t.Errorf("a session's headers are %v", w.Header())
	}
	get := func(from netip.Addr, token string) int {
		t.Helper()
		return r.do("GET", "/latest/meta-data/instance-id", from, tokenHeader, token).Code
	}
	if code := get(addr4, token); code != 200 {
		t.Errorf("with a session: %d", code)
	}
	for what, other := range map[string]string{
		"another machine's": put(addr1, lifeHeader, "60").Body.String(), "no token": "x", "one with a longer life": "Q" + token[1:], "half of one": token[:20],
	} {
		if code := get(addr4, other); code != 401 {
			t.Errorf("%s is answered with %d", what, code)
		}
	}
	if code := get(addr1, token); code != 401 {
		t.Errorf("a wrong token where none is needed is answered with %d", code)
	}
	if r.handler.Sessions, _ = httpboot.NewSessions([]byte("a secret of all servers")); get(addr4, token) != 200 {
		t.Error("another server of the same installation does not know the session")
	}
	if r.handler.Sessions, _ = httpboot.NewSessions([]byte("another secret")); get(addr4, token) != 401 {
		t.Error("another installation knows the session")
	}
	if strings.Contains(r.log.String(), token) {
		t.Error("a session's token is in the log")
	}
}

// TestMetadataSessionsEnd looks at a session after its end.
func TestMetadataSessionsEnd(t *testing.T) { httpboot.CheckSessionEnd(t) }

// TestMetadataAddress asks at 169.254.169.254: the config names the server by the
// address that it has on the machine's network, and there is nothing there but metadata.
func TestMetadataAddress(t *testing.T) {
	r := newMetadataRig(t)
	r.handler.At = func(n *cluster.Network) boot.Server {
		return boot.ServerAt(netip.MustParseAddr("10.0.0.1"), 8080, 8443)
	}
	only := r.handler.Metadata()
	ask := func(path string) *httptest.ResponseRecorder {
		q := httptest.NewRequest("GET", path, nil)
		q.RemoteAddr = netip.AddrPortFrom(addr3, 4711).String()
		q = q.WithContext(context.WithValue(q.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(169, 254, 169, 254), Port: 80})))
		w := httptest.NewRecorder()
		only.ServeHTTP(w, q)
		return w
	}
	if w := ask("/latest/user-data"); w.Code != 200 || r.configs.last.Server.URL != "http://10.0.0.1:8080" || r.configs.last.Server.Secure != "https://10.0.0.1:8443" {
		t.Errorf("%d, made for %+v", w.Code, r.configs.last.Server)
	}
	for _, path := range []string{"/boot.ipxe", "/ignition?mac=52-54-00-00-00-03", "/metrics", "/ca.pem"} {
		if w := ask(path); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// FuzzMetadata asks with anything for a path and for headers: it is no other
// machine's data that comes, no token without its due, and no 500.
func FuzzMetadata(f *testing.F) {
	for _, seed := range [][3]string{
		{"latest/meta-data/instance-id", "", ""}, {"2009-04-04/meta-data/public-keys/0/openssh-key", "x", ""}, {"latest/user-data", "", ""},
		{"latest/api/token", "", "60"}, {"latest/meta-data/network/interfaces/macs/52:54:00:00:00:01/", "", ""}, {"", "", ""}, {"latest/dynamic/instance-identity/document", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], uint8(0), false)
		f.Add(seed[0], seed[1], seed[2], uint8(3), true)
	}
	r := newMetadataRig(f)
	r.handler.Logger = nil
	only := r.handler.Metadata()
	from := []netip.Addr{addr1, addr2, addr4, stranger, pending}
	f.Fuzz(func(t *testing.T, path, token, life string, who uint8, put bool) {
		q := httptest.NewRequest("GET", "/", nil)
		if put {
			q.Method = "PUT"
		}
		at := from[int(who)%len(from)]
		q.URL.Path, q.RemoteAddr = "/"+path, netip.AddrPortFrom(at, 4711).String()
		q.Header.Set(tokenHeader, token)
		q.Header.Set(lifeHeader, life)
		w := httptest.NewRecorder()
		only.ServeHTTP(w, q)
		known := at != stranger && at != pending
		switch body := w.Body.String(); {
		case w.Code == 500:
			t.Errorf("%q: %s", path, body)
		case w.Code == 200 && !known:
			t.Errorf("%s gets %q: %q", at, path, body)
		case w.Code == 200 && !put && at == addr4:
			t.Errorf("without a session %s gets %q: %q", at, path, body)
		case w.Code == 200 && at != addr1 && strings.Contains(body, "web1"):
			t.Errorf("%s gets of web1 %q: %q", at, path, body)
		}
	})
}
