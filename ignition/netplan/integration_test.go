//go:build integration

package netplan

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// differs are the lines in which we are not netplan, and why.
var differs = []struct{ file, section, line string }{
	{"*", "DHCP", "*"},                      // metrics of DHCP's routes: the system's own do
	{"*", "ethernet", "wake-on-lan=0"},      // is left as it is
	{"*.link", "Link", "WakeOnLan=off"},     // is left as it is
	{"*.link", "Link", "MTUBytes=*"},        // is in the .network
	{"v20.network", "Link", "MACAddress=*"}, // is in the .netdev
	{"eno2.network", "Match", "Name=*"},     // its address does: see match
	{"eno2.*", "connection", "interface-name=*"},
	{"eno2.*", "ethernet", "mac-address=*"},
	{"*", "connection", "id=*"},
	{"*", "connection", "uuid=*"},
	{"*", "vlan", "parent=*"}, // by its name or its uuid
	{"*", "vlan", "flags=1"},  // which NetworkManager makes the default
	{"*", "ipv6", "ip6-privacy=0"},
	{"*", "ipv6", "method=*"},    // ignore, where nothing is said: we say link-local, or disabled
	{"eno*", "ipv4", "method=*"}, // parts of something else have no addresses at all
	{"v22.*", "ipv4", "method=*"},
	{"six.*", "ipv4", "dns-search=*"}, // and in ipv6, where we say it once
	{"six.*", "ipv6", "dns-search=*"},
}

// lines reads INI files as FILE [SECTION] LINE, sorted, without what differs.
func lines(files map[string]string) []string {
	var out []string
	for name, contents := range files {
		section := ""
		for _, l := range strings.Split(contents, "\n") {
			l = strings.TrimSpace(l)
			switch {
			case l == "" || strings.HasPrefix(l, "#"):
				continue
			case strings.HasPrefix(l, "["):
				section = strings.Trim(l, "[]")
				continue
			}
			key, value, _ := strings.Cut(l, "=")
			switch value {
			case "yes":
				value = "true"
			case "no":
				value = "false"
			}
			l = key + "=" + value
			if !slices.ContainsFunc(differs, func(d struct{ file, section, line string }) bool {
				return like(d.file, name) && d.section == section && like(d.line, l)
			}) {
				out = append(out, fmt.Sprintf("%s [%s] %s", name, section, l))
			}
		}
	}
	slices.Sort(out)
	return out
}

func like(pattern, s string) bool {
	ok, err := filepath.Match(strings.ReplaceAll(pattern, "*", "*"), strings.ReplaceAll(s, "/", "|"))
	return ok && err == nil
}

// Netplan itself makes the same of the same text.
func TestIntegrationNetplan(t *testing.T) {
	source := read(t, "testdata/everything.yaml")
	for _, r := range []Renderer{Networkd, NetworkManager} {
		t.Run(string(r), func(t *testing.T) {
			root := t.TempDir()
			at := filepath.Join(root, "etc/netplan")
			if err := os.MkdirAll(at, 0o755); err != nil {
				t.Fatal(err)
			}
			text := strings.Replace(source, "renderer: networkd", "renderer: "+string(r), 1)
			if err := os.WriteFile(filepath.Join(at, "x.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("netplan", "generate", "--root-dir", root).CombinedOutput(); err != nil {
				t.Fatalf("%v (apt-get install netplan.io)\n%s", err, out)
			}
			theirs, ours := map[string]string{}, map[string]string{}
			for _, dir := range []string{"run/systemd/network", "run/NetworkManager/system-connections"} {
				found, _ := filepath.Glob(filepath.Join(root, dir, "*netplan-*"))
				for _, f := range found {
					_, name, _ := strings.Cut(filepath.Base(f), "netplan-")
					if r == NetworkManager && strings.HasSuffix(name, ".link") && !strings.HasPrefix(name, "eno2") {
						continue // of an MTU, which ours has in the connection
					}
					theirs[name] = read(t, f)
				}
			}
			for _, f := range parse(t, text).Files(r) {
				_, name, _ := strings.Cut(filepath.Base(f.Path), "pilotlight-")
				ours[name] = f.Contents
			}
			delete(theirs, "mgmt.link") // of an MTU, which ours has in the .network
			if got, want := slices.Sorted(maps.Keys(ours)), slices.Sorted(maps.Keys(theirs)); !slices.Equal(got, want) {
				t.Errorf("files %v, netplan's are %v", got, want)
			}
			got, want := lines(ours), lines(theirs)
			for _, l := range got {
				if !slices.Contains(want, l) {
					t.Errorf("not netplan's: %s", l)
				}
			}
			for _, l := range want {
				if !slices.Contains(got, l) {
					t.Errorf("missing: %s", l)
				}
			}
			if len(got) < 50 {
				t.Errorf("only %d lines were compared", len(got))
			}
		})
	}
}

// real is a network that comes up between two ends of cables. The kernels on which
// tests run may have no bonds and no VLANs; those are compared with netplan's.
const real = `
network:
  version: 2
  ethernets:
    plain0:
      addresses: [10.77.0.5/24, "fd77::5/64"]
      mtu: 1400
      routes:
        - {to: default, via: 10.77.0.1}
        - {to: 10.78.0.0/16, via: 10.77.0.9, metric: 50}
    port0: {}
    port1: {}
  bridges:
    br0:
      interfaces: [port0, port1]
      parameters: {stp: false}
      addresses: [10.81.0.5/24]
`

// up asks the kernel whether all of it is there. It is a shell script because it is
// run in the namespace.
const up = `
set -e
ip -4 -o addr show dev plain0 | grep -q '10.77.0.5/24'
ip -6 -o addr show dev plain0 | grep -q 'fd77::5/64'
ip link show dev plain0 | grep -q 'mtu 1400'
ip route show default | grep -q 'via 10.77.0.1 dev plain0'
ip route show 10.78.0.0/16 | grep -q 'via 10.77.0.9 dev plain0.*metric 50'
ip link show dev port0 | grep -q 'master br0'
ip link show dev port1 | grep -q 'master br0'
ip -d link show dev br0 | grep -q 'stp_state 0'
ip -4 -o addr show dev br0 | grep -q '10.81.0.5/24'
`

// daemons start what reads the files, in namespaces of its own where nothing of this
// machine is seen or changed.
var daemons = map[Renderer]string{
	// Without udev systemd-networkd takes all cards at once when /sys is read only, as
	// in a container.
	Networkd: `
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp /run/dbus
chown -R systemd-network /run/systemd/netif
mount -t tmpfs tmpfs /etc/systemd/network
cp "$FILES"/etc/systemd/network/* /etc/systemd/network/
exec /lib/systemd/systemd-networkd
`,
	NetworkManager: `
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/udev
mount -t tmpfs tmpfs /etc/NetworkManager
mount -t tmpfs tmpfs /var/lib/NetworkManager
mkdir -p /etc/NetworkManager/system-connections /etc/NetworkManager/conf.d
cp "$FILES"/etc/NetworkManager/system-connections/* /etc/NetworkManager/system-connections/
chmod 0600 /etc/NetworkManager/system-connections/*
printf '[main]\nplugins=keyfile\ndns=none\nrc-manager=unmanaged\n[device]\nmatch-device=*\nmanaged=1\n' > /etc/NetworkManager/NetworkManager.conf
dbus-daemon --system --nofork --nopidfile &
while [ ! -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
exec NetworkManager --debug --log-level=INFO
`,
}

// systemd-networkd and NetworkManager bring up what the files say.
func TestIntegrationRenderers(t *testing.T) {
	for _, r := range []Renderer{Networkd, NetworkManager} {
		t.Run(string(r), func(t *testing.T) { bringUp(t, r) })
	}
}

func bringUp(t *testing.T, r Renderer) {
	files := t.TempDir()
	for _, f := range parse(t, real).Files(r) {
		at := filepath.Join(files, f.Path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(f.Contents), os.FileMode(f.Mode)); err != nil {
			t.Fatal(err)
		}
	}
	// The other ends are up, so that ours have a carrier. The check is run until it
	// holds or the daemon is gone; the test's own time limit is the end of it.
	script := `
set -e
for c in plain0 port0 port1; do ip link add $c type veth peer name far-$c; ip link set far-$c up; done
ip link set lo up
` + "(" + daemons[r] + `) > "$FILES/log" 2>&1 &
pid=$!
n=0
until sh "$FILES/up"; do
  n=$((n+1))
  if [ $n -gt 150 ] || ! kill -0 $pid 2>/dev/null; then echo FAILED; sh -x "$FILES/up" 2>&1 | tail -3; ip addr; ip route; break; fi
  sleep 0.2
done
kill $pid 2>/dev/null || true
echo DONE
`
	if err := os.WriteFile(filepath.Join(files, "up"), []byte(up), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "FILES="+files)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // and with it all in its namespace
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "FAILED") || !strings.Contains(string(out), "DONE") {
		t.Errorf("%v\n%s\n--- log of %s:\n%s", err, out, r, tail(filepath.Join(files, "log"), 60))
	}
}

func tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	var all []string
	for s := bufio.NewScanner(f); s.Scan(); {
		all = append(all, s.Text())
	}
	return strings.Join(all[max(0, len(all)-n):], "\n")
}
