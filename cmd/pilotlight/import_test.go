package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster/manifest"
)

// imports are directories of what others keep, what is typed to import each, and
// whether what comes of it may be applied as it is.
var imports = []struct {
	name  string
	args  []string
	whole bool
}{
	{"matchbox", []string{"matchbox", "."}, true},
	{"matchbox-mistakes", []string{"matchbox", "."}, false},
	{"cobbler", []string{"cobbler", "."}, true},
	{"dnsmasq", []string{"dnsmasq", "dnsmasq.conf"}, true},
}

// What an import prints, documents and what did not map, is in testdata/import/*.golden.
func TestImport(t *testing.T) {
	top, err := filepath.Abs("testdata/import")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range imports {
		t.Run(i.name, func(t *testing.T) {
			t.Chdir(filepath.Join(top, i.name))
			var out, errs bytes.Buffer
			code := run(t.Context(), append([]string{"import"}, i.args...), nil, nil, &out, &errs)
			if code != exitPartly {
				t.Errorf("exit code %d, want %d: something did not map", code, exitPartly)
			}
			got := strings.ReplaceAll(out.String()+"\n# said:\n"+errs.String(), top, "/IMPORT")
			file := filepath.Join(top, i.name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the import is not %s (-update writes it):\n%s", file, got)
			}
			applies(t, out.Bytes(), i.whole)
		})
	}
}

// applies has manifests checked as `serve DIR` does.
func applies(t *testing.T, text []byte, whole bool) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "site.yaml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := manifest.LoadWhole(draftVerifier().verify, dir)
	if (err == nil) != whole {
		t.Errorf("the manifests are right: %t, want %t: %v", err == nil, whole, err)
	}
}

// Nothing that is there is written over, and nothing is written beside it.
func TestImportOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "profiles.yaml")
	if err := os.WriteFile(mine, []byte("# mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"import", "matchbox", "testdata/import/matchbox", "-o", dir}, nil, nil, &out, &errs); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	text, _ := os.ReadFile(mine)
	if entries, _ := os.ReadDir(dir); string(text) != "# mine\n" || len(entries) != 1 || !strings.Contains(errs.String(), "is not written over") {
		t.Errorf("%d files are there, mine says %q: %s", len(entries), text, &errs)
	}
}

// What is fetched is fetched once, and what https leads to over http is not taken.
func TestPin(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("kernel")) }))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, plain.URL, http.StatusFound)
			return
		}
		_, _ = w.Write([]byte("kernel"))
	}))
	defer secure.Close()
	const digest = "4b5a1e83d6f8ee4a8fe6ec0a8ac2c50b5d0bbd8ab0a7e2a5ed6c8ffd6b2ee2d6"
	assets := t.TempDir()
	if err := os.WriteFile(filepath.Join(assets, "k"), []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(assets, "out")); err != nil {
		t.Fatal(err)
	}
	here, err := (pinner{assets: assets}).pin(context.Background(), "/assets/k")
	if err != nil || len(here.SHA256) != 64 {
		t.Fatalf("%v %v", here, err)
	}
	for _, row := range []struct {
		p    pinner
		raw  string
		sha  string
		fail string
	}{
		{pinner{fetch: true}, plain.URL + "/k", here.SHA256, ""},
		{pinner{}, plain.URL + "/k", "", ""},
		{pinner{fetch: true, secure: true}, plain.URL + "/k", "", "sha256="},
		{pinner{fetch: true, secure: true, client: secure.Client()}, secure.URL + "/k", here.SHA256, ""},
		{pinner{fetch: true, secure: true, client: secure.Client()}, secure.URL + "/away", "", "it leads to http://"},
		{pinner{fetch: true, secure: true}, plain.URL + "/k#sha256=" + digest, digest, ""},
		{pinner{assets: assets}, "http://matchbox:8080/assets/k", here.SHA256, ""},
		{pinner{assets: assets}, "/assets/out", "", "/assets/out"},
		{pinner{assets: assets}, "/assets/../../etc/passwd", "", "neither below /assets/"},
		{pinner{assets: assets}, "/assets/none", "", "no such file"},
		{pinner{}, "ftp://example.org/k", "", "neither below /assets/"},
		{pinner{}, "http://me:secret@example.org/k", "", "without a password"},
	} {
		f, err := row.p.pin(context.Background(), row.raw)
		switch {
		case row.fail == "" && (err != nil || f.SHA256 != row.sha):
			t.Errorf("%s: %v %v", row.raw, f, err)
		case row.fail != "" && (err == nil || !strings.Contains(err.Error(), row.fail) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: %v, want %q", row.raw, err, row.fail)
		}
	}
}
