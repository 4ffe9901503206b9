package netplan

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parse(t testing.TB, source string) *Config {
	t.Helper()
	c, mistakes := Parse(source)
	if len(mistakes) > 0 {
		t.Fatalf("%+v", mistakes)
	}
	return c
}

// What everything comes out as.
func TestGolden(t *testing.T) {
	c := parse(t, read(t, "testdata/everything.yaml"))
	for _, r := range []Renderer{Networkd, NetworkManager} {
		var b strings.Builder
		for _, f := range c.Files(r) {
			fmt.Fprintf(&b, "==> %s %04o\n%s\n", f.Path, f.Mode, f.Contents)
		}
		path := "testdata/" + string(r) + ".golden"
		if *update {
			if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := read(t, path); b.String() != want {
			t.Errorf("%s: got\n%s\nwant\n%s", r, b.String(), want)
		}
	}
}

// cloud-init gets what was written.
func TestCloudInit(t *testing.T) {
	c := parse(t, read(t, "testdata/everything.yaml"))
	again := parse(t, string(c.CloudInit()))
	if got, want := string(again.CloudInit()), string(c.CloudInit()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMistakes(t *testing.T) {
	for _, row := range []struct{ what, source, want string }{
		{"a bridge in itself", "version: 2\nbridges:\n  br0: {interfaces: [br0]}\n", "3 bridges.br0: br0 is a part of itself"},
		{"a ring", "version: 2\nbonds:\n  bo: {interfaces: [vl]}\nbridges:\n  br: {interfaces: [bo]}\nvlans:\n  vl: {id: 5, link: br}\n", "bonds.bo: bo is a part of itself, by way of vl, br"},
		{"two lines for a card's name", "version: 2\nethernets:\n  eth0: {match: {name: \"e*\\n[Link]\\nUnmanaged=yes\"}, dhcp4: true}\n", "3 ethernets.eth0.match.name: "},
		{"two lines for a domain", "version: 2\nethernets:\n  eth0: {dhcp4: true, nameservers: {search: [\"a\\n[Match]\"]}}\n", "3 ethernets.eth0.nameservers.search.0: "},
		{"nothing", "", "0 : it is no network of netplan's"},
		{"a list", "- a\n", "0 : it is no network of netplan's"},
		{"no YAML", "version: 2\n  ethernets: x\n", "2 : mapping values are not allowed"},
		{"another version", "version: 1\nethernets: {eno1: {dhcp4: true}}\n", "1 version: is not 2"},
		{"no interface", "version: 2\n", "1 : it has no interface"},
		{"more at its top", "network: {version: 2, ethernets: {eno1: {}}}\nother: 1\n", "2 : other is nothing that pilotlight can set up there"},
		{"a second document", "version: 2\nethernets: {eno1: {}}\n---\na: 1\n", "0 : it holds a second YAML document"},
		{"an unknown renderer", "version: 2\nrenderer: sd\nethernets: {eno1: {}}\n", `2 renderer: "sd" is neither`},
		{"an unknown key", "version: 2\nethernets:\n  eno1:\n    adresses: [10.0.0.5/24]\n", "4 : adresses is nothing that pilotlight can set up there"},
		{"what pilotlight does not do", "version: 2\nwifis: {wlan0: {}}\n", "2 : wifis is nothing"},
		{"a wrong type", "version: 2\nethernets:\n  eno1:\n    mtu: large\n", "4 : cannot unmarshal !!str `large`"},
		{"a name for two", "version: 2\nethernets: {x: {}}\nbridges:\n  x: {}\n", "4 bridges.x: x is there among ethernets too"},
		{"a name that is too long", "version: 2\nethernets: {abcdefghijklmnop: {}}\n", `2 ethernets.abcdefghijklmnop: "abcdefghijklmnop" is no name`},
		{"an address without length", "version: 2\nethernets:\n  eno1:\n    addresses:\n      - 10.0.0.5/24\n      - 10.0.0.6\n", `6 ethernets.eno1.addresses.1: "10.0.0.6" is no address with its length`},
		{"the network itself", "version: 2\nethernets: {eno1: {addresses: [10.0.0.0/24]}}\n", "is the network itself"},
		{"a gateway of the other kind", "version: 2\nethernets: {eno1: {addresses: [10.0.0.5/24], gateway4: 'fd00::1'}}\n", `gateway4: "fd00::1" is no address that fits`},
		{"a name server that cannot be reached from there", "version: 2\nethernets: {eno1: {addresses: [10.0.0.5/24], nameservers: {addresses: ['fd00::1']}}}\n", `"fd00::1" is no address that fits`},
		{"a route to nowhere", "version: 2\nethernets: {eno1: {routes: [{to: default}]}}\n", "goes nowhere"},
		{"a route of two kinds", "version: 2\nethernets: {eno1: {routes: [{to: 10.0.0.0/8, via: 'fd00::1'}]}}\n", "two kinds of IP"},
		{"a card that is not there", "version: 2\nethernets: {eno1: {}}\nbonds:\n  b: {interfaces: [eno1, eno2]}\n", "4 bonds.b.interfaces.1: there is no eno2"},
		{"a card in two bonds", "version: 2\nethernets: {eno1: {}}\nbonds: {a: {interfaces: [eno1]}, b: {interfaces: [eno1]}}\n", "eno1 is a part of a already"},
		{"a card of a bond with an address", "version: 2\nethernets: {eno1: {dhcp4: true}}\nbonds: {a: {interfaces: [eno1]}}\n", "ethernets.eno1: eno1 is a part of a"},
		{"a bond of nothing", "version: 2\nbonds: {a: {}}\n", "bonds.a.interfaces: is missing"},
		{"an unknown mode", "version: 2\nethernets: {eno1: {}}\nbonds: {a: {interfaces: [eno1], parameters: {mode: lacp}}}\n", `"lacp" is not one of balance-rr`},
		{"a primary that is no part", "version: 2\nethernets: {eno1: {}}\nbonds: {a: {interfaces: [eno1], parameters: {primary: eno2}}}\n", `"eno2" is not one of eno1`},
		{"a primary without a name", "version: 2\nethernets: {one: {match: {macaddress: '52:54:00:12:34:56'}}}\nbonds: {a: {interfaces: [one], parameters: {primary: one}}}\n", "give it a set-name"},
		{"a VLAN of nothing", "version: 2\nvlans: {v: {id: 5, link: eno1}}\n", `vlans.v.link: "eno1" is no other interface`},
		{"a VLAN of itself", "version: 2\nvlans: {v: {id: 5, link: v}}\n", `vlans.v.link: "v" is no other interface`},
		{"a VLAN's number", "version: 2\nethernets: {eno1: {}}\nvlans: {v: {id: 4095, link: eno1}}\n", "4095 is no VLAN"},
		{"a new name for an unknown card", "version: 2\nethernets: {one: {set-name: lan0}}\n", "needs to know which card it is"},
		{"a match of nothing", "version: 2\nethernets: {one: {match: {}}}\n", "says nothing"},
		{"what is no MAC", "version: 2\nethernets: {one: {match: {macaddress: 5254.0012.3456}}}\n", "is no MAC address"},
		{"an MTU", "version: 2\nethernets: {one: {mtu: 20}}\n", "20 is no MTU"},
		{"link-local", "version: 2\nethernets: {one: {link-local: [ip]}}\n", `"ip" is neither ipv4 nor ipv6`},
	} {
		t.Run(row.what, func(t *testing.T) {
			_, mistakes := Parse(row.source)
			var all []string
			for _, m := range mistakes {
				all = append(all, strings.TrimSpace(fmt.Sprintf("%d %s: %s", m.Line, m.Path, m.Message)))
			}
			if got := strings.Join(all, "\n"); !strings.Contains(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// All mistakes are told at once.
func TestEveryMistake(t *testing.T) {
	_, mistakes := Parse("version: 1\nethernets:\n  eno1: {addresses: [x], mtu: 1}\nvlans:\n  v: {id: 0, link: y}\n")
	if len(mistakes) != 5 {
		t.Errorf("%d mistakes, want 5: %+v", len(mistakes), mistakes)
	}
}

// A text is refused or comes out whole, whatever it is.
func FuzzParse(f *testing.F) {
	f.Add(read(f, "testdata/everything.yaml"))
	f.Add("network: {version: 2, ethernets: {a: {dhcp4: true}}}")
	f.Add("network: &x\n  version: 2\n  ethernets: *x\n")
	f.Fuzz(func(t *testing.T, source string) {
		c, mistakes := Parse(source)
		if c == nil && len(mistakes) == 0 {
			t.Error("neither a network nor a mistake")
		}
		if len(mistakes) > 0 {
			return
		}
		for _, r := range []Renderer{Networkd, NetworkManager} {
			for _, file := range c.Files(r) {
				for _, line := range strings.Split(file.Contents, "\n") {
					if strings.HasPrefix(line, "[") != strings.HasSuffix(line, "]") && !strings.Contains(line, "=") {
						t.Errorf("%s: a line that the text made: %q", file.Path, line)
					}
				}
			}
		}
		if _, again := Parse(string(c.CloudInit())); len(again) > 0 {
			t.Errorf("what cloud-init gets is refused: %+v", again)
		}
	})
}
