package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/go-cmp/cmp"

	"github.com/pilotlight/pilotlight/assets"
	"github.com/pilotlight/pilotlight/cluster"
)

// TestKeysAreTheirs holds the fingerprints that keys/README.md states.
func TestKeysAreTheirs(t *testing.T) {
	for os, want := range map[cluster.OS][]string{
		cluster.FedoraCoreOS: {"C6E7F081CF80E13146676E88829B606631645531", "36F612DCF27F7D1A48A835E4DBFCF71C6D9F90A6", "4F50A6114CD5C6976A7F1179655A4B02F577861E"},
		cluster.Flatcar:      {"F88CFEDEFF29A5B4D9523864E25D9AED0593B34A"},
	} {
		k, err := BuiltIn(os)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, k.Fingerprints()); diff != "" {
			t.Errorf("%s:\n%s", os, diff)
		}
		for _, e := range k.keys {
			if _, ok := e.SigningKey(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)); !ok {
				t.Errorf("%s has no key that signs", who(e))
			}
		}
	}
	k, _ := BuiltIn(cluster.Flatcar)
	key, _ := k.keys[0].SigningKey(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	if got := fingerprint(key.PublicKey); got != "52F145DFD00BBDCD928CBB5A32DA80F91EF52974" {
		t.Errorf("Flatcar signs with %s", got)
	}
	if k.keys[0].Subkeys[len(k.keys[0].Subkeys)-1].PublicKey.KeyExpired(k.keys[0].Subkeys[len(k.keys[0].Subkeys)-1].Sig, time.Date(2027, 3, 9, 0, 0, 0, 0, time.UTC)) != true {
		t.Error("its subkey holds longer than keys/README.md says")
	}
}

var keyAlgorithm = packet.Config{Algorithm: packet.PubKeyAlgoEdDSA}

func newKey(t testing.TB, config packet.Config) *openpgp.Entity {
	t.Helper()
	config.Algorithm = keyAlgorithm.Algorithm
	e, err := openpgp.NewEntity("The Publisher", "", "publisher@example.org", &config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ring is the public half, as a site would give it with --keys.
func ring(t testing.TB, keys ...*openpgp.Entity) *Keyring {
	t.Helper()
	var text bytes.Buffer
	for _, e := range keys {
		w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(e.Serialize(w), w.Close()); err != nil {
			t.Fatal(err)
		}
		text.WriteString("\n")
	}
	k, err := ReadKeys("keys.asc", text.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return &k
}

// publisher stands in for a publisher's server on loopback.
type publisher struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	asked map[string]int
	odd   map[string]func(n int, w http.ResponseWriter, body []byte) // what it does in place of serving a file
}

func newPublisher(t testing.TB) *publisher {
	p := &publisher{files: map[string][]byte{}, asked: map[string]int{}, odd: map[string]func(int, http.ResponseWriter, []byte){}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		body, ok := p.files[r.URL.Path]
		p.asked[r.URL.Path]++
		n, odd := p.asked[r.URL.Path], p.odd[r.URL.Path]
		p.mu.Unlock()
		switch {
		case !ok:
			http.NotFound(w, r)
		case odd != nil && r.Header.Get("Range") == "":
			odd(n, w, body)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) put(path string, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[path] = body
}

func (p *publisher) sign(t testing.TB, path string, key *openpgp.Entity, config packet.Config) {
	t.Helper()
	var sig bytes.Buffer
	if err := openpgp.DetachSign(&sig, key, bytes.NewReader(p.files[path]), &config); err != nil {
		t.Fatal(err)
	}
	p.put(path+".sig", sig.Bytes())
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func content(name string) []byte { return bytes.Repeat([]byte(name+"\n"), 300) }

const fcosRelease = "44.20260802.3.1"

// fcos publishes a release of Fedora CoreOS as its publisher lays it out.
func (p *publisher) fcos(t testing.TB, key *openpgp.Entity, config packet.Config, release string) {
	t.Helper()
	var archs []string
	for _, arch := range []string{"x86_64", "aarch64"} {
		dir := "/prod/streams/stable/builds/" + release + "/" + arch + "/"
		part := map[string]string{}
		for field, name := range map[string]string{
			"kernel": "-live-kernel." + arch, "initramfs": "-live-initramfs." + arch + ".img", "rootfs": "-live-rootfs." + arch + ".img",
		} {
			path := dir + "fedora-coreos-" + release + name
			p.put(path, content(path))
			p.sign(t, path, key, config)
			part[field] = fmt.Sprintf(`"%s": {"location": "%s%s", "signature": "%s%s.sig", "sha256": "%s"}`, field, fcosOrigin, path, fcosOrigin, path, sum(p.files[path]))
		}
		archs = append(archs, fmt.Sprintf(`"%s": {"artifacts": {"metal": {"release": "%s", "formats": {"pxe": {%s, %s, %s}}}}}`, arch, release, part["kernel"], part["initramfs"], part["rootfs"]))
		if arch != "x86_64" {
			continue
		}
		p.put("/prod/streams/stable/builds/"+release+"/release.json", fmt.Appendf(nil,
			`{"release": "%s", "stream": "stable", "architectures": {"x86_64": {"media": {"metal": {"artifacts": {"pxe": {%s, %s, %s}}}}}}}`, release, part["kernel"], part["initramfs"], part["rootfs"]))
	}
	p.put("/streams/stable.json", fmt.Appendf(nil, `{"stream": "stable", "metadata": {"last-modified": "2026-08-20T12:00:00Z"}, "architectures": {%s}}`, strings.Join(archs, ",")))
}

const flatcarRelease = "4593.2.5"

func (p *publisher) flatcar(t testing.TB, key *openpgp.Entity, config packet.Config) {
	t.Helper()
	for _, board := range boards {
		p.put("/"+board+"/current/version.txt", []byte("FLATCAR_BUILD=4593\nFLATCAR_VERSION="+flatcarRelease+"\nFLATCAR_SDK_VERSION=1\n"))
		for _, f := range flatcarFiles {
			path := "/" + board + "/" + flatcarRelease + "/" + f.name
			p.put(path, content(path))
			p.sign(t, path, key, config)
			sha := sha512.Sum512(p.files[path])
			p.put(path+".DIGESTS", fmt.Appendf(nil, "# MD5 HASH\n0  %s\n# SHA1 HASH\n1  %s\n# SHA512 HASH\n%x  %s\n", f.name, f.name, sha, f.name))
		}
	}
}

func newStore(t testing.TB) *assets.Store {
	t.Helper()
	s, err := assets.New(assets.Config{Dir: t.TempDir(), Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func resolver(t testing.TB, p *publisher, keys *Keyring) *Resolver {
	return &Resolver{Files: newStore(t), Keys: keys, Origins: map[cluster.OS]string{cluster.FedoraCoreOS: p.URL, cluster.Flatcar: p.URL}}
}

func TestResolveFCOS(t *testing.T) {
	key, p := newKey(t, packet.Config{}), newPublisher(t)
	p.fcos(t, key, packet.Config{}, "43.20260101.3.0")
	p.fcos(t, key, packet.Config{}, fcosRelease)
	r := resolver(t, p, ring(t, newKey(t, packet.Config{}), key))
	var told sync.Map
	for _, arch := range []cluster.Arch{cluster.X86_64, cluster.AArch64} {
		in := &cluster.Image{Meta: cluster.Meta{Name: "fcos"}, Stream: "fedora-coreos/stable", Arch: arch, Args: []string{"console=ttyS0"}}
		got, err := r.Resolve(t.Context(), in, func(name string, done, total int64) { told.Store(name, done == total) })
		if err != nil {
			t.Fatal(err)
		}
		at := fmt.Sprintf("%s/prod/streams/stable/builds/%s/%s/fedora-coreos-%s-live-", p.URL, fcosRelease, arch, fcosRelease)
		file := func(name string) cluster.File {
			return cluster.File{URL: at + name, SHA256: sum(p.files[strings.TrimPrefix(at, p.URL)+name])}
		}
		rootfs := file("rootfs." + string(arch) + ".img")
		want := *in
		want.Release, want.SignedBy = fcosRelease, who(key)
		want.Kernel, want.Initrd, want.Rootfs = file("kernel."+string(arch)), []cluster.File{file("initramfs." + string(arch) + ".img")}, &rootfs
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Error(diff)
		}
		for _, f := range got.Files() {
			if !r.Files.(*assets.Store).Has(f.File) {
				t.Errorf("%s is not in the store", f.Field)
			}
		}
		if problems := cluster.Check([]cluster.Document{got}); len(problems) > 0 {
			t.Error(problems)
		}
	}
	if whole, ok := told.Load("fedora-coreos-" + fcosRelease + "-live-rootfs.aarch64.img"); !ok || whole != true {
		t.Error("nobody was told of the rootfs")
	}
	old := &cluster.Image{Meta: cluster.Meta{Name: "fcos"}, Stream: "fedora-coreos/stable", Release: "43.20260101.3.0"}
	got, err := r.Resolve(t.Context(), old, nil)
	if err != nil || !strings.Contains(got.Kernel.URL, "43.20260101.3.0-live-kernel.x86_64") {
		t.Errorf("a release by its name: %v, %v", got, err)
	}
}

func TestResolveFlatcar(t *testing.T) {
	key, p := newKey(t, packet.Config{}), newPublisher(t)
	p.flatcar(t, key, packet.Config{})
	r := resolver(t, p, ring(t, key))
	for arch, board := range boards {
		got, err := r.Resolve(t.Context(), &cluster.Image{Meta: cluster.Meta{Name: "flatcar"}, Stream: "flatcar/stable", Arch: arch, Mirror: p.URL + "/"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		at := "/" + board + "/" + flatcarRelease + "/"
		file := func(name string) cluster.File {
			return cluster.File{URL: p.URL + at + name, SHA256: sum(p.files[at+name])}
		}
		disk, signature := file(FlatcarDisk), file(FlatcarDisk+".sig")
		want := &cluster.Image{
			Meta: cluster.Meta{Name: "flatcar"}, Stream: "flatcar/stable", Arch: arch, Mirror: p.URL + "/", Release: flatcarRelease, SignedBy: who(key),
			Kernel: file("flatcar_production_pxe.vmlinuz"), Initrd: []cluster.File{file("flatcar_production_pxe_image.cpio.gz")}, Disk: &disk, DiskSignature: &signature,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for _, f := range got.Files() {
			if !r.Files.(*assets.Store).Has(f.File) {
				t.Errorf("%s is not in the store", f.Field)
			}
		}
		if problems := cluster.Check([]cluster.Document{got}); len(problems) > 0 {
			t.Error(problems)
		}
	}
}

// TestNothingWrongIsPinned: whatever is wrong at a publisher's, nothing is pinned,
// the wrong file is not kept, and what is said says what to do.
func TestNothingWrongIsPinned(t *testing.T) {
	now := time.Now()
	long := packet.Config{Time: func() time.Time { return now.Add(-48 * time.Hour) }}
	brief, good := long, newKey(t, long)
	brief.KeyLifetimeSecs = 3600
	expired, revoked := newKey(t, brief), newKey(t, long)
	signed := packet.Config{SigLifetimeSecs: 3600, Time: long.Time}
	kernels := map[cluster.OS]string{
		cluster.FedoraCoreOS: "/prod/streams/stable/builds/" + fcosRelease + "/x86_64/fedora-coreos-" + fcosRelease + "-live-kernel.x86_64",
		cluster.Flatcar:      "/amd64-usr/" + flatcarRelease + "/flatcar_production_pxe.vmlinuz",
	}
	before := newPublisher(t) // what the key signed before it was revoked
	for _, k := range kernels {
		before.put(k, content(k))
		before.sign(t, k, revoked, long)
	}
	if err := revoked.RevokeKey(packet.KeyCompromised, "it was stolen", nil); err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b }
	for name, tt := range map[string]struct {
		spoil func(p *publisher, kernel string)
		keys  *Keyring
		is    error
		says  string
		comes bool // all the same
	}{
		"a bit flip on the way": {spoil: func(p *publisher, k string) {
			p.odd[k] = func(_ int, w http.ResponseWriter, body []byte) { w.Write(flip(body)) }
		}, says: "do not use it"},
		"a bit flip at the publisher's, in its digests too": {spoil: func(p *publisher, k string) {
			was := sum(p.files[k])
			p.files[k] = flip(p.files[k])
			p.files["/streams/stable.json"] = bytes.ReplaceAll(p.files["/streams/stable.json"], []byte(was), []byte(sum(p.files[k])))
			delete(p.files, k+".DIGESTS")
		}, is: ErrSignature, says: "it is not the file that was signed: do not use it; try again, or another --mirror"},
		"truncated": {spoil: func(p *publisher, k string) {
			p.odd[k] = func(_ int, w http.ResponseWriter, body []byte) { w.Write(body[:1000]) }
		}, says: "do not use it"},
		"a length that is less than the file's": {spoil: func(p *publisher, k string) {
			p.odd[k] = func(_ int, w http.ResponseWriter, body []byte) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					return
				}
				defer conn.Close()
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
				conn.Write(body)
			}
		}, says: "do not use it"},
		"a server that dies half-way": {spoil: func(p *publisher, k string) {
			p.odd[k] = func(n int, w http.ResponseWriter, body []byte) {
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				w.Write(body[:len(body)/2])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
		}, comes: true},
		"the signature of another file": {spoil: func(p *publisher, k string) {
			p.sign(t, "/streams/other", good, packet.Config{})
			p.files[k+".sig"] = p.files["/streams/other.sig"]
		},
			is: ErrSignature, says: "it is not the file that was signed"},
		"no signature":            {spoil: func(p *publisher, k string) { delete(p.files, k+".sig") }, is: ErrNoSuchRelease, says: "correct stream: and release:, or the mirror"},
		"a signature that is not": {spoil: func(p *publisher, k string) { p.files[k+".sig"] = []byte("<html>") }, is: ErrSignature, says: "do not use it"},
		"an empty signature":      {spoil: func(p *publisher, k string) { p.files[k+".sig"] = nil }, is: ErrSignature, says: "it was signed by the key of nobody"},
		"a wrong key": {spoil: func(p *publisher, k string) { p.sign(t, k, newKey(t, packet.Config{}), packet.Config{}) },
			is: ErrSignature, says: "which is not among keys.asc: if its owner says that it is theirs, give it with --keys FILE"},
		"an expired key": {spoil: func(p *publisher, k string) {
			p.sign(t, k, expired, packet.Config{Time: func() time.Time { return now.Add(-47*time.Hour - 30*time.Minute) }})
		}, keys: ring(t, good, expired), is: ErrSignature, says: "has expired: get its owner's newer one, and give it with --keys FILE"},
		"a revoked key": {spoil: func(p *publisher, k string) { p.files[k+".sig"] = before.files[k+".sig"] }, keys: ring(t, good, revoked),
			is: ErrSignature, says: "was revoked by its owner: do not use the file"},
		"an expired signature": {spoil: func(p *publisher, k string) { p.sign(t, k, good, signed) }, keys: ring(t, good), is: ErrSignature, says: "has expired: take a newer release"},
		"a signature to come": {spoil: func(p *publisher, k string) {
			p.sign(t, k, good, packet.Config{Time: func() time.Time { return now.Add(72 * time.Hour) }})
		}, is: ErrSignature, says: ""},
		"digests of another file": {spoil: func(p *publisher, k string) {
			for _, f := range []string{k + ".DIGESTS"} {
				if b, ok := p.files[f]; ok {
					p.files[f] = bytes.ReplaceAll(b, []byte("  flatcar"), []byte("0  flatcar"))
				} else {
					p.files[k] = flip(p.files[k]) // of Fedora the stream has them
				}
			}
		}, says: "do not use it"},
		"nobody there": {spoil: func(p *publisher, _ string) { p.Close() }, says: "see that the server reaches it, or name a mirror with --mirror URL"},
	} {
		for os, kernel := range kernels {
			t.Run(name+"/"+string(os), func(t *testing.T) {
				t.Parallel()
				p := newPublisher(t)
				p.put("/streams/other", []byte("another"))
				p.fcos(t, good, packet.Config{}, fcosRelease)
				p.flatcar(t, good, packet.Config{})
				tt.spoil(p, kernel)
				keys := tt.keys
				if keys == nil {
					keys = ring(t, good)
				}
				r := resolver(t, p, keys)
				got, err := r.Resolve(t.Context(), &cluster.Image{Meta: cluster.Meta{Name: "x"}, Stream: string(os) + "/stable"}, nil)
				if tt.comes {
					if err != nil || got.Kernel.SHA256 != sum(p.files[kernel]) {
						t.Errorf("got %v, %v", got, err)
					}
					return
				}
				if err == nil || got != nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "image x: ") {
					t.Errorf("got %v, %v", got, err)
				}
			})
		}
	}
}

// TestRefusedFileIsNotKept: what a signature does not vouch for is gone, and what
// comes in its place later is taken.
func TestRefusedFileIsNotKept(t *testing.T) {
	key, p := newKey(t, packet.Config{}), newPublisher(t)
	p.flatcar(t, key, packet.Config{})
	path := "/amd64-usr/" + flatcarRelease + "/flatcar_production_pxe.vmlinuz"
	was := p.files[path]
	p.put(path, []byte("evil"))
	r := resolver(t, p, ring(t, key))
	image := &cluster.Image{Meta: cluster.Meta{Name: "x"}, Stream: "flatcar/stable"}
	if _, err := r.Resolve(t.Context(), image, nil); !errors.Is(err, assets.ErrRefused) {
		t.Fatal(err)
	}
	blobs, err := r.Files.(*assets.Store).List()
	if err != nil || slices.ContainsFunc(blobs, func(b assets.Blob) bool { return b.SHA256 == sum([]byte("evil")) }) {
		t.Errorf("it is kept: %v, %v", blobs, err)
	}
	p.put(path, was)
	if _, err := r.Resolve(t.Context(), image, nil); err != nil {
		t.Error(err)
	}
}

// hasty is a store in which somebody else's keys had vouched for a file.
type hasty struct{ *assets.Store }

func (h hasty) Admit(ctx context.Context, url string, _ func(*os.File) error, p assets.Progress) (string, error) {
	return h.Store.Admit(ctx, url, func(*os.File) error { return nil }, p)
}

// TestEveryoneVerifies: of two who resolve at once each believes its own keys only.
func TestEveryoneVerifies(t *testing.T) {
	key, p := newKey(t, packet.Config{}), newPublisher(t)
	p.flatcar(t, key, packet.Config{})
	image := &cluster.Image{Meta: cluster.Meta{Name: "x"}, Stream: "flatcar/stable"}
	r := resolver(t, p, ring(t, newKey(t, packet.Config{})))
	r.Files = hasty{newStore(t)}
	if _, err := r.Resolve(t.Context(), image, nil); !errors.Is(err, ErrSignature) {
		t.Errorf("a key that is not believed: %v", err)
	}
	r.Keys = ring(t, key)
	if got, err := r.Resolve(t.Context(), image, nil); err != nil || got.SignedBy != who(key) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestPublishersMistakes(t *testing.T) {
	key, p := newKey(t, packet.Config{}), newPublisher(t)
	p.fcos(t, key, packet.Config{}, fcosRelease)
	p.flatcar(t, key, packet.Config{})
	stream := string(p.files["/streams/stable.json"])
	for name, tt := range map[string]struct {
		path, body string
		image      cluster.Image
		says       string
	}{
		"no JSON":              {"/streams/stable.json", "<html>", cluster.Image{Stream: "fedora-coreos/stable"}, "it is no stream of Fedora CoreOS"},
		"no architecture":      {"/streams/stable.json", `{"architectures": {}}`, cluster.Image{Stream: "fedora-coreos/stable"}, "it has nothing for x86_64 machines"},
		"a digest that is not": {"/streams/stable.json", strings.ReplaceAll(stream, `"sha256": "`, `"sha256": "x`), cluster.Image{Stream: "fedora-coreos/stable"}, "the sha256 of the kernel is none"},
		"a release with a way": {"/streams/stable.json", strings.ReplaceAll(stream, `"release": "`, `"release": "../`), cluster.Image{Stream: "fedora-coreos/stable"}, "is no release: correct the mirror"},
		"a file of the server": {"/streams/stable.json", strings.ReplaceAll(stream, `"location": "`+fcosOrigin, `"location": "file:///etc`), cluster.Image{Stream: "fedora-coreos/stable"}, "which is no place on a network"},
		"a password":           {"/x", "", cluster.Image{Stream: "fedora-coreos/stable", Mirror: "https://me:hunter2@x"}, "without a name and a password"},
		"no such stream":       {"/x", "", cluster.Image{Stream: "fedora-coreos/none"}, "correct stream: and release:"},
		"no such release":      {"/x", "", cluster.Image{Stream: "fedora-coreos/stable", Release: "1.2"}, "correct stream: and release:"},
		"no version":           {"/amd64-usr/current/version.txt", "hello", cluster.Image{Stream: "flatcar/stable"}, "says no FLATCAR_VERSION"},
		"a version with a way": {"/amd64-usr/current/version.txt", "FLATCAR_VERSION=../../x", cluster.Image{Stream: "flatcar/stable"}, "is no release of Flatcar"},
		"another system":       {"/x", "", cluster.Image{Stream: "debian/stable"}, "write fedora-coreos/stable or flatcar/stable"},
	} {
		t.Run(name, func(t *testing.T) {
			p.put(tt.path, []byte(tt.body))
			tt.image.Name = "x"
			_, err := resolver(t, p, ring(t, key)).Resolve(t.Context(), &tt.image, nil)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	key := newKey(f, packet.Config{})
	var sig, armored bytes.Buffer
	if err := errors.Join(openpgp.DetachSign(&sig, key, strings.NewReader("x"), nil), openpgp.ArmoredDetachSign(&armored, key, strings.NewReader("x"), nil)); err != nil {
		f.Fatal(err)
	}
	f.Add(sig.Bytes())
	f.Add(armored.Bytes())
	f.Add([]byte("-----BEGIN"))
	keys := ring(f, key)
	if _, err := keys.Verify(strings.NewReader("x"), armored.Bytes(), time.Now()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, sig []byte) {
		if _, err := keys.Verify(strings.NewReader("y"), sig, time.Now()); err == nil {
			t.Error("a file that nobody signed is taken")
		}
	})
}

func FuzzReadStream(f *testing.F) {
	f.Add([]byte(`{"architectures": {"x86_64": {"artifacts": {"metal": {"release": "1", "formats": {"pxe": {}}}}}}}`), false)
	f.Add([]byte(`{"release": "1", "architectures": {"x86_64": {"media": {"metal": {"artifacts": {"pxe": {}}}}}}}`), true)
	f.Fuzz(func(_ *testing.T, body []byte, one bool) {
		_, _, _ = readFCOS(body, one, cluster.X86_64)
		_ = readDigests(body, "x")
		_ = flatcarVersion(body)
	})
}
