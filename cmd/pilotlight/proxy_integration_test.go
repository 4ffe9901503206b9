//go:build integration

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// TestIntegrationProxy takes a machine beside somebody else's DHCP server to its
// introduction, and tells the operator what that server does to a boot.
func TestIntegrationProxy(t *testing.T) {
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		t.Fatal("dnsmasq is missing: apt-get install dnsmasq-base")
	}
	l := newLab(t)
	manifest := strings.Replace(labManifest, "dhcp: authoritative\npools: [10.98.0.100-10.98.0.200]", "dhcp: proxy", 1)
	l.write("all.yaml", manifest+hostManifest("n1", mac1)+hostManifest("n2", mac2))
	l.write("vmlinuz", "a kernel")
	const other, otherMAC = "10.98.0.2", "52:54:00:98:00:fe"
	router := l.machine(otherMAC)
	must(t, "ip", "-n", router, "addr", "add", other+"/24", "dev", "eth0")
	l.start(router, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces", "--user=root",
		"--pid-file=", "--log-facility=-", "--dhcp-range=10.98.0.100,10.98.0.200,12h", "--dhcp-leasefile="+filepath.Join(l.dir, "leases"), "--dhcp-boot=theirs.0")
	l.serve()

	l.eventually("the other server is found", func() bool {
		return strings.Contains(l.pilotlight("explain", "n1"), "conflict: DHCP server "+other+" ("+otherMAC+`): it tells machines to boot "theirs.0"`)
	})
	if out := l.pilotlight("explain", mac3); !strings.Contains(out, "it gets nothing from here") || !strings.Contains(out, "conflict: DHCP server "+other) {
		t.Errorf("of a machine that no document names it says:\n%s", out)
	}
	good, thief := l.machine(mac1), l.machine(mac2)
	address := l.lease(good)
	l.lease(thief)
	out := l.pilotlight("explain", "n1")
	for _, want := range []string{"dhcp: proxy: DHCP server " + other + " (" + otherMAC + ") gives the address", address, "seen when it took it from the other server"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	l.eventually("the metrics show it", func() bool {
		metrics := l.mustIn(l.server, "curl", "-sf", "http://"+serverAddr+":8080/metrics")
		return strings.Contains(metrics, `pilotlight_dhcp_other_servers{network="lab"} 1`) &&
			strings.Contains(metrics, `pilotlight_dhcp_other_servers_conflicts{network="lab"} 1`)
	})

	said, _ := l.in(thief, "curl", "-s", "-w", "%{http_code}", "http://"+serverAddr+":8080/ignition?mac="+mac1)
	if !strings.HasSuffix(said, "503") || !strings.Contains(said, mac2+" answers for that address, which is host n2") {
		t.Errorf("another machine was answered %s", said)
	}
	config, token := l.ignition(good, mac1)
	tokenFile, configFile, state := l.agentFiles(config, token)
	l.start(good, l.agent, "--config", configFile, "--token-file", tokenFile, "--state", state,
		"--secrets", l.tmpfs(), "--docker", "unix://"+l.dir+"/no-docker.sock", "--certs.d", filepath.Join(l.dir, "certs.d"))
	l.eventually("n1 joined", func() bool { return l.hosts()["n1"].State == cluster.StateJoined })
}
