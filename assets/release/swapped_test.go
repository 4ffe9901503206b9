package release

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/pilotlight/pilotlight/cluster"
)

// A signature says neither of which release a file is nor what it is for: a mirror
// that gives signed files in the place of others is refused where that shows.
func TestSwapped(t *testing.T) {
	const older = "43.20250101.3.0"
	key, p := newKey(t, packet.Config{}), newPublisher(t)
	p.fcos(t, key, packet.Config{}, older)
	release, stream := bytes.Clone(p.files["/prod/streams/stable/builds/"+older+"/release.json"]), bytes.Clone(p.files["/streams/stable.json"])
	p.fcos(t, key, packet.Config{}, fcosRelease)
	refused := func(what, says string, image *cluster.Image) {
		t.Helper()
		image.Name = "x"
		if got, err := resolver(t, p, ring(t, key)).Resolve(t.Context(), image, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	p.put("/prod/streams/stable/builds/"+fcosRelease+"/release.json", release)
	refused("another release than was asked for", "was asked for", &cluster.Image{Stream: "fedora-coreos/stable", Release: fcosRelease})

	p.put("/streams/stable.json", bytes.ReplaceAll(stream, []byte(`"release": "`+older+`"`), []byte(`"release": "`+fcosRelease+`"`)))
	refused("an older release's files under the new one's name", "which is another's", &cluster.Image{Stream: "fedora-coreos/stable"})

	at := "/amd64-usr/" + flatcarRelease + "/"
	p.flatcar(t, key, packet.Config{})
	kernel, disk := at+"flatcar_production_pxe.vmlinuz", at+FlatcarDisk
	p.files[kernel], p.files[kernel+".sig"] = p.files[disk], p.files[disk+".sig"]
	delete(p.files, kernel+".DIGESTS")
	refused("a disk for a kernel", "the same file as", &cluster.Image{Stream: "flatcar/stable"})
}
