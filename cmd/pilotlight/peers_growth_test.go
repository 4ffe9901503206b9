//go:build integration && peers

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startLimit is when a server, or an apply, is taken to have failed.
const startLimit = 20 * time.Minute

// figure adds what was measured of ours alone to the table.
func (s *stage) figure(what, unit string, of []float64) {
	line := fmt.Sprintf("%s|%.3g %s|-|-|-|none|-", what, median(of), unit)
	s.t.Log(line)
	tabulate(s.t, line)
}

// peak is the most memory that a process had resident, in MB.
func peak(t *testing.T, p *process) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatal("no VmHWM in /proc/PID/status")
	}
	kb, _ := strconv.ParseFloat(string(m[1]), 64)
	return kb / 1024
}

// up starts a server on a directory and its data, without the former if it is empty,
// and returns how long it took until it was ready.
func (s *stage) up(site, data string) (*process, float64) {
	s.t.Helper()
	args := []string{"serve", "--data", data, "--agent", s.agent}
	if site != "" {
		args = append(args, site)
	}
	begin := time.Now()
	p := s.lab.start(s.server, s.bin, args...)
	s.within(startLimit, "the server is ready", func() bool { return pilotlight("").ready(s) })
	return p, time.Since(begin).Seconds()
}

// siteOf makes a directory with a site.
func (s *stage) siteOf(name, text string) (site, data string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, name)
	site, data = filepath.Join(dir, "site"), filepath.Join(dir, "data")
	must(s.t, "mkdir", "-p", site)
	if err := os.WriteFile(filepath.Join(site, "site.yaml"), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return site, data
}

// explains has the operator's API explain the clients' machine again and again over
// one connection, and returns how many it did a second.
func (s *stage) explains(data string) float64 {
	s.t.Helper()
	const times = 500
	of := func(name string) string { return filepath.Join(data, "operator", name) }
	begin := time.Now()
	s.mustIn(s.server, "curl", "-sf", "-o", "/dev/null", "--cacert", of("ca.crt"), "--cert", of("operator.crt"), "--key", of("operator.key"),
		fmt.Sprintf("https://127.0.0.1:8443/v1/explain?who=client&turn=[1-%d]", times))
	return times / time.Since(begin).Seconds()
}

// A script, a config, and the operator's explain, with so many hosts, on servers that
// start again on what was applied.
func TestPeersGrowth(t *testing.T) {
	s := newStage(t)
	kernel := filepath.Join(s.dir, "kernel")
	if err := os.WriteFile(kernel, []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	sizes := []int{1, 100, 1000, 10_000, 100_000}
	data := map[int]string{}
	for _, hosts := range sizes {
		var site string
		site, data[hosts] = s.siteOf(fmt.Sprint("growth", hosts), settledSite(kernel, hosts))
		p, _ := s.up(site, data[hosts])
		s.beAlive(data[hosts])
		s.prepared(data[hosts], hosts)
		p.stop(syscall.SIGTERM)
	}
	whats := []string{"/ipxe", "Ignition of Butane, no token", "explain by the API"}
	rates := map[string]map[int][]float64{}
	for _, what := range whats {
		rates[what] = map[int][]float64{}
	}
	for range rounds(t) {
		for _, hosts := range sizes {
			p, _ := s.up("", data[hosts])
			s.mustHaveConfig(s.client, userDataPath)
			add := func(what string, rate float64) { rates[what][hosts] = append(rates[what][hosts], rate) }
			add(whats[0], s.wrk(peersClients, scriptPath).rate)
			add(whats[1], s.wrk(peersClients, userDataPath).rate)
			s.explains(data[hosts])
			add(whats[2], s.explains(data[hosts]))
			p.stop(syscall.SIGTERM)
		}
	}
	for _, what := range whats {
		for _, hosts := range sizes[1:] {
			goals := map[string]goal{"1 host": {least: .95}}
			s.print(fmt.Sprintf("%s, %d hosts: rate", what, hosts), "1/s", results{"pilotlight": rates[what][hosts], "1 host": rates[what][1]}, goals)
		}
	}
}

// ownSite is configSite with a config in which each host has its name and its address.
func ownSite(kernel string, hosts int) string {
	site := strings.ReplaceAll(configSite(kernel, hosts), "this is a host,", "this is {{ .Host.Name }} at {{ .Host.Address }},")
	var b strings.Builder
	n := 0
	for line := range strings.Lines(site) {
		b.WriteString(line)
		if strings.HasPrefix(line, `macs: ["52:54:01`) {
			fmt.Fprintf(&b, "address: 10.%d.%d.%d\n", 100+n>>16, n>>8&255, n&255)
			n++
		}
	}
	return strings.Replace(b.String(), "cidr: 10.99.0.0/16", "cidr: 10.0.0.0/8", 1)
}

// What a large site takes: its first start, the next, an apply of all to a server that
// has nothing, and of one host that changed. One config for all, or one each.
func TestPeersSites(t *testing.T) {
	s := newStage(t)
	kernel := filepath.Join(s.dir, "kernel")
	if err := os.WriteFile(kernel, []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(s.dir, "changed.yaml")
	for _, c := range []struct {
		what  string
		hosts int
		site  func(string, int) string
	}{
		{"one config", 1000, configSite}, {"a config each", 1000, ownSite},
		{"one config", 10_000, configSite}, {"a config each", 10_000, ownSite}, {"one config", 100_000, configSite},
	} {
		took := map[string][]float64{}
		for round := range rounds(t) {
			site, data := s.siteOf(fmt.Sprint("sites", c.hosts, c.what, round), c.site(kernel, c.hosts))
			add := func(what string, figure float64) { took[what] = append(took[what], figure) }
			p, seconds := s.up(site, data)
			add("first start", seconds)
			add("peak memory", peak(t, p))
			p.stop(syscall.SIGTERM)
			p, seconds = s.up(site, data)
			add("next start", seconds)
			p.stop(syscall.SIGTERM)
			must(t, "rm", "-r", data)
			p, _ = s.up("", data)
			apply := func(what string) time.Duration {
				begin := time.Now()
				s.mustIn(s.server, s.bin, "--data", data, "apply", "-f", what)
				return time.Since(begin)
			}
			add("apply of all", apply(site).Seconds())
			if err := os.WriteFile(changed, []byte(strings.TrimPrefix(hostDocuments(5, 6), "---\n")+"serial: changed\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			add("apply of one", apply(changed).Seconds())
			p.stop(syscall.SIGTERM)
			must(t, "rm", "-r", filepath.Dir(data))
		}
		at := fmt.Sprintf("Site of %d hosts, %s: ", c.hosts, c.what)
		for _, what := range []string{"first start", "next start", "apply of all", "apply of one"} {
			s.figure(at+what, "s", took[what])
		}
		s.figure(at+"peak memory", "MB", took["peak memory"])
	}
}
