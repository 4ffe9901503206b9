package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/rogpeppe/go-internal/testscript"
)

// publisher stands in, on loopback, for the servers of Fedora CoreOS and Flatcar.
type publisher struct {
	*httptest.Server
	key *openpgp.Entity

	mu    sync.Mutex
	files map[string][]byte
}

func newPublisher() (*publisher, error) {
	key, err := openpgp.NewEntity("A Publisher", "", "publisher@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		return nil, err
	}
	p := &publisher{key: key, files: map[string][]byte{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		body, ok := p.files[r.URL.Path]
		p.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(body)
	}))
	return p, nil
}

// keys is what gpg --export --armor would print.
func (p *publisher) keys() ([]byte, error) {
	var text bytes.Buffer
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err != nil {
		return nil, err
	}
	err = errors.Join(p.key.Serialize(w), w.Close())
	return text.Bytes(), err
}

// file publishes a signed file, and returns its sha256.
func (p *publisher) file(path string) (string, error) {
	body := bytes.Repeat([]byte(path+"\n"), 300)
	var sig bytes.Buffer
	if err := openpgp.DetachSign(&sig, p.key, bytes.NewReader(body), nil); err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[path], p.files[path+".sig"] = body, sig.Bytes()
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:]), nil
}

func (p *publisher) put(path, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[path] = []byte(body)
}

// fcos makes a release of Fedora CoreOS the stream's newest.
func (p *publisher) fcos(release string) error {
	var parts []string
	dir := "/prod/streams/stable/builds/" + release + "/x86_64/fedora-coreos-" + release
	for field, name := range map[string]string{"kernel": "-live-kernel.x86_64", "initramfs": "-live-initramfs.x86_64.img", "rootfs": "-live-rootfs.x86_64.img"} {
		sum, err := p.file(dir + name)
		if err != nil {
			return err
		}
		const origin = "https://builds.coreos.fedoraproject.org"
		parts = append(parts, fmt.Sprintf(`"%s": {"location": "%s", "signature": "%s.sig", "sha256": "%s"}`, field, origin+dir+name, origin+dir+name, sum))
	}
	pxe := "{" + strings.Join(parts, ", ") + "}"
	p.put("/streams/stable.json", fmt.Sprintf(`{"stream": "stable", "architectures": {"x86_64": {"artifacts": {"metal": {"release": "%s", "formats": {"pxe": %s}}}}}}`, release, pxe))
	p.put("/prod/streams/stable/builds/"+release+"/release.json",
		fmt.Sprintf(`{"release": "%s", "stream": "stable", "architectures": {"x86_64": {"media": {"metal": {"artifacts": {"pxe": %s}}}}}}`, release, pxe))
	return nil
}

func (p *publisher) flatcar(release string) error {
	p.put("/amd64-usr/current/version.txt", "FLATCAR_VERSION="+release+"\n")
	for _, name := range []string{"flatcar_production_pxe.vmlinuz", "flatcar_production_pxe_image.cpio.gz", "flatcar_production_image.bin.bz2"} {
		if _, err := p.file("/amd64-usr/" + release + "/" + name); err != nil {
			return err
		}
	}
	return nil
}

// publish is "publish fcos|flatcar RELEASE" and "publish stop": the first one starts
// a publisher, whose URL is $PUBLISHER and whose keys are in keys.asc.
func publish() func(*testscript.TestScript, bool, []string) {
	var mu sync.Mutex
	all := map[string]*publisher{}
	return func(ts *testscript.TestScript, _ bool, a []string) {
		mu.Lock()
		p := all[ts.Getenv("WORK")]
		mu.Unlock()
		if p == nil {
			var err error
			p, err = newPublisher()
			ts.Check(err)
			ts.Defer(p.Close)
			mu.Lock()
			all[ts.Getenv("WORK")] = p
			mu.Unlock()
			ts.Setenv("PUBLISHER", p.URL)
			p.writeKeys(ts)
		}
		switch a[0] {
		case "fcos":
			ts.Check(p.fcos(a[1]))
		case "flatcar":
			ts.Check(p.flatcar(a[1]))
		case "spoil": // a file, below its directory
			p.mu.Lock()
			defer p.mu.Unlock()
			for path, body := range p.files {
				if strings.HasSuffix(path, a[1]) {
					body = bytes.Clone(body)
					body[len(body)/2] ^= 1
					p.files[path] = body
				}
			}
		case "stop":
			p.Close()
		default:
			ts.Fatalf("publish what?")
		}
	}
}

func (p *publisher) writeKeys(ts *testscript.TestScript) {
	text, err := p.keys()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("keys.asc"), text, 0o644))
}

// container is "container save FILE": an image as docker save writes it, and
// "container pull HTTPS DATA FILE": what the file names is pulled whole with the certificate of DATA.
func container(ts *testscript.TestScript, neg bool, a []string) {
	if a[0] == "save" {
		img, err := random.Image(2000, 2)
		ts.Check(err)
		tag, err := name.NewTag("www:7")
		ts.Check(err)
		ts.Check(tarball.WriteToFile(ts.MkAbs(a[1]), tag, img))
		return
	}
	c := &cli{data: ts.MkAbs(a[2]), cert: filepath.Join(ts.MkAbs(a[2]), "operator", "operator.crt")}
	_, config, err := c.connection()
	ts.Check(err)
	ref, err := name.ParseReference(a[1] + "/" + strings.TrimSpace(ts.ReadFile(a[3])))
	ts.Check(err)
	img, err := remote.Image(ref, remote.WithTransport(&http.Transport{TLSClientConfig: config}))
	if err == nil {
		err = validate.Image(img) // it is read whole
	}
	if (err != nil) != neg {
		ts.Fatalf("pull %s: %v", ref, err)
	}
}

// blob is "blob CODE HTTPS DATA [CERT]": a server is asked for a file that it has, by
// somebody with a certificate of DATA, and answers with that code.
func blob(ts *testscript.TestScript, _ bool, a []string) {
	data := ts.MkAbs(a[2])
	entries, err := os.ReadDir(filepath.Join(data, "images", "blobs"))
	ts.Check(err)
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	ca, err := os.ReadFile(filepath.Join(data, "ca", "ca.crt"))
	ts.Check(err)
	config.RootCAs.AppendCertsFromPEM(ca)
	if len(a) > 3 {
		cert, err := tls.LoadX509KeyPair(filepath.Join(data, a[3]+".crt"), filepath.Join(data, a[3]+".key"))
		ts.Check(err)
		config.Certificates = []tls.Certificate{cert}
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	res, err := client.Get("https://" + a[1] + "/v1/blobs/" + entries[0].Name())
	ts.Check(err)
	res.Body.Close()
	if fmt.Sprint(res.StatusCode) != a[0] {
		ts.Fatalf("answered %s", res.Status)
	}
}

// httpGet is "http CODE URL FILE": a machine on loopback asks, and the answer is in
// the file.
func httpGet(ts *testscript.TestScript, _ bool, a []string) {
	res, err := http.Get(a[1])
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(a[2]), body, 0o600))
	if fmt.Sprint(res.StatusCode) != a[0] {
		ts.Fatalf("answered %s: %s", res.Status, body)
	}
}

var installToken = regexp.MustCompile(`put /etc/pilotlight/install-token 0600 <<'EOF'\n([A-Za-z0-9+/=\n]+)\nEOF\ntell \S+ '(\S+)'`)

// installed is "installed FILE": what a program for an installer's last step says at
// its end is said.
func installed(ts *testscript.TestScript, _ bool, a []string) {
	m := installToken.FindStringSubmatch(ts.ReadFile(a[0]))
	if m == nil {
		ts.Fatalf("%s says nothing to the server", a[0])
	}
	token, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(m[1], "\n", ""))
	ts.Check(err)
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	ca, err := os.ReadFile(ts.MkAbs("data/ca/ca.crt"))
	ts.Check(err)
	config.RootCAs.AppendCertsFromPEM(ca)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	res, err := client.Post(m[2], "application/octet-stream", bytes.NewReader(token))
	ts.Check(err)
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		ts.Fatalf("answered %s", res.Status)
	}
}
