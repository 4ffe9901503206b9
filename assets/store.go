package assets

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// Defaults of Config.
const (
	DefaultParallel = 4
	DefaultMaxBytes = 32 << 30
)

// Config says where a Store is and how it fetches.
type Config struct {
	Dir      string       // made when it is not there
	Client   *http.Client // nil means one that gives up on a server that sends nothing
	Parallel int          // downloads at a time; 0 means DefaultParallel
	MaxBytes int64        // of one file; 0 means DefaultMaxBytes
	Log      *slog.Logger // nil means silence

	// Fellows says where the store of every fellow server is, and Fellow is how they
	// are asked; nil asks nobody. What a fellow sends is verified like anything else.
	Fellows func() []string
	Fellow  *http.Client
}

// Store is a directory of verified files. Any number of requests may use it at
// once; a directory belongs to one process.
type Store struct {
	config Config
	index  *index
	slots  chan struct{} // one for each download that may run

	mu      sync.Mutex
	flights map[string]*flight

	retryWait time.Duration // before the first new attempt; it doubles
	stall     time.Duration // without a byte, after which a connection is given up
}

// The folders of a store.
const (
	blobsFolder   = "blobs"
	partialFolder = "partial"
	damagedFolder = "damaged"
)

// New opens the store in c.Dir.
func New(c Config) (*Store, error) {
	c.Parallel = cmp.Or(c.Parallel, DefaultParallel)
	c.MaxBytes = cmp.Or(c.MaxBytes, DefaultMaxBytes)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Client == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.ResponseHeaderTimeout = time.Minute
		c.Client = &http.Client{Transport: t}
	}
	for _, folder := range []string{blobsFolder, partialFolder, damagedFolder} {
		if err := os.MkdirAll(filepath.Join(c.Dir, folder), 0o755); err != nil {
			return nil, fmt.Errorf("open the store of images: %w: name a directory that can be written", err)
		}
	}
	return &Store{
		config: c, index: loadIndex(filepath.Join(c.Dir, "index.json")),
		slots: make(chan struct{}, c.Parallel), flights: map[string]*flight{},
		retryWait: 200 * time.Millisecond, stall: time.Minute,
	}, nil
}

func (s *Store) blobPath(digest string) string {
	return filepath.Join(s.config.Dir, blobsFolder, digest)
}

func (s *Store) partialPath(digest string) string {
	return filepath.Join(s.config.Dir, partialFolder, digest)
}

// Open returns the file f, verified, at its beginning. A file of this machine is
// taken into the store when it is not there; one from a network must have been
// fetched. The caller closes it.
func (s *Store) Open(ctx context.Context, f cluster.File) (*os.File, error) {
	src, err := understand(f)
	if err != nil {
		return nil, err
	}
	digest, err := s.digest(ctx, src)
	if err != nil {
		return nil, err
	}
	file, err := s.openBlob(ctx, digest)
	if src.path != "" && (errors.Is(err, ErrNotFetched) || errors.Is(err, ErrDamaged)) {
		if digest, err = s.fly(ctx, src, nil); err != nil {
			return nil, err
		}
		file, err = s.openBlob(ctx, digest)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w: the server fetches it by itself; pilotlight explain HOST says how far that is", src.name, err)
	}
	return file, nil
}

// Digest returns the sha256 of f: the one that pins it or, of a file of this
// machine without one, the one that it has now and by which it can be pinned.
func (s *Store) Digest(ctx context.Context, f cluster.File) (string, error) {
	src, err := understand(f)
	if err != nil {
		return "", err
	}
	return s.digest(ctx, src)
}

func (s *Store) digest(ctx context.Context, src source) (string, error) {
	if src.digest != "" {
		return src.digest, nil
	}
	file, now, err := openLocal(src)
	if err != nil {
		return "", err
	}
	file.Close()
	if digest, ok := s.index.localDigest(src.path, now); ok {
		return digest, nil
	}
	return s.fly(ctx, src, nil)
}

// Has reports whether f is in the store, without looking into it.
func (s *Store) Has(f cluster.File) bool {
	_, ok := s.stat(f)
	return ok
}

// Size returns how long f is, or 0 when it is not in the store.
func (s *Store) Size(f cluster.File) int64 {
	info, ok := s.stat(f)
	if !ok {
		return 0
	}
	return info.Size()
}

func (s *Store) stat(f cluster.File) (os.FileInfo, bool) {
	src, err := understand(f)
	if err != nil {
		return nil, false
	}
	if src.digest == "" {
		file, now, err := openLocal(src)
		if err != nil {
			return nil, false
		}
		file.Close()
		known := false
		if src.digest, known = s.index.localDigest(src.path, now); !known {
			return nil, false
		}
	}
	info, err := os.Stat(s.blobPath(src.digest))
	return info, err == nil
}

// Lack says why f could not be opened now: nil when it is in the store, or is a
// file of this machine that can be read.
func (s *Store) Lack(f cluster.File) error {
	src, err := understand(f)
	if err != nil || s.Has(f) {
		return err
	}
	if src.path == "" {
		return fmt.Errorf("%s: %w", src.name, ErrNotFetched)
	}
	file, _, err := openLocal(src)
	if err != nil {
		return err
	}
	return file.Close()
}

// Blob is one file of the store.
type Blob struct {
	SHA256 string
	Size   int64
	Since  time.Time // when it came
}

// List returns what is in the store, by digest.
func (s *Store) List() ([]Blob, error) {
	entries, err := os.ReadDir(filepath.Join(s.config.Dir, blobsFolder))
	if err != nil {
		return nil, fmt.Errorf("list the store of images: %w", err)
	}
	var blobs []Blob
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() {
			blobs = append(blobs, Blob{SHA256: e.Name(), Size: info.Size(), Since: info.ModTime()})
		}
	}
	slices.SortFunc(blobs, func(a, b Blob) int { return cmp.Compare(a.SHA256, b.SHA256) })
	return blobs, nil
}

// openBlob opens a file of the store, and hashes it when it does not look as it
// did when it was hashed last.
func (s *Store) openBlob(ctx context.Context, digest string) (*os.File, error) {
	file, err := os.Open(s.blobPath(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFetched
	}
	if err != nil {
		return nil, err
	}
	now, err := lookAt(file)
	if err == nil {
		if known, ok := s.index.blob(digest); !ok || !known.same(now) {
			err = s.rehash(ctx, file, digest)
		}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// rehash hashes an open file of the store. One that is not what its name says is
// moved aside; one that is, is remembered.
func (s *Store) rehash(ctx context.Context, file *os.File, digest string) error {
	got, now, err := hashFile(ctx, file)
	if err != nil {
		return err
	}
	if got != digest {
		moved, err := s.moveAside(digest)
		if err != nil {
			return err
		}
		s.config.Log.Error("an image file was damaged in the store", "sha256", digest, "is", got, "moved", moved)
		return fmt.Errorf("%w: %s has the sha256 %s; it is now %s", ErrDamaged, digest, got, moved)
	}
	if err := s.index.change(func() { s.index.blobs[digest] = now }); err != nil {
		s.config.Log.Warn("the store of images forgets", "error", err)
	}
	_, err = file.Seek(0, io.SeekStart)
	return err
}

func (s *Store) moveAside(digest string) (string, error) {
	moved := filepath.Join(s.config.Dir, damagedFolder, fmt.Sprintf("%s-%d", digest, time.Now().UnixNano()))
	if err := os.Rename(s.blobPath(digest), moved); err != nil {
		return "", fmt.Errorf("move a damaged file aside: %w: remove it", err)
	}
	return moved, s.index.change(func() { delete(s.index.blobs, digest) })
}

// hashFile hashes all of an open file, and says how it looked. When it changes
// meanwhile, it has no hash.
func hashFile(ctx context.Context, file *os.File) (string, look, error) {
	before, err := lookAt(file)
	if err != nil {
		return "", look{}, err
	}
	h := sha256.New()
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", look{}, err
	}
	if _, err := io.CopyBuffer(h, readerWithContext{ctx, file}, make([]byte, 1<<20)); err != nil {
		return "", look{}, fmt.Errorf("hash %s: %w", file.Name(), err)
	}
	after, err := lookAt(file)
	if err == nil && !after.same(before) {
		err = fmt.Errorf("hash %s: it changes while it is read: wait until it is written, and try again", file.Name())
	}
	return hex.EncodeToString(h.Sum(nil)), after, err
}

// readerWithContext ends a long read when nobody waits for it any more.
type readerWithContext struct {
	ctx context.Context
	io.Reader
}

func (r readerWithContext) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}
