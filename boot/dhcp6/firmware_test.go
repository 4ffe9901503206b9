package dhcp6

import (
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

var update = flag.Bool("update", false, "write testdata/firmware/*.golden anew")

// The packets were sent by OVMF 2022.11 booting by PXE over IPv6, and by Debian's
// snponly.efi (iPXE 1.0.0+git-20190125) that it then ran. OVMF asks twice, each time
// with another IAID: for its network, because the advertisement says so, and to
// boot. It gives both back, the first while it loads, and has the same address for
// both: so what is released may be in use, until iPXE asks for it again. iPXE's DUID
// is the SMBIOS UUID, which QEMU leaves at zero.
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
			card := cluster.MAC{0x52, 0x54, 0, 0x77, 0, 1}
			docs[6].(*cluster.Host).MACs = []cluster.MAC{card}
			snap := cluster.NewSnapshot(1, docs)
			s := &Server{Snapshot: func() *cluster.Snapshot { return snap }, DUID: ourDUID, Loaders: loaders, HTTPPort: 8080}
			s.init()
			s.places.local = addr("fd00::1")
			e := s.begin(inbound{data: data, from: netip.AddrPortFrom(linkLocal(card), clientPort)})
			if e == nil {
				t.Fatal("it is dropped")
			}
			e.identify()
			e.decide()
			got := fmt.Sprintf("asks: %s\nwho: %s uuid=%s class=%q ipxe=%v arch=%s\nwhat: %s\n%s\n",
				e.m.packet.Summary(), e.m.mac, e.m.UUID, e.m.Class, e.m.IPXE, e.m.Arch(), e.reply.Why, e.advertise().summary(t))
			golden := strings.TrimSuffix(name, ".hex") + ".golden"
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
