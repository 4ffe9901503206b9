package assets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pilotlight/pilotlight/cluster"
)

// Check is what Verify found.
type Check struct {
	Blobs   int   // that are what their names say
	Bytes   int64 // of those
	Damaged []Damage
}

// Damage is a file that was not what its name says.
type Damage struct {
	SHA256 string // what it should have been
	Err    error
}

// Verify hashes every file of the store again, whatever it looks like. What is
// damaged is moved aside and not served; Fetch gets it again.
func (s *Store) Verify(ctx context.Context, progress Progress) (Check, error) {
	blobs, err := s.List()
	if err != nil {
		return Check{}, err
	}
	var check Check
	var done, total int64
	for _, b := range blobs {
		total += b.Size
	}
	for _, b := range blobs {
		err := s.verify(ctx, b.SHA256)
		switch {
		case err == nil:
			check.Blobs++
			check.Bytes += b.Size
		case errors.Is(err, ErrDamaged):
			check.Damaged = append(check.Damaged, Damage{b.SHA256, err})
		case errors.Is(err, os.ErrNotExist): // collected meanwhile
		default:
			return check, fmt.Errorf("verify the store of images: %w", err)
		}
		if done += b.Size; progress != nil {
			progress(done, total)
		}
	}
	return check, nil
}

func (s *Store) verify(ctx context.Context, digest string) error {
	file, err := os.Open(s.blobPath(digest))
	if err != nil {
		return err
	}
	defer file.Close()
	return s.rehash(ctx, file, digest)
}

// Collected is what Collect removed.
type Collected struct {
	Files int
	Bytes int64
}

// Collect removes every file but those to keep, and all that was interrupted or
// damaged. What is being fetched stays, and who has a removed file open reads it
// to its end. A file of this machine without a sha256 keeps what it was when it
// was used last.
func (s *Store) Collect(keep []cluster.File) (Collected, error) {
	wanted, err := s.wanted(keep)
	if err != nil {
		return Collected{}, err
	}
	s.mu.Lock() // nothing takes off meanwhile
	defer s.mu.Unlock()
	for key := range s.flights {
		wanted[key] = true
	}
	var gone Collected
	var errs []error
	for _, folder := range []string{blobsFolder, partialFolder, damagedFolder} {
		errs = append(errs, s.sweep(folder, wanted, &gone))
	}
	errs = append(errs, s.forget(wanted))
	if err := errors.Join(errs...); err != nil {
		return gone, fmt.Errorf("collect unused image files: %w: remove them by hand", err)
	}
	return gone, nil
}

// sweep removes what is not wanted in one folder.
func (s *Store) sweep(folder string, wanted map[string]bool, gone *Collected) error {
	entries, err := os.ReadDir(filepath.Join(s.config.Dir, folder))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(s.config.Dir, folder, e.Name())
		if folder != damagedFolder && wanted[e.Name()] || folder == partialFolder && inUse(path) {
			continue
		}
		info, err := e.Info()
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		gone.Files++
		gone.Bytes += info.Size()
	}
	return errors.Join(errs...)
}

// inUse reports whether some process, perhaps another, writes a partial file.
func inUse(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return !lock(f)
}

// wanted returns the digests of what is to be kept. A mistake keeps everything.
func (s *Store) wanted(keep []cluster.File) (map[string]bool, error) {
	wanted := map[string]bool{}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	for _, f := range keep {
		src, err := understand(f)
		if err != nil {
			return nil, fmt.Errorf("collect unused image files: %w", err)
		}
		if src.digest == "" {
			src.digest = s.index.local[src.path].SHA256
		}
		wanted[src.digest] = true
	}
	return wanted, nil
}

// forget drops from the index what is not in the store any more.
func (s *Store) forget(wanted map[string]bool) error {
	return s.index.change(func() {
		for digest := range s.index.blobs {
			if !wanted[digest] {
				delete(s.index.blobs, digest)
			}
		}
		for path, l := range s.index.local {
			if !wanted[l.SHA256] {
				delete(s.index.local, path)
			}
		}
	})
}
