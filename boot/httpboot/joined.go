package httpboot

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// joined is several files one behind the other, each at a multiple of four bytes
// as the kernel wants an initial RAM disk that follows another
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type joined struct {
	parts []part
	size  int64
	read  int64
}

type part struct {
	file       *os.File
	start, end int64
}

// add takes a file, which is then closed with the others.
func (j *joined) add(f *os.File) error {
	start := (j.size + 3) &^ 3
	j.parts = append(j.parts, part{f, start, start})
	info, err := f.Stat()
	if err != nil {
		return err
	}
	j.size = start + info.Size()
	j.parts[len(j.parts)-1].end = j.size
	return nil
}

// ReadAt implements io.ReaderAt.
func (j *joined) ReadAt(b []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(b)), j.size-off)))
	clear(b[:n]) // what is between the parts
	for _, p := range j.parts {
		from, to := max(p.start, off), min(p.end, off+int64(n))
		if from >= to {
			continue
		}
		if _, err := p.file.ReadAt(b[from-off:to-off], from-p.start); err != nil {
			return int(from - off), err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Read implements fs.File.
func (j *joined) Read(b []byte) (int, error) {
	n, err := j.ReadAt(b, j.read)
	j.read += int64(n)
	return n, err
}

// Close implements fs.File.
func (j *joined) Close() error {
	var errs []error
	for _, p := range j.parts {
		errs = append(errs, p.file.Close())
	}
	return errors.Join(errs...)
}

// Stat implements fs.File.
func (j *joined) Stat() (fs.FileInfo, error) { return joinedInfo{j}, nil }

type joinedInfo struct{ j *joined }

func (i joinedInfo) Name() string       { return "initrd" }
func (i joinedInfo) Size() int64        { return i.j.size }
func (i joinedInfo) Mode() fs.FileMode  { return 0o444 }
func (i joinedInfo) ModTime() time.Time { return time.Time{} }
func (i joinedInfo) IsDir() bool        { return false }
func (i joinedInfo) Sys() any           { return nil }
