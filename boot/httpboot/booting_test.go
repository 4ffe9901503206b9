package httpboot_test

import (
	"io"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// TestBootGoesOnWithItsImage: an image that changes while a machine boots does not
// give it a kernel of the one release and an initial RAM disk of the other.
func TestBootGoesOnWithItsImage(t *testing.T) {
	r := newRig(t)
	before := r.handler.Snapshot()
	if got := r.handler.InUse(); len(got) > 0 {
		t.Errorf("in use before anything boots: %v", got)
	}
	if w := r.do("GET", "/ipxe?mac="+mac1.Hyphens(), addr1); w.Code != 200 {
		t.Fatal(w.Body)
	}
	var docs []cluster.Document
	for _, d := range before.Documents() {
		if i, ok := d.(*cluster.Image); ok && i.Name == "node" {
			d = &cluster.Image{Meta: i.Meta, Kernel: cluster.File{URL: "initrd1"}, Initrd: []cluster.File{{URL: "agent"}}}
		}
		docs = append(docs, d)
	}
	after := cluster.NewSnapshot(2, docs)
	r.handler.Snapshot = func() *cluster.Snapshot { return after }
	for path, want := range map[string]string{"/images/node/kernel": "the kernel", "/images/node/initrd/1": "second"} {
		if w := r.do("GET", path, addr1); w.Body.String() != want {
			t.Errorf("%s of the boot that had begun: %d %q", path, w.Code, w.Body)
		}
	}
	f, err := r.handler.File(t.Context(), addr1, boot.Server{}, "images/node/kernel")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "the kernel" {
		t.Errorf("by TFTP: %q, %v", b, err)
	}
	if w := r.do("GET", "/images/node/kernel", addr2); w.Body.String() != "second" {
		t.Errorf("another machine: %q", w.Body)
	}
	if got := r.handler.InUse(); len(got) != 1 || got[0].Kernel.URL != "kernel" {
		t.Errorf("in use: %v", got)
	}
	if w := r.do("GET", "/ipxe?mac="+mac1.Hyphens(), addr1); w.Code != 200 {
		t.Fatal(w.Body)
	}
	if w := r.do("GET", "/images/node/kernel", addr1); w.Body.String() != "second" {
		t.Errorf("the next boot: %q", w.Body)
	}
}
