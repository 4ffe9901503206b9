//go:build integration

package boot_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// sixScript writes a script for dhclient -6 that says what it is given, and gives
// the interface the address.
func sixScript(b *beside) string {
	name := filepath.Join(b.dir, "script6")
	const text = `#!/bin/sh
echo "event $reason"
env | sort
case "$reason" in
BOUND6|RENEW6|REBIND6) ip -6 addr replace "$new_ip6_address/128" dev "$interface" nodad ;;
RELEASE6|STOP6|EXPIRE6) ip -6 addr flush scope global dev "$interface" ;;
esac
`
	if _, err := os.Stat(name); err == nil {
		return name // a client that ends may run it still, and it cannot be written then
	}
	if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
		b.t.Fatal(err)
	}
	return name
}

// lease6 returns what the journal says of an address of the network.
func (b *beside) lease6(find func(cluster.Lease) bool) (found cluster.Lease) {
	b.t.Helper()
	j, err := openJournal(filepath.Join(b.dir, "leases"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer j.file.Close()
	for _, l := range j.leases {
		if find(l) {
			found = l
		}
	}
	return found
}

func TestIntegrationDhclient6(t *testing.T) {
	b := newSix(t)
	b.up(hostMAC)
	common := []string{"-6", "-v", "-sf", sixScript(b), "-lf", filepath.Join(b.dir, "dhclient6.leases"), "-pf", filepath.Join(b.dir, "dhclient6.pid")}
	client := func(args ...string) string { return b.run("dhclient", append(append(common, args...), "c0")...) }

	contains(t, client("-1"), "event BOUND6", "new_ip6_address="+hostAddr6, "new_dhcp6_name_servers=fd77::53", "new_dhcp6_domain_search=lab.test")
	if l := b.lease6(func(l cluster.Lease) bool { return l.Address.String() == hostAddr6 }); l.MAC.String() != hostMAC || l.Hostname != "web1" {
		t.Errorf("the journal has %+v", l)
	}
	t.Run("its config is its own", func(t *testing.T) {
		eventually(t, "the advertisement said that the network is on the link", func() bool { return strings.Contains(b.run("ip", "-6", "route"), "fd77::/64 dev c0") })
		get := func(from string) string {
			return b.run("curl", "-sg", "-w", " %{http_code}", "--interface", from, "http://["+serverAddr6+"]:8080/ignition?mac="+strings.ReplaceAll(hostMAC, ":", "-"))
		}
		contains(t, get(hostAddr6), "web1", " 200")
		b.run("ip", "addr", "add", "fd77::66/128", "dev", "c0", "nodad")
		contains(t, get("fd77::66"), "lent to nobody", " 503")
		b.run("ip", "addr", "del", "fd77::66/128", "dev", "c0")
		b.run("tftp", "-6", serverAddr6, "-m", "binary", "-c", "get", "snponly.efi")
		if got, want := read(filepath.Join(b.dir, "snponly.efi")), read("/usr/lib/ipxe/snponly.efi"); got == "" || got != want {
			t.Errorf("%d bytes came by TFTP, of %d", len(got), len(want))
		}
	})
	client("-x") // leaves without releasing
	contains(t, client("-1"), "XMT: Confirm", "RCV: Reply message", "message status code Success", "event BOUND6")
	contains(t, client("-r"), "XMT: Release")
	eventually(t, "the released lease has lapsed", func() bool {
		return !b.lease6(func(l cluster.Lease) bool { return l.Address.String() == hostAddr6 }).Expires.After(time.Now())
	})
	contains(t, client("-S", "-1"), "XMT: Info-Request", "new_dhcp6_name_servers=fd77::53") // stateless
	client("-x")
	contains(t, b.run("curl", "-sg", "http://["+serverAddr6+"]:8080/boot.ipxe"), "#!ipxe", "http://["+serverAddr6+"]:8080/ipxe?mac=")
}

// dhcpcd finds out by itself, from the advertisement, that it is to ask.
func TestIntegrationDhcpcd6(t *testing.T) {
	if _, err := exec.LookPath("dhcpcd"); err != nil {
		t.Fatal("dhcpcd is missing: apt-get install dhcpcd-base")
	}
	b := newSix(t)
	b.up("52:54:00:77:00:99")
	config := filepath.Join(b.dir, "dhcpcd.conf")
	if err := os.WriteFile(config, []byte("duid\nslaac hwaddr\noption domain_name_servers\nnohook resolv.conf, hostname, timesyncd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(b.dir, "dhcpcd.log")
	b.daemon(b.client, log, nil, "unshare", "--mount", "sh", "-c",
		"mkdir -p /run/dhcpcd && mount -t tmpfs none /run/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd && exec dhcpcd -6 -B -d -f "+config+" c0")
	got := regexp.MustCompile(`fd77::1:[0-9a-f:]+`).FindString(await(t, log, `c0: adding address fd77::1:[0-9a-f]+:[0-9a-f]+/128`, time.Minute))
	if l := b.lease6(func(l cluster.Lease) bool { return l.Address.String() == got }); l.MAC.String() != "52:54:00:77:00:99" {
		t.Errorf("%s is lent to %+v", got, l)
	}
	await(t, log, `Router Advertisement from fe80`, time.Minute)
	if routes := b.run("ip", "-6", "route"); !strings.Contains(routes, "fd77::/64 dev c0") || strings.Contains(routes, "default") {
		t.Errorf("the network is on its link, and there is no router here; but its routes are\n%s", routes)
	}
}

// A relay of perfdhcp's makes up clients, and we answer all of them.
func TestIntegrationPerfdhcp6(t *testing.T) {
	b := newSix(t)
	b.up(hostMAC)
	b.run("ip", "addr", "add", "fd77::2/64", "dev", "c0", "nodad")
	before := time.Now()
	// Its status says that some exchange was dropped.
	out, _ := exec.Command("ip", "netns", "exec", b.client, "perfdhcp", "-6", "-A", "1", "-r", "500", "-p", "5", "-R", "1000", "-l", "c0", "all").CombinedOutput()
	received := regexp.MustCompile(`received packets: (\d+)`).FindAllStringSubmatch(string(out), -1)
	if len(received) != 2 {
		t.Fatalf("perfdhcp said:\n%s", out)
	}
	for i, name := range []string{"Advertise", "Reply"} {
		if n, _ := strconv.Atoi(received[i][1]); n < 500 {
			t.Errorf("%d times %s:\n%s", n, name, out)
		}
	}
	t.Logf("%s\n%s", time.Since(before).Round(time.Millisecond), out)
	seen := map[cluster.MAC]bool{}
	b.lease6(func(l cluster.Lease) bool { seen[l.MAC] = true; return false })
	if len(seen) < 100 {
		t.Errorf("%d machines have leases", len(seen))
	}
}

// A relay of another make: ISC's, on a router between the machine and us.
func TestIntegrationRelay6(t *testing.T) {
	if _, err := exec.LookPath("dhcrelay"); err != nil {
		t.Fatal("dhcrelay is missing: apt-get install isc-dhcp-relay")
	}
	b := newSix(t)
	b.ip("-n " + b.other + " addr add fd77::3/64 dev o0 nodad")
	b.ip("-n " + b.other + " link add r0 type veth peer name c1 netns " + b.client)
	b.ip("-n " + b.other + " addr add " + farAddr6 + "/64 dev r0 nodad")
	b.ip("-n " + b.other + " link set r0 up")
	b.ip("-n " + b.client + " link set c1 address 52:54:00:77:00:98 up")
	eventually(t, "the router has its addresses", func() bool {
		out, _ := exec.Command("ip", "-n", b.other, "-6", "addr").Output()
		return strings.Contains(string(out), farAddr6) && !strings.Contains(string(out), "tentative") && !strings.Contains(b.run("ip", "-6", "addr", "show", "dev", "c1"), "tentative")
	})
	log := filepath.Join(b.dir, "relay.log")
	b.daemon(b.other, log, nil, "dhcrelay", "-6", "-d", "-I", "-l", "r0", "-u", serverAddr6+"%o0", "-pf", filepath.Join(b.dir, "relay.pid"))
	await(t, log, "Sending on", time.Minute)
	out := b.run("dhclient", "-6", "-v", "-1", "-sf", sixScript(b), "-lf", filepath.Join(b.dir, "relay.leases"), "-pf", filepath.Join(b.dir, "relay-client.pid"), "c1")
	got := regexp.MustCompile(`new_ip6_address=(fd78::1:[0-9a-f:]+)`).FindStringSubmatch(out)
	if got == nil {
		t.Fatalf("no address of the network behind the relay:\n%s\n%s", out, read(log))
	}
	if l := b.lease6(func(l cluster.Lease) bool { return l.Address.String() == got[1] }); l.MAC.String() != "52:54:00:77:00:98" || l.Network != "far" {
		t.Errorf("the journal has %+v", l)
	}
	b.run("dhclient", "-6", "-x", "-lf", filepath.Join(b.dir, "relay.leases"), "-pf", filepath.Join(b.dir, "relay-client.pid"), "c1")
}

// up switches the client's card on with a hardware address, and waits until the
// link-local address that it makes of it may be used.
func (b *beside) up(mac string) {
	b.t.Helper()
	b.run("ip", "link", "set", "c0", "down")
	b.run("ip", "link", "set", "c0", "address", mac, "up")
	eventually(b.t, "the client has a link-local address", func() bool {
		out := b.run("ip", "-6", "addr", "show", "dev", "c0")
		return strings.Contains(out, "fe80::") && !strings.Contains(out, "tentative")
	})
}
