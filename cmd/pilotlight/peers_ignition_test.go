//go:build integration && peers

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	ignitionPath = "/ignition?mac=52-54-00-99-00-02"
	userDataPath = "/latest/user-data"
	unknownMAC   = "52:54:00:99:00:03" // no document names it
)

// settledSite is configSite of machines that boot from their own disks and ask the
// metadata service for their config: while the agent runs there is no token in it.
func settledSite(kernel string, hosts int) string {
	site := strings.Replace(configSite(kernel, hosts), "dhcp: authoritative", "dhcp: authoritative\nmetadata: optional", 1)
	return strings.Replace(site, "name: web\nimage: node\n", "name: web\nimage: node\nboot: local\n", 1)
}

// keptIn notes in *dir where a server keeps its data.
func keptIn(dir *string, c contestant) contestant {
	start := c.start
	c.start = func(s *stage, at string) *process {
		*dir = filepath.Join(at, "data")
		return start(s, at)
	}
	return c
}

// etcdctl asks the server's etcd as the server does.
func (s *stage) etcdctl(data string, args ...string) string {
	s.t.Helper()
	of := func(name string) string { return filepath.Join(data, name) }
	return s.mustIn(s.server, "env", append([]string{"ETCDCTL_API=3", "etcdctl", "--endpoints", "https://127.0.0.1:2379",
		"--cacert", of("ca/ca.crt"), "--cert", of("server/etcd.crt"), "--key", of("server/etcd.key")}, args...)...)
}

// beAlive is the sign of life of the clients' agent.
func (s *stage) beAlive(data string) {
	s.t.Helper()
	lease := regexp.MustCompile(`lease ([0-9a-f]+) granted`).FindStringSubmatch(s.etcdctl(data, "lease", "grant", "3600"))
	if lease == nil {
		s.t.Fatal("etcdctl granted no lease")
	}
	s.etcdctl(data, "put", "--lease="+lease[1], "/pilotlight/v1/nodes/client/alive", "{}")
}

// prepared waits until the server has made etcd's users of so many hosts, which it
// does beside its work.
func (s *stage) prepared(data string, hosts int) {
	s.t.Helper()
	s.within(10*time.Minute, "the hosts are prepared", func() bool {
		return strings.Count(s.etcdctl(data, "user", "list"), "node:") >= min(hosts, prepareMost)
	})
}

// mustHaveConfig fetches a config and looks whether what Butane made is in it.
// A server that has just started has them wait until it knows whose lives are over.
func (s *stage) mustHaveConfig(ns, path string) string {
	s.t.Helper()
	body := s.mustIn(ns, "curl", "-sf", "--retry", "40", "--retry-delay", "2", "http://"+peersServer+":8080"+path)
	if n := strings.Count(body, "/etc/site/file"); n != 20 {
		s.t.Fatalf("%s has %d files of the site, not 20:\n%s", path, n, body)
	}
	return body
}

// The Ignition config of one machine, made of Butane. Both servers' say the same of
// the site; ours has pilotlight's part in it, and no token, since the agent is alive.
// The bare one answers with the bytes of ours, and does nothing else.
func TestPeersMatchboxIgnition(t *testing.T) {
	s := newStage(t)
	kernel := filepath.Join(s.dir, "kernel")
	if err := os.WriteFile(kernel, []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	bin := build(t, matchboxModule, matchboxVersion, matchboxModule+"/cmd/matchbox")
	ours := filepath.Join(s.dir, "ours.ign")
	goals := map[int]goal{1: {least: 40}, 1000: {least: 400}}
	for _, hosts := range []int{1, 100, 1000} {
		data := filepath.Join(s.dir, fmt.Sprint("matchbox", hosts))
		matchboxData(t, data, hosts)
		rate, tail := results{}, results{}
		var own string
		for range rounds(t) {
			for _, c := range []contestant{keptIn(&own, pilotlight(settledSite(kernel, hosts))), bare(ours), matchboxPeer(bin, data)} {
				path := ignitionPath
				var l load
				s.run(c, func() {
					if c.name == "pilotlight" {
						path = userDataPath
						s.beAlive(own)
						s.prepared(own, hosts)
					}
					body := s.mustHaveConfig(s.client, path)
					if err := os.WriteFile(ours, []byte(body), 0o644); err != nil { // what bare answers with
						s.t.Fatal(err)
					}
				}, func() { l = s.wrk(peersClients, path) })
				rate.add(c.name, l.rate)
				tail.add(c.name, l.p99)
			}
		}
		at := fmt.Sprintf("Ignition of Butane, no token, %d host(s): ", hosts)
		s.print(at+"rate", "1/s", rate, map[string]goal{matchboxPlain: goals[hosts], bareName: {least: .8}})
		s.print(at+"p99", "ms", tail, nil)
	}
}

// inTurn has wrk ask for the config of one host after the other, from h0 on.
func (s *stage) inTurn(hosts int) string {
	s.t.Helper()
	file := filepath.Join(s.dir, fmt.Sprint("turn", hosts, ".lua"))
	script := fmt.Sprintf(`local i = -1
function request()
  i = (i + 1) %% %d
  return wrk.format("GET", string.format("/ignition?mac=52-54-01-%%02x-%%02x-%%02x", math.floor(i / 65536), math.floor(i / 256) %% 256, i %% 256))
end
`, hosts)
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// The Ignition configs of many machines, one after the other. Each of ours has an
// introduction token of its own in it, which is on disk before the config leaves.
// A machine gets twenty of them at a time, so that as many are asked for as last.
func TestPeersMatchboxTokens(t *testing.T) {
	s := newStage(t)
	kernel := filepath.Join(s.dir, "kernel")
	if err := os.WriteFile(kernel, []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	asks := s.machine(unknownMAC)
	must(t, "ip", "-n", asks, "addr", "add", "10.99.0.3/16", "dev", "eth0")
	bin := build(t, matchboxModule, matchboxVersion, matchboxModule+"/cmd/matchbox")
	const hosts = 1000
	data := filepath.Join(s.dir, "matchbox")
	matchboxData(t, data, hosts)
	// Where another server lends the addresses whoever asks is taken to be behind a
	// router: one client may ask for all.
	site := strings.Replace(configSite(kernel, hosts), "dhcp: authoritative", "dhcp: off", 1)
	var own string
	rate, tail := results{}, results{}
	for range rounds(t) {
		for _, c := range []contestant{keptIn(&own, pilotlight(site)), matchboxPeer(bin, data)} {
			var l load
			s.run(c, func() {
				if c.name != matchboxPlain {
					s.prepared(own, hosts)
				}
				s.mustHaveConfig(asks, "/ignition?mac=52-54-01-00-00-00")
			}, func() { l = s.wrkFrom(asks, peersClients, "/", "-s", s.inTurn(hosts-1), "-d", "3s") })
			rate.add(c.name, l.rate)
			tail.add(c.name, l.p99)
		}
	}
	const at = "Ignition of Butane, with tokens, 1000 machines in turn: "
	s.print(at+"rate", "1/s", rate, map[string]goal{matchboxPlain: {least: 400}})
	s.print(at+"p99", "ms", tail, nil)
}
