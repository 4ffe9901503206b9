package userdata

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

var update = flag.Bool("update", false, "write the golden files anew")

func seed(l Language) Seed {
	return Seed{Host: "web1", InstanceID: "web1-0123456789ab", Language: l, Pointer: []byte("the pointer of " + string(l) + "\n")}
}

// TestEncode: each place and language, to be read in the diff. The values of vSphere
// are unpacked.
func TestEncode(t *testing.T) {
	var out strings.Builder
	for _, p := range Places {
		for _, l := range []Language{Ignition, CloudInit, CoreOS} {
			got, err := p.Encode(seed(l))
			switch {
			case err != nil:
				got = []byte("refused: " + err.Error() + "\n")
			case p == NoCloudISO:
				continue
			}
			out.WriteString("== " + string(p) + ", " + string(l) + "\n" + unpacked(got))
		}
	}
	path := filepath.Join("testdata", "encoded")
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || out.String() != string(want) {
		t.Errorf("%v\n%s", err, out.String())
	}
}

var packed = regexp.MustCompile(`= "([A-Za-z0-9+/]{12,}=*)"`)

func unpacked(b []byte) string {
	return packed.ReplaceAllStringFunc(string(b), func(s string) string {
		raw, err := base64.StdEncoding.DecodeString(packed.FindStringSubmatch(s)[1])
		if err != nil {
			return s
		}
		return "= base64 of " + strings.TrimSpace(string(raw))
	})
}

// TestISO reads a seed back, and sees to it that nothing of it is left elsewhere.
func TestISO(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, network := range [][]byte{nil, []byte("version: 2\n")} {
		s := seed(CloudInit)
		s.NetworkConfig = network
		image, err := NoCloudISO.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		path := filepath.Join(t.TempDir(), "iso")
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cd, err := iso9660.Read(file.New(f, true), int64(len(image)), 0, 2048)
		if err != nil || strings.TrimRight(cd.Label(), " \x00") != Label {
			t.Fatalf("%q, %v", cd.Label(), err)
		}
		for name, want := range map[string][]byte{
			"user-data": s.Pointer, "meta-data": []byte("instance-id: \"web1-0123456789ab\"\nlocal-hostname: \"web1\"\n"), "network-config": network,
		} {
			r, err := cd.OpenFile("/"+name, os.O_RDONLY)
			if want == nil {
				if err == nil {
					t.Errorf("there is a %s", name)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	s := seed(Ignition)
	s.Pointer = bytes.Repeat([]byte("x"), Most+1)
	if out, err := EC2.Encode(s); err == nil || out != nil {
		t.Error("a machine would be given the first part of it")
	}
	for _, name := range []string{"", "aws", "EC2"} {
		if _, err := ParsePlace(name); err == nil || !strings.Contains(err.Error(), "nocloud-iso") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, err := ParsePlace("vsphere"); p != VSphere || err != nil {
		t.Error(err)
	}
	if _, err := Place("moon").Encode(seed(Ignition)); err == nil {
		t.Error("a place that nobody knows")
	}
	if err := Raw.Check("the installer of another system"); err == nil {
		t.Error("a language that nobody knows")
	}
}

// TestPacks: what is longer than a place takes is packed where cloud-init reads it, and
// what is too long all the same is refused.
func TestPacks(t *testing.T) {
	s := seed(CloudInit)
	s.Pointer = bytes.Repeat([]byte("much of the same "), 2000)
	unpack := func(b []byte) string {
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	for _, p := range []Place{EC2, VSphere, GCE, Raw} {
		out, err := p.Encode(s)
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		got := string(out)
		switch p {
		case EC2:
			got = unpack(out)
		case VSphere:
			m := regexp.MustCompile(`(?m)^guestinfo.userdata = "(.*)"\nguestinfo.userdata.encoding = "gzip\+base64"$`).FindStringSubmatch(got)
			if m == nil {
				t.Fatalf("%s", got)
			}
			raw, err := base64.StdEncoding.DecodeString(m[1])
			if err != nil {
				t.Fatal(err)
			}
			got = unpack(raw)
		}
		if got != string(s.Pointer) {
			t.Errorf("%s: it is not what went in: %.100q", p, got)
		}
	}
	for n := uint64(0); len(s.Pointer) < 1<<20; n++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d", n))
		s.Pointer = append(s.Pointer, sum[:]...)
	}
	for _, p := range []Place{EC2, VSphere, GCE} {
		if out, err := p.Encode(s); out != nil || err == nil || !strings.Contains(err.Error(), "take --for nocloud-iso") {
			t.Errorf("%s: %v", p, err)
		}
	}
}
