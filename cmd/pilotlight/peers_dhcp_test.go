//go:build integration && peers

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Nobody looks whether an address is used before it offers it: Kea 2.2 cannot,
// dnsmasq is told not to, and neither does pilotlight here, since its wait of
// 0.4 s would be all that is measured.
const peersNetwork = `kind: network
name: lan
cidr: 10.99.0.0/16
dhcp: authoritative
probe: false
pools: [10.99.1.0-10.99.255.254]
lease: 12h
`

var dhcpPeers = []contestant{
	pilotlight(peersNetwork),               // every lease synced to disk before its ACK
	{"kea", startKea, answersDHCP},         // every lease written, none synced
	{"dnsmasq", startDnsmasq, answersDHCP}, // the lease file written and synced with each
}

// answersDHCP has a client try it.
func answersDHCP(s *stage) bool {
	out, _ := s.in(s.client, "perfdhcp", "-4", "-l", peersClient, "-r", "10", "-n", "1", "-W", "200000", peersServer)
	return strings.Contains(out, "received packets: 1")
}

func startKea(s *stage, dir string) *process {
	config := fmt.Sprintf(`{"Dhcp4": {
		"interfaces-config": {"interfaces": ["br0/%s"], "dhcp-socket-type": "udp"},
		"lease-database": {"type": "memfile", "persist": true, "name": %q, "lfc-interval": 0},
		"valid-lifetime": 43200,
		"multi-threading": {"enable-multi-threading": true},
		"subnet4": [{"subnet": "10.99.0.0/16", "pools": [{"pool": "10.99.1.0-10.99.255.254"}]}],
		"loggers": [{"name": "kea-dhcp4", "severity": "FATAL", "output_options": [{"output": "/dev/null"}]}]}}`,
		peersServer, filepath.Join(dir, "leases.csv"))
	file := filepath.Join(dir, "kea.json")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return s.lab.start(s.server, "env", "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR="+dir, "kea-dhcp4", "-c", file)
}

func startDnsmasq(s *stage, dir string) *process {
	return s.lab.start(s.server, "dnsmasq", "-k", "--port=0", "--user=root", "--pid-file=", "--conf-file=/dev/null", "--log-facility=/dev/null",
		"--quiet-dhcp", "--no-ping", "--dhcp-authoritative", "--dhcp-lease-max=65000", "--dhcp-leasefile="+filepath.Join(dir, "leases"),
		"--dhcp-range=10.99.1.0,10.99.255.254,255.255.0.0,12h")
}

// exchanges is what perfdhcp saw.
type exchanges struct {
	acks     int
	drops    float64 // percent, the worse of OFFERs and ACKs
	rate     float64 // whole exchanges a second
	p50, p99 float64 // ms from REQUEST to ACK
}

var (
	dropsLine = regexp.MustCompile(`drops ratio: ([0-9.]+) ?%`)
	rateLine  = regexp.MustCompile(`Rate: ([0-9.]+) 4-way`)
	stampLine = regexp.MustCompile(`sent / received: ([0-9.]+) / ([0-9.]+)`)
)

// perfdhcp makes up clients, mostly new ones, behind a relay, so many a second.
func (s *stage) perfdhcp(rate, seconds int) (x exchanges) {
	s.t.Helper()
	out, _ := s.in(s.client, "perfdhcp", "-4", "-l", peersClient, "-r", strconv.Itoa(rate), "-R", "60000", "-p", strconv.Itoa(seconds),
		"-W", "500000", "-x", "t", peersServer) // its status says that something was dropped
	x.drops = -1
	for _, m := range dropsLine.FindAllStringSubmatch(out, -1) {
		v, _ := strconv.ParseFloat(m[1], 64)
		x.drops = max(x.drops, v)
	}
	if m := rateLine.FindStringSubmatch(out); m != nil {
		x.rate, _ = strconv.ParseFloat(m[1], 64)
	}
	_, acks, _ := strings.Cut(out, "Timestamps for packets: REQUEST-ACK")
	var took []float64
	for _, m := range stampLine.FindAllStringSubmatch(acks, -1) {
		sent, _ := strconv.ParseFloat(m[1], 64)
		received, _ := strconv.ParseFloat(m[2], 64)
		took = append(took, 1000*(received-sent))
	}
	if x.acks = len(took); x.acks == 0 || x.drops < 0 || x.rate == 0 {
		s.t.Fatalf("perfdhcp says:\n%s", out[:min(len(out), 4000)])
	}
	slices.Sort(took)
	x.p50, x.p99 = took[len(took)/2], took[len(took)*99/100]
	return x
}

const (
	dhcpSeconds = 4
	clean       = 1.0 // percent dropped at most
)

var dhcpRates = []int{60, 125, 250, 500, 1000, 1500, 2000, 3000, 4000, 5000, 6000, 8000, 10_000, 12_000, 14_000}

func TestPeersDHCP(t *testing.T) {
	s := newStage(t)
	n := rounds(t)
	t.Run("sustained", func(t *testing.T) {
		sustained := results{}
		for range n {
			for _, c := range dhcpPeers {
				sustained.add(c.name, s.sustained(c))
			}
		}
		s.print("DHCP sustained, under 1 % dropped", "DORA/s", sustained, map[string]goal{"kea": {least: 1}, "dnsmasq": {least: 20}})
	})
	for _, rate := range []int{400, 1000, 4000} {
		t.Run(strconv.Itoa(rate), func(t *testing.T) {
			done, p50, p99, cost := results{}, results{}, results{}, results{}
			for range n {
				for _, c := range dhcpPeers {
					var x exchanges
					used := s.run(c, func() {}, func() { x = s.perfdhcp(rate, dhcpSeconds) })
					done.add(c.name, x.rate)
					p50.add(c.name, x.p50)
					p99.add(c.name, x.p99)
					cost.add(c.name, float64(used.Microseconds())/float64(x.acks))
				}
			}
			at := fmt.Sprintf("DHCP asked for %d/s: ", rate)
			s.print(at+"done", "DORA/s", done, nil)
			s.print(at+"ACK p50", "ms", p50, nil)
			var most map[string]goal
			if rate == 4000 {
				most = map[string]goal{"kea": {most: 2.5}}
			}
			s.print(at+"ACK p99", "ms", p99, most)
			s.print(at+"CPU", "us each", cost, nil)
		})
	}
}

// sustained looks for the highest rate at which next to nothing is dropped. One
// that is too high is tried once more: something else may have had the machine.
func (s *stage) sustained(c contestant) float64 {
	low, high := 0, len(dhcpRates) // below low they are clean, from high on they are not
	best := float64(dhcpRates[0])
	for low < high {
		middle := (low + high) / 2
		var x exchanges
		for try := 0; try < 2 && (try == 0 || x.drops > clean); try++ {
			s.run(c, func() {}, func() { x = s.perfdhcp(dhcpRates[middle], dhcpSeconds) })
		}
		if x.drops > clean {
			high = middle
		} else {
			low, best = middle+1, max(best, x.rate)
		}
	}
	return best
}
