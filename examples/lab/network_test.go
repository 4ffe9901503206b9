//go:build lab

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	secondTap   = "tap9"
	secondMAC   = "52:54:00:99:00:31"
	vlanAddress = "10.20.0.11" // the machine's in net/bonded.yaml
	vlanID      = 20
)

// TestNetwork boots a machine whose two cards are a bond with a fixed address and a
// VLAN on it, one of them with a name of its own, as network_config: says: Ignition
// writes what pilotlight makes of it, and systemd-networkd brings it up. The site is
// reached by the VLAN, and by nothing else; also when a cable is pulled.
func TestNetwork(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	l, m := startBonded(ctx, t)
	v := l.startVLAN(t, vlanID, "10.20.0.1/24")
	if err := l.turnOn(ctx); err != nil {
		t.Fatal(err)
	}
	l.joins(ctx, t, m)
	site := func(ctx context.Context) error {
		_, err := l.pageAt(ctx, vlanAddress, "/healthz")
		return err
	}
	if err := m.await(ctx, "its site did not answer by the VLAN", site); err != nil {
		t.Fatal(l.withStatus(ctx, m, err))
	}
	l.allReady(t)
	l.bonded(t, m)

	if _, err := l.page(ctx, m, "/healthz"); err == nil {
		t.Error("the site is reached beside the VLAN, past the firewall")
	}
	for _, id := range []uint32{vlanID + 1, vlanID} {
		v.id.Store(id)
		if err := site(ctx); (err == nil) != (id == vlanID) {
			t.Errorf("the site by VLAN %d: %v", id, err)
		}
	}
	if in, out := v.in.Load(), v.out.Load(); in == 0 || out == 0 {
		t.Errorf("%d frames with the tag came, and %d went", in, out)
	}
	for _, plugged := range []bool{false, true} {
		l.cable(ctx, t, "lan", plugged)
		l.eventually(t, time.Minute, func() error {
			got := l.on(t, m, `sed -n 's/^Currently Active Slave: //p' /proc/net/bonding/bond0`)
			if (got == "lan0") != plugged {
				return fmt.Errorf("with lan0's cable in: %t, the bond uses %s", plugged, got)
			}
			return nil
		})
		if err := site(ctx); err != nil {
			t.Errorf("with lan0's cable in: %t: %v", plugged, err)
		}
	}
	l.allReady(t)
}

// startBonded starts a server, and makes ready a machine with two cards.
func startBonded(ctx context.Context, t *testing.T) (*labTest, *machine) {
	t.Helper()
	root, err := projectRoot()
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(settings{root: root, dir: filepath.Join(root, "build", "lab"), memory: defaultMemory, out: t.Output()})
	l.machines = l.machines[:1]
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error("clean up:", err)
		}
		assertGone(t, l)
	})
	for _, step := range []func(context.Context) error{l.own, l.buildAll, l.connectAll, l.serve, l.fillIn} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	f, err := l.facts(l.sites[0])
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.manifests(), "bonded.yaml")
	if err := fill(filepath.Join(root, "examples", "lab", "net", "bonded.yaml"), file, f); err != nil {
		t.Fatal(err)
	}
	if out, err := l.server.run(ctx, nil, "apply", "-f", file); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := l.network.all(ctx, plug(secondTap)...); err != nil {
		t.Fatal(err)
	}
	m := l.machines[0]
	m.extra = append(m.extra, "-netdev", "tap,id=lan2,ifname="+secondTap+",script=no,downscript=no",
		"-device", "virtio-net-pci,netdev=lan2,romfile=,mac="+secondMAC,
		"-qmp", "unix:"+l.monitor()+",server=on,wait=off")
	return &labTest{lab: l, ctx: ctx}, m
}

// bonded asks the machine what has come of its cards.
func (l *labTest) bonded(t *testing.T, m *machine) {
	for command, wants := range map[string][]string{
		"cat /proc/net/bonding/bond0": {
			"Bonding Mode: fault-tolerance (active-backup)", "Primary Slave: lan0", "Currently Active Slave: lan0", "MII Polling Interval (ms): 100",
			"Permanent HW addr: " + m.mac, "Permanent HW addr: " + secondMAC,
		},
		"cat /proc/net/vlan/storage":                                                                     {"VID: 20", "Device: bond0"},
		"ip -o address show dev bond0":                                                                   {"10.99.0.11/24"},
		"ip -o address show dev storage":                                                                 {vlanAddress + "/24"},
		"ip -o link show dev storage":                                                                    {"mtu 1400"},
		"networkctl list --no-legend --no-pager":                                                         {"lan0 ", "bond0 ", "storage "},
		"systemctl is-active systemd-networkd-wait-online.service":                                       {"active"},
		`ip -4 -o address show | awk '$2 !~ /^(lo|bond0|storage|docker0|br-)/' | wc -l`:                  {"0"},
		`networkctl list --no-legend --no-pager | grep -E ' (lan0|bond0|storage) ' | grep -c configured`: {"3"},
		`ls /etc/systemd/network`:                                                                        {"10-pilotlight-bond0.netdev", "10-pilotlight-one.link", "10-pilotlight-storage.network"},
	} {
		got := l.on(t, m, command)
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("%s prints no %q:\n%s", command, want, got)
			}
		}
	}
}

func (l *lab) monitor() string { return filepath.Join(l.work, "monitor") }

// cable pulls a cable of the machine out, or plugs it in (QEMU's set_link).
func (l *labTest) cable(ctx context.Context, t *testing.T, card string, plugged bool) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", l.monitor())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	answers := bufio.NewScanner(conn)
	next := func() error {
		for answers.Scan() {
			var a struct {
				Greeting json.RawMessage `json:"QMP"`
				Return   json.RawMessage `json:"return"`
				Error    json.RawMessage `json:"error"`
			}
			switch err := json.Unmarshal(answers.Bytes(), &a); {
			case err != nil:
				return err
			case a.Error != nil:
				return errors.New(string(a.Error))
			case a.Greeting != nil, a.Return != nil:
				return nil
			} // else it is an event
		}
		return errors.Join(answers.Err(), errors.New("QEMU's monitor is gone"))
	}
	err = next()
	for _, command := range []string{`{"execute":"qmp_capabilities"}`, fmt.Sprintf(`{"execute":"set_link","arguments":{"name":%q,"up":%t}}`, card, plugged)} {
		if err == nil {
			_, err = fmt.Fprintln(conn, command)
		}
		if err == nil {
			err = next()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
