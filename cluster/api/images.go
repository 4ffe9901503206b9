package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// Images is the files of OS images on the server that is asked.
type Images interface {
	// Resolve pins an image with a stream: its files are there when it returns. keys
	// are public keys that are believed in place of the publisher's own; none are
	// those.
	Resolve(ctx context.Context, image *cluster.Image, keys []byte, noDisk bool, tell ImageProgress) (*cluster.Image, error)
	Fetch(ctx context.Context, names []string, tell ImageProgress) ([]ImageStatus, error) // of all images when none is named
	Verify(ctx context.Context, tell ImageProgress) (ImageCheck, error)
	Images() []ImageStatus
	Collect(ctx context.Context) (ImageCollected, error)
}

// ImageProgress is told how much of a file there is; total is -1 while that is not
// known.
type ImageProgress func(file string, done, total int64)

// ImageStatus is one line of `image list`: a file of an image that is applied.
type ImageStatus struct {
	Image    cluster.ImageName `json:"image"`
	Stream   string            `json:"stream,omitempty"`
	Release  string            `json:"release,omitempty"`
	SignedBy string            `json:"signed_by,omitempty"`
	File     string            `json:"file"` // the field that names it
	URL      string            `json:"url"`
	SHA256   string            `json:"sha256,omitempty"`
	Size     int64             `json:"size,omitempty"`
	Lack     string            `json:"lack,omitempty"` // why it cannot be served now
}

// ImageCheck is what `image verify` found.
type ImageCheck struct {
	Files   int      `json:"files"` // that are what they should be
	Bytes   int64    `json:"bytes"`
	Damaged []string `json:"damaged,omitempty"` // what was not, and was moved aside
}

// ImageCollected is what `image collect` removed.
type ImageCollected struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// ResolveRequest asks for an image to be pinned.
type ResolveRequest struct {
	Image  json.RawMessage `json:"image"`
	Keys   string          `json:"keys,omitempty"`
	NoDisk bool            `json:"no_disk,omitempty"`
}

// imageNews is a line of what goes on; the last one has a result or an error.
type imageNews struct {
	File   string          `json:"file,omitempty"`
	Done   int64           `json:"done,omitempty"`
	Total  int64           `json:"total,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

func (s *Server) routeImages(route func(string, func(*http.Request, string) (any, error))) {
	route("GET /v1/images", func(*http.Request, string) (any, error) { return s.Images.Images(), nil })
	route("POST /v1/images/resolve", s.resolveImage)
	route("POST /v1/images/fetch", func(r *http.Request, _ string) (any, error) {
		var names []string
		if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxApply)).Decode(&names); err != nil {
			return nil, fail(http.StatusBadRequest, "the request names no images: %w", err)
		}
		return s.tellOf(r, func(ctx context.Context, tell ImageProgress) (any, error) { return s.Images.Fetch(ctx, names, tell) }), nil
	})
	route("POST /v1/images/verify", func(r *http.Request, _ string) (any, error) {
		return s.tellOf(r, func(ctx context.Context, tell ImageProgress) (any, error) { return s.Images.Verify(ctx, tell) }), nil
	})
	route("POST /v1/images/collect", func(r *http.Request, actor string) (any, error) {
		out, err := s.Images.Collect(r.Context())
		if err == nil {
			s.audit(r.Context(), actor, "image.collect", "", fmt.Sprintf("%d files, %d bytes", out.Files, out.Bytes))
		}
		return out, err
	})
}

func (s *Server) resolveImage(r *http.Request, actor string) (any, error) {
	var in ResolveRequest
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxApply)).Decode(&in); err != nil {
		return nil, fail(http.StatusBadRequest, "the request is not one to pin an image: %w", err)
	}
	d, err := cluster.UnmarshalDocument(in.Image)
	if err != nil {
		return nil, fail(http.StatusBadRequest, "%w", err)
	}
	image, ok := d.(*cluster.Image)
	if !ok || image.Stream == "" {
		return nil, fail(http.StatusBadRequest, "%s has no stream: to find releases of; write stream: fedora-coreos/stable or flatcar/stable in an image", d.Ref())
	}
	return s.tellOf(r, func(ctx context.Context, tell ImageProgress) (any, error) {
		out, err := s.Images.Resolve(ctx, image, []byte(in.Keys), in.NoDisk, tell)
		if err != nil {
			return nil, err
		}
		s.audit(ctx, actor, "image.resolve", image.Ref().String(), "release "+out.Release+", signed by "+out.SignedBy)
		body, err := cluster.MarshalDocument(out)
		return json.RawMessage(body), err
	}), nil
}

// tellEvery is how often it is told how much of a file there is.
const tellEvery = 100 * time.Millisecond

// tellOf answers with what goes on while something long is done, and with what
// comes of it.
func (s *Server) tellOf(r *http.Request, do func(context.Context, ImageProgress) (any, error)) stream {
	return func(w http.ResponseWriter) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if s.Running != nil {
			defer context.AfterFunc(s.Running, cancel)()
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		var mu sync.Mutex
		ended := false // a file goes on for others who wait for it, and tells us too
		last := map[string]time.Time{}
		out, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
		say := func(n imageNews) {
			if out.Encode(n) != nil || flush() != nil {
				cancel() // the asker is gone
			}
		}
		result, err := do(ctx, func(file string, done, total int64) {
			mu.Lock()
			defer mu.Unlock()
			if ended {
				return
			}
			if now := time.Now(); done == total || now.Sub(last[file]) > tellEvery {
				last[file] = now
				say(imageNews{File: file, Done: done, Total: total})
			}
		})
		mu.Lock()
		defer mu.Unlock()
		ended = true
		end := imageNews{}
		if err == nil {
			end.Result, err = json.Marshal(result)
		}
		if err != nil {
			end = imageNews{Error: err.Error()}
		}
		say(end)
	}
}

// Images returns the files of every image.
func (c *Client) Images(ctx context.Context) (out []ImageStatus, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/images", nil, &out)
}

// CollectImages removes what no image has and no boot uses.
func (c *Client) CollectImages(ctx context.Context) (out ImageCollected, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/images/collect", nil, &out)
}

// ResolveImage returns an image with its files pinned.
func (c *Client) ResolveImage(ctx context.Context, image *cluster.Image, keys []byte, noDisk bool, tell ImageProgress) (*cluster.Image, error) {
	body, err := cluster.MarshalDocument(image)
	if err != nil {
		return nil, err
	}
	var out json.RawMessage
	if err := c.long(ctx, "/v1/images/resolve", ResolveRequest{Image: body, Keys: string(keys), NoDisk: noDisk}, &out, tell); err != nil {
		return nil, err
	}
	d, err := cluster.UnmarshalDocument(out)
	if err != nil {
		return nil, err
	}
	pinned, ok := d.(*cluster.Image)
	if !ok {
		return nil, fmt.Errorf("%s answered with %s in the place of an image; is it of this version?", c.server, d.Ref())
	}
	return pinned, nil
}

// FetchImages brings the files of images to the server.
func (c *Client) FetchImages(ctx context.Context, names []string, tell ImageProgress) (out []ImageStatus, err error) {
	return out, c.long(ctx, "/v1/images/fetch", names, &out, tell)
}

// VerifyImages hashes every file that the server has.
func (c *Client) VerifyImages(ctx context.Context, tell ImageProgress) (out ImageCheck, err error) {
	return out, c.long(ctx, "/v1/images/verify", struct{}{}, &out, tell)
}

// maxNews is how long one line of an answer may be.
const maxNews = 16 << 20

// long makes a call that takes as long as it takes, and tells of what goes on.
func (c *Client) long(ctx context.Context, path string, in, out any, tell ImageProgress) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.endless(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxNews)
	for lines.Scan() {
		var n imageNews
		switch err := json.Unmarshal(lines.Bytes(), &n); {
		case err != nil:
			return fmt.Errorf("read the answer of %s: %w", c.server, err)
		case n.Error != "":
			return errors.New(n.Error)
		case n.Result != nil:
			return json.Unmarshal(n.Result, out)
		case tell != nil:
			tell(n.File, n.Done, n.Total)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s ended before it was done; what it fetched is kept: type it again when it runs", c.server)
}
