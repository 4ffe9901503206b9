package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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

// images wakes keepImages.
type images struct{ changed chan struct{} }

func newImages() images { return images{make(chan struct{}, 1)} }

func (i images) look() {
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
		files := append([]cluster.File{image.Kernel}, image.Initrd...)
		if image.Rootfs != nil {
			files = append(files, *image.Rootfs)
		}
		for _, f := range files {
			keep = append(keep, f)
			if _, err := b.files.Fetch(ctx, f, nil); err != nil && ctx.Err() == nil {
				b.s.log.Error("a file of an image is not there: its machines wait", "image", image.Name, "url", f.URL, "err", err)
				whole = false
			}
		}
	}
	if whole && ctx.Err() == nil {
		if _, err := b.files.Collect(keep); err != nil {
			b.s.log.Warn("files of old images are not removed", "err", err)
		}
	}
	return whole
}
