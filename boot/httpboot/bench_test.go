package httpboot_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/cluster"
)

// BenchmarkScript is what a machine's script costs beside what net/http takes,
// with so many hosts: no request looks through them.
func BenchmarkScript(b *testing.B) {
	for _, hosts := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			docs := []cluster.Document{
				&cluster.Network{Meta: cluster.Meta{Name: "lan"}, CIDR: netip.MustParsePrefix("10.0.0.0/8"), DHCP: cluster.DHCPAuthoritative},
				&cluster.Image{Meta: cluster.Meta{Name: "node"}, Kernel: cluster.File{URL: "kernel", SHA256: "aa"}},
				&cluster.Profile{Meta: cluster.Meta{Name: "web"}, Image: "node", Args: []string{"config={{.ConfigURL}}"}},
			}
			for i := range hosts {
				docs = append(docs, &cluster.Host{
					Meta: cluster.Meta{Name: fmt.Sprintf("h%d", i)}, MACs: []cluster.MAC{{2, 7, 0, byte(i >> 16), byte(i >> 8), byte(i)}}, Profile: "web",
				})
			}
			snap := cluster.NewSnapshot(1, docs)
			own := cluster.MAC{2, 7, 0, 0, 0, 0}
			h := &httpboot.Handler{
				Snapshot: func() *cluster.Snapshot { return snap },
				Owner:    func(netip.Addr) (cluster.Identity, bool) { return cluster.Identity{MAC: own}, true },
				HTTPPort: 8080, Recorder: new(boot.Recorder),
			}
			q := httptest.NewRequest("GET", "/ipxe?platform=efi&mac="+own.Hyphens(), nil)
			q.RemoteAddr = "10.0.0.9:1"
			q = q.WithContext(context.WithValue(q.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 8080})))
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, q); w.Code != http.StatusOK {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
