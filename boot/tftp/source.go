package tftp

import (
	"errors"
	"io"
	"io/fs"
	"slices"

	"github.com/pin/tftp/v3/netascii"
)

var errChanged = errors.New("the file was changed while it was sent, ask for it again")

// sizeOf is how many bytes of a file are sent in a mode; below 0 if only
// reading it all would tell.
func sizeOf(f fs.File, mode string) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if mode == netasciiMode {
		return -1, nil
	}
	return info.Size(), nil
}

// newSource is where the blocks of a file are read, as its size was found to be.
func newSource(f fs.File, size int64, t terms) io.ReaderAt {
	keep := int64(t.window * t.block)
	if size < 0 {
		return &backlog{from: netascii.ToReader(f), keep: keep}
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		at = &backlog{from: f, keep: keep}
	}
	return section{io.NewSectionReader(at, 0, size)}
}

// section is a file as long as it was when it was opened: the client was told so.
type section struct{ *io.SectionReader }

// ReadAt implements io.ReaderAt.
func (s section) ReadAt(b []byte, off int64) (int, error) {
	n, err := s.SectionReader.ReadAt(b, off)
	if err == io.EOF && off+int64(n) != s.Size() {
		return n, errChanged
	}
	return n, err
}

// backlog lets what can only be read in order be read again, as far back as the
// window that may have to be sent again.
type backlog struct {
	from  io.Reader
	keep  int64 // how far behind the furthest read the next may begin
	kept  []byte
	start int64 // where in the file kept begins
	ended error
}

// ReadAt implements io.ReaderAt.
func (b *backlog) ReadAt(p []byte, off int64) (int, error) {
	if old := min(off-b.keep-b.start, int64(len(b.kept))); old > 0 {
		b.kept = append(b.kept[:0], b.kept[old:]...)
		b.start += old
	}
	if have := len(b.kept); b.ended == nil && off+int64(len(p)) > b.start+int64(have) {
		more := int(off + int64(len(p)) - b.start - int64(have))
		b.kept = slices.Grow(b.kept, more)[:have+more]
		var n int
		n, b.ended = io.ReadFull(b.from, b.kept[have:])
		b.kept = b.kept[:have+n]
		if b.ended == io.ErrUnexpectedEOF {
			b.ended = io.EOF
		}
	}
	n := copy(p, b.kept[min(off-b.start, int64(len(b.kept))):])
	if n < len(p) {
		return n, b.ended
	}
	return n, nil
}
