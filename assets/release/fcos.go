package release

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	fcosrelease "github.com/coreos/stream-metadata-go/release"
	"github.com/coreos/stream-metadata-go/stream"

	"github.com/pilotlight/pilotlight/cluster"
)

// findFCOS reads a stream of Fedora CoreOS, or one of its releases.
func (r *Resolver) findFCOS(ctx context.Context, image *cluster.Image) (found, error) {
	at := r.origin(image)
	where := at + "/streams/" + image.Channel() + ".json"
	if image.Release != "" {
		where = at + "/prod/streams/" + image.Channel() + "/builds/" + url.PathEscape(image.Release) + "/release.json"
	}
	body, err := r.small(ctx, where)
	if err != nil {
		return found{}, err
	}
	pxe, release, err := readFCOS(body, image.Release != "", arch(image))
	if err != nil {
		return found{}, fmt.Errorf("%s: %w", where, err)
	}
	if image.Release != "" && release != image.Release {
		return found{}, fmt.Errorf("%s: it is release %s, and %s was asked for: correct the mirror", where, release, image.Release)
	}
	f := found{release: release}
	for _, a := range []struct {
		field string
		*stream.Artifact
	}{{"kernel", pxe.Kernel}, {"initrd", pxe.Initramfs}, {"rootfs", pxe.Rootfs}} {
		if a.Artifact == nil {
			return f, fmt.Errorf("%s: release %s has no %s to boot from a network: take another release", where, release, a.field)
		}
		if raw, err := hex.DecodeString(a.Sha256); err != nil || len(raw) != 32 {
			return f, fmt.Errorf("%s: the sha256 of the %s is none, %q: correct the mirror, or try again later", where, a.field, a.Sha256)
		}
		if !strings.HasPrefix(a.Location, "https://") && !strings.HasPrefix(a.Location, "http://") {
			return f, fmt.Errorf("%s: the %s is at %.100q, which is no place on a network: correct the mirror", where, a.field, a.Location)
		}
		if !strings.Contains(path.Base(a.Location), release) {
			return f, fmt.Errorf("%s: the %s of release %s is said to be %.100q, which is another's: correct the mirror", where, a.field, release, a.Location)
		}
		one := file{field: a.field, url: r.near(image, a.Location), signature: r.near(image, a.Signature), sha256: strings.ToLower(a.Sha256)}
		if a.Signature == "" {
			one.signature = one.url + ".sig"
		}
		f.files = append(f.files, one)
	}
	return f, nil
}

// near is where a file is that a stream has at its publisher's: at the mirror,
// when there is one.
func (r *Resolver) near(image *cluster.Image, location string) string {
	if rest, ok := strings.CutPrefix(location, fcosOrigin+"/"); ok {
		return r.origin(image) + "/" + rest
	}
	return location
}

// readFCOS returns what boots from a network, of the stream's newest release or of
// a release.
func readFCOS(body []byte, one bool, arch cluster.Arch) (pxe stream.ImageFormat, release string, err error) {
	var s stream.Stream
	if one {
		var rel fcosrelease.Release
		if err := json.Unmarshal(body, &rel); err != nil {
			return pxe, "", fmt.Errorf("it is no release of Fedora CoreOS: %w: correct the mirror", err)
		}
		s.Architectures = rel.ToStreamArchitectures()
	} else if err := json.Unmarshal(body, &s); err != nil {
		return pxe, "", fmt.Errorf("it is no stream of Fedora CoreOS: %w: correct the mirror", err)
	}
	metal, ok := s.Architectures[string(arch)].Artifacts["metal"]
	if pxe, ok = metal.Formats["pxe"], ok && metal.Release != ""; !ok {
		return pxe, "", fmt.Errorf("it has nothing for %s machines: correct arch:, stream: or release: of the image", arch)
	}
	if !releaseForm.MatchString(metal.Release) {
		return pxe, "", fmt.Errorf("%.100q is no release: correct the mirror", metal.Release)
	}
	return pxe, metal.Release, nil
}

// releaseForm is what goes into a URL and a document.
var releaseForm = regexp.MustCompile(`^[0-9][0-9A-Za-z.+-]{0,63}$`)
