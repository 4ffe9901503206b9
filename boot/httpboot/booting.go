package httpboot

import (
	"net/netip"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// bootKeeps is how long a machine goes on with the files that its script names,
// though its image has changed since: as long as the longest installation.
const bootKeeps = 2 * time.Hour

// booting knows with which image each machine's boot began. A kernel of one release
// with the root file system of the next one does not boot.
type booting struct {
	mu     sync.Mutex
	images map[netip.Addr]began
}

type began struct {
	image *cluster.Image
	at    time.Time
}

// begin notes that a machine's boot begins with an image.
func (b *booting) begin(from netip.Addr, image *cluster.Image, now time.Time) {
	if image == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.images == nil {
		b.images = map[netip.Addr]began{}
	}
	if len(b.images)%1024 == 1023 { // now and then
		for a, o := range b.images {
			if now.Sub(o.at) > bootKeeps {
				delete(b.images, a)
			}
		}
	}
	b.images[from] = began{image, now}
}

// of returns the image of a name with which a machine's boot began.
func (b *booting) of(from netip.Addr, name string, now time.Time) (*cluster.Image, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.images[from]
	if !ok || o.image.Name != name || now.Sub(o.at) > bootKeeps {
		return nil, false
	}
	return o.image, true
}

// inUse returns the images of all boots that may not be done.
func (b *booting) inUse(now time.Time) (out []*cluster.Image) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.images {
		if now.Sub(o.at) <= bootKeeps {
			out = append(out, o.image)
		}
	}
	return out
}

// InUse returns the images with which boots began that may not be done yet: their
// files are needed, whatever is applied by now.
func (h *Handler) InUse() []*cluster.Image { return h.booting.inUse(time.Now()) }

// imageFor is the image of a name for a machine: the one that its boot began with,
// or else the one that is applied.
func (h *Handler) imageFor(from netip.Addr, name string) (*cluster.Image, bool) {
	if i, ok := h.booting.of(from, name, time.Now()); ok {
		return i, true
	}
	d, ok := h.Snapshot().Get(cluster.Ref{Kind: cluster.KindImage, Name: name})
	if !ok {
		return nil, false
	}
	return d.(*cluster.Image), true
}
