//go:build integration

package main

import (
	"fmt"
	"strings"
	"testing"
)

// What a server may have resident with a thousand hosts, in MB.
const serverLimit = 150

// TestIntegrationThousandHosts applies a thousand hosts to a running server:
// its memory stays within bounds, and each machine still gets its own config.
func TestIntegrationThousandHosts(t *testing.T) {
	l := newLab(t)
	l.write("all.yaml", labManifest+hostManifest("n1", mac1))
	l.write("vmlinuz", "a kernel")
	server := l.serve()
	var hosts strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&hosts, "---\nkind: host\nname: h%d\nmacs: [\"52:54:01:00:%02x:%02x\"]\nprofile: node\nvariables: {rack: r%d}\n", i, i/256, i%256, i/40)
	}
	l.write("hosts.yaml", strings.TrimPrefix(hosts.String(), "---\n"))
	l.pilotlight("apply", "-f", l.dir+"/site/hosts.yaml")
	machine := l.machine("52:54:01:00:03:e7")
	l.lease(machine)
	if config, _ := l.ignition(machine, "52:54:01:00:03:e7"); config.Host != "h999" {
		t.Errorf("the machine is told that it is %s", config.Host)
	}
	if n := len(l.hosts()); n != 1001 {
		t.Errorf("%d hosts are listed, not 1001", n)
	}
	mb := server.resident(t)
	t.Logf("%d MB resident with 1,000 hosts", mb)
	if mb > serverLimit {
		t.Errorf("the server has %d MB resident with 1,000 hosts, more than %d", mb, serverLimit)
	}
}
