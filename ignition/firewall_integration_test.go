//go:build integration

package ignition

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/cluster"
)

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// in runs f in a network namespace.
func in[T any](t *testing.T, namespace string, f func() (T, error)) (T, error) {
	t.Helper()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		h, err := os.Open("/run/netns/" + namespace)
		if err == nil {
			err = unix.Setns(int(h.Fd()), unix.CLONE_NEWNET)
			h.Close()
		}
		if err != nil {
			done <- result{err: err}
			return
		}
		v, err := f()
		done <- result{v, err}
	}()
	r := <-done
	return r.value, r.err
}

// listen answers with who it is.
func listen(t *testing.T, namespace, address string) {
	t.Helper()
	l, err := in(t, namespace, func() (net.Listener, error) { return net.Listen("tcp", address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", namespace, address)
			c.Close()
		}
	}()
}

// firewallLab is a host between two networks, one of them by a bridge that is called as
// Docker's are, with a bridge of containers behind it and, in nat, the rules with which Docker publishes two ports of one of them.
const firewallLab = `
for n in office world host box; do ip netns add plfw-$n; ip -n plfw-$n link set lo up; done
ip link add w0 netns plfw-office type veth peer name off0 netns plfw-host
ip link add w0 netns plfw-world type veth peer name port0 netns plfw-host
ip -n plfw-host link add br-wor0 type bridge
ip -n plfw-host link set port0 master br-wor0
ip -n plfw-host link set port0 up
ip link add w0 netns plfw-box type veth peer name box0 netns plfw-host
ip -n plfw-host link add docker0 type bridge
ip -n plfw-host link set box0 master docker0
ip -n plfw-host addr add 10.90.0.1/24 dev off0
ip -n plfw-host addr add 10.91.0.1/24 dev br-wor0
ip -n plfw-host addr add 172.30.0.1/16 dev docker0
for i in off0 br-wor0 box0 docker0; do ip -n plfw-host link set $i up; done
ip -n plfw-office addr add 10.90.0.2/24 dev w0
ip -n plfw-world addr add 10.91.0.2/24 dev w0
ip -n plfw-box addr add 172.30.0.2/16 dev w0
for n in office world box; do ip -n plfw-$n link set w0 up; done
ip -n plfw-office route add default via 10.90.0.1
ip -n plfw-world route add default via 10.91.0.1
ip -n plfw-box route add default via 172.30.0.1
ip netns exec plfw-host sysctl -qw net.ipv4.ip_forward=1
ip netns exec plfw-host nft -f - <<'EOF'
table ip nat {
	chain PREROUTING {
		type nat hook prerouting priority dstnat;
		fib daddr type local iifname != "docker0" tcp dport 8080 dnat to 172.30.0.2:80
		fib daddr type local iifname != "docker0" tcp dport 8081 dnat to 172.30.0.2:80
	}
	chain POSTROUTING {
		type nat hook postrouting priority srcnat;
		ip saddr 172.30.0.0/16 oifname != "docker0" masquerade
	}
}
EOF
`

// The firewall lets in who is to come in, to the host and to its containers, and
// nobody else; containers go out, and Docker's rules stay.
func TestIntegrationFirewall(t *testing.T) {
	const remove = `for n in office world host box; do ip netns del plfw-$n 2>/dev/null || :; done`
	sh(t, remove)
	t.Cleanup(func() { sh(t, remove) })
	sh(t, firewallLab)
	f := &cluster.Firewall{Allow: []cluster.FirewallRule{
		{Ports: []cluster.PortRange{{First: 22, Last: 22}}, From: []cluster.Source{{Prefix: netip.MustParsePrefix("10.90.0.0/24")}}},
		{Ports: []cluster.PortRange{{First: 8080, Last: 8080}}},
		{Ports: []cluster.PortRange{{First: 53, Last: 60}, {First: 55, Last: 70}}, Protocol: cluster.UDP, From: sources4("10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "10.1.0.0/16")},
	}}
	file := filepath.Join(t.TempDir(), "firewall.nft")
	if err := os.WriteFile(file, []byte(nftables("web", f, []string{"br-wor0", "off0"})), 0o644); err != nil {
		t.Fatal(err)
	}
	listen(t, "plfw-host", ":22")
	listen(t, "plfw-host", ":9000")
	listen(t, "plfw-box", ":80")
	listen(t, "plfw-office", ":5000")
	reach := func(from, to string) string {
		answer, err := in(t, from, func() (string, error) {
			c, err := net.DialTimeout("tcp", to, 700*time.Millisecond)
			if err != nil {
				return "", err
			}
			defer c.Close()
			b := make([]byte, 100)
			n, _ := c.Read(b)
			return string(b[:n]), nil
		})
		if err != nil {
			return ""
		}
		return answer
	}
	rows := []struct {
		what, from, to string
		want           string // once the firewall is up
	}{
		{"the office to the host's SSH", "plfw-office", "10.90.0.1:22", "plfw-host :22"},
		{"the world to the host's SSH", "plfw-world", "10.91.0.1:22", ""},
		{"the office to what nobody may reach", "plfw-office", "10.90.0.1:9000", ""},
		{"the world to a published port", "plfw-world", "10.91.0.1:8080", "plfw-box :80"},
		{"the office to a published port", "plfw-office", "10.90.0.1:8080", "plfw-box :80"},
		{"the world to a published port that nobody may reach", "plfw-world", "10.91.0.1:8081", ""},
		{"the world to a container past the host", "plfw-world", "172.30.0.2:80", ""},
		{"a container to the outside", "plfw-box", "10.90.0.2:5000", "plfw-office :5000"},
		{"the host to the outside", "plfw-host", "10.90.0.2:5000", "plfw-office :5000"},
		{"a container to the host", "plfw-box", "172.30.0.1:9000", ""},
		{"the host to itself", "plfw-host", "127.0.0.1:9000", "plfw-host :9000"},
	}
	for _, r := range rows { // all of it works without the firewall, so that what does not is its doing
		if got := reach(r.from, r.to); got == "" {
			t.Errorf("without a firewall: %s: nothing at %s", r.what, r.to)
		}
	}
	for range 2 { // the second time as by systemctl reload
		sh(t, "ip netns exec plfw-host nft -f "+file)
	}
	for _, r := range rows {
		if got := reach(r.from, r.to); got != r.want {
			t.Errorf("%s: got %q, want %q", r.what, got, r.want)
		}
	}
	if out := sh(t, "ip netns exec plfw-office ping -c 1 -W 2 10.90.0.1"); !strings.Contains(out, " 0% packet loss") {
		t.Errorf("no ping:\n%s", out)
	}
	if got := sh(t, "ip netns exec plfw-host nft list tables"); !strings.Contains(got, "table ip nat") || strings.Count(got, "inet pilotlight") != 1 {
		t.Errorf("tables:\n%s", got)
	}
}
