package dhcp

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

const inform = dhcpv4.MessageTypeInform

// office is network lan with somebody else's DHCP server, and host local beside
// the usual ones, which boots from its disk.
func office(more ...cluster.Document) []cluster.Document {
	docs := documents(append(more,
		&cluster.Profile{Meta: cluster.Meta{Name: "disk"}, Boot: cluster.BootLocal},
		&cluster.Host{Meta: cluster.Meta{Name: "local"}, MACs: []cluster.MAC{mac(3)}, Profile: "disk"},
	)...)
	n := docs[0].(*cluster.Network)
	n.DHCP, n.Pools = cluster.DHCPProxy, nil
	return docs
}

// proxy is a server on networks, whose packets are passed to it by hand.
type proxy struct {
	*Server
	t  testing.TB
	at places
}

func newProxy(t testing.TB, docs ...cluster.Document) *proxy {
	t.Helper()
	snap := cluster.NewSnapshot(1, docs)
	p := &proxy{t: t, Server: &Server{Snapshot: func() *cluster.Snapshot { return snap }, Loaders: loaders, HTTPPort: 8080, Recorder: new(boot.Recorder)}}
	p.init()
	p.places.local = netip.MustParseAddr("10.0.0.1")
	p.at.local = p.places.local
	return p
}

// ask passes a packet in on port 67, or 4011; a nil answer is silence.
func (p *proxy) ask(in inbound, port int) (*outbound, *dhcpv4.DHCPv4) {
	p.t.Helper()
	var out *outbound
	if port == PXEPort {
		out = p.answerPXE(in, &p.at)
	} else {
		out = p.answer(in, nil)
	}
	if out == nil {
		return nil, nil
	}
	a, err := dhcpv4.FromBytes(out.data)
	if err != nil {
		p.t.Fatalf("the answer cannot be read: %v", err)
	}
	return out, a
}

func on67(p *dhcpv4.DHCPv4) inbound {
	return inbound{data: p.ToBytes(), from: netip.MustParseAddrPort("0.0.0.0:68"), to: broadcast}
}

func on4011(p *dhcpv4.DHCPv4, from string) inbound {
	return inbound{data: p.ToBytes(), from: netip.MustParseAddrPort(from), to: netip.MustParseAddr("10.0.0.1")}
}

func pxe(arch byte, mods ...dhcpv4.Modifier) []dhcpv4.Modifier {
	return append([]dhcpv4.Modifier{with(60, fmt.Appendf(nil, "PXEClient:Arch:%05d:UNDI:003016", arch)...), with(93, 0, arch), with(55, 1, 3, 43, 60, 66, 67)}, mods...)
}

// Each row is what one firmware needs said, or not said, beside another server.
func TestProxyOptions(t *testing.T) {
	const script = "http://10.0.0.1:8080/boot.ipxe"
	http := []dhcpv4.Modifier{with(60, []byte("HTTPClient:Arch:00016:UNDI:003001")...), with(93, 0, 16)}
	ipxe := with(77, []byte("iPXE")...)
	id := append([]byte{0}, bytes.Repeat([]byte{7}, 16)...)
	for _, row := range []struct {
		quirk  string
		mods   []dhcpv4.Modifier
		file   string
		has    map[uint8]string
		hasNot []uint8
	}{
		{"BIOS boots the file of the offer: 43.6 = 8 with option 60", pxe(0), "undionly.kpxe", map[uint8]string{60: "PXEClient", 43: "\x06\x01\x08\xff", 67: "undionly.kpxe\x00"}, []uint8{175}},
		{"a ROM older than RFC 4578 is BIOS", []dhcpv4.Modifier{with(60, []byte("PXEClient")...)}, "undionly.kpxe", map[uint8]string{43: "\x06\x01\x08\xff"}, nil},
		{"UEFI asks again on port 4011: option 60 without 43 (edk2#6944)", pxe(7), "snponly.efi", map[uint8]string{60: "PXEClient", 66: "10.0.0.1\x00", 67: "snponly.efi\x00"}, []uint8{43, 175}},
		{"EBC is x64", pxe(9), "snponly.efi", map[uint8]string{60: "PXEClient"}, []uint8{43}},
		{"UEFI HTTP Boot drops what does not say HTTPClient", http, "http://10.0.0.1:8080/loaders/snponly.efi", map[uint8]string{60: "HTTPClient", 67: "http://10.0.0.1:8080/loaders/snponly.efi\x00"}, []uint8{43}},
		{"iPXE is not told that there is no proxy, and ours counts more", pxe(0, ipxe, with(175, 0x13, 1, 1, 0x18, 1, 1)), script, map[uint8]string{60: "PXEClient", 175: "\x01\x01\x01", 67: script + "\x00"}, []uint8{43}},
		{"iPXE on UEFI has no need of port 4011", pxe(7, ipxe), script, map[uint8]string{60: "PXEClient", 175: "\x01\x01\x01"}, []uint8{43}},
		{"iPXE that was loaded by HTTP Boot", append(http[:2:2], ipxe), script, map[uint8]string{60: "PXEClient"}, []uint8{43}},
		{"option 97 comes back", pxe(7, with(97, id...)), "snponly.efi", map[uint8]string{97: string(id)}, nil},
	} {
		t.Run(row.quirk, func(t *testing.T) {
			out, a := newProxy(t, office()...).ask(on67(packetOf(discover, mac(1), row.mods...)), 67)
			if out == nil {
				t.Fatal("silence")
			}
			lendsNothing(t, a)
			if a.MessageType() != offer || a.BootFileName != row.file || a.ServerIPAddr.String() != "10.0.0.1" {
				t.Errorf("%s of file %q from %s, want %q", a.MessageType(), a.BootFileName, a.ServerIPAddr, row.file)
			}
			for code, want := range row.has {
				if got := string(a.Options[code]); got != want {
					t.Errorf("option %d is %q, want %q", code, got, want)
				}
			}
			for _, code := range row.hasNot {
				if got, ok := a.Options[code]; ok {
					t.Errorf("option %d is %q, and must not be there", code, got)
				}
			}
			if out.to.String() != "255.255.255.255:68" {
				t.Errorf("a machine without an address is answered at %s", out.to)
			}
		})
	}
}

// lendsNothing sees to it that an answer is not taken for a lease.
func lendsNothing(t testing.TB, a *dhcpv4.DHCPv4) {
	t.Helper()
	if !a.YourIPAddr.IsUnspecified() {
		t.Errorf("the address %s is in it", a.YourIPAddr)
	}
	for _, code := range []uint8{1, 3, 6, 12, 15, 28, 42, 51, 58, 59} {
		if v, ok := a.Options[code]; ok {
			t.Errorf("option %d is in it: %x", code, v)
		}
	}
}

// What is answered at all, on which port, and where to.
func TestProxyAnswers(t *testing.T) {
	known, relay := mac(1), dhcpv4.WithGatewayIP(ip("10.0.0.7"))
	for _, row := range []struct {
		what string
		port int
		in   inbound
		kind dhcpv4.MessageType // none is silence
		to   string
	}{
		{"firmware's DISCOVER", 67, on67(packetOf(discover, known, pxe(7)...)), offer, "255.255.255.255:68"},
		{"through a relay", 67, inbound{data: packetOf(discover, known, pxe(7, relay)...).ToBytes(), from: netip.MustParseAddrPort("10.0.0.7:67"), to: netip.MustParseAddr("10.0.0.1")}, offer, "10.0.0.7:67"},
		{"an operating system's", 67, on67(packetOf(discover, known)), 0, ""},
		{"of a machine that no document names", 67, on67(packetOf(discover, mac(9), pxe(7)...)), 0, ""},
		{"of a BIOS host that boots from its disk", 67, on67(packetOf(discover, mac(3), pxe(0)...)), 0, ""},
		{"of a UEFI host that does, which would look for a minute", 67, on67(packetOf(discover, mac(3), pxe(7)...)), offer, "255.255.255.255:68"},
		{"of an architecture that is not booted", 67, on67(packetOf(discover, known, pxe(10)...)), 0, ""},
		{"a REQUEST to the other server", 67, on67(packetOf(request, known, pxe(7, requested("10.0.0.70"), serverID("10.0.0.2"))...)), 0, ""},
		{"who renews", 67, on67(packetOf(request, known, pxe(7, ciaddr("10.0.0.70"))...)), 0, ""},
		{"who reboots", 67, on67(packetOf(request, known, pxe(7, requested("10.0.0.70"))...)), 0, ""},
		{"a REQUEST for a boot file on port 67", 67, on67(packetOf(request, known, pxe(7, ciaddr("10.0.0.70"), serverID("10.0.0.1"))...)), ack, "10.0.0.70:68"},
		{"who takes our offer for an address", 67, on67(packetOf(request, known, pxe(7, requested("0.0.0.0"), serverID("10.0.0.1"))...)), nak, "255.255.255.255:68"},
		{"who asks us for an address", 67, on67(packetOf(request, known, pxe(7, requested("10.0.0.70"), serverID("10.0.0.1"))...)), nak, "255.255.255.255:68"},
		{"an INFORM on port 67", 67, on67(packetOf(inform, known, pxe(7, ciaddr("10.0.0.70"))...)), ack, "10.0.0.70:68"},
		{"an operating system's INFORM", 67, on67(packetOf(inform, known, ciaddr("10.0.0.70"))), 0, ""},
		{"a REQUEST on port 4011, from that port as EDK2 sends it", PXEPort, on4011(packetOf(request, known, pxe(7, ciaddr("10.0.0.70"))...), "10.0.0.70:4011"), ack, "10.0.0.70:4011"},
		{"from port 68", PXEPort, on4011(packetOf(request, known, pxe(0, ciaddr("10.0.0.70"))...), "10.0.0.70:68"), ack, "10.0.0.70:68"},
		{"an INFORM on port 4011", PXEPort, on4011(packetOf(inform, known, pxe(7, ciaddr("10.0.0.70"))...), "10.0.0.70:4011"), ack, "10.0.0.70:4011"},
		{"without an address, broadcast", PXEPort, inbound{data: packetOf(request, known, pxe(7)...).ToBytes(), from: netip.MustParseAddrPort("0.0.0.0:68"), to: broadcast}, ack, "255.255.255.255:68"},
		{"a DISCOVER on port 4011", PXEPort, on4011(packetOf(discover, known, pxe(7)...), "10.0.0.70:4011"), 0, ""},
		{"an operating system on port 4011", PXEPort, on4011(packetOf(request, known, ciaddr("10.0.0.70")), "10.0.0.70:4011"), 0, ""},
		{"a stranger on port 4011", PXEPort, on4011(packetOf(request, mac(9), pxe(7, ciaddr("10.0.0.70"))...), "10.0.0.70:4011"), 0, ""},
		{"from a network that is not applied", PXEPort, on4011(packetOf(request, known, pxe(7, relay, dhcpv4.WithGatewayIP(ip("192.168.7.1")))...), "192.168.7.9:4011"), 0, ""},
	} {
		t.Run(row.what, func(t *testing.T) {
			out, a := newProxy(t, office()...).ask(row.in, row.port)
			switch {
			case row.kind == 0 && out != nil:
				t.Errorf("answered with %s", a.Summary())
			case row.kind == 0:
			case out == nil:
				t.Error("silence")
			case a.MessageType() != row.kind || out.to.String() != row.to:
				t.Errorf("%s to %s, want %s to %s", a.MessageType(), out.to, row.kind, row.to)
			default:
				lendsNothing(t, a)
			}
		})
	}
	p := newProxy(t, documents()...)
	if out, _ := p.ask(on4011(packetOf(request, known, pxe(7, ciaddr("10.0.0.70"))...), "10.0.0.70:4011"), PXEPort); out != nil {
		t.Error("port 4011 answers on a network that is authoritative")
	}
}

// A client that takes a proxy offer for an address is left alone for a while.
func TestProxyMisled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, office()...)
		asks := on67(packetOf(discover, mac(1), pxe(0)...))
		if out, _ := p.ask(asks, 67); out == nil {
			t.Fatal("no offer")
		}
		if _, a := p.ask(on67(packetOf(request, mac(1), pxe(0, requested("0.0.0.0"), serverID("10.0.0.1"))...)), 67); a.MessageType() != nak {
			t.Fatalf("answered with %s", a.MessageType())
		}
		if out, _ := p.ask(asks, 67); out != nil {
			t.Error("it is misled once more")
		}
		time.Sleep(misledTime)
		if out, _ := p.ask(asks, 67); out == nil {
			t.Error("it is never booted again")
		}
	})
}

func TestProxyDiscovered(t *testing.T) {
	p := newProxy(t, office()...)
	p.ask(on67(packetOf(discover, mac(9), pxe(7)...)), 67)
	p.ask(on67(packetOf(discover, mac(10))), 67) // somebody's laptop
	if seen := p.Discovered(); len(seen) != 1 || seen[0].MAC != mac(9) || seen[0].Arch != "UEFI x64" || seen[0].Network != "lan" {
		t.Errorf("discovered %+v", seen)
	}
}

// What goes by says which machine has which address.
func TestProxyLearns(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.70")
	for _, row := range []struct {
		what string
		port int
		in   inbound
		want bool
	}{
		{"the other server's offer is taken", 67, on67(packetOf(request, mac(9), requested("10.0.0.70"), serverID("10.0.0.2"))), true},
		{"after a reboot", 67, on67(packetOf(request, mac(9), requested("10.0.0.70"))), true},
		{"rebinding", 67, on67(packetOf(request, mac(9), ciaddr("10.0.0.70"))), true},
		{"on port 4011, from there", PXEPort, on4011(packetOf(request, mac(9), ciaddr("10.0.0.70")), "10.0.0.70:4011"), true},
		{"on port 4011, from elsewhere", PXEPort, on4011(packetOf(request, mac(9), ciaddr("10.0.0.70")), "10.0.0.71:4011"), false},
		{"a wish is no lease", 67, on67(packetOf(discover, mac(9), requested("10.0.0.70"))), false},
		{"what we are asked for is not lent", 67, on67(packetOf(request, mac(9), requested("10.0.0.70"), serverID("10.0.0.1"))), false},
		{"an address of another network", 67, on67(packetOf(request, mac(9), requested("10.9.0.70"), serverID("10.0.0.2"))), false},
	} {
		t.Run(row.what, func(t *testing.T) {
			p := newProxy(t, office()...)
			p.ask(row.in, row.port)
			if mac9, ok := p.Owner(a); ok != row.want || ok && mac9 != mac(9) {
				t.Errorf("the owner of %s is %s, %v", a, mac9, ok)
			}
			if has, ok := p.LeaseOf(mac(9)); ok != row.want || ok && has != a {
				t.Errorf("%s has %s, %v", mac(9), has, ok)
			}
		})
	}
}

func TestSightings(t *testing.T) {
	var l sightings
	now := time.Unix(1e9, 0)
	a, b := netip.MustParseAddr("10.0.0.70"), netip.MustParseAddr("10.0.0.71")
	l.see(a, cluster.Identity{MAC: mac(1)}, now, 0, false)
	l.see(a, cluster.Identity{MAC: mac(2)}, now, 0, true)
	if m, _ := l.owner(a, now); m.MAC != mac(1) {
		t.Errorf("a weak sighting gave %s to %s", a, m)
	}
	l.see(a, cluster.Identity{MAC: mac(2)}, now, time.Hour, false)
	if m, _ := l.owner(a, now); m.MAC != mac(2) {
		t.Errorf("the last one does not count: %s has %s", m, a)
	}
	if _, ok := l.address(mac(1), now); ok {
		t.Error("whose address another has keeps it")
	}
	l.see(b, cluster.Identity{MAC: mac(2)}, now, time.Hour, false)
	if _, ok := l.owner(a, now); ok {
		t.Error("a machine has two addresses")
	}
	if _, ok := l.owner(b, now.Add(time.Hour)); ok {
		t.Error("a lease never ends")
	}
	l.see(a, cluster.Identity{MAC: mac(3)}, now.Add(2*time.Hour), 0, true)
	if m, ok := l.owner(a, now.Add(2*time.Hour)); !ok || m.MAC != mac(3) {
		t.Error("a weak sighting does not count where there is no other")
	}
	for i := range seenLimit + 100 {
		l.see(address(0x0a100000+uint32(i)), cluster.Identity{MAC: mac(1000 + i)}, now, 0, false)
	}
	if l.recent.Len() != seenLimit || len(l.byAddr) != seenLimit || len(l.byMAC) != seenLimit {
		t.Errorf("there are %d, %d and %d of them", l.recent.Len(), len(l.byAddr), len(l.byMAC))
	}
}

// What real firmware sent, answered beside another server: the DISCOVERs that
// TestFirmware answers too, and EDK2's question on port 4011 (OVMF 2022.11).
func TestFirmwareBeside(t *testing.T) {
	discovers, _ := filepath.Glob("testdata/firmware/*-discover.hex")
	asks, _ := filepath.Glob("testdata/proxy/*.hex")
	if len(discovers) < 5 || len(asks) < 1 {
		t.Fatalf("packets are missing: %v, %v", discovers, asks)
	}
	for _, name := range slices.Concat(discovers, asks) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data := readHex(t, name)
			docs := office()
			seen(docs, name)
			in, port := inbound{data: data, to: broadcast}, 67
			if strings.HasPrefix(name, "testdata/proxy") {
				in, port = inbound{data: data, from: netip.MustParseAddrPort("10.0.0.70:4011"), to: netip.MustParseAddr("10.0.0.1")}, PXEPort
			}
			got := "silence\n"
			if out, a := newProxy(t, docs...).ask(in, port); out != nil {
				lendsNothing(t, a)
				got = fmt.Sprintf("to %s\n%s", out.to, a.Summary())
			}
			golden := filepath.Join("testdata/proxy", strings.TrimSuffix(filepath.Base(name), ".hex")+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(golden); err != nil || got != string(want) {
				t.Errorf("error %v, got:\n%s\nwant:\n%s", err, got, want)
			}
		})
	}
}

func readHex(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The whole way, from socket to socket, and its end.
func TestServePXE(t *testing.T) {
	s, wire := newProxy(t, office()...).Server, newPipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.ServePXE(ctx, wire) }()
	wire.in <- packetOf(request, mac(1), pxe(7, ciaddr("10.0.0.70"))...).ToBytes()
	answer := <-wire.out
	if a, err := dhcpv4.FromBytes(answer.data); err != nil || a.MessageType() != ack || a.BootFileName != "snponly.efi" {
		t.Errorf("%v, %v", a, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whatever a stranger sends to either port, nothing is lent, and nobody is
// answered whom no document names.
func FuzzBeside(f *testing.F) {
	names, _ := filepath.Glob("testdata/*/*.hex")
	for _, name := range names {
		f.Add(readHex(f, name), true)
		f.Add(readHex(f, name), false)
	}
	docs := office()
	docs[3].(*cluster.Host).MACs = []cluster.MAC{{0x52, 0x54, 0, 0x77, 0, 1}}
	p := newProxy(f, docs...)
	f.Fuzz(func(t *testing.T, data []byte, pxe bool) {
		p.t = t
		port, in := 67, inbound{data: data, to: broadcast}
		if pxe {
			port, in.to, in.from = PXEPort, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddrPort("10.0.0.70:4011")
		}
		out, a := p.ask(in, port)
		if out == nil {
			return
		}
		lendsNothing(t, a)
		if _, ok := p.Snapshot().Identify(cluster.Identity{MAC: cluster.MAC(a.ClientHWAddr)}); !ok {
			t.Errorf("%s is answered", a.ClientHWAddr)
		}
		if pxe && out.to.Addr() != in.from.Addr() {
			t.Errorf("the answer goes to %s", out.to)
		}
	})
}
