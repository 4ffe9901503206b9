package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
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
	resolve sync.RWMutex               // held by who resolves: its files are of no image yet; and to collect
	pins    map[cluster.File]time.Time // when what was not applied yet was pinned
}

// pinKept is how long the files of an image are kept that was pinned and is not
// applied.
const pinKept = 24 * time.Hour

// pin notes that an image was pinned.
func (i *images) pin(image *cluster.Image, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, f := range image.Files() {
		i.pins[f.File] = now
	}
}

// pinned returns the files of images that were pinned and may be applied yet.
func (i *images) pinned(now time.Time) (out []cluster.File) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for f, at := range i.pins {
		if now.Sub(at) > pinKept {
			delete(i.pins, f)
			continue
		}
		out = append(out, f)
	}
	return out
}

func newImages() *images {
	return &images{changed: make(chan struct{}, 1), failed: map[cluster.File]error{}, pins: map[cluster.File]time.Time{}}
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

// imagesLook is how often it is looked whether old files may go.
const imagesLook = time.Hour

// keepImages brings the files of every image that is applied into the store, so
// that the first machine need not wait for them, and removes those of no image.
func (b *bootServices) keepImages(ctx context.Context) {
	b.images.look()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.images.changed:
		case <-time.After(imagesLook):
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
	var (
		missing atomic.Bool
		all     sync.WaitGroup
		files   []cluster.File
	)
	for _, d := range b.s.Snapshot().Documents(cluster.KindImage) {
		image := d.(*cluster.Image)
		for _, f := range image.Files() {
			files = append(files, f.File)
			all.Go(func() {
				_, err := b.files.Fetch(ctx, f.File, nil)
				if ctx.Err() != nil {
					return
				}
				b.images.note(f.File, err)
				if err != nil {
					b.s.log.Error("a file of an image is not there: its machines wait", "image", image.Name, "file", f.Field, "url", f.URL, "err", err)
					missing.Store(true)
				}
			})
		}
	}
	all.Wait()
	if ctx.Err() != nil {
		return false
	}
	b.images.keep(files)
	if missing.Load() {
		return false
	}
	if !b.images.resolve.TryLock() {
		return true // who resolves has it done afterwards
	}
	defer b.images.resolve.Unlock()
	if _, err := b.files.Collect(b.needed()); err != nil {
		b.s.log.Warn("files of old images are not removed", "err", err)
	}
	return true
}

// needed are the files that are kept: those of images that are applied, of boots
// that began with an older one, and of images that were pinned just now and may be
// applied yet.
func (b *bootServices) needed() []cluster.File {
	keep := append(b.images.pinned(time.Now()), b.agent.file)
	add := func(i *cluster.Image) {
		for _, f := range i.Files() {
			keep = append(keep, f.File)
		}
	}
	for _, d := range b.s.Snapshot().Documents(cluster.KindImage) {
		add(d.(*cluster.Image))
	}
	for _, i := range b.http.InUse() {
		add(i)
	}
	return keep
}

// lacking says of each file of an image that cannot be served now why.
func (b *bootServices) lacking(image *cluster.Image) (out []string) {
	for _, f := range image.Files() {
		if err := b.lack(f.File); err != nil {
			out = append(out, fmt.Sprintf("%s cannot be served now: %v", f.Field, err))
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
