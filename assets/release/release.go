package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/assets"
	"github.com/pilotlight/pilotlight/cluster"
)

// Files is where the files of a release are brought to. *assets.Store is it.
type Files interface {
	Fetch(ctx context.Context, f cluster.File, p assets.Progress) (sha256 string, err error)
	Open(ctx context.Context, f cluster.File) (*os.File, error)
	Admit(ctx context.Context, url string, vouch func(*os.File) error, p assets.Progress) (sha256 string, err error)
}

// Resolver finds releases. Its zero value but for Files is ready.
type Resolver struct {
	Files  Files
	Client *http.Client     // for what is small; nil is one that gives up in a minute
	Keys   *Keyring         // in place of those that are built in; may be nil
	NoDisk bool             // leave out the image of a disk that Flatcar's installer writes
	Now    func() time.Time // nil is time.Now

	Origins map[cluster.OS]string // where publishers are, in place of Origins(); for tests
}

// Progress is told of each file how much has come.
type Progress func(name string, done, total int64)

// Where the publishers' releases are. CHANNEL stands for Flatcar's.
const (
	fcosOrigin    = "https://builds.coreos.fedoraproject.org"
	flatcarOrigin = "https://CHANNEL.release.flatcar-linux.net"
)

// ErrNoSuchRelease is for a release that its publisher, or the mirror, does not have.
var ErrNoSuchRelease = errors.New("no such release")

// found is a release, before its files are there.
type found struct {
	release string
	files   []file
}

// file is one file of a release.
type file struct {
	field     string // of the image: kernel, initrd, rootfs, disk
	url       string
	signature string // its URL
	sha256    string // what the publisher says it is; empty when it says so only by its signature
	digests   string // URL of more digests; empty when there are none
}

// Resolve returns the image with its files pinned: those of the release that it
// names, or else of its stream's newest. Every file has come whole by then, and its
// signature was good.
func (r *Resolver) Resolve(ctx context.Context, image *cluster.Image, tell Progress) (*cluster.Image, error) {
	if tell == nil {
		tell = func(string, int64, int64) {}
	}
	keys := r.Keys
	if keys == nil {
		own, err := BuiltIn(image.OS())
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", image.Name, err)
		}
		keys = &own
	}
	find := map[cluster.OS]func(context.Context, *cluster.Image) (found, error){cluster.FedoraCoreOS: r.findFCOS, cluster.Flatcar: r.findFlatcar}[image.OS()]
	if find == nil {
		return nil, fmt.Errorf("image %s: stream: %q is none that is known: write fedora-coreos/stable or flatcar/stable", image.Name, image.Stream)
	}
	if u, err := url.Parse(image.Mirror); err != nil || u.User != nil {
		return nil, fmt.Errorf("image %s: mirror: is no plain URL: write it like https://mirror.example.org/fcos, without a name and a password; let the mirror know the server by its address", image.Name)
	}
	f, err := find(ctx, image)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image.Name, err)
	}
	got, err := r.bring(ctx, *keys, f.files, tell)
	if err != nil {
		return nil, fmt.Errorf("image %s: release %s of %s: %w", image.Name, f.release, image.Stream, err)
	}
	if err := distinct(f.files, got); err != nil {
		return nil, fmt.Errorf("image %s: release %s of %s: %w", image.Name, f.release, image.Stream, err)
	}
	return pinned(image, f, got), nil
}

// distinct refuses one file under two names. A signature does not say what its file
// is called, so a mirror could give a disk for a kernel.
func distinct(files []file, got []brought) error {
	seen := map[string]string{}
	for i, f := range files {
		if other, ok := seen[got[i].file.SHA256]; ok {
			return fmt.Errorf("the %s is the same file as the %s: correct the mirror", f.field, other)
		}
		seen[got[i].file.SHA256] = f.field
	}
	return nil
}

// brought is a file that is there, and who signed it.
type brought struct {
	file      cluster.File
	signature cluster.File
	signer    string
}

// bring fetches all files at the same time. All that is wrong is told.
func (r *Resolver) bring(ctx context.Context, keys Keyring, files []file, tell Progress) ([]brought, error) {
	out, errs := make([]brought, len(files)), make([]error, len(files))
	var all sync.WaitGroup
	for i, f := range files {
		all.Go(func() { out[i], errs[i] = r.bringOne(ctx, keys, f, tell) })
	}
	all.Wait()
	return out, errors.Join(errs...)
}

func (r *Resolver) bringOne(ctx context.Context, keys Keyring, f file, tell Progress) (b brought, err error) {
	name := f.url[strings.LastIndex(f.url, "/")+1:]
	signature, err := r.small(ctx, f.signature)
	if err != nil {
		return b, fmt.Errorf("the signature of %s: %w", name, err)
	}
	sums, err := r.sums(ctx, f, name)
	if err != nil {
		return b, err
	}
	vouch := func(file *os.File) (err error) {
		if b.signer, err = keys.Verify(file, signature, r.now()); err != nil {
			return err
		}
		return sums.check(file)
	}
	progress := func(done, total int64) { tell(name, done, total) }
	b.file = cluster.File{URL: f.url, SHA256: f.sha256}
	if f.sha256 == "" {
		b.file.SHA256, err = r.Files.Admit(ctx, f.url, vouch, progress)
	}
	if err == nil && b.signer == "" { // by somebody else's keys, who was faster, or by nobody's yet
		err = r.fetchAndVouch(ctx, b.file, vouch, progress)
	}
	if err == nil && f.field == "disk" {
		sum := sha256.Sum256(signature)
		b.signature = cluster.File{URL: f.signature, SHA256: hex.EncodeToString(sum[:])}
		_, err = r.Files.Fetch(ctx, b.signature, nil)
	}
	return b, err
}

// fetchAndVouch is for a file whose sha256 is known from somebody whose word alone is
// not enough.
func (r *Resolver) fetchAndVouch(ctx context.Context, f cluster.File, vouch func(*os.File) error, progress assets.Progress) error {
	if _, err := r.Files.Fetch(ctx, f, progress); err != nil {
		return err
	}
	file, err := r.Files.Open(ctx, f)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := vouch(file); err != nil {
		return fmt.Errorf("%s: %w", f.URL, err)
	}
	return nil
}

// pinned is the image with the files of a release.
func pinned(image *cluster.Image, f found, got []brought) *cluster.Image {
	out := *image
	out.Release, out.Kernel, out.Initrd, out.Rootfs, out.Disk, out.DiskSignature = f.release, cluster.File{}, nil, nil, nil, nil
	var signers []string
	for i, b := range got {
		switch f.files[i].field {
		case "kernel":
			out.Kernel = b.file
		case "initrd":
			out.Initrd = append(out.Initrd, b.file)
		case "rootfs":
			out.Rootfs = &b.file
		case "disk":
			out.Disk, out.DiskSignature = &b.file, &b.signature
		}
		if !slices.Contains(signers, b.signer) {
			signers = append(signers, b.signer)
		}
	}
	out.SignedBy = strings.Join(signers, ", ")
	return &out
}

func (r *Resolver) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// maxSmall is how long what describes a release may be.
const maxSmall = 16 << 20

// small fetches a file that describes others.
func (r *Resolver) small(ctx context.Context, at string) ([]byte, error) {
	client := r.Client
	if client == nil {
		client = &http.Client{Timeout: time.Minute}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return nil, fmt.Errorf("fetch %s: %w: see that the server reaches it, or name a mirror with --mirror URL", at, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusForbidden: // S3 says this of what is not there
		return nil, fmt.Errorf("%w: %s answered %s: correct stream: and release:, or the mirror", ErrNoSuchRelease, at, res.Status)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("fetch %s: the server answered %s: try again later, or name a mirror with --mirror URL", at, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxSmall+1))
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w: try again", at, err)
	}
	if len(body) > maxSmall {
		return nil, fmt.Errorf("fetch %s: it is longer than %d MiB: correct the mirror", at, maxSmall>>20)
	}
	return body, nil
}

// origin is where the releases of an image are.
func (r *Resolver) origin(image *cluster.Image) string {
	at := map[cluster.OS]string{cluster.FedoraCoreOS: fcosOrigin, cluster.Flatcar: flatcarOrigin}[image.OS()]
	if other := r.Origins[image.OS()]; other != "" {
		at = other
	}
	if image.Mirror != "" {
		at = strings.TrimSuffix(image.Mirror, "/")
	}
	return strings.ReplaceAll(at, "CHANNEL", image.Channel())
}

// arch returns the image's architecture with its default.
func arch(image *cluster.Image) cluster.Arch {
	if image.Arch == "" {
		return cluster.X86_64
	}
	return image.Arch
}
