package assets

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// look is what a file looks like from outside: any write to it changes one of
// these, and nobody can set back the time of its last change.
type look struct {
	Size    int64  `json:"size"`
	Mtime   int64  `json:"mtime"` // nanoseconds
	Ctime   int64  `json:"ctime"`
	Inode   uint64 `json:"inode"`
	Device  uint64 `json:"device"`
	regular bool
}

func lookAt(f *os.File) (look, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return look{}, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	return look{
		Size: st.Size, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(), Inode: st.Ino, Device: uint64(st.Dev),
		regular: st.Mode&unix.S_IFMT == unix.S_IFREG,
	}, nil
}

func (l look) same(other look) bool {
	l.regular, other.regular = false, false
	return l == other
}

// index remembers what was hashed when it looked how.
type index struct {
	file string

	mu    sync.Mutex
	blobs map[string]look  // by digest
	local map[string]local // by path
}

// local is a file of this machine that no sha256 pins.
type local struct {
	look
	SHA256 string    `json:"sha256"`
	At     time.Time `json:"at"` // when it was hashed
}

// settled reports whether the file had been left alone for a while when it was
// hashed. One that was written just then can be written again without looking
// any different: clocks of file systems go in steps, up to 2 s (FAT).
func (l local) settled() bool {
	return l.At.UnixNano()-max(l.Mtime, l.Ctime) > int64(2*time.Second)
}

type indexFile struct {
	Blobs map[string]look  `json:"blobs"`
	Local map[string]local `json:"local"`
}

// loadIndex reads an index. One that cannot be read is an empty one: everything
// is hashed once more.
func loadIndex(file string) *index {
	x := &index{file: file, blobs: map[string]look{}, local: map[string]local{}}
	b, err := os.ReadFile(file)
	var on indexFile
	if err != nil || json.Unmarshal(b, &on) != nil {
		return x
	}
	for k, v := range on.Blobs {
		x.blobs[k] = v
	}
	for k, v := range on.Local {
		x.local[k] = v
	}
	return x
}

// change runs f on the index and saves it.
func (x *index) change(f func()) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	f()
	b, err := json.MarshalIndent(indexFile{x.blobs, x.local}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", x.file, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(x.file), ".index-*")
	if err != nil {
		return fmt.Errorf("save %s: %w", x.file, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), x.file)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", x.file, err)
	}
	return nil
}

func (x *index) blob(digest string) (look, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l, ok := x.blobs[digest]
	return l, ok
}

// localDigest returns the digest of a file of this machine that looks so now.
func (x *index) localDigest(path string, now look) (string, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l, ok := x.local[path]
	return l.SHA256, ok && l.same(now) && l.settled()
}
