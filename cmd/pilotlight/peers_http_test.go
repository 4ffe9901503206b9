//go:build integration && peers

package main

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	imageSize   = 100 << 20
	httpSeconds = 4
	scriptPath  = "/ipxe?mac=52-54-00-99-00-02&uuid=&platform=efi"
)

// nginx serves a directory as Debian's configuration has it: a worker a core,
// and files by sendfile.
func nginx(root string) contestant {
	return contestant{
		name: "nginx",
		start: func(s *stage, dir string) *process {
			config := fmt.Sprintf(`worker_processes auto; daemon off; pid %[1]s/pid; error_log stderr crit; user root;
				events { worker_connections 768; }
				http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/octet-stream;
				client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
				server { listen %[2]s:8080; root %[3]s; } }`, dir, peersServer, root)
			file := filepath.Join(dir, "nginx.conf")
			if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
				s.t.Fatal(err)
			}
			return s.lab.start(s.server, "nginx", "-p", dir, "-c", file)
		},
		ready: servesKernel,
	}
}

func servesKernel(s *stage) bool {
	_, err := s.in(s.server, "curl", "-sf", "-r", "0-0", "http://"+peersServer+":8080/images/node/kernel")
	return err == nil
}

// bareOf has this program serve a directory, or answer with the bytes of a file, by
// net/http, and do nothing else.
const bareOf = "PILOTLIGHT_PEERS_BARE"

const bareName = "bare net/http"

func init() {
	of := os.Getenv(bareOf)
	if of == "" {
		return
	}
	handler := http.FileServer(http.Dir(of))
	if body, err := os.ReadFile(of); err == nil {
		handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe(peersServer+":8080", handler))
	os.Exit(1)
}

// bare is what net/http costs, with nothing of ours around it.
func bare(of string) contestant {
	return contestant{
		name: bareName,
		start: func(s *stage, _ string) *process {
			self, err := os.Executable()
			if err != nil {
				s.t.Fatal(err)
			}
			return s.lab.start(s.server, "env", bareOf+"="+of, self)
		},
		ready: servesKernel,
	}
}

// bootSite is a network, an image, and so many hosts, of which the clients'
// machine is one.
func bootSite(kernel string, hosts int) string {
	body, _ := os.ReadFile(kernel)
	sha := fmt.Sprintf("%x", sha256.Sum256(body))
	var b strings.Builder
	fmt.Fprintf(&b, `kind: network
name: lan
cidr: 10.99.0.0/16
dhcp: authoritative
---
kind: image
name: node
kernel: {url: %q, sha256: %s}
---
kind: profile
name: web
image: node
---
kind: host
name: client
macs: [%q]
address: %s
profile: web
`, kernel, sha, peersMAC, peersClient)
	for i := range hosts - 1 {
		fmt.Fprintf(&b, "---\nkind: host\nname: h%d\nmacs: [\"52:54:01:%02x:%02x:%02x\"]\nprofile: web\n", i, i>>16, i>>8&255, i&255)
	}
	return b.String()
}

var (
	requestsLine = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	doneLine     = regexp.MustCompile(`(\d+) requests in ([0-9.]+)s, ([0-9.]+)(KB|MB|GB) read`)
	tailLine     = regexp.MustCompile(` 99%\s+([0-9.]+)(us|ms|s)`)
)

// load is what wrk saw.
type load struct {
	answers, gigabytes, seconds float64
	rate                        float64 // answers a second
	p99                         float64 // ms
}

// wrk has so many clients ask for a path again and again.
func (s *stage) wrk(clients int, path string) load {
	s.t.Helper()
	return s.wrkFrom(s.client, clients, path)
}

// wrkFrom is wrk in a namespace, with more arguments.
func (s *stage) wrkFrom(ns string, clients int, path string, more ...string) (l load) {
	s.t.Helper()
	args := append([]string{"-t", "1", "-c", strconv.Itoa(clients), "-d", fmt.Sprint(httpSeconds, "s"), "--timeout", "30s", "--latency"}, more...)
	out := s.mustIn(ns, "wrk", append(args, "http://"+peersServer+":8080"+path)...)
	done, each, tail := doneLine.FindStringSubmatch(out), requestsLine.FindStringSubmatch(out), tailLine.FindStringSubmatch(out)
	if done == nil || each == nil || tail == nil || strings.Contains(out, "Non-2xx") || strings.Contains(out, "Socket errors") {
		s.t.Fatalf("wrk of %s says:\n%s", path, out)
	}
	number := func(text string) float64 { v, _ := strconv.ParseFloat(text, 64); return v }
	return load{
		answers: number(done[1]), seconds: number(done[2]), rate: number(each[1]),
		gigabytes: number(done[3]) * map[string]float64{"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}[done[4]] / 1e9,
		p99:       number(tail[1]) * map[string]float64{"us": .001, "ms": 1, "s": 1000}[tail[2]],
	}
}

// same fetches a path once and has it compared.
func (s *stage) same(path, want string) {
	s.t.Helper()
	got := filepath.Join(s.dir, "got")
	s.mustIn(s.client, "curl", "-sf", "-o", got, "http://"+peersServer+":8080"+path)
	must(s.t, "cmp", got, want)
}

// The same file of an image's size, over connections that stay.
func TestPeersHTTPImage(t *testing.T) {
	s := newStage(t)
	root := filepath.Join(s.dir, "root")
	kernel := filepath.Join(root, "images", "node", "kernel")
	body := make([]byte, imageSize)
	rand.NewChaCha8([32]byte{}).Read(body)
	must(t, "mkdir", "-p", filepath.Dir(kernel))
	if err := os.WriteFile(kernel, body, 0o644); err != nil {
		t.Fatal(err)
	}
	servers := []contestant{pilotlight(bootSite(kernel, 1)), nginx(root), bare(root)}
	for _, clients := range []int{1, 50} {
		speed, cost := results{}, results{}
		for range rounds(t) {
			for _, c := range servers {
				var l load
				used := s.run(c, func() { s.same("/images/node/kernel", kernel) }, func() { l = s.wrk(clients, "/images/node/kernel") })
				speed.add(c.name, l.gigabytes/l.seconds*1e3)
				cost.add(c.name, used.Seconds()/l.gigabytes)
			}
		}
		at := fmt.Sprintf("HTTP image, %d client(s): ", clients)
		s.print(at+"speed", "MB/s", speed, map[string]goal{"nginx": {least: .95}, bareName: {least: .95}})
		s.print(at+"CPU", "s/GB", cost, map[string]goal{"nginx": {most: 1.1}})
	}
}

// A script made for the machine that asks, of so many hosts, and a file of that
// length from nginx, which has nothing to decide.
func TestPeersHTTPScript(t *testing.T) {
	s := newStage(t)
	root := filepath.Join(s.dir, "root")
	must(t, "mkdir", "-p", filepath.Join(root, "images", "node"))
	small := filepath.Join(root, "images", "node", "kernel")
	if err := os.WriteFile(small, []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(root, "ipxe")
	servers := []contestant{pilotlight(bootSite(small, 1)), nginx(root), pilotlight(bootSite(small, 10_000))}
	servers[2].name = "10000 hosts"
	rate, tail, cost := results{}, results{}, results{}
	for range rounds(t) {
		for _, c := range servers {
			var l load
			used := s.run(c, func() {
				if c.name == "pilotlight" {
					s.mustIn(s.client, "curl", "-sf", "-o", script, "http://"+peersServer+":8080"+scriptPath)
				}
				s.same(scriptPath, script)
			}, func() { l = s.wrk(64, scriptPath) })
			rate.add(c.name, l.rate)
			tail.add(c.name, l.p99)
			cost.add(c.name, float64(used.Microseconds())/l.answers)
		}
	}
	s.print("HTTP script, 64 clients: rate", "1/s", rate, map[string]goal{"10000 hosts": {most: 1.05}})
	s.print("HTTP script, 64 clients: p99", "ms", tail, nil)
	s.print("HTTP script, 64 clients: CPU", "us each", cost, nil)
}
