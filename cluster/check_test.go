package cluster

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what comes out into testdata, to be read in the diff")

const (
	goodKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrAsxGZkRzb2MPWyvLmdzBuRcQ6Nh0yTT+DBZ4sZnZf someone@example.org"
	zeros     = "0000000000000000000000000000000000000000000000000000000000000000"
	goodImage = "registry.example.org:5000/site/web@sha256:" + zeros
)

func addrs(a ...string) (out []netip.Addr) {
	for _, s := range a {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func ranges(t *testing.T, all ...string) (out []Range) {
	t.Helper()
	for _, s := range all {
		r, err := ParseRange(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// good is a set without a mistake.
func good(t *testing.T) []Document {
	return []Document{
		&Network{Meta: named("lan"), CIDR: netip.MustParsePrefix("10.0.0.0/24"), DHCP: DHCPAuthoritative, Pools: ranges(t, "10.0.0.100-10.0.0.200", "10.0.0.210"), Gateway: addrs("10.0.0.1")[0], Server: addrs("10.0.0.2")[0]},
		&Network{Meta: named("tiny"), CIDR: netip.MustParsePrefix("10.9.0.0/31")},
		&Image{Meta: named("node"), Kernel: File{URL: "file:///k"}, Initrd: []File{{URL: "https://example.org/i", SHA256: zeros}}, Rootfs: &File{URL: "file:///r"}},
		&Image{Meta: named("flatcar"), Stream: "flatcar/stable", Release: "4593.2.5", Mirror: "http://mirror.example.org/flatcar", Kernel: File{URL: "file:///k"}, Disk: &File{URL: "file:///d"}, DiskSignature: &File{URL: "file:///s"}},
		&Profile{Meta: named("p"), Image: "node", SSHKeys: []string{goodKey}, Introduce: []Introduce{IntroduceToken}},
		&Profile{Meta: named("local"), Boot: BootLocal},
		&Profile{Meta: named("disk"), Image: "node", Boot: BootInstall, Install: &Installation{Device: "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"}},
		&Group{Meta: named("all"), Profile: "p"},
		&Group{Meta: named("rack"), Profile: "p", Match: Match{Labels: map[string]string{"r": "1"}, Network: "lan"}},
		&Host{Meta: named("h1"), MACs: []MAC{mac(1)}, Address: addrs("10.0.0.11")[0]},
		&Host{Meta: Meta{Name: "h2", Labels: map[string]string{"r": "1"}}, UUID: "4c4c4544-0042-3510-8051-b4c04f4d3132"},
		&Host{Meta: named("h3"), Serial: "s", Address: addrs("10.9.0.0")[0], Profile: "local"},
		&Policy{Meta: named("ours"), Registries: []string{"registry.example.org:5000/site/"}},
		&Policy{Meta: named("one"), Digests: []string{"sha256:" + strings.Repeat("1", 64)}},
		&Secret{Meta: named("tls"), Sites: []SiteName{"www"}},
		&Site{Meta: named("www"), Services: []Service{
			{Name: "db", Image: "elsewhere.org/db@sha256:" + strings.Repeat("1", 64)},
			{Name: "web", Image: goodImage, Ports: []Port{{Host: 80, Container: 80, Protocol: "tcp"}, {Host: 80, Container: 80, Protocol: "udp"}, {Container: 1}, {Container: 1}}, Secrets: []SecretMount{{Name: "tls", Target: "tls"}}, DependsOn: []ServiceName{"db"}, Restart: "on-failure:3", CapAdd: []string{"NET_BIND_SERVICE"}, MemoryLimit: 64 << 20},
		}, Placement: Placement{Hosts: []HostName{"h1"}}},
		&Site{Meta: named("other"), Services: []Service{{Name: "web", Image: goodImage, Ports: []Port{{Host: 80, Container: 80}}}}, Placement: Placement{Hosts: []HostName{"h2"}}},
	}
}

func TestCheckFindsNothing(t *testing.T) {
	for _, p := range Check(good(t)) {
		t.Error(p)
	}
	if got := Check(nil); len(got) != 0 {
		t.Error(got)
	}
}

// bad is a set with every mistake that Check knows.
func bad(t *testing.T) []Document {
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	const uuid = "4c4c4544-0042-3510-8051-b4c04f4d3133"
	docs := append(good(t),
		&Network{Meta: named("none")},
		&Network{Meta: named("over"), CIDR: netip.MustParsePrefix("10.0.0.128/25"), DHCP: "yes", Metadata: "v2", Lease: Duration(1e9)},
		&Network{Meta: named("bits"), CIDR: netip.MustParsePrefix("10.2.0.1/24"), DHCP: DHCPProxy, Gateway: a("10.0.0.1"), Server: a("10.0.0.2"), Pools: ranges(t, "10.2.0.10-10.2.0.20", "10.2.0.15-10.2.1.5", "10.5.0.1-10.5.0.9")},
		&Network{Meta: named("six"), CIDR: netip.MustParsePrefix("fd00::/64"), DHCP: DHCPProxy, Metadata: MetadataOptional},
		&Network{
			Meta: named("six-dns"), CIDR: netip.MustParsePrefix("fd01::/64"), DHCP: DHCPAuthoritative, Server: netip.MustParseAddr("fe80::1"),
			Pools: []Range{{netip.MustParseAddr("fd02::1"), netip.MustParseAddr("fd02::2")}},
			DNS:   []netip.Addr{netip.MustParseAddr("fd01::53"), netip.MustParseAddr("10.0.0.53")}, NTP: []netip.Addr{netip.MustParseAddr("10.0.0.123")},
		},
		&Network{Meta: named("six-link"), CIDR: netip.MustParsePrefix("fe80::/64"), DHCP: DHCPAuthoritative},
		&Image{Meta: named("empty"), Arch: "arm", Initrd: []File{{URL: "http://x"}, {URL: "file:///x", SHA256: "X"}}, Rootfs: &File{}},
		&Profile{Meta: named("bad"), Boot: "disk", Introduce: []Introduce{"tpm2"}, Config: Config{Butane: "a\n", Ignition: "b\n"}, SSHKeys: []string{goodKey, "ssh-dss AAAA", "ssh-ed25519 BBBB me", "ssh-rsa " + strings.Fields(goodKey)[1], "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA cut@short", "-----BEGIN OPENSSH PRIVATE KEY-----"}},
		&Image{Meta: named("unpinned"), Stream: "fedora-coreos/stable"},
		&Image{Meta: named("odd"), Stream: "debian/stable", Release: "../x", Mirror: "mirror.example.org", Kernel: File{URL: "file:///k"}, Disk: &File{URL: "http://x/d"}},
		&Profile{Meta: named("unread"), Image: "unpinned", Boot: BootInstall, Install: &Installation{Device: "/dev/sda", Config: Config{CloudConfig: "a\n"}}, Config: Config{CloudConfig: "a\n"}},
		&Profile{Meta: named("partly"), Image: "flatcar", Config: Config{CloudParts: []string{"#!/bin/sh\n", ""}}},
		&Image{Meta: named("released"), Release: "1", Mirror: "http://x", Kernel: File{URL: "file:///k"}},
		&Profile{Meta: named("typo"), Image: "nodes"},
		&Group{Meta: named("admitting"), Profile: "p", Match: Match{MAC: "02:0a", Labels: map[string]string{"a": "b"}}, Admit: 5},
		&Group{Meta: named("admitsless"), Profile: "p", Match: Match{MAC: "02:0b"}, Admit: -1},
		&Policy{Meta: named("paths"), Paths: []string{"/var/log/app", "/etc/app"}},
		&Profile{Meta: named("nodisk"), Image: "node", Boot: BootInstall},
		&Profile{Meta: named("notinstalled"), Image: "node", Install: &Installation{Device: "sda", Config: Config{Butane: "a\n", CloudConfig: "b\n"}}},
		&Profile{Meta: named("oddisk"), Image: "node", Boot: BootInstall, Install: &Installation{Device: "sda", Config: Config{Butane: "a\n", CloudConfig: "b\n"}}},
		&Profile{Meta: named("far"), Image: "something-else"},
		&Group{Meta: named("none"), Variables: map[string]any{"a": "b"}},
		&Group{Meta: named("wrong"), Profile: "pp", Match: Match{MAC: "52:5", Network: "wan", Arch: "mips"}, SSHKeys: []string{"x"}},
		&Group{Meta: named("rack-again"), Profile: "p", Match: Match{Labels: map[string]string{"r": "1"}, Network: "lan"}},
		&Host{Meta: named("nobody")},
		&Host{Meta: Meta{Name: "tie", Labels: map[string]string{"r": "1"}}, MACs: []MAC{mac(1), {}, {1}}, Address: a("10.0.0.12")},
		&Host{Meta: named("twin1"), UUID: uuid, Serial: "t", Address: a("10.0.0.13"), Arch: "arm"},
		&Host{Meta: named("twin2"), UUID: uuid, Serial: "t", Address: a("10.0.0.13"), SSHKeys: []string{"x"}},
		&Host{Meta: named("gateway"), MACs: []MAC{mac(10)}, Address: a("10.0.0.1")},
		&Host{Meta: named("server"), MACs: []MAC{mac(11)}, Address: a("10.0.0.2")},
		&Host{Meta: named("broadcast"), MACs: []MAC{mac(12)}, Address: a("10.0.0.255")},
		&Host{Meta: named("nowhere"), MACs: []MAC{mac(13)}, Address: a("192.0.2.1")},
		&Host{Meta: named("unprofiled"), MACs: []MAC{mac(14)}, Profile: "locale"},
		&Policy{Meta: named("empty")},
		&Policy{Meta: named("wrong"), Registries: []string{"https://x"}, Digests: []string{"sha512:0"}},
		&Secret{Meta: named("nobodys")},
		&Secret{Meta: named("stray"), Sites: []SiteName{"wwww"}},
		&Site{Meta: named("empty"), Placement: Placement{Replicas: -1, Hosts: []HostName{"h11"}}},
		&Site{Meta: named("wrong"), Services: []Service{
			{Name: "a", DependsOn: []ServiceName{"b"}},
			{Name: "b", Image: "nginx", DependsOn: []ServiceName{"c"}, Restart: "sometimes"},
			{Name: "c", Image: "nginx@sha256:" + zeros, DependsOn: []ServiceName{"a", "z"}},
			{Name: "d e", Image: "quay.io/x@sha256:" + zeros, Ports: []Port{{Host: 80, Container: 1, Protocol: "tcp"}, {Host: 80, Container: 2}, {Host: 81, HostIP: a("10.0.0.11"), Container: 1}, {Host: 81, HostIP: a("0.0.0.0"), Container: 1}, {Host: 81, HostIP: a("10.0.0.12"), Container: 1}}},
			{Name: "f", Image: goodImage, CapAdd: []string{"ALL", "CAP_ALL", "net admin", "BOGUS", "CAP_NET_ADMN"}, MemoryLimit: 1, CPULimit: -1, PidsLimit: -1},
			{Name: "g", Image: goodImage, MemoryLimit: -1, Volumes: []Volume{{Source: "data", Target: "/d"}, {Source: "/srv/x", Target: "/x"}, {Source: "/", Target: "/host"}, {Source: "/home/x", Target: "/h"}, {Source: "/srv/../run", Target: "/r"}}, Secrets: []SecretMount{{Name: "tls", Target: "x"}, {Name: "none", Target: "x"}, {Name: "tls", Target: ""}, {Name: "tls", Target: "../x"}, {Name: "tls", Target: "a/b"}}},
		}},
		&Host{}, &Host{Meta: named("UPPER"), MACs: []MAC{mac(20)}}, &Host{Meta: named("a..b"), MACs: []MAC{mac(21)}},
		&Host{Meta: named("h1"), MACs: []MAC{mac(22)}}, &Policy{Meta: named("ours"), Digests: []string{"sha256:" + zeros}},
	)
	return docs
}

// lonely is a set of hosts that no group takes everywhere, and of an image that
// no policy allows.
func lonely(t *testing.T) []Document {
	return []Document{
		&Network{Meta: named("lan"), CIDR: netip.MustParsePrefix("10.0.0.0/24")}, &Network{Meta: named("wan"), CIDR: netip.MustParsePrefix("10.1.0.0/24")},
		&Profile{Meta: named("p"), Boot: BootLocal},
		&Group{Meta: named("onlan"), Profile: "p", Match: Match{Network: "lan", Labels: map[string]string{"r": "1"}}},
		&Host{Meta: Meta{Name: "somewhere", Labels: map[string]string{"r": "1"}}, MACs: []MAC{mac(1)}},
		&Host{Meta: Meta{Name: "onwan", Labels: map[string]string{"r": "1"}}, MACs: []MAC{mac(2)}, Address: addrs("10.1.0.2")[0]},
		&Host{Meta: named("alone"), MACs: []MAC{mac(3)}},
		&Policy{Meta: named("other"), Registries: []string{"quay.io"}},
		&Site{Meta: named("www"), Services: []Service{{Name: "web", Image: goodImage}}},
		&Secret{Meta: named("stray"), Sites: []SiteName{"wwww"}},
	}
}

func TestCheckFindsEverything(t *testing.T) {
	var got strings.Builder
	for _, p := range Check(bad(t)) {
		fmt.Fprintln(&got, p)
	}
	whole := got.String()
	for _, p := range Check(lonely(t)) {
		fmt.Fprintln(&got, p)
	}
	const path = "testdata/check.golden"
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	for _, form := range messages(t) {
		if !form.MatchString(got.String()) {
			t.Errorf("no mistake of the set gives %q", form)
		}
	}
	// In whatever order the documents come, the answer is one. Of two of one name
	// the last is looked at: those stay where they are.
	for range 5 {
		docs := bad(t)
		first := docs[:len(docs)-5]
		rand.Shuffle(len(first), func(i, j int) { first[i], first[j] = first[j], first[i] })
		var again strings.Builder
		for _, p := range Check(docs) {
			fmt.Fprintln(&again, p)
		}
		if again.String() != whole {
			t.Fatalf("in another order:\n%s\nnot\n%s", again.String(), whole)
		}
	}
}

// messages returns the form of every message in the source of Check.
func messages(t *testing.T) (out []*regexp.Regexp) {
	t.Helper()
	verb := regexp.MustCompile(`%[a-z]`)
	for _, file := range []string{"check.go", "checksites.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			if name, ok := call.Fun.(*ast.SelectorExpr); !ok || name.Sel.Name != "add" {
				return true
			}
			if text, ok := call.Args[1].(*ast.BasicLit); ok {
				s, err := strconv.Unquote(text.Value)
				if err != nil {
					t.Fatal(err)
				}
				parts := verb.Split(s, -1)
				for i := range parts {
					parts[i] = regexp.QuoteMeta(parts[i])
				}
				out = append(out, regexp.MustCompile(": "+strings.Join(parts, ".*")))
			}
			return true
		})
	}
	if len(out) < 40 {
		t.Fatalf("found %d messages in the source", len(out))
	}
	return out
}

// TestCheckIsFast has many hosts name what is not there.
func TestCheckIsFast(t *testing.T) {
	docs := fleet(5_000)
	for _, d := range docs {
		if h, ok := d.(*Host); ok {
			h.Profile = "q"
		}
	}
	if got := Check(docs); len(got) < 5_000 || !strings.Contains(got[0].Message, `did you mean "p"?`) {
		t.Errorf("%d problems", len(got))
	}
}

func TestPolicyAllows(t *testing.T) {
	p := &Policy{Registries: []string{"a.org", "b.org:5000/x/"}, Digests: []string{"sha256:1"}}
	for image, want := range map[string]bool{
		"a.org/x@sha256:2": true, "a.org.evil/x@sha256:2": false, "b.org:5000/x/y@sha256:2": true, "b.org:5000/xy@sha256:2": false, "b.org/x/y@sha256:2": false,
		"c.org/x@sha256:1": true, "c.org/x@sha256:2": false, "a.org": false, "": false, "c.org/x": false,
	} {
		if p.Allows(image) != want {
			t.Errorf("%s: %v", image, !want)
		}
	}
	if (&Policy{}).Allows("x") || NewSnapshot(0, nil).Allowed("a.org/x") {
		t.Error("nothing allows nothing")
	}
}
