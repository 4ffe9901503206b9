package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/assets"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/cluster"
)

// Open implements httpboot.Files: what is on its way is not there yet, and
// asking again helps.
func (b *bootServices) Open(ctx context.Context, f cluster.File) (*os.File, error) {
	file, err := b.files.Open(ctx, f)
	if errors.Is(err, assets.ErrNotFetched) || errors.Is(err, assets.ErrDamaged) {
		b.images.look()
		return nil, fmt.Errorf("%w: %w", httpboot.ErrNotReady, err)
	}
	return file, err
}

// images wakes keepImages, and knows what it could not fetch.
type images struct {
	changed chan struct{}
	mu      sync.Mutex
	failed  map[cluster.File]error
}

func newImages() *images {
	return &images{changed: make(chan struct{}, 1), failed: map[cluster.File]error{}}
}

func (i *images) note(f cluster.File, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err == nil {
		delete(i.failed, f)
		return
	}
	i.failed[f] = err
}

func (i *images) failure(f cluster.File) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.failed[f]
}

// keep forgets what is of no image any more.
func (i *images) keep(files []cluster.File) {
	i.mu.Lock()
	defer i.mu.Unlock()
	maps.DeleteFunc(i.failed, func(f cluster.File, _ error) bool { return !slices.Contains(files, f) })
}

func (i *images) look() {
	select {
	case i.changed <- struct{}{}:
	default:
	}
}

// imagesAgain is how long after a failure an image's files are tried again.
const imagesAgain = 30 * time.Second

// keepImages brings the files of every image that is applied into the store, so
// that the first machine need not wait for them, and removes those of no image.
func (b *bootServices) keepImages(ctx context.Context) {
	b.images.look()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.images.changed:
		}
		for !b.fetchImages(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-b.images.changed:
			case <-time.After(imagesAgain):
			}
		}
	}
}

// fetchImages reports whether every file is there.
func (b *bootServices) fetchImages(ctx context.Context) bool {
	keep := []cluster.File{b.agent.file}
	whole := true
	for _, d := range b.s.Snapshot().Documents(cluster.KindImage) {
		image := d.(*cluster.Image)
		for _, f := range filesOf(image) {
			keep = append(keep, f.File)
			_, err := b.files.Fetch(ctx, f.File, nil)
			if ctx.Err() != nil {
				return false
			}
			b.images.note(f.File, err)
			if err != nil {
				b.s.log.Error("a file of an image is not there: its machines wait", "image", image.Name, "file", f.field, "url", f.URL, "err", err)
				whole = false
			}
		}
	}
	b.images.keep(keep)
	if whole && ctx.Err() == nil {
		if _, err := b.files.Collect(keep); err != nil {
			b.s.log.Warn("files of old images are not removed", "err", err)
		}
	}
	return whole
}

// imageFile is a file of an image, and the field that names it.
type imageFile struct {
	field string
	cluster.File
}

func filesOf(image *cluster.Image) []imageFile {
	out := []imageFile{{"kernel", image.Kernel}}
	for n, f := range image.Initrd {
		out = append(out, imageFile{fmt.Sprintf("initrd[%d]", n), f})
	}
	if image.Rootfs != nil {
		out = append(out, imageFile{"rootfs", *image.Rootfs})
	}
	if image.FDT != nil {
		out = append(out, imageFile{"fdt", *image.FDT})
	}
	return out
}

// lacking says of each file of an image that cannot be served now why.
func (b *bootServices) lacking(image *cluster.Image) (out []string) {
	for _, f := range filesOf(image) {
		if err := b.lack(f.File); err != nil {
			out = append(out, fmt.Sprintf("%s cannot be served now: %v", f.field, err))
		}
	}
	return out
}

func (b *bootServices) lack(f cluster.File) error {
	err, before := b.files.Lack(f), b.images.failure(f)
	missing := errors.Is(err, assets.ErrNotFetched)
	switch {
	case b.files.Has(f):
		return nil
	case missing && before == nil:
		return fmt.Errorf("it is on its way from %s", f.URL)
	case missing, err == nil && (errors.Is(before, assets.ErrMismatch) || errors.Is(before, assets.ErrDiskFull)):
		return before
	}
	return err
}
