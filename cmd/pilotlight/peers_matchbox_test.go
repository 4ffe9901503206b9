//go:build integration && peers

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	genericPath   = "/generic?mac=52-54-00-99-00-02"
	peersClients  = 16
	matchboxPlain = "matchbox"
)

// butaneConfig is a config of 107 lines, with something of the host in it.
func butaneConfig(variable string) string {
	var b strings.Builder
	b.WriteString("variant: fcos\nversion: 1.4.0\nstorage:\n  files:\n")
	for i := range 20 {
		fmt.Fprintf(&b, "    - path: /etc/site/file%d.conf\n      mode: 0644\n      contents:\n        inline: |\n          this is %s, file %d\n", i, variable, i)
	}
	b.WriteString("  directories:\n    - path: /srv/data\n      mode: 0755\n")
	return b.String()
}

// matchboxData is a data directory with so many groups of a machine each.
func matchboxData(t *testing.T, dir string, groups int) {
	t.Helper()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("profiles/web.json", `{"id": "web", "boot": {"kernel": "/assets/kernel", "args": ["quiet"]}, "ignition_id": "web.yaml", "generic_id": "web.yaml"}`)
	write("ignition/web.yaml", butaneConfig("a host"))
	write("generic/web.yaml", butaneConfig("{{.name}}"))
	write("assets/kernel", "kernel")
	write("groups/client.json", fmt.Sprintf(`{"profile": "web", "selector": {"mac": %q}, "metadata": {"name": "client"}}`, peersMAC))
	for i := range groups - 1 {
		write(fmt.Sprintf("groups/h%d.json", i), fmt.Sprintf(`{"profile": "web", "selector": {"mac": %q}, "metadata": {"name": "h%d"}}`, hostMAC(i), i))
	}
}

func hostMAC(i int) string { return fmt.Sprintf("52:54:01:%02x:%02x:%02x", i>>16, i>>8&255, i&255) }

func matchboxPeer(bin, data string) contestant {
	return contestant{
		name: matchboxPlain,
		start: func(s *stage, _ string) *process {
			return s.lab.start(s.server, bin, "-address", peersServer+":8080", "-data-path", data, "-assets-path", filepath.Join(data, "assets"), "-log-level", "error")
		},
		ready: func(s *stage) bool {
			_, err := s.in(s.server, "curl", "-sf", "http://"+peersServer+":8080/boot.ipxe")
			return err == nil
		},
	}
}

// hostDocuments are hosts beside the clients' machine, from one number to another.
func hostDocuments(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "---\nkind: host\nname: h%d\nmacs: [%q]\nprofile: web\nvariables: {name: h%d}\n", i, hostMAC(i), i)
	}
	return b.String()
}

// configSite is bootSite with a Butane config.
func configSite(kernel string, hosts int) string {
	text := func(name string) string {
		return "|\n    " + strings.ReplaceAll(strings.TrimSpace(butaneConfig(name)), "\n", "\n    ")
	}
	// The config is the same for all hosts: a start makes that of each.
	config := "\nconfig:\n  butane: " + text("a host") + "\ngeneric: " + text("{{ .Variables.name }}") + "\nvariables: {name: nobody}\n---"
	return strings.Replace(bootSite(kernel, 1), "name: web\nimage: node\n---", "name: web\nimage: node"+config, 1) + hostDocuments(0, hosts-1)
}

// A text that is made for the machine that asks of a template of a config's length
// (/generic), and its script, of so many hosts.
func TestPeersMatchbox(t *testing.T) {
	s := newStage(t)
	kernel := filepath.Join(s.dir, "kernel")
	if err := os.WriteFile(kernel, []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	bin := build(t, matchboxModule, matchboxVersion, matchboxModule+"/cmd/matchbox")
	goals := map[int][2]goal{1000: {{}, {least: 200}}}
	check := func() {
		for _, path := range []string{genericPath, scriptPath} {
			s.mustIn(s.client, "curl", "-sf", "-o", "/dev/null", "http://"+peersServer+":8080"+path)
		}
	}
	for _, hosts := range []int{1, 100, 1000} {
		data := filepath.Join(s.dir, fmt.Sprint("matchbox", hosts))
		matchboxData(t, data, hosts)
		rates, tails := [2]results{{}, {}}, [2]results{{}, {}}
		var own string
		for range rounds(t) {
			for _, c := range []contestant{keptIn(&own, pilotlight(configSite(kernel, hosts))), matchboxPeer(bin, data)} {
				var loads [2]load
				s.run(c, func() {
					if c.name == "pilotlight" {
						s.prepared(own, hosts)
					}
					check()
				}, func() {
					loads = [2]load{s.wrk(peersClients, genericPath), s.wrk(peersClients, scriptPath)}
				})
				for i, l := range loads {
					rates[i].add(c.name, l.rate)
					tails[i].add(c.name, l.p99)
				}
			}
		}
		for i, what := range []string{"/generic", "/ipxe"} {
			at := fmt.Sprintf("%s, %d host(s): ", what, hosts)
			s.print(at+"rate", "1/s", rates[i], map[string]goal{matchboxPlain: goals[hosts][i]})
			s.print(at+"p99", "ms", tails[i], nil)
		}
	}
}
