package assets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/cluster"
)

// Progress is told how much of a file has come. The total is -1 while it is not
// known.
type Progress func(done, total int64)

// flight is the fetching of one file, for all who wait for it.
type flight struct {
	done   chan struct{}
	digest string
	err    error

	mu       sync.Mutex
	progress []Progress
}

func (f *flight) tell(done, total int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.progress {
		p(done, total)
	}
}

func (f *flight) add(p Progress) {
	if p != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.progress = append(f.progress, p)
	}
}

// Fetch brings f into the store and returns its sha256. A file that is there is
// not fetched again; a download that was interrupted goes on where it ended; who
// asks for what is being fetched waits for that. progress may be nil.
func (s *Store) Fetch(ctx context.Context, f cluster.File, progress Progress) (string, error) {
	src, err := understand(f)
	if err != nil {
		return "", err
	}
	return s.fly(ctx, src, progress)
}

// fly fetches src, or waits for who does. When who does gives up because nobody
// waits there any more, somebody who still waits goes on.
func (s *Store) fly(ctx context.Context, src source, progress Progress) (string, error) {
	for {
		if digest, ok := s.there(ctx, src); ok {
			return digest, nil
		}
		s.mu.Lock()
		f, flying := s.flights[src.key()]
		if !flying {
			f = &flight{done: make(chan struct{})}
			s.flights[src.key()] = f
		}
		f.add(progress)
		s.mu.Unlock()
		if !flying {
			f.digest, f.err = s.fetch(ctx, src, f.tell)
			s.mu.Lock()
			delete(s.flights, src.key())
			s.mu.Unlock()
			close(f.done)
			return f.digest, f.err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for %s: %w", src.name, ctx.Err())
		case <-f.done:
		}
		if gaveUp := errors.Is(f.err, context.Canceled) || errors.Is(f.err, context.DeadlineExceeded); !gaveUp || ctx.Err() != nil {
			return f.digest, f.err
		}
	}
}

// there returns the digest of src when it is in the store and sound.
func (s *Store) there(ctx context.Context, src source) (string, bool) {
	digest := src.digest
	if src.vouch != nil {
		return "", false // its publisher may have another by now
	}
	if digest == "" {
		file, now, err := openLocal(src)
		if err != nil {
			return "", false
		}
		file.Close()
		known := false
		if digest, known = s.index.localDigest(src.path, now); !known {
			return "", false
		}
	}
	file, err := s.openBlob(ctx, digest)
	if err != nil {
		return "", false
	}
	return digest, file.Close() == nil
}

func (s *Store) fetch(ctx context.Context, src source, tell Progress) (string, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return "", fmt.Errorf("fetch %s: %w", src.name, ctx.Err())
	}
	digest, err := s.get(ctx, src, tell)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w: make room in %s, or type: pilotlight image collect", ErrDiskFull, s.config.Dir)
	}
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", src.name, err)
	}
	return digest, nil
}

// get asks whoever may have src: this machine, whose path it is, then the fellows,
// who are near, then its publisher.
func (s *Store) get(ctx context.Context, src source, tell Progress) (string, error) {
	failed := ErrNotFetched
	if src.path != "" {
		digest, err := s.takeIn(ctx, src, tell)
		if err == nil || src.digest == "" || errors.Is(err, unix.ENOSPC) || ctx.Err() != nil {
			return digest, err
		}
		failed = err
	}
	if digest, err := s.fromFellows(ctx, src, tell); err == nil || errors.Is(err, ErrDiskFull) || ctx.Err() != nil {
		return digest, err
	}
	if src.url != "" {
		return s.download(ctx, src, tell)
	}
	return "", failed
}

// Admit brings a file from a network into the store that no sha256 pins yet, when
// vouch says of the whole of it that it may be kept, and returns its sha256. What
// vouch refuses is removed.
func (s *Store) Admit(ctx context.Context, url string, vouch func(*os.File) error, progress Progress) (string, error) {
	src, err := understand(cluster.File{URL: url, SHA256: hashOf(url)}) // any: so that the rest is looked at
	if err != nil {
		return "", err
	}
	src.digest, src.vouch = "", vouch
	if src.url == "" {
		return "", fmt.Errorf("%s: is no file of a network: write it like https://example.org/vmlinuz", src.name)
	}
	return s.fly(ctx, src, progress)
}

// openLocal opens a file of this machine.
func openLocal(src source) (*os.File, look, error) {
	file, err := os.OpenFile(src.path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe is refused, not waited for
	if errors.Is(err, fs.ErrNotExist) {
		return nil, look{}, fmt.Errorf("open %s: there is no such file: put it there, or correct its url", src.name)
	}
	if err != nil {
		return nil, look{}, fmt.Errorf("open %s: %w: let the server read it", src.name, err)
	}
	now, err := lookAt(file)
	if err == nil && !now.regular {
		err = fmt.Errorf("open %s: it is no plain file: write the url: of one", src.name)
	}
	if err != nil {
		file.Close()
		return nil, look{}, err
	}
	return file, now, nil
}

// takeIn copies a file of this machine into the store, and then hashes the copy,
// which nobody else writes to.
func (s *Store) takeIn(ctx context.Context, src source, tell Progress) (string, error) {
	start := time.Now()
	file, before, err := openLocal(src)
	if err != nil {
		return "", err
	}
	defer file.Close()
	tmp, err := os.CreateTemp(filepath.Join(s.config.Dir, partialFolder), "local-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if !lock(tmp) {
		return "", errInUse
	}
	if err := copyFile(ctx, tmp, file, before.Size, tell); err != nil {
		return "", err
	}
	after, err := lookAt(file)
	if err != nil {
		return "", err
	}
	if !after.same(before) {
		return "", errors.New("it changes while it is read: wait until it is written, and try again")
	}
	digest, err := s.settle(ctx, tmp, src)
	if err != nil {
		return "", err
	}
	if src.digest == "" && src.path != "" {
		s.config.Log.Info("hashed a file of this machine; pin it by writing its sha256", "file", src.path, "sha256", digest)
		err = s.index.change(func() { s.index.local[src.path] = local{look: before, SHA256: digest, At: start} })
	}
	return digest, err
}

// copyFile copies piece by piece, each in the kernel, which shares the blocks
// where the file system can.
func copyFile(ctx context.Context, dst, src *os.File, size int64, tell Progress) error {
	const piece = 64 << 20
	for done := int64(0); done < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(dst, src, min(piece, size-done))
		done += n
		tell(done, size)
		if errors.Is(err, io.EOF) {
			return errors.New("it becomes shorter while it is read: wait until it is written, and try again")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle makes a whole file of a store's own folder one of its verified files.
func (s *Store) settle(ctx context.Context, file *os.File, src source) (string, error) {
	if err := file.Sync(); err != nil {
		return "", err
	}
	digest, _, err := hashFile(ctx, file)
	if err != nil {
		return "", err
	}
	if src.digest != "" && digest != src.digest {
		return "", fmt.Errorf("%w: it is %s, not %s: when it was changed on purpose write the new sha256:, else do not use it",
			ErrMismatch, digest, src.digest)
	}
	if src.vouch != nil {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return "", err
		}
		if err := src.vouch(file); err != nil {
			return "", fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	if err := file.Chmod(0o444); err != nil {
		return "", err
	}
	if err := os.Rename(file.Name(), s.blobPath(digest)); err != nil {
		return "", err
	}
	if err := syncFolder(filepath.Join(s.config.Dir, blobsFolder)); err != nil {
		return "", err
	}
	now, err := lookAt(file)
	if err != nil {
		return "", err
	}
	return digest, s.index.change(func() { s.index.blobs[digest] = now })
}

// syncFolder makes a rename durable.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
