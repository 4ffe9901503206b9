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
// asking again helps. What could not be fetched is tried again at its time, however
// often it is asked for.
func (b *bootServices) Open(ctx context.Context, f cluster.File) (*os.File, error) {
	file, err := b.files.Open(ctx, f)
	if errors.Is(err, assets.ErrNotFetched) || errors.Is(err, assets.ErrDamaged) {
		if b.images.failure(f) == nil {
			b.images.look()
		}
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
func (i *images) keep(files []imageFile) {
	i.mu.Lock()
	defer i.mu.Unlock()
	maps.DeleteFunc(i.failed, func(f cluster.File, _ error) bool {
		return !slices.ContainsFunc(files, func(w imageFile) bool { return w.File == f })
	})
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
// that the first machine need not wait for them, and removes those of no image. Each
// file is fetched on its own: what is slow holds nothing else back. How many are at a
// time is for the store to say.
func (b *bootServices) keepImages(ctx context.Context) {
	f := newFetches(b.fetchFile, b.files.Has)
	defer f.all.Wait()
	var again <-chan time.Time
	for retrying := false; ; {
		files := b.imageFiles()
		b.images.keep(files)
		f.start(ctx, files)
		switch missing := len(f.missing) > 0; {
		case missing && !retrying:
			again = time.After(imagesAgain)
		case missing:
		case len(f.running) > 0:
			again = nil // its end wakes
		default:
			b.tidyImages()
			clear(f.there)
			again = time.After(imagesLook)
		}
		retrying = len(f.missing) > 0
		select {
		case <-ctx.Done():
			return
		case e := <-f.ended:
			f.end(e)
		case <-b.images.changed:
			f.doubt()
		case <-again:
			retrying = false
			f.doubt()
		}
	}
}

// imageFile is a file of an image that is applied.
type imageFile struct {
	image string
	field string
	cluster.File
}

func (b *bootServices) imageFiles() (files []imageFile) {
	for _, d := range b.s.Snapshot().Documents(cluster.KindImage) {
		image := d.(*cluster.Image)
		for _, f := range image.Files() {
			files = append(files, imageFile{image.Name, f.Field, f.File})
		}
	}
	return files
}

func (b *bootServices) fetchFile(ctx context.Context, f imageFile) error {
	_, err := b.files.Fetch(ctx, f.File, nil)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.images.note(f.File, err)
	if err != nil {
		b.s.log.Error("a file of an image is not there: its machines wait", "image", f.image, "file", f.field, "url", f.URL, "err", err)
	}
	return err
}

// tidyImages removes what is of no image any more, when every file is there.
func (b *bootServices) tidyImages() {
	if !b.images.resolve.TryLock() {
		return // who resolves has it done afterwards
	}
	defer b.images.resolve.Unlock()
	if _, err := b.files.Collect(b.needed()); err != nil {
		b.s.log.Warn("files of old images are not removed", "err", err)
	}
}

// fetches are the downloads of images' files. One goroutine has it.
type fetches struct {
	fetch   func(context.Context, imageFile) error
	has     func(cluster.File) bool
	all     sync.WaitGroup // each ends with the context that it was started with
	ended   chan fetchEnd
	running map[cluster.File]bool
	there   map[cluster.File]bool // since all were looked at last
	missing map[cluster.File]bool // that failed, until they are tried again
}

type fetchEnd struct {
	file cluster.File
	err  error
}

func newFetches(fetch func(context.Context, imageFile) error, has func(cluster.File) bool) *fetches {
	return &fetches{
		fetch: fetch, has: has, ended: make(chan fetchEnd),
		running: map[cluster.File]bool{}, there: map[cluster.File]bool{}, missing: map[cluster.File]bool{},
	}
}

// start begins with the files that are neither on their way nor known to be there,
// and did not fail just now; and forgets failures of files that are not wanted.
func (f *fetches) start(ctx context.Context, files []imageFile) {
	wanted := map[cluster.File]bool{}
	for _, file := range files {
		one := file.File
		wanted[one] = true
		if f.running[one] || f.missing[one] || f.there[one] {
			continue
		}
		f.running[one] = true
		f.all.Go(func() {
			err := f.fetch(ctx, file)
			select {
			case f.ended <- fetchEnd{one, err}:
			case <-ctx.Done():
			}
		})
	}
	maps.DeleteFunc(f.missing, func(one cluster.File, _ bool) bool { return !wanted[one] })
}

// doubt has what failed tried again, and what is gone fetched again.
func (f *fetches) doubt() {
	clear(f.missing)
	maps.DeleteFunc(f.there, func(one cluster.File, _ bool) bool { return !f.has(one) })
}

func (f *fetches) end(e fetchEnd) {
	delete(f.running, e.file)
	if e.err != nil {
		f.missing[e.file] = true
		return
	}
	f.there[e.file] = true
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
