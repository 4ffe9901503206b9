//go:build integration

package boot_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// These tests put ISC's dhcrelay between the server and its clients, and run
// more clients on the server's own link. They need Debian's isc-dhcp-relay,
// dhcpcd-base, systemd and nmap beside the rest.

const (
	farRouter = "10.78.0.1"
	portAddr  = "10.78.0.60" // of the host that is known by its switch port alone
	bothMAC   = "52:54:00:78:00:02"
	probeEnv  = "PILOTLIGHT_BOOT_TEST_NOPROBE" // addresses are not looked for before they are offered
)

// behindRelay gives the networks what these tests ask for, and returns the hosts
// behind the relay.
func behindRelay(lan, far *cluster.Network) []cluster.Document {
	pool, _ := cluster.ParseRange("10.78.1.0-10.78.1.9")
	far.Pools, far.Gateway = []cluster.Range{pool}, netip.MustParseAddr(farRouter)
	if os.Getenv(probeEnv) != "" {
		lan.Probe = new(bool)
	}
	lan.Options = cluster.OptionSet{
		"interface-mtu":           {Value: []string{"1400"}},
		"domain-search":           {Value: []string{"lab.test", "eng.lab.test"}},
		"classless-static-routes": {Value: []string{"default via 10.77.0.254", "10.99.0.0/16 via 10.77.0.253"}},
		"224":                     {Value: []string{"10.77.0.9"}, Force: true},
	}
	mac, _ := cluster.ParseMAC(bothMAC)
	return []cluster.Document{
		&cluster.Host{Meta: cluster.Meta{Name: "port1"}, SwitchPort: cluster.SwitchPort{Circuit: "r0"}, Address: netip.MustParseAddr(portAddr), Profile: "web"},
		&cluster.Host{Meta: cluster.Meta{Name: "both"}, MACs: []cluster.MAC{mac}, SwitchPort: cluster.SwitchPort{Circuit: "r1"}, Profile: "web"},
	}
}

// relayLab is a lab whose clients' namespace is a router with two more links,
// r0 and r1, each with a client's namespace at its end.
type relayLab struct {
	*lab
	ends [2]string
}

func newRelayLab(t *testing.T, relay ...string) *relayLab {
	t.Helper()
	needs(t, "dhcrelay", "isc-dhcp-relay")
	l := &relayLab{lab: newLab(t)}
	l.ip("addr add " + relayAddr + "/16 dev c0")
	for i := range l.ends {
		n := string(rune('0' + i))
		l.ends[i] = l.client + "-" + n
		end := l.ends[i]
		t.Cleanup(func() { exec.Command("ip", "netns", "del", end).Run() })
		l.on("", "ip netns add "+end)
		l.ip("link add r" + n + " type veth peer name c0 netns " + end)
		l.ip("link set r" + n + " up")
		l.on(end, "ip link set c0 up")
		l.on(end, "ip link set lo up")
	}
	// One network on both links, as on a switch's ports.
	l.ip("addr add " + farRouter + "/32 dev r1")
	l.ip("addr add " + farRouter + "/16 dev r0")
	l.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	l.on(l.server, "ip route add 10.78.0.0/16 via "+relayAddr)
	r := l.begin("dhcrelay", append(append([]string{"-4", "-d", "-a", "-id", "r0", "-id", "r1", "-iu", "c0"}, relay...), serverAddr)...)
	r.awaits("Sending on   Socket/fallback")
	return l
}

// needs fails when a tool is missing.
func needs(t *testing.T, tool, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Fatalf("%s is missing: apt-get install %s", tool, pkg)
	}
}

// on runs a command in a namespace; "" is this one's.
func (l *lab) on(namespace, command string) string {
	l.t.Helper()
	out, err := l.try(namespace, strings.Fields(command)...)
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

func (l *lab) try(namespace string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if namespace != "" {
		args = append([]string{"ip", "netns", "exec", namespace}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = l.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var pxe = strings.Fields("-V PXEClient:Arch:00007:UNDI:003016 -x 0x5d:0007 -O bootfile")

// udhcpc is a whole exchange of a client at the end of a link.
func (l *relayLab) udhcpc(end int, args ...string) (string, error) {
	l.t.Helper()
	return l.try(l.ends[end], append([]string{"udhcpc", "-i", "c0", "-n", "-q", "-f", "-t", "4", "-T", "3", "-s", l.script()}, args...)...)
}

func TestIntegrationRelay(t *testing.T) {
	for what, flags := range map[string][]string{
		"the relay's address is of the network":         nil,
		"it is of another, and the network is selected": {"-U", "c0"}, // RFC 3527
	} {
		t.Run(what, func(t *testing.T) {
			l := newRelayLab(t, flags...)
			testRelay(t, l)
		})
	}
}

func testRelay(t *testing.T, l *relayLab) {
	t.Run("a host by its switch port", func(t *testing.T) {
		out, err := l.udhcpc(0, pxe...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		contains(t, out, "event bound", "ip="+portAddr, "router="+farRouter, "hostname=port1", "serverid="+serverAddr, "boot_file=snponly.efi")
		l.on(l.ends[0], "ip route replace default via "+farRouter)
		mac := strings.TrimSpace(l.on(l.ends[0], "cat /sys/class/net/c0/address"))
		url := "http://" + serverAddr + ":8080"
		contains(t, l.on(l.ends[0], "curl -sS "+url+"/ipxe?mac="+mac), "kernel "+url+"/images/node/kernel")
		contains(t, l.on(l.ends[0], "curl -sS "+url+"/ignition?mac="+mac), "port1 ")
		eventually(t, "its timeline is kept", func() bool { return strings.Contains(l.timeline(), `"port1"`) })
	})
	t.Run("it renews past the relay, and releases", func(t *testing.T) {
		c := l.beginOn(l.ends[0], "udhcpc", "-i", "c0", "-f", "-R", "-s", l.script())
		c.awaits("event bound")
		l.on(l.ends[0], "ip route replace default via "+farRouter)
		c.Process.Signal(syscall.SIGUSR1)
		c.awaits("event renew")
		_, renewed, _ := strings.Cut(c.said(), "event renew")
		contains(t, renewed, "ip="+portAddr, "hostname=port1")
		c.Process.Signal(syscall.SIGTERM)
		c.awaits("entering released state")
		eventually(t, "the released lease has lapsed", func() bool { return !l.leaseOn("far", portAddr).Expires.After(time.Now()) })
	})
	t.Run("another port is not that host", func(t *testing.T) {
		out, err := l.udhcpc(1, pxe...)
		if err == nil {
			t.Errorf("at the port of host both, a card that is not that host's is answered:\n%s", out)
		}
		l.on(l.ends[1], "ip link set c0 address "+bothMAC)
		out, err = l.udhcpc(1, pxe...)
		if err != nil || !strings.Contains(out, "hostname=both") {
			t.Errorf("host both, card and port: %v\n%s", err, out)
		}
		l.on(l.ends[0], "ip link set c0 address 52:54:00:78:00:09")
		l.on(l.ends[1], "ip link set c0 address 52:54:00:78:00:0a")
		if out, err = l.udhcpc(0, pxe...); err != nil || !strings.Contains(out, "hostname=port1") {
			t.Errorf("host port1, another card: %v\n%s", err, out)
		}
	})
	l.stop()
	contains(t, l.log.String(), "a machine is not answered: only one of its switch port and its addresses is a host's")
}

// beginOn starts a command in a namespace of its own, and ends it with the test.
func (l *relayLab) beginOn(namespace, name string, args ...string) *client {
	other := *l.lab
	other.client = namespace
	return other.begin(name, args...)
}

// leaseOn returns what the journal says of an address of a network now.
func (l *lab) leaseOn(n cluster.NetworkName, addr string) cluster.Lease {
	l.t.Helper()
	j, err := openJournal(filepath.Join(l.dir, "leases"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer j.file.Close()
	return j.leases[cluster.LeaseKey(n, netip.MustParseAddr(addr))]
}

var boundTo = regexp.MustCompile(`(?m)^ip=(10\..*)$`)

// Somebody uses an address of the pool without a lease: next to the server,
// where ARP says so, and behind the relay, where a ping does.
func TestIntegrationAddressInUse(t *testing.T) {
	t.Run("on the link", func(t *testing.T) {
		l := newLab(t)
		l.ip("link set c0 address 52:54:00:77:00:88")
		args := []string{"-i", "c0", "-n", "-q", "-f", "-s", l.script()}
		first := boundTo.FindStringSubmatch(l.run("udhcpc", args...))
		if len(first) == 0 {
			t.Fatal("no address")
		}
		l.ip("addr flush dev c0")
		l.forgetLeases()
		squatter := l.client + "-x"
		l.on("", "ip netns add "+squatter)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", squatter).Run() })
		l.ip("link add link c0 name x0 netns " + squatter + " type macvlan mode bridge")
		l.on(squatter, "ip addr add "+first[1]+"/16 dev x0")
		l.on(squatter, "ip link set x0 up")
		mac := strings.TrimSpace(l.on(squatter, "cat /sys/class/net/x0/address"))
		second := boundTo.FindStringSubmatch(l.run("udhcpc", args...))
		if len(second) == 0 || second[1] == first[1] {
			t.Errorf("%s is used already, and the machine got %v", first[1], second)
		}
		if lease := l.lease(first[1]); !lease.Declined || lease.MAC.String() != mac {
			t.Errorf("the record of %s is %+v, and %s uses it", first[1], lease, mac)
		}
		l.stop()
		contains(t, l.log.String(), "is used without a lease", "address="+first[1], "used_by="+mac)
	})
	t.Run("behind a relay", func(t *testing.T) {
		l := newRelayLab(t)
		l.ip("link del r0") // one link is enough, and the other's port is nobody's
		l.ip("addr add " + farRouter + "/16 dev r1")
		l.on(l.ends[1], "ip link set c0 address "+bothMAC)
		out, err := l.udhcpc(1)
		first := boundTo.FindStringSubmatch(out)
		if err != nil || len(first) == 0 {
			t.Fatalf("%v\n%s", err, out)
		}
		l.on(l.ends[1], "ip addr flush dev c0")
		l.forgetLeases()
		l.ip("addr add " + first[1] + "/32 dev r1") // the router answers for it
		out, err = l.udhcpc(1)
		if second := boundTo.FindStringSubmatch(out); err != nil || len(second) == 0 || second[1] == first[1] {
			t.Errorf("%s is used already, and the machine got %v, %v\n%s", first[1], second, err, out)
		}
		if lease := l.leaseOn("far", first[1]); !lease.Declined {
			t.Errorf("the record of %s is %+v", first[1], lease)
		}
	})
}

// forgetLeases starts the servers again as if nobody had ever asked.
func (l *lab) forgetLeases() {
	l.t.Helper()
	l.stop()
	if err := os.Remove(filepath.Join(l.dir, "leases")); err != nil {
		l.t.Fatal(err)
	}
	l.start()
}

func TestIntegrationDhcpcd(t *testing.T) {
	needs(t, "dhcpcd", "dhcpcd-base")
	l := newLab(t)
	hook := filepath.Join(l.dir, "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"event $reason\"\nenv | grep ^new_ | sort\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	// It keeps leases and its control socket in places of the whole machine, so
	// those are its own here. It probes for the address itself before it takes it.
	out := l.private("dhcpcd", "-4", "-1", "-B", "-d", "-t", "60", "-c", hook, "-o", "interface_mtu,domain_search,classless_static_routes,domain_name_servers", "c0")
	contains(t, out, "event BOUND", "new_ip_address="+hostAddr, "new_interface_mtu=1400", "new_domain_search=lab.test eng.lab.test",
		"new_classless_static_routes=0.0.0.0/0 10.77.0.254 10.99.0.0/16 10.77.0.253", "new_domain_name_servers=10.77.0.53", "new_dhcp_server_identifier="+serverAddr)
}

// private runs a command in the clients' namespace with a /run and a /var/lib of
// its own.
func (l *lab) private(name string, args ...string) string {
	l.t.Helper()
	const setUp = `mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mkdir -p /run/dhcpcd /var/lib/dhcpcd /run/systemd/netif && exec "$@"`
	return l.run("unshare", append([]string{"-m", "sh", "-c", setUp, "sh", name}, args...)...)
}

func TestIntegrationNmap(t *testing.T) {
	needs(t, "nmap", "nmap")
	l := newLab(t)
	l.ip("addr add 10.77.0.9/16 dev c0")
	out := l.run("nmap", "--script", "broadcast-dhcp-discover", "--script-args", "broadcast-dhcp-discover.timeout=20", "-e", "c0")
	contains(t, out, "DHCP Message Type: DHCPOFFER", "Server Identifier: "+serverAddr, "Subnet Mask: 255.255.0.0", "Router: 10.77.0.254", "Domain Name Server: 10.77.0.53")
	out = l.run("nmap", "-Pn", "-n", "-sU", "-p", "67", "--script", "dhcp-discover", "--script-args", "dhcptype=DHCPINFORM", serverAddr)
	contains(t, out, "DHCP Message Type: DHCPACK", "Server Identifier: "+serverAddr, "Domain Name Server: 10.77.0.53")
}

func TestIntegrationNetworkd(t *testing.T) {
	const networkd = "/lib/systemd/systemd-networkd"
	needs(t, networkd, "systemd")
	l := newLab(t)
	config := "[Match]\nName=c0\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n[DHCPv4]\nUseMTU=yes\nUseDomains=yes\n"
	if err := os.WriteFile(filepath.Join(l.dir, "c0.network"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	// Its places are of the whole machine, so they are its own here; what it
	// learnt it writes down for the rest of systemd. With a /sys that it may not
	// write to it does not wait for udev, as in a container.
	const start = `mount -o remount,ro /sys && mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/network &&
chown -R systemd-network: /run/systemd/netif && cp c0.network /run/systemd/network/ || exit
` + networkd + ` & until grep -s . /run/systemd/netif/leases/*; do sleep 0.1; done
until ip -4 addr show dev c0 | grep inet; do sleep 0.1; done; ip route show; kill $!; wait`
	out := l.run("timeout", "60", "unshare", "-m", "sh", "-c", start)
	contains(t, out, "ADDRESS="+hostAddr, "MTU=1400", "SERVER_ADDRESS="+serverAddr, "DOMAIN_SEARCH_LIST=lab.test eng.lab.test", "HOSTNAME=web1",
		"10.99.0.0/16 via 10.77.0.253 dev c0")
}
