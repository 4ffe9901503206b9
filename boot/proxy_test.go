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
)

// Clients beside somebody else's DHCP server get their address from that one,
// also when they say that they are firmware. dnsmasq looks first, with a ping,
// whether an address is free: by then our offer has come.
func TestIntegrationProxyClients(t *testing.T) {
	for _, other := range otherServers {
		t.Run(other.name, func(t *testing.T) {
			b := newBeside(t, other, "", "proxy")
			script := (&lab{t: t, dir: b.dir}).script()
			conf := filepath.Join(b.dir, "firmware.conf")
			const pxe = "option arch code 93 = unsigned integer 16;\nsend arch 0;\nsend vendor-class-identifier \"PXEClient:Arch:00000:UNDI:002001\";\n"
			if err := os.WriteFile(conf, []byte(pxe), 0o600); err != nil {
				t.Fatal(err)
			}
			udhcpc := []string{"udhcpc", "-i", "c0", "-n", "-q", "-f", "-t", "20", "-s", script}
			dhclient := func(more ...string) []string {
				return append([]string{"dhclient", "-4", "-v", "-1", "-sf", script, "-lf", filepath.Join(b.dir, "dhclient.leases"), "-pf", filepath.Join(b.dir, "dhclient.pid")}, append(more, "c0")...)
			}
			for _, row := range []struct {
				what string
				args []string
				has  []string
			}{
				{"udhcpc as firmware", append(udhcpc[:len(udhcpc):len(udhcpc)], "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000"), []string{"event bound", "ip=10.77.2.", "serverid=" + otherAddr}},
				{"udhcpc", udhcpc, []string{"event bound", "ip=10.77.2.", "serverid=" + otherAddr}},
				{"dhclient as firmware", dhclient("-cf", conf), []string{"DHCPACK of 10.77.2.", "from " + otherAddr, "bound to 10.77.2."}},
				{"dhclient", dhclient(), []string{"DHCPACK of 10.77.2.", "from " + otherAddr, "bound to 10.77.2."}},
			} {
				out := b.run(row.args[0], row.args[1:]...)
				contains(t, out, row.has...)
				_, bound, _ := strings.Cut(out, "event bound")
				if strings.Contains(out, "DHCPACK of 0.0.0.0") || strings.Contains(bound, serverAddr) {
					t.Errorf("%s took something of ours for a lease:\n%s", row.what, out)
				}
				if strings.HasPrefix(row.what, "dhclient") {
					b.run("dhclient", "-x", "-lf", filepath.Join(b.dir, "dhclient.leases"), "-pf", filepath.Join(b.dir, "dhclient.pid"), "c0")
				}
				b.run("ip", "addr", "flush", "dev", "c0")
				os.Remove(filepath.Join(b.dir, "dhclient.leases"))
			}
			await(t, b.log, `told a machine what to boot.*type=DISCOVER`, time.Minute) // it was there to be taken
		})
	}
}

// The config goes to the machine whose card answers for the address.
func TestIntegrationProxyConfig(t *testing.T) {
	b := newBeside(t, otherServers[1], "", "proxy")
	script := (&lab{t: t, dir: b.dir}).script()
	url := "http://" + serverAddr + ":8080"
	b.run("udhcpc", "-i", "c0", "-n", "-q", "-f", "-t", "20", "-s", script)
	contains(t, b.run("curl", "-sSH", "Accept: x/y", url+"/ignition?mac="+hostMAC), "web1 x/y")
	// Another machine in the same place.
	b.run("ip", "link", "set", "c0", "down")
	b.run("ip", "link", "set", "c0", "address", "52:54:00:77:00:66", "up")
	b.ip("-n " + b.server + " neigh flush all")
	b.run("ip", "addr", "flush", "dev", "c0")
	b.run("ip", "addr", "add", "10.77.2.10/16", "dev", "c0")
	contains(t, b.run("curl", "-sSi", url+"/ignition?mac="+hostMAC), "503 Service Unavailable", "Retry-After:", "52:54:00:77:00:66 answers for that address, which no document names")
}

// Behind a relay, ARP says nothing of a machine; what went by when it took its
// address does.
func TestIntegrationProxyRelayed(t *testing.T) {
	b := newBeside(t, otherServers[1], "", "proxy")
	relay := "plprox-r" + strconv.Itoa(os.Getpid())
	t.Cleanup(func() { exec.Command("ip", "netns", "del", relay).Run() })
	b.ip("netns add " + relay)
	b.ip("-n " + relay + " link set lo up")
	b.ip("-n " + b.lan + " link add pr0 type veth peer name r0 netns " + relay)
	b.ip("-n " + b.lan + " link set pr0 master br0 up")
	b.ip("-n " + b.client + " link del c0")
	b.ip("-n " + relay + " link add r1 type veth peer name c0 netns " + b.client)
	b.ip("-n " + b.client + " link set c0 address " + hostMAC + " up")
	b.ip("-n " + relay + " addr add 10.77.0.9/16 dev r0")
	b.ip("-n " + relay + " addr add 10.78.0.1/16 dev r1")
	b.ip("-n " + relay + " link set r0 up")
	b.ip("-n " + relay + " link set r1 up")
	b.ip("netns exec " + relay + " sysctl -qw net.ipv4.ip_forward=1")
	b.ip("-n " + b.server + " route add 10.78.0.0/16 via 10.77.0.9")
	b.ip("-n " + b.other + " route add 10.78.0.0/16 via 10.77.0.9")
	log := filepath.Join(b.dir, "relay.log")
	b.daemon(relay, log, nil, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=", "--log-facility=-",
		"--dhcp-relay=10.78.0.1,"+otherAddr, "--dhcp-relay=10.78.0.1,"+serverAddr)
	await(t, log, "DHCP relay from 10.78.0.1 to "+serverAddr, time.Minute)

	script, url := (&lab{t: t, dir: b.dir}).script(), "http://"+serverAddr+":8080"
	out := b.run("udhcpc", "-i", "c0", "-n", "-q", "-f", "-t", "20", "-s", script, "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000")
	contains(t, out, "event bound", "ip=10.78.2.", "serverid="+otherAddr)
	await(t, b.log, "told a machine what to boot.*type=DISCOVER", time.Minute)
	address := regexp.MustCompile(`ip=(10\.78\.2\.\d+)`).FindStringSubmatch(out)[1]
	b.run("ip", "route", "add", "default", "via", "10.78.0.1")
	contains(t, b.run("curl", "-sSH", "Accept: x/y", url+"/ignition?mac="+hostMAC), "web1 x/y")
	// A machine that took no address, and one that has another's.
	b.run("ip", "addr", "add", "10.78.9.9/16", "dev", "c0")
	contains(t, b.run("curl", "-sSi", "--interface", "10.78.9.9", url+"/ignition?mac="+hostMAC), "503 Service Unavailable", "nobody was seen to take that address")
	b.run("ip", "link", "set", "c0", "down")
	b.run("ip", "link", "set", "c0", "address", "52:54:00:77:00:66", "up")
	b.run("ip", "addr", "flush", "dev", "c0")
	thief := b.run("udhcpc", "-i", "c0", "-n", "-q", "-f", "-t", "20", "-s", script)
	if strings.Contains(thief, "ip="+address+"\n") {
		t.Fatalf("two machines have one address:\n%s", thief)
	}
	b.run("ip", "route", "replace", "default", "via", "10.78.0.1")
	contains(t, b.run("curl", "-sSi", url+"/ignition?mac="+hostMAC), "503 Service Unavailable", "52:54:00:77:00:66 was seen to take that address, which is another machine")
}

// A server that nobody has told us of is found, and what it does to a boot.
func TestIntegrationConflicts(t *testing.T) {
	for _, other := range otherServers {
		for mode, says := range map[string][]string{
			"proxy": {`in the way of a boot.*server="10.77.0.3 \(([0-9a-f:]{17})\)".*it tells machines to boot .*theirs.efi`},
			"":      {`in the way of a boot.*server="10.77.0.3 \(([0-9a-f:]{17})\)".*it gives addresses too`, `in the way of a boot.*it tells machines to boot .*theirs.efi`},
		} {
			t.Run(other.name+" "+mode, func(t *testing.T) {
				b := newBeside(t, other, "theirs.efi", mode)
				for _, pattern := range says {
					await(t, b.log, pattern, time.Minute)
				}
				contains(t, read(b.log), b.mac(b.other, "o0"))
				if said := read(b.rival); strings.Contains(said, "DHCPACK") || strings.Contains(said, "LEASE_ALLOC") {
					t.Errorf("our probe took a lease:\n%s", said)
				}
			})
		}
	}
}

// With dhcp: proxy and nobody else, no machine gets an address.
func TestIntegrationNobodyGivesAddresses(t *testing.T) {
	b := newBeside(t, nobody, "", "proxy")
	await(t, b.log, "machines on a network get no address", 3*time.Minute)
}
