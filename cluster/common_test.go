package cluster

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func num(n int) *int { return &n }

// Each mistake of common: and firewall: is told at its own field.
func TestCheckCommon(t *testing.T) {
	for _, row := range []struct {
		what string
		edit func(*Profile)
		want string
	}{
		{"a user without a name", func(p *Profile) { p.Common.Users[0].Name = "" }, "common.users[0].name"},
		{"a user twice", func(p *Profile) { p.Common.Users = append(p.Common.Users, p.Common.Users[0]) }, "common.users[1].name: alice is there twice"},
		{"a number below 0", func(p *Profile) { p.Common.Users[0].UID = num(-1) }, "common.users[0].uid"},
		{"a password in the clear", func(p *Profile) { p.Common.Users[0].PasswordHash = "hunter2" }, "common.users[0].password_hash: is not a hash"},
		{"a key that is none", func(p *Profile) { p.Common.Users[0].SSHKeys = []string{"x"} }, "common.users[0].ssh_keys[0]"},
		{"a line end in a comment", func(p *Profile) { p.Common.Users[0].Comment = "a\nroot::0:0" }, "common.users[0].comment"},
		{"a shell that is no path", func(p *Profile) { p.Common.Users[0].Shell = "bash" }, "common.users[0].shell"},
		{"a group that is none", func(p *Profile) { p.Common.Users[0].Groups = []string{"a b"} }, "common.users[0].groups[0]"},
		{"a path that climbs", func(p *Profile) { p.Common.Files[0].Path = "/etc/../root/x" }, "common.files[0].path"},
		{"a path from nowhere", func(p *Profile) { p.Common.Files[0].Path = "motd" }, "common.files[0].path"},
		{"a file twice", func(p *Profile) { p.Common.Files = append(p.Common.Files, p.Common.Files[0]) }, "common.files[1].path: /etc/motd is there twice"},
		{"a decimal mode", func(p *Profile) { p.Common.Files[0].Mode = "0888" }, "common.files[0].mode"},
		{"an owner that is none", func(p *Profile) { p.Common.Files[0].User = "a:b" }, "common.files[0].user"},
		{"a unit without its kind", func(p *Profile) { p.Common.Units[0].Name = "hello" }, "common.units[0].name"},
		{"a unit that says nothing", func(p *Profile) { p.Common.Units[0] = CommonUnit{Name: "a.service"} }, "common.units[0]: says nothing"},
		{"a unit that is masked and more", func(p *Profile) { p.Common.Units[0].Mask = true }, "common.units[0].mask"},
		{"a drop-in twice", func(p *Profile) {
			p.Common.Units[0].Dropins = []CommonDropin{{"a.conf", "x"}, {"a.conf", "y"}}
		}, "common.units[0].dropins[1].name: a.conf is there twice"},
		{"a drop-in that says nothing", func(p *Profile) { p.Common.Units[0].Dropins = []CommonDropin{{"a.conf", ""}} }, "common.units[0].dropins[0].contents"},
		{"an include's name", func(p *Profile) { p.Includes = Includes{"a b": "x"} }, "includes"},
		{"a text of an unknown language", func(p *Profile) { p.Config.Text = "d-i x\n" }, "common: is not put into a text"},
		{"a rule of no port", func(p *Profile) { p.Firewall.Allow[0].Ports = nil }, "firewall.allow[0].ports"},
		{"a rule of another protocol", func(p *Profile) { p.Firewall.Allow[0].Protocol = "sctp" }, "firewall.allow[0].protocol"},
		{"an interface's name", func(p *Profile) { p.Firewall.Trusted = []string{`lo" accept`} }, "firewall.trusted[0]"},
	} {
		t.Run(row.what, func(t *testing.T) {
			p := &Profile{
				Meta: Meta{Name: "web"}, Boot: BootLocal,
				Common: &Common{
					Users: []CommonUser{{Name: "alice"}}, Files: []CommonFile{{Path: "/etc/motd"}},
					Units: []CommonUnit{{Name: "hello.service", Enabled: true}},
				},
				Firewall: &Firewall{Allow: []FirewallRule{{Ports: []PortRange{{22, 22}}}}},
			}
			if problems := Check([]Document{p}); len(problems) > 0 {
				t.Fatalf("before: %v", problems)
			}
			row.edit(p)
			problems := Check([]Document{p})
			all := ""
			for _, p := range problems {
				all += p.String() + "\n"
			}
			if !strings.Contains(all, "profile web: "+row.want) || strings.Contains(all, "hunter2") {
				t.Errorf("got %q, want %q", all, row.want)
			}
		})
	}
}

func TestFirewallWords(t *testing.T) {
	var r FirewallRule
	if err := json.Unmarshal([]byte(`{"ports": ["22", "8000-8100"], "from": ["10.0.0.0/8", "192.0.2.7", "2001:db8::1"]}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.From[1].Prefix != netip.MustParsePrefix("192.0.2.7/32") || r.From[2].Bits() != 128 || r.Ports[1] != (PortRange{8000, 8100}) {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{`{"ports": ["0"]}`, `{"ports": ["9-8"]}`, `{"ports": ["65536"]}`, `{"ports": ["http"]}`, `{"from": ["10.0.0.1/8"]}`, `{"from": ["office"]}`} {
		if err := json.Unmarshal([]byte(bad), &r); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	f := Firewall{Allow: []FirewallRule{r}}
	if !f.Lets(TCP, 8050) || f.Lets(UDP, 8050) || f.Lets(TCP, 23) {
		t.Error("Lets is wrong")
	}
}

// A port that a site publishes where a firewall lets nobody in is advised of.
func TestAdviseOfClosedPorts(t *testing.T) {
	docs := []Document{
		&Profile{Meta: Meta{Name: "web"}, Boot: BootLocal, Firewall: &Firewall{Allow: []FirewallRule{{Ports: []PortRange{{22, 22}, {443, 443}}}}}},
		&Profile{Meta: Meta{Name: "open"}, Boot: BootLocal},
		&Host{Meta: Meta{Name: "web1"}, Serial: "1", Profile: "web"}, &Host{Meta: Meta{Name: "web2"}, Serial: "2", Profile: "web"},
		&Host{Meta: Meta{Name: "db1"}, Serial: "3", Profile: "open"},
		&Site{Meta: Meta{Name: "www"}, Services: []Service{{Name: "front", Ports: []Port{
			{Host: 443, Container: 443, Protocol: "tcp"}, {Host: 80, Container: 80, Protocol: "tcp"}, {Host: 443, Container: 443, Protocol: "udp"},
			{Host: 9000, Container: 9000, Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.1")},
		}}}},
	}
	advice := Advise(NewSnapshot(1, docs))
	if len(advice) != 2 {
		t.Fatalf("%v", advice)
	}
	for i, want := range []string{
		"site www: services.front.ports[1]: nobody reaches port 80/tcp of host web1: firewall: of profile web lets nobody in",
		"site www: services.front.ports[2]: nobody reaches port 443/udp of host web1: firewall: of profile web lets nobody in; write {ports: [443], protocol: udp} below",
	} {
		if !strings.HasPrefix(advice[i].String(), want) {
			t.Errorf("got %s, want %s", advice[i], want)
		}
		for _, r := range []Ref{{KindSite, "www"}, {KindProfile, "web"}} { // whichever is changed
			if !advice[i].Of(func(given Ref) bool { return given == r }) {
				t.Errorf("%s is not told to whom applies %s", advice[i], r)
			}
		}
	}
}

// A firewall that locks out those who have a key is advised of.
func TestAdviseOfALockOut(t *testing.T) {
	https := []FirewallRule{{Ports: []PortRange{{443, 443}}}}
	ssh := append([]FirewallRule{{Ports: []PortRange{{20, 30}}}}, https...)
	for i, row := range []struct {
		p    Profile
		told bool
	}{
		{Profile{SSHKeys: []string{"k"}, Firewall: &Firewall{Allow: https}}, true},
		{Profile{Common: &Common{Users: []CommonUser{{Name: "ops", SSHKeys: []string{"k"}}}}, Firewall: &Firewall{}}, true},
		{Profile{SSHKeys: []string{"k"}, Firewall: &Firewall{Allow: ssh}}, false},
		{Profile{SSHKeys: []string{"k"}, Firewall: &Firewall{Allow: https, Trusted: []string{"wg0"}}}, false},
		{Profile{Firewall: &Firewall{Allow: https}}, false}, // there is nobody to lock out
		{Profile{SSHKeys: []string{"k"}}, false},
	} {
		row.p.Name = "web"
		advice := Advise(NewSnapshot(1, []Document{&row.p}))
		if told := len(advice) == 1 && strings.HasPrefix(advice[0].String(), "profile web: firewall.allow: nobody reaches port 22/tcp"); told != row.told || len(advice) > 1 {
			t.Errorf("row %d: %v", i, advice)
		}
	}
}
