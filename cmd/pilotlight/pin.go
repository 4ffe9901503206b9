package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/moving/matchbox"
)

// pinner says of a kernel or a RAM disk, as matchbox has it, which file it is, with
// its digest as of now: matchbox pins nothing, and pilotlight serves nothing else.
type pinner struct {
	assets string       // what is below /assets/
	fetch  bool         // remote files are fetched, to hash them
	secure bool         // over https only
	client *http.Client // nil is the usual one
}

const (
	fetchTime = 10 * time.Minute
	maxFetch  = 8 << 30
)

// pin reads URL, /assets/PATH, http://MATCHBOX/assets/PATH or URL#sha256=HEX.
func (p pinner) pin(ctx context.Context, raw string) (cluster.File, error) {
	u, err := url.Parse(raw)
	if err != nil || u.User != nil {
		return cluster.File{URL: "invalid"}, errors.New("the URL of a kernel or RAM disk is not understood: write it like https://example.org/vmlinuz, without a password")
	}
	if sum, ok := strings.CutPrefix(u.Fragment, "sha256="); ok {
		u.Fragment = ""
		return cluster.File{URL: u.String(), SHA256: strings.ToLower(sum)}, nil
	}
	if below, ok := matchbox.AssetPath(raw); ok {
		f, err := p.asset(below)
		if err == nil || u.Host == "" || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	f := cluster.File{URL: raw}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return f, fmt.Errorf("%s is neither below /assets/ nor http:// or https://: put the file there", raw)
	case !p.fetch:
		return f, nil // that the digest is missing is said of the document
	case p.secure && u.Scheme != "https":
		return f, fmt.Errorf("%s comes over a network that anybody may change it on: write https://, or its digest behind it, %s#sha256=..., as sha256sum prints it", raw, raw)
	}
	f.SHA256, err = fetchDigest(ctx, p.client, raw)
	return f, err
}

func (p pinner) asset(below string) (cluster.File, error) {
	path, err := filepath.Abs(filepath.Join(p.assets, filepath.FromSlash(below)))
	if err != nil {
		return cluster.File{}, fmt.Errorf("find the assets: %w", err)
	}
	f := cluster.File{URL: (&url.URL{Scheme: "file", Path: path}).String()}
	root, err := os.OpenRoot(p.assets) // no link leads out of it
	if err != nil {
		return f, fmt.Errorf("/assets/%s: %w", below, err)
	}
	defer root.Close()
	info, err := root.Stat(filepath.FromSlash(below)) // opening a pipe would wait for who writes to it
	if err != nil {
		return f, fmt.Errorf("/assets/%s: %w", below, err)
	}
	if !info.Mode().IsRegular() {
		return f, fmt.Errorf("/assets/%s is no file", below)
	}
	file, err := root.Open(filepath.FromSlash(below))
	if err != nil {
		return f, fmt.Errorf("/assets/%s: %w", below, err)
	}
	defer file.Close()
	f.SHA256, err = digest(file)
	return f, err
}

func digest(r io.Reader) (string, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, maxFetch+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("hash it: %w", err)
	case n > maxFetch:
		return "", fmt.Errorf("it is longer than %d GiB", maxFetch>>30)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// fetchDigest fetches a file once. It does not follow https to http.
func fetchDigest(ctx context.Context, as *http.Client, from string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	client := http.Client{}
	if as != nil {
		client = *as
	}
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > 10 || via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
			return fmt.Errorf("it leads to %s", r.URL.Redacted())
		}
		return nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", from, err)
	}
	res, err := client.Do(r)
	if err != nil {
		return "", fmt.Errorf("fetch it to pin it: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("fetch %s to pin it: %s", from, res.Status)
	}
	return digest(res.Body)
}
