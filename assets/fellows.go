package assets

import (
	"context"
	"errors"
	"net/http"

	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/cluster"
)

// BlobPath is where a server gives its fellows a file of its store: behind it is
// the sha256.
const BlobPath = "/v1/blobs/"

// fromFellows asks every fellow server once for a file that is pinned.
func (s *Store) fromFellows(ctx context.Context, src source, tell Progress) (string, error) {
	if src.digest == "" || s.config.Fellows == nil || s.config.Fellow == nil {
		return "", ErrNotFetched
	}
	for _, fellow := range s.config.Fellows() {
		at := source{url: fellow + BlobPath + src.digest, digest: src.digest, name: fellow, client: s.config.Fellow, once: true}
		digest, err := s.download(ctx, at, tell)
		switch {
		case err == nil:
			s.config.Log.Info("a file of an image came from a fellow server", "sha256", src.digest, "server", fellow)
			return digest, nil
		case ctx.Err() != nil, errors.Is(err, ErrDiskFull), errors.Is(err, unix.ENOSPC):
			return "", err
		}
		s.config.Log.Debug("a fellow server does not give a file of an image", "sha256", src.digest, "server", fellow, "error", err)
	}
	return "", ErrNotFetched
}

// ServeFellow gives a fellow server a file of the store, verified. It has nothing
// fetched: who has a file gives it, and who has not is not asked to get it.
func (s *Store) ServeFellow(w http.ResponseWriter, r *http.Request, digest string) {
	file, err := s.Open(r.Context(), cluster.File{SHA256: digest})
	if err != nil || digest == "" {
		http.Error(w, "this server does not have it", http.StatusNotFound)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", info.ModTime(), file)
}
