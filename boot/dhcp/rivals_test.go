package dhcp

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/bpf"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

var theirs = netip.MustParseAddr("10.0.0.2")

// What a server does to a boot, by the mode of the network.
func TestHarm(t *testing.T) {
	address := Rival{Server: theirs, Gives: true}
	with := func(r Rival, f func(*Rival)) Rival { f(&r); return r }
	file := with(address, func(r *Rival) { r.File, r.From = "theirs.0", theirs })
	for _, row := range []struct {
		what          string
		rival         Rival
		authoritative []string
		proxy         []string
	}{
		{"it gives addresses", address, []string{"it gives addresses too"}, nil},
		{"and a boot file", file, []string{"it gives addresses too", `"theirs.0" from 10.0.0.2`}, []string{`"theirs.0" from 10.0.0.2`}},
		{"and names itself as next-server", with(address, func(r *Rival) { r.From = theirs }), []string{"it gives addresses too"}, nil},
		{"and names another next-server", with(address, func(r *Rival) { r.From = netip.MustParseAddr("10.0.0.4") }), []string{"it gives addresses too", "from 10.0.0.4 (next-server)"}, []string{"from 10.0.0.4 (next-server)"}},
		{"and is a PXE server", with(address, func(r *Rival) { r.PXE = true }), []string{"it gives addresses too", "port 4011"}, []string{"port 4011"}},
		{"and has vendor options", with(address, func(r *Rival) { r.Menu = true }), []string{"it gives addresses too", "option 60 or 43"}, []string{"option 60 or 43"}},
		{"and is an HTTP boot server", with(address, func(r *Rival) { r.HTTP = true }), []string{"it gives addresses too", "HTTPClient"}, []string{"HTTPClient"}},
		{"and hides proxies from iPXE", with(address, func(r *Rival) { r.NoProxy = true }), []string{"it gives addresses too"}, []string{"option 175.176"}},
		{"it is a proxy", Rival{Server: theirs, PXE: true, File: "theirs.0"}, []string{`"theirs.0"`}, []string{"it is a proxy as we are", `"theirs.0"`}},
		{"it says no", Rival{Server: theirs}, nil, nil},
	} {
		for mode, want := range map[cluster.DHCPMode][]string{cluster.DHCPAuthoritative: row.authoritative, cluster.DHCPProxy: row.proxy} {
			got := row.rival.Harm(mode)
			ok := len(got) == len(want)
			for i := range want {
				ok = ok && strings.Contains(got[i], want[i])
			}
			if !ok {
				t.Errorf("%s, %s:\n%s\nwant\n%s", row.what, mode, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
}

// says is an answer of the other server, as a frame on the wire.
func says(kind dhcpv4.MessageType, yiaddr string, mods ...dhcpv4.Modifier) []byte {
	p := packetOf(kind, mac(9), append([]dhcpv4.Modifier{serverID("10.0.0.2"), dhcpv4.WithYourIP(ip(yiaddr))}, mods...)...)
	p.OpCode = dhcpv4.OpcodeBootReply
	return frame(outbound{data: p.ToBytes(), from: theirs, to: netip.AddrPortFrom(broadcast, clientPort), mac: everyone}, mac(2000))
}

// listener is a watch on one interface of the network.
func listener(t *testing.T, docs ...cluster.Document) (*watch, *bytes.Buffer) {
	t.Helper()
	p := newProxy(t, docs...)
	log := new(bytes.Buffer)
	p.Logger = slog.New(slog.NewTextHandler(log, nil))
	w := newWatch(p.Server)
	w.places.list = func() ([]iface, error) {
		return []iface{{index: 1, name: "eth0", mac: mac(3000), prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}}, nil
	}
	return w, log
}

func TestHeard(t *testing.T) {
	w, log := listener(t, office()...)
	now := time.Now()
	n := w.s.Snapshot().Networks()[0]
	w.heard(says(offer, "10.0.0.70"), 1, now)
	if got := w.s.Rivals(n); len(got) != 1 || got[0].MAC != mac(2000) || !got[0].Gives || got[0].File != "" {
		t.Fatalf("known is %+v", got)
	}
	if c := w.s.Conflicts(n); len(c) > 0 {
		t.Errorf("a server that only gives addresses is in the way: %q", c)
	}
	for range 3 {
		w.heard(says(offer, "10.0.0.70", with(67, []byte("theirs.0\x00")...), with(175, 0xb0, 1, 1)), 1, now)
	}
	if got := strings.Join(w.s.Conflicts(n), "\n"); strings.Count(got, "DHCP server 10.0.0.2 (52:54:00:00:07:d0): it ") != 2 {
		t.Errorf("the conflicts are\n%s", got)
	}
	if got := strings.Count(log.String(), "in the way of a boot"); got != 2 {
		t.Errorf("two conflicts are told %d times:\n%s", got, log)
	}
	w.count(w.s.Snapshot())
	registry := prometheus.NewRegistry()
	registry.MustRegister(w.s.metrics.rivals, w.s.metrics.harms, w.s.metrics.foreign)
	families, err := registry.Gather()
	if err != nil || len(families) != 3 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	for i, want := range []float64{4, 1, 2} { // in the order of their names: foreign answers, servers, conflicts
		m := families[i].GetMetric()[0]
		if got := m.GetGauge().GetValue() + m.GetCounter().GetValue(); got != want {
			t.Errorf("%s is %v, want %v", families[i].GetName(), got, want)
		}
	}
	w.count(cluster.NewSnapshot(2, nil))
	if families, _ = registry.Gather(); len(families) != 1 {
		t.Errorf("a network that is gone has %d metrics", len(families))
	}
	w.heard(says(ack, "10.0.0.71", with(51, 0, 0, 14, 16)), 1, now)
	if m, ok := w.s.Owner(netip.MustParseAddr("10.0.0.71")); !ok || m != mac(9) {
		t.Errorf("an ACK was broadcast, and the address is %s's, %v", m, ok)
	}
}

func TestHeardNot(t *testing.T) {
	w, _ := listener(t, office()...)
	n := w.s.Snapshot().Networks()[0]
	own := packetOf(offer, mac(9), serverID("10.0.0.1"))
	own.OpCode = dhcpv4.OpcodeBootReply
	good := says(offer, "10.0.0.70")
	frames := map[string][]byte{
		"our own":              frame(outbound{data: own.ToBytes(), from: netip.MustParseAddr("10.0.0.1"), to: netip.AddrPortFrom(broadcast, clientPort)}, mac(3000)),
		"a request":            frame(outbound{data: packetOf(discover, mac(9)).ToBytes(), from: theirs, to: netip.AddrPortFrom(broadcast, clientPort)}, mac(9)),
		"no DHCP":              frame(outbound{data: []byte("hello"), from: theirs, to: netip.AddrPortFrom(broadcast, clientPort)}, mac(9)),
		"a header of no size":  append(append([]byte{}, good[:14]...), append([]byte{0x40}, good[15:]...)...),
		"longer than it is":    append(append([]byte{}, good[:16]...), append([]byte{0xff, 0xff}, good[18:]...)...),
		"shorter than its UDP": append(append([]byte{}, good[:16]...), append([]byte{0, 21}, good[18:]...)...),
	}
	for i := range good {
		frames[fmt.Sprintf("cut off at %d", i)] = good[:i]
	}
	for what, f := range frames {
		w.heard(f, 1, time.Now())
		if got := w.s.Rivals(n); len(got) > 0 {
			t.Fatalf("%s: known is %+v", what, got)
		}
	}
	w.heard(good, 7, time.Now())
	if got := w.s.Rivals(n); len(got) > 0 {
		t.Errorf("an interface on no network: known is %+v", got)
	}
}

// A client's REQUEST names the server that it chose, on a link or behind a relay.
func TestOverheard(t *testing.T) {
	p := newProxy(t, documents()...)
	n := p.Snapshot().Networks()[0]
	out, _ := p.ask(on67(packetOf(request, mac(9), requested("10.0.0.70"), serverID("10.0.0.2"))), 67)
	if c := p.Conflicts(n); out != nil || len(c) != 1 || !strings.Contains(c[0], "DHCP server 10.0.0.2: it gives addresses too") {
		t.Errorf("the conflicts are %q", c)
	}
}

// What is turned off is forgotten, and whoever makes up servers fills no memory.
func TestRivalsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := listener(t, office()...)
		n := w.s.Snapshot().Networks()[0]
		w.heard(says(offer, "10.0.0.70", with(67, []byte("theirs.0")...)), 1, time.Now())
		time.Sleep(rivalTime / 2)
		w.heard(says(offer, "10.0.0.70"), 1, time.Now())
		time.Sleep(rivalTime / 2)
		if c, r := w.s.Conflicts(n), w.s.Rivals(n); len(c) != 0 || len(r) != 1 {
			t.Errorf("the conflicts are %q, the servers %v", c, r)
		}
		time.Sleep(rivalTime)
		if r := w.s.Rivals(n); len(r) != 0 {
			t.Errorf("the servers are %v", r)
		}
		log.Reset()
		for i := range 5000 {
			w.s.rival(n, Rival{Server: address(0x0a100000 + uint32(i)), Gives: true, File: "x", Last: time.Now()})
		}
		if r := w.s.Rivals(n); len(r) != rivalsLimit {
			t.Errorf("there are %d servers", len(r))
		}
		if lines := strings.Count(log.String(), "\n"); lines > 2*boot.QuietMost {
			t.Errorf("the log has %d lines", lines)
		}
	})
}

func TestNobodyGivesAddresses(t *testing.T) {
	w, _ := listener(t, office()...)
	n := w.s.Snapshot().Networks()[0]
	for i, told := range []bool{false, false, true, false} {
		if got := w.s.rivals.asked("lan"); got != told {
			t.Errorf("probe %d: told %v", i, got)
		}
	}
	if c := w.s.Conflicts(n); len(c) != 1 || c[0] != errNoAddresses {
		t.Errorf("the conflicts are %q", c)
	}
	// Reserved for its own machines: one of them was heard.
	w.s.answer(on67(packetOf(request, mac(9), requested("10.0.0.70"), serverID("10.0.0.2"))), nil)
	if c := w.s.Conflicts(n); len(c) != 0 {
		t.Errorf("the conflicts are %q", c)
	}
}

// A probe asks as firmware does, and we do not answer our own.
func TestProbe(t *testing.T) {
	m, err := decode(inbound{data: probe(mac(3000), 7)})
	if err != nil || m.kind != discover || !isProbe(m) || m.request.Arch() != 7 || !m.packet.IsBroadcast() {
		t.Fatalf("%+v, %v", m, err)
	}
	p := newProxy(t, documents()...)
	c := &committer{server: p.Server, queue: make(chan change, 1)}
	p.places.list = func() ([]iface, error) { return []iface{{index: 1, name: "eth0", mac: mac(3000)}}, nil }
	if out := p.answer(on67(m.packet), c); out != nil {
		t.Error("we answer ourselves")
	}
	another, _ := dhcpv4.FromBytes(probe(mac(3001), 7))
	if out := p.answer(on67(another), c); out == nil {
		t.Error("another pilotlight is not told that we are here")
	}
	if seen := p.Discovered(); len(seen) > 0 {
		t.Errorf("another pilotlight is taken for a machine: %v", seen)
	}
}

func TestFilter(t *testing.T) {
	var program []bpf.Instruction
	for _, raw := range fromServers {
		program = append(program, raw.Disassemble())
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, b ...byte) []byte {
		f := says(offer, "10.0.0.70")
		copy(f[at:], b)
		return f
	}
	options := says(offer, "10.0.0.70") // an IP header with options moves the ports
	options = append(append(append([]byte{}, options[:34]...), 1, 1, 1, 1), options[34:]...)
	options[14] = 0x46
	for _, row := range []struct {
		what string
		data []byte
		pass bool
	}{
		{"an offer", changed(0), true},
		{"with IP options", options, true},
		{"no IPv4", changed(12, 0x86, 0xdd), false},
		{"TCP", changed(23, 6), false},
		{"a later fragment", changed(20, 0x20, 1), false},
		{"a client's", changed(34, 0, 68), false},
		{"what a relay asks", changed(42, 1), false},
	} {
		if n, err := vm.Run(row.data); err != nil || n > 0 != row.pass {
			t.Errorf("%s: %d, %v", row.what, n, err)
		}
	}
}

func FuzzHeard(f *testing.F) {
	f.Add(says(offer, "10.0.0.70", with(67, []byte("x")...), with(175, 0xb0, 1, 1), with(52, 1)))
	f.Add(says(ack, "10.0.0.70"))
	t := new(testing.T)
	w, _ := listener(t, office()...)
	n := w.s.Snapshot().Networks()[0]
	f.Fuzz(func(t *testing.T, data []byte) {
		w.heard(data, 1, time.Now())
		if got := w.s.Rivals(n); len(got) > rivalsLimit {
			t.Errorf("there are %d servers", len(got))
		}
	})
}
