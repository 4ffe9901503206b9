package release

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// boards are Flatcar's words for architectures.
var boards = map[cluster.Arch]string{cluster.X86_64: "amd64-usr", cluster.AArch64: "arm64-usr"}

// flatcarFiles are those of every release. Their names are the same on every
// architecture.
var flatcarFiles = []struct{ field, name string }{
	{"kernel", "flatcar_production_pxe.vmlinuz"},
	{"initrd", "flatcar_production_pxe_image.cpio.gz"},
	{"disk", FlatcarDisk},
}

// FlatcarDisk is the image of a disk as flatcar-install asks for it.
const FlatcarDisk = "flatcar_production_image.bin.bz2"

// findFlatcar reads which release a channel of Flatcar is at.
func (r *Resolver) findFlatcar(ctx context.Context, image *cluster.Image) (found, error) {
	at := r.origin(image) + "/" + boards[arch(image)]
	f := found{release: image.Release}
	if f.release == "" {
		where := at + "/current/version.txt"
		body, err := r.small(ctx, where)
		if err != nil {
			return f, err
		}
		if f.release = flatcarVersion(body); f.release == "" {
			return f, fmt.Errorf("%s says no FLATCAR_VERSION: correct the mirror, or write release: in the image", where)
		}
	}
	if !releaseForm.MatchString(f.release) {
		return f, fmt.Errorf("%.100q is no release of Flatcar: write it like 4593.2.5", f.release)
	}
	for _, one := range flatcarFiles {
		if one.field == "disk" && r.NoDisk {
			continue
		}
		url := at + "/" + f.release + "/" + one.name
		f.files = append(f.files, file{field: one.field, url: url, signature: url + ".sig", digests: url + ".DIGESTS"})
	}
	return f, nil
}

func flatcarVersion(text []byte) string {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "FLATCAR_VERSION="); ok {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// digests are what a DIGESTS file says of one file, by the hash's name. Those that
// nobody should trust any more (MD5, SHA1) are left out.
type digests map[string]string

var hashes = map[string]func() hash.Hash{"SHA256": sha256.New, "SHA512": sha512.New}

// sums reads the DIGESTS beside a file. A release without one has the file's
// signature, which is worth more.
func (r *Resolver) sums(ctx context.Context, f file, name string) (digests, error) {
	if f.digests == "" {
		return nil, nil
	}
	body, err := r.small(ctx, f.digests)
	if errors.Is(err, ErrNoSuchRelease) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the digests of %s: %w", name, err)
	}
	return readDigests(body, name), nil
}

// readDigests reads lines of "DIGEST  NAME" below "# SHA512 HASH".
func readDigests(text []byte, name string) digests {
	out, kind := digests{}, ""
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 3 && words[0] == "#" && words[2] == "HASH":
			kind = words[1]
		case len(words) == 2 && strings.TrimPrefix(words[1], "*") == name && hashes[kind] != nil:
			out[kind] = strings.ToLower(words[0])
		}
	}
	return out
}

// check compares a file with every digest that is said of it.
func (d digests) check(file *os.File) error {
	for kind, want := range d {
		h := hashes[kind]()
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(h, file); err != nil {
			return err
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			return fmt.Errorf("%w: its %s is %s, and DIGESTS beside it says %s: do not use it; try again, or another --mirror", ErrSignature, kind, got, want)
		}
	}
	return nil
}
