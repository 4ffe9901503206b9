package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
)

// desk stands for a server's store of images.
type desk struct {
	err   error
	asked *cluster.Image
	keys  string
}

func (d *desk) Resolve(_ context.Context, i *cluster.Image, keys []byte, noDisk bool, tell ImageProgress) (*cluster.Image, error) {
	d.asked, d.keys = i, string(keys)
	tell("kernel", 5, -1)
	tell("kernel", 10, 10)
	if d.err != nil {
		return nil, d.err
	}
	out := *i
	out.Release, out.Kernel = "1.2", cluster.File{URL: "http://x/kernel", SHA256: "aa"}
	return &out, nil
}

func (d *desk) Fetch(_ context.Context, names []string, tell ImageProgress) ([]ImageStatus, error) {
	tell("kernel", 10, 10)
	return []ImageStatus{{Image: cluster.ImageName(strings.Join(names, "+"))}}, d.err
}

func (d *desk) Verify(context.Context, ImageProgress) (ImageCheck, error) {
	return ImageCheck{Files: 2, Damaged: []string{"x"}}, d.err
}

func (d *desk) Images() []ImageStatus { return []ImageStatus{{Image: "fcos", File: "kernel"}} }

func (d *desk) Collect(context.Context) (ImageCollected, error) {
	return ImageCollected{Files: 3, Bytes: 4}, d.err
}

// TestImages: every call, with what is told meanwhile, and its failures.
func TestImages(t *testing.T) {
	r, d := newRig(t), new(desk)
	r.Server.Images = d
	c, ctx := r.admin(), t.Context()
	var told []int64
	tell := func(_ string, done, total int64) { told = append(told, done, total) }
	in := &cluster.Image{Meta: cluster.Meta{Name: "fcos"}, Stream: "fedora-coreos/stable"}
	got, err := c.ResolveImage(ctx, in, []byte("keys"), false, tell)
	if err != nil || got.Release != "1.2" || got.Kernel.SHA256 != "aa" || d.keys != "keys" || d.asked.Stream != in.Stream {
		t.Errorf("%v, %v", got, err)
	}
	if diff := cmp.Diff([]int64{5, -1, 10, 10}, told); diff != "" {
		t.Error(diff)
	}
	if got, err := c.FetchImages(ctx, []string{"a", "b"}, nil); err != nil || got[0].Image != "a+b" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.VerifyImages(ctx, nil); err != nil || got.Files != 2 || len(got.Damaged) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.Images(ctx); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.CollectImages(ctx); err != nil || got.Files != 3 {
		t.Errorf("%v, %v", got, err)
	}
	audit, err := r.store.AuditLog(ctx, cluster.AuditQuery{})
	if err != nil || len(audit.Entries) != 2 || audit.Entries[0].Action+audit.Entries[1].Action != "image.resolveimage.collect" {
		t.Errorf("audit: %+v, %v", audit.Entries, err)
	}
	d.err = errors.New("no good signature")
	if got, err := c.ResolveImage(ctx, in, nil, false, nil); err == nil || got != nil || err.Error() != "no good signature" {
		t.Errorf("%v, %v", got, err)
	}
	_, err = c.ResolveImage(ctx, &cluster.Image{Meta: cluster.Meta{Name: "own"}}, nil, false, nil)
	if s := new(StatusError); !errors.As(err, &s) || s.Status != http.StatusBadRequest || !strings.Contains(err.Error(), "image own has no stream: to find releases of") {
		t.Error(err)
	}
	host := r.client(r.certificate("host", join.Subject{CommonName: "node:web1"}))
	if _, err := host.Images(ctx); err == nil || !strings.Contains(err.Error(), "this needs an operator's certificate") {
		t.Error(err)
	}
	if _, err := host.ResolveImage(ctx, in, nil, false, nil); err == nil || !strings.Contains(err.Error(), "this needs an operator's certificate") {
		t.Error(err)
	}
}

// lasting is a desk whose files go on for others when who asked has left.
type lasting struct {
	desk
	told chan ImageProgress
}

// Fetch implements Images.
func (l *lasting) Fetch(_ context.Context, _ []string, tell ImageProgress) ([]ImageStatus, error) {
	l.told <- tell
	return nil, nil
}

// A file that goes on tells also those whose answer has ended.
func TestProgressAfterTheAnswer(t *testing.T) {
	r := newRig(t)
	d := &lasting{told: make(chan ImageProgress, 1)}
	r.Server.Images = d
	if _, err := r.admin().FetchImages(t.Context(), nil, func(string, int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	tell := <-d.told
	for range 100 { // a finished answer is not to be written to
		tell("kernel", 1, 1)
	}
}
