package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/assets/release"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
)

// imageDesk is the operators' side of the store of images. It implements
// api.Images.
type imageDesk struct{ b *bootServices }

// Resolve implements api.Images.
func (d imageDesk) Resolve(ctx context.Context, image *cluster.Image, keys []byte, noDisk bool, tell api.ImageProgress) (*cluster.Image, error) {
	r := &release.Resolver{Files: d.b.files, NoDisk: noDisk}
	if len(keys) > 0 {
		ring, err := release.ReadKeys("the keys of --keys", keys)
		if err != nil {
			return nil, err
		}
		r.Keys = &ring
	}
	defer d.b.images.look() // what was left lying meanwhile is collected
	d.b.images.resolve.RLock()
	defer d.b.images.resolve.RUnlock()
	out, err := r.Resolve(ctx, image, release.Progress(tell))
	if err != nil {
		return nil, err
	}
	d.b.images.pin(out, time.Now())
	return out, nil
}

// Fetch implements api.Images.
func (d imageDesk) Fetch(ctx context.Context, names []string, tell api.ImageProgress) ([]api.ImageStatus, error) {
	var images []*cluster.Image
	snap := d.b.s.Snapshot()
	for _, doc := range snap.Documents(cluster.KindImage) {
		if i := doc.(*cluster.Image); len(names) == 0 || slices.Contains(names, i.Name) {
			images = append(images, i)
		}
	}
	for _, n := range names {
		if _, ok := snap.Get(cluster.Ref{Kind: cluster.KindImage, Name: n}); !ok {
			return nil, &api.StatusError{Status: http.StatusNotFound, Err: fmt.Errorf("there is no image %q; `pilotlight image list` shows the images", n)}
		}
	}
	var (
		mu   sync.Mutex
		errs []error
		all  sync.WaitGroup
	)
	for _, i := range images {
		for _, f := range i.Files() {
			all.Go(func() {
				_, err := d.b.files.Fetch(ctx, f.File, func(done, total int64) { tell(i.Name+" "+f.Field, done, total) })
				if ctx.Err() == nil {
					d.b.images.note(f.File, err)
				}
				if err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, fmt.Errorf("image %s: %s: %w", i.Name, f.Field, err))
				}
			})
		}
	}
	all.Wait()
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return statusOf(d.b, images...), nil
}

// Verify implements api.Images. What was damaged is fetched again.
func (d imageDesk) Verify(ctx context.Context, tell api.ImageProgress) (out api.ImageCheck, err error) {
	found, err := d.b.files.Verify(ctx, func(done, total int64) { tell("all files", done, total) })
	if err != nil {
		return out, err
	}
	out.Files, out.Bytes = found.Blobs, found.Bytes
	for _, bad := range found.Damaged {
		out.Damaged = append(out.Damaged, bad.Err.Error())
	}
	if len(out.Damaged) > 0 {
		d.b.images.look()
	}
	return out, nil
}

// Images implements api.Images.
func (d imageDesk) Images() []api.ImageStatus {
	var images []*cluster.Image
	for _, doc := range d.b.s.Snapshot().Documents(cluster.KindImage) {
		images = append(images, doc.(*cluster.Image))
	}
	return statusOf(d.b, images...)
}

func statusOf(b *bootServices, images ...*cluster.Image) []api.ImageStatus {
	out := []api.ImageStatus{}
	for _, i := range images {
		for _, f := range i.Files() {
			s := api.ImageStatus{
				Image: cluster.ImageName(i.Name), Stream: i.Stream, Release: i.Release, SignedBy: i.SignedBy,
				File: f.Field, URL: f.URL, SHA256: f.SHA256, Size: b.files.Size(f.File),
			}
			if err := b.lack(f.File); err != nil {
				s.Lack = err.Error()
			}
			out = append(out, s)
		}
	}
	return out
}

// Collect implements api.Images.
func (d imageDesk) Collect(context.Context) (out api.ImageCollected, err error) {
	if !d.b.images.resolve.TryLock() {
		return out, &api.StatusError{Status: http.StatusConflict, Err: errors.New("an image is being resolved, and its files are of no image yet: try again when that is done")}
	}
	defer d.b.images.resolve.Unlock()
	gone, err := d.b.files.Collect(d.b.needed())
	if err != nil {
		return out, err
	}
	return api.ImageCollected{Files: gone.Files, Bytes: gone.Bytes}, nil
}
