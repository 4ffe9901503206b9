//go:build integration

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// metadataManifest has a host of each language, on a network with metadata.
func metadataManifest(mode string) string {
	host := func(name, mac, profile string) string {
		return "---\nkind: host\nname: " + name + "\nmacs: [\"" + mac + "\"]\nprofile: " + profile + "\n"
	}
	return `kind: network
name: lab
cidr: 10.98.0.0/24
interface: br0
dhcp: authoritative
gateway: 10.98.0.254
pools: [10.98.0.100-10.98.0.200]
metadata: ` + mode + `
---
kind: profile
name: vm
boot: local
config:
  cloud_config: |
    #cloud-config
    write_files:
      - path: /etc/says
        content: "{{ .Host.Name }}"
ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH9yh3SSlkEHFhzpFmuC2rUnkoo6a9cVgXTDmqmpSm1s me@home"]
---
kind: profile
name: ign
boot: local
config:
  butane: |
    variant: fcos
    version: 1.4.0
---
kind: profile
name: only
boot: local
common: {files: [{path: /etc/said-once, contents: "by {{ .Host.Name }}\n"}]}
` + host("v1", mac1, "vm") + host("v2", mac2, "ign") + host("v4", mac4, "only")
}

const mac4 = "52:54:00:98:00:04"

const (
	wellKnown = "http://169.254.169.254"
	lifeOf    = "X-aws-ec2-metadata-token-ttl-seconds: "
	sessionOf = "X-aws-ec2-metadata-token: "
)

// route has a machine take its address, and its routes, as the client that Debian's
// cloud images have does.
func (l *lab) route(ns string) string {
	l.t.Helper()
	config := filepath.Join(l.dir, "dhclient.conf")
	text := "option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;\nrequest subnet-mask, routers, rfc3442-classless-static-routes;\n"
	script := filepath.Join(l.dir, "dhclient-script")
	// The hook of Debian's package, with the octets that count of a destination.
	run := `#!/bin/bash
[ "$reason" = BOUND ] || exit 0
ip addr add $new_ip_address/24 dev $interface
set -- $new_rfc3442_classless_static_routes
while [ $# -gt 0 ]; do
  case $1 in
    0) ip route add default via $2.$3.$4.$5; shift 5 ;;
    32) ip route add $2.$3.$4.$5/32 via $6.$7.$8.$9; shift 9 ;;
    *) exit 1 ;;
  esac
done
`
	for path, text := range map[string]string{config: text, script: run} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			l.t.Fatal(err)
		}
	}
	l.mustIn(ns, "dhclient", "-4", "-1", "-cf", config, "-sf", script, "-lf", filepath.Join(l.dir, ns+".leases"), "-pf", filepath.Join(l.dir, ns+".pid"), "eth0")
	l.t.Cleanup(func() { _, _ = l.in(ns, "dhclient", "-4", "-x", "-pf", filepath.Join(l.dir, ns+".pid"), "eth0") })
	return strings.Fields(l.mustIn(ns, "ip", "-4", "-o", "addr", "show", "dev", "eth0"))[3]
}

// ask returns the status and the body of an answer.
func (l *lab) ask(ns, path string, args ...string) (code, body string) {
	l.t.Helper()
	out, _ := l.in(ns, "curl", append([]string{"-s", "-m", "5", "-w", "\n%{http_code}", wellKnown + path}, args...)...)
	i := strings.LastIndexByte(out, '\n')
	return out[i+1:], out[:max(i, 0)]
}

// TestIntegrationMetadata asks the metadata service as its clients do.
func TestIntegrationMetadata(t *testing.T) {
	l := newLab(t)
	l.write("all.yaml", metadataManifest("optional"))
	server := l.serve()
	v1, v2, other, v4 := l.machine(mac1), l.machine(mac2), l.machine(mac3), l.machine(mac4)
	for _, ns := range []string{v1, v2, other, v4} {
		l.route(ns)
	}
	if routes := l.mustIn(v1, "ip", "route"); !strings.Contains(routes, "169.254.169.254 via 10.98.0.1 ") || !strings.Contains(routes, "default via 10.98.0.254 ") {
		t.Errorf("the machine's routes are\n%s", routes)
	}

	t.Run("each gets its own", func(t *testing.T) {
		for ns, want := range map[string]string{v1: "v1", v2: "v2"} {
			if code, body := l.ask(ns, "/latest/meta-data/local-hostname"); code != "200" || body != want {
				t.Errorf("%s is told %s %q", want, code, body)
			}
		}
		if code, body := l.ask(v1, "/latest/user-data"); code != "200" || !strings.HasPrefix(body, "#cloud-config\n") || !strings.Contains(body, "https://"+serverAddr+":8443") || strings.Contains(body, "169.254") {
			t.Errorf("v1's user-data: %s\n%s", code, body)
		}
		if code, body := l.ask(v2, "/latest/user-data", "-H", "Accept: application/vnd.coreos.ignition+json;version=3.3.0"); code != "200" || !strings.HasPrefix(body, "{") {
			t.Errorf("v2's user-data: %s\n%s", code, body)
		}
		if code, body := l.ask(v4, "/latest/user-data"); code != "200" || !strings.HasPrefix(body, "#cloud-config\n") || !strings.Contains(body, "/etc/said-once") {
			t.Errorf("what v4's profile says for every language, for cloud-init: %s\n%s", code, body)
		}
		if code, body := l.ask(v4, "/latest/user-data", "-H", "Accept: application/vnd.coreos.ignition+json;version=3.3.0, */*;q=0.1"); code != "200" || !strings.HasPrefix(body, "{") || !strings.Contains(body, "/etc/said-once") {
			t.Errorf("and for Ignition: %s\n%s", code, body)
		}
		if code, body := l.ask(other, "/latest/user-data"); code != "503" || !strings.Contains(body, "no document names") {
			t.Errorf("a machine that is no host: %s\n%s", code, body)
		}
	})

	t.Run("cloud-init", func(t *testing.T) { l.metadataCloudInit(v1) })

	t.Run("a session ends at the next hop", func(t *testing.T) { l.sessions(v1) })

	t.Run("a session outlives the server, which takes its address away", func(t *testing.T) {
		_, token := l.ask(v1, "/latest/api/token", "-X", "PUT", "-H", lifeOf+"300")
		server.stop(syscall.SIGTERM)
		if text := server.text(); !strings.Contains(text, "stopped") || strings.Contains(text, token) {
			t.Errorf("the server says\n%s", text)
		}
		if left := l.mustIn(l.server, "ip", "addr", "show", "dev", "lo"); strings.Contains(left, "169.254") {
			t.Errorf("lo has still\n%s", left)
		}
		l.serve()
		l.pilotlight("apply", "-f", l.manifest("required"))
		l.eventually("a session is required", func() bool {
			code, _ := l.ask(v1, "/latest/meta-data/instance-id")
			return code == "401"
		})
		if code, _ := l.ask(v1, "/latest/meta-data/instance-id", "-H", sessionOf+token); code != "200" {
			t.Errorf("with the session of before: %s", code)
		}
		if code, _ := l.ask(v2, "/latest/meta-data/instance-id", "-H", sessionOf+token); code != "401" {
			t.Errorf("another machine with it: %s", code)
		}
	})

	t.Run("Ignition, as on EC2, with a session", func(t *testing.T) { l.ignitionOnAWS(v2) })
}

// ignitionOnAWS has Debian's Ignition fetch a machine's config as it does on EC2.
func (l *lab) ignitionOnAWS(ns string) {
	l.t.Helper()
	dir := l.t.TempDir()
	out := l.mustIn(ns, "/usr/lib/dracut/modules.d/30ignition/ignition", "--stage=fetch", "--platform=aws", "--root="+dir,
		"--config-cache="+filepath.Join(dir, "cache.json"), "--state-file="+filepath.Join(dir, "state"), "--neednet="+filepath.Join(dir, "neednet"), "--log-to-stdout")
	config, err := os.ReadFile(filepath.Join(dir, "cache.json"))
	if err != nil || !strings.Contains(string(config), "https%3A%2F%2F"+serverAddr) && !strings.Contains(string(config), "pilotlight-agent") {
		l.t.Errorf("%v: Ignition has\n%.500s\nand says\n%s", err, config, out)
	}
}

// manifest writes the manifest beside the site.
func (l *lab) manifest(mode string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, mode+".yaml")
	if err := os.WriteFile(path, []byte(metadataManifest(mode)), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// metadataCloudInit runs Debian's cloud-init in a machine's network, with directories of its
// own over those that it writes to.
func (l *lab) metadataCloudInit(ns string) {
	l.t.Helper()
	script := filepath.Join(l.dir, "cloud-init.sh")
	text := `set -e
mount --make-rprivate /
lower=` + l.dir + `/ci
mkdir -p $lower
mount -t tmpfs tmpfs $lower
for d in /etc /var /root; do
  n=$lower/$(basename $d); mkdir -p $n/up $n/work
  mount -t overlay overlay -o lowerdir=$d,upperdir=$n/up,workdir=$n/work $d
done
mount -t tmpfs tmpfs /run
rm -rf /var/lib/cloud
cat > /etc/cloud/cloud.cfg.d/99-test.cfg <<'EOF'
datasource_list: [Ec2]
datasource:
  Ec2:
    metadata_urls: ["http://169.254.169.254"]
    strict_id: false
    max_wait: 20
    timeout: 5
network: {config: disabled}
cloud_init_modules: [write-files, set-hostname]
cloud_config_modules: []
cloud_final_modules: []
EOF
cloud-init init --local >/tmp/ci.out 2>&1 || { cat /tmp/ci.out; exit 1; }
cloud-init init >/tmp/ci.out 2>&1 || { cat /tmp/ci.out /var/log/cloud-init.log; exit 1; }
echo "says $(cat /etc/says)"
cloud-init query --format 'query {{ds.meta_data.local_hostname}} {{ds.meta_data.public_keys}} {{v1.instance_id}} {{v1.availability_zone}} {{ds._metadata_api_version}}'
grep -E 'WARN|Traceback' /var/log/cloud-init.log | grep -v -i 'hostname' || true
`
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	out := l.mustIn(ns, "unshare", "--mount", "--uts", "bash", script)
	for _, want := range []string{"says v1\n", "query v1 {'me@home': 'ssh-ed25519 AAAA", " v1-", " lab 2021-03-23"} {
		if !strings.Contains(out, want) {
			l.t.Errorf("there is no %q in what cloud-init did:\n%s", want, out)
		}
	}
	if strings.Contains(out, "WARN") || strings.Contains(out, "Traceback") {
		l.t.Errorf("cloud-init warns:\n%s", out)
	}
}

// sessions asks for one as a host, and as a container on it: its host forwards, and
// asks in its own name.
func (l *lab) sessions(ns string) {
	l.t.Helper()
	container := ns + "c"
	l.namespace(container)
	l.mustIn(ns, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	must(l.t, "ip", "-n", ns, "link", "add", "c0", "type", "veth", "peer", "name", "eth0", "netns", container)
	for _, c := range [][]string{
		{"-n", ns, "addr", "add", "172.30.0.1/24", "dev", "c0"}, {"-n", ns, "link", "set", "c0", "up"},
		{"-n", container, "addr", "add", "172.30.0.2/24", "dev", "eth0"}, {"-n", container, "link", "set", "eth0", "up"},
		{"-n", container, "route", "add", "default", "via", "172.30.0.1"},
	} {
		must(l.t, "ip", c...)
	}
	l.mustIn(ns, "iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "172.30.0.0/24", "-j", "MASQUERADE")
	for _, at := range []string{"/latest/api/token", "/2021-03-23/api/token"} {
		if code, token := l.ask(ns, at, "-X", "PUT", "-H", lifeOf+"60"); code != "200" || len(token) < 40 {
			l.t.Errorf("the host is answered %s %q", code, token)
		}
		if code, token := l.ask(container, at, "-X", "PUT", "-H", lifeOf+"60"); code != "000" || token != "" {
			l.t.Errorf("its container is answered %s %q", code, token)
		}
	}
	// It is the answer that does not arrive: the way is there.
	if code, body := l.ask(container, "/latest/meta-data/local-hostname"); code != "200" || body != "v1" {
		l.t.Errorf("without a session its container is answered %s %q", code, body)
	}
	if out, _ := l.in(container, "curl", "-s", "-m", "3", "-X", "PUT", "-H", lifeOf+"60", "http://"+serverAddr+":8080/latest/api/token"); out != "" {
		l.t.Errorf("at the HTTP port its container is answered %q", out)
	}
}
