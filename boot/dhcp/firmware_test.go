package dhcp

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

var update = flag.Bool("update", false, "write testdata/firmware/*.golden anew")

// answerTo is the pure part of a packet's way: decoded, decided, encoded.
func answerTo(t testing.TB, data []byte, docs ...cluster.Document) (*exchange, *dhcpv4.DHCPv4) {
	t.Helper()
	snap := cluster.NewSnapshot(1, docs)
	s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, Loaders: loaders, HTTPPort: 8080}
	s.init()
	s.places.local = netip.MustParseAddr("10.0.0.1")
	m, err := decode(inbound{data: data})
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.exchange(m, &s.places)
	if err != nil {
		t.Fatal(err)
	}
	e.identify()
	e.decide()
	kind := dhcpv4.MessageTypeOffer
	if m.kind == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
	}
	p, err := dhcpv4.FromBytes(e.encode(kind, netip.MustParseAddr("10.0.0.50"), e.leaseTime()).data)
	if err != nil {
		t.Fatal(err)
	}
	return e, p
}

// The packets were sent by QEMU 7.2's iPXE ROM (1.0.0+git-20190125) on SeaBIOS,
// by OVMF 2022.11 booting by PXE and by HTTP, by Debian's snponly.efi that both
// then ran, and by busybox's udhcpc in an initial RAM disk; by OVMF for IA32 and by
// AAVMF, of the same release, likewise; by U-Boot 2023.01 for QEMU's arm64 and x86
// boards. The Raspberry Pi's are made as its documentation has them, and that of an
// old iPXE by leaving features out.
func TestFirmware(t *testing.T) {
	files, err := filepath.Glob("testdata/firmware/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no packets: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			data, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
			if err != nil {
				t.Fatal(err)
			}
			docs := documents()
			seen(docs, name)
			docs[3].(*cluster.Host).UUID = "12345678-9abc-def0-1122-334455667788"
			e, p := answerTo(t, data, docs...)
			q := e.m.request
			got := fmt.Sprintf("who: %s uuid=%s class=%q ipxe=%v arch=%s features=%x\nwhat: %s\n%s",
				q.MAC, q.UUID, q.Class, q.IPXE, q.Arch(), q.Features, e.reply.Why, p.Summary())
			golden := strings.TrimSuffix(name, ".hex") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || got != string(want) {
				t.Errorf("error %v, got:\n%s\nwant:\n%s", err, got, want)
			}
			if n := len(p.ToBytes()); n > 548 {
				t.Errorf("the answer has %d bytes; a client that does not say more takes 548", n)
			}
		})
	}
}

// seen makes web1 the machine that sent a packet, with an image for it.
func seen(docs []cluster.Document, name string) {
	docs[3].(*cluster.Host).MACs = []cluster.MAC{{0x52, 0x54, 0, 0x77, 0, 1}, {0x52, 0x52, 0x52, 0x52, 0x52, 0x52}, {0xdc, 0xa6, 0x32, 1, 0x36, 0xc2}}
	for _, of := range []string{"aavmf", "arm64", "pi4"} {
		if strings.Contains(name, of) {
			docs[1].(*cluster.Image).Arch = cluster.AArch64
		}
	}
}

// Each row is what one firmware needs said, or not said.
func TestBootOptions(t *testing.T) {
	pxe := func(arch byte) []dhcpv4.Modifier {
		return []dhcpv4.Modifier{with(60, fmt.Appendf(nil, "PXEClient:Arch:%05d:UNDI:003016", arch)...), with(93, 0, arch), with(55, 1, 3, 43, 60, 66, 67)}
	}
	http := []dhcpv4.Modifier{with(60, []byte("HTTPClient:Arch:00016:UNDI:003001")...), with(93, 0, 16)}
	ipxe := append(pxe(0), with(77, []byte("iPXE")...), with(175, 0x13, 1, 1, 0x18, 1, 1))
	id := append([]byte{0}, bytes.Repeat([]byte{7}, 16)...)
	const script = "http://10.0.0.1:8080/boot.ipxe"
	for _, row := range []struct {
		quirk  string
		mods   []dhcpv4.Modifier
		file   string
		has    map[uint8]string
		hasNot []uint8
	}{
		{"BIOS boots the file now: 43.6 = 8 with option 60", pxe(0), "undionly.kpxe", map[uint8]string{60: "PXEClient", 43: "\x06\x01\x08\xff", 66: "10.0.0.1\x00", 67: "undionly.kpxe\x00"}, []uint8{175}},
		{"EDK2 takes option 60 for a server on port 4011, so it gets none", pxe(7), "snponly.efi", map[uint8]string{66: "10.0.0.1\x00", 67: "snponly.efi\x00"}, []uint8{60, 43, 175}},
		{"EBC is x64", pxe(9), "snponly.efi", map[uint8]string{67: "snponly.efi\x00"}, []uint8{60, 43}},
		{"UEFI HTTP Boot drops what does not say HTTPClient", http, "http://10.0.0.1:8080/loaders/snponly.efi", map[uint8]string{60: "HTTPClient", 67: "http://10.0.0.1:8080/loaders/snponly.efi\x00"}, []uint8{43}},
		{"iPXE does not wait for proxy DHCP, and gets no option 43", ipxe, script, map[uint8]string{175: "\xb0\x01\x01", 67: script + "\x00"}, []uint8{43, 60}},
		{"iPXE's user class as RFC 3004 has it", append(pxe(7), with(77, append([]byte{4}, "iPXE"...)...)), script, map[uint8]string{175: "\xb0\x01\x01"}, []uint8{43}},
		{"gPXE is firmware like any other", append(pxe(0), with(77, []byte("gPXE")...)), "undionly.kpxe", nil, []uint8{175}},
		{"option 93 is missing, and the vendor class says the same", []dhcpv4.Modifier{with(60, []byte("PXEClient:Arch:00007:UNDI:003016")...)}, "snponly.efi", nil, []uint8{43}},
		{"option 97 comes back", append(pxe(7), with(97, id...)), "snponly.efi", map[uint8]string{97: string(id)}, nil},
		{"option 97 of a wrong length does not", append(pxe(7), with(97, 0, 1, 2)), "snponly.efi", nil, []uint8{97}},
		{"option 97 of a wrong type does not", append(pxe(7), with(97, bytes.Repeat([]byte{7}, 17)...)), "snponly.efi", nil, []uint8{97}},
		{"UEFI IA32 is like x64", pxe(6), "grubnetia32.efi", map[uint8]string{67: "grubnetia32.efi\x00"}, []uint8{60, 43}},
		{"UEFI by HTTP gets no name servers, for GRUB's sake", []dhcpv4.Modifier{with(60, []byte("HTTPClient:Arch:00015:UNDI:003000")...), with(93, 0, 15), with(55, 1, 3, 6, 67)}, "http://10.0.0.1:8080/loaders/grubia32-http.efi", map[uint8]string{60: "HTTPClient"}, []uint8{6, 43}},
		{"U-Boot on x86 sends no option 93", []dhcpv4.Modifier{with(60, []byte("U-Boot")...)}, "boot.scr.uimg", map[uint8]string{66: "10.0.0.1\x00"}, []uint8{43, 60, 175}},
		{"an operating system gets nothing to boot", nil, "", nil, []uint8{43, 60, 66, 67, 175}},
	} {
		t.Run(row.quirk, func(t *testing.T) {
			_, p := answerTo(t, packetOf(discover, mac(1), row.mods...).ToBytes(), documents()...)
			if p.BootFileName != row.file {
				t.Errorf("file is %q, want %q", p.BootFileName, row.file)
			}
			if row.file != "" && (p.ServerIPAddr.String() != "10.0.0.1" || p.ServerHostName != "10.0.0.1") {
				t.Errorf("siaddr is %s and sname %q", p.ServerIPAddr, p.ServerHostName)
			}
			for code, want := range row.has {
				if got := string(p.Options[code]); got != want {
					t.Errorf("option %d is %q, want %q", code, got, want)
				}
			}
			for _, code := range row.hasNot {
				if got, ok := p.Options[code]; ok {
					t.Errorf("option %d is %q, and must not be there", code, got)
				}
			}
		})
	}
}

func TestFrame(t *testing.T) {
	p := outbound{
		data: []byte("odd"), to: netip.MustParseAddrPort("10.0.0.50:68"), from: netip.MustParseAddr("10.0.0.1"),
		mac: cluster.MAC{0x52, 0x54, 0, 0, 0, 1},
	}
	const want = "525400000001" + "525400000002" + "0800" +
		"4500001f000040004011269c0a0000010a000032" +
		"00430044000b17ba" + "6f6464"
	b := frame(p, cluster.MAC{0x52, 0x54, 0, 0, 0, 2})
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if fold(sum(0, b[14:34])) != 0 {
		t.Error("the IPv4 header's checksum is wrong")
	}
	if fold(sum(sum(17+11, b[26:34]), b[34:])) != 0 {
		t.Error("UDP's checksum is wrong")
	}
}

func FuzzAnswer(f *testing.F) {
	files, _ := filepath.Glob("testdata/firmware/*.hex")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		data, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	snap := cluster.NewSnapshot(1, documents(&cluster.Host{
		Meta: cluster.Meta{Name: "golden"}, MACs: []cluster.MAC{{0x52, 0x54, 0, 0x77, 0, 1}}, Profile: "web",
	}))
	s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, Loaders: loaders, Leases: new(memory), HTTPPort: 8080, Recorder: new(boot.Recorder)}
	s.init()
	s.places.local = netip.MustParseAddr("10.0.0.1")
	w, err := newWire(newPipe())
	if err != nil {
		f.Fatal(err)
	}
	c := &committer{server: s, wire: w, queue: make(chan change, queueLimit)}
	f.Fuzz(func(t *testing.T, data []byte) {
		out := s.answer(inbound{data: data}, c)
		for len(c.queue) > 0 {
			c.commit(context.Background(), c.gather())
		}
		if out == nil {
			return
		}
		p, err := dhcpv4.FromBytes(out.data)
		if err != nil {
			t.Fatalf("our own answer cannot be read: %v", err)
		}
		if q, err := dhcpv4.FromBytes(data); err == nil {
			if wrong := goesWhere(out.to, q, p); wrong != "" {
				t.Error(wrong)
			}
		}
		if y := addr4(p.YourIPAddr); y.IsValid() && !snap.Networks()[0].CIDR.Contains(y) {
			t.Fatalf("%s is not on the network", y)
		}
	})
}
