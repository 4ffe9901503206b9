package manifest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/pilotlight/pilotlight/cluster"
)

var update = flag.Bool("update", false, "write what comes out into testdata, to be read in the diff")

var equal = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

// TestGood loads manifests, writes them as YAML, reads that, and has the same.
func TestGood(t *testing.T) {
	t.Chdir("testdata") // image files become absolute: the golden file holds no checkout's place
	set, err := Load("good")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[cluster.Kind]bool{}
	for _, d := range set.Documents {
		kinds[d.Ref().Kind] = true
	}
	for _, k := range cluster.Kinds {
		if !kinds[k] {
			t.Errorf("no manifest of kind %s", k)
		}
	}
	text, err := YAML(set.Documents...)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("out.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(set.Documents, again.Documents, equal); diff != "" {
		t.Errorf("what was written reads as another (-first +second):\n%s", diff)
	}
	twice, err := YAML(again.Documents...)
	if err != nil || !bytes.Equal(text, twice) {
		t.Errorf("written again it differs: %v", err)
	}
	here, _ := os.Getwd()
	golden(t, "good.golden", bytes.ReplaceAll(text, []byte(here), []byte("/HERE")))

	// And as etcd brings it back.
	for _, d := range set.Documents {
		body, err := cluster.MarshalDocument(d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := cluster.UnmarshalDocument(body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, back, equal); diff != "" {
			t.Errorf("%s by way of JSON:\n%s", d.Ref(), diff)
		}
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestBad loads the files of each archive, and compares every mistake with its
// place. What may be a secret is written SENTINEL there: no mistake echoes it.
func TestBad(t *testing.T) {
	archives, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatal(err)
	}
	for _, path := range archives {
		t.Run(filepath.Base(path), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for _, f := range archive.Files {
				name := filepath.Join(dir, f.Name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, f.Data, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			start := time.Now()
			_, err = Load(dir)
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
			var mistakes Mistakes
			if !errors.As(err, &mistakes) {
				t.Fatalf("got %v", err)
			}
			got := strings.ReplaceAll(err.Error(), dir+"/", "") + "\n"
			if strings.Contains(got, "SENTINEL") {
				t.Errorf("a value is echoed:\n%s", got)
			}
			golden(t, strings.TrimSuffix(path, "txtar")+"golden", []byte(got))
		})
	}
}

func TestEveryHonouredKeyIsExplained(t *testing.T) {
	for _, key := range honoured {
		if written[key] == "" {
			t.Errorf("written does not say how %s is written", key)
		}
	}
	for key := range written {
		if !slices.Contains(honoured, key) {
			t.Errorf("%s is explained and not honoured", key)
		}
	}
	for key := range instead {
		if slices.Contains(honoured, key) {
			t.Errorf("%s is honoured and has a hint what to write instead", key)
		}
	}
}

func TestForms(t *testing.T) {
	const host = "kind: host\nname: a\nmacs: [52:54:00:00:00:01]\n"
	for name, text := range map[string]string{
		"BOM": "\ufeff" + host, "CRLF": strings.ReplaceAll(host, "\n", "\r\n"), "end mark": "---\n" + host + "...\n",
		"no last newline": strings.TrimSuffix(host, "\n"), "comments": "# c\n---\n# d\n" + host + "# e\n---\n---\n", "JSON": `{"kind":"host","name":"a","macs":["52:54:00:00:00:01"]}`,
		"flow": "{kind: host, name: a, macs: ['52:54:00:00:00:01']}", "quoted": "\"kind\": 'host'\n'name': \"a\"\nmacs: ['52:54:00:00:00:01']\n",
		"tags": "kind: !!str host\nname: !!str a\nmacs: !!seq [52:54:00:00:00:01]\n", "x- keys": host + "x-a: {b: [c]}\n",
		"anchor in name": "kind: &k host\nname: &n a\nmacs: [52:54:00:00:00:01]\nx-n: *n\n",
	} {
		set, err := Parse("m.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := []cluster.Document{&cluster.Host{Meta: cluster.Meta{Name: "a"}, MACs: []cluster.MAC{{0x52, 0x54, 0, 0, 0, 1}}}}
		if diff := cmp.Diff(want, set.Documents, equal); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	for name, text := range map[string]string{"empty": "", "blank": "\n\n", "comment": "# nothing\n", "marks": "---\n---\n", "null": "~\n"} {
		if set, err := Parse("m.yaml", []byte(text)); err != nil || len(set.Documents) != 0 {
			t.Errorf("%s: %v, %v", name, set, err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "no manifest") {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	write("b/p.yaml", "kind: profile\nname: p\nboot: local\nconfig: {butane: p.bu}\n")
	write("b/p.bu", "variant: fcos")
	write("a.yml", "kind: image\nname: i\nkernel: {url: ../k}\n")
	write(".hidden.yaml", "nonsense: [")
	write(".git/x.yaml", "nonsense: [")
	write("notes.txt", "nonsense: [")
	set, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Documents) != 2 {
		t.Fatalf("%d documents", len(set.Documents))
	}
	if got := set.Documents[0].(*cluster.Image).Kernel.URL; got != "file://"+filepath.Join(filepath.Dir(dir), "k") {
		t.Errorf("kernel %s", got)
	}
	if got := set.Documents[1].(*cluster.Profile).Config.Butane; got != "variant: fcos\n" {
		t.Errorf("butane %q", got)
	}
	// One file by its own name, hidden or not.
	if _, err := Load(filepath.Join(dir, ".hidden.yaml")); err == nil {
		t.Error("a file that is named is read")
	}

	err = set.Place([]cluster.Problem{
		{Ref: cluster.Ref{Kind: cluster.KindProfile, Name: "p"}, Field: "config.butane.x[3].y", Message: "two"},
		{Ref: cluster.Ref{Kind: cluster.KindProfile, Name: "p"}, Field: "image", Message: "one"},
		{Ref: cluster.Ref{Kind: cluster.KindHost, Name: "h"}, Field: "macs", Message: "three"},
	})
	got := strings.ReplaceAll(err.Error(), dir+"/", "")
	want := "already applied: host h: macs: three\nb/p.yaml:1:1: profile p: image: one\nb/p.yaml:4:10: profile p: config.butane.x[3].y: two"
	if sortedLines(got) != sortedLines(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := set.Place(nil); err != nil {
		t.Error(err)
	}
}

func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestLongAndDeep has what would take a parser long be told at once.
func TestLongAndDeep(t *testing.T) {
	const n = 100_000
	for name, text := range map[string]string{
		"flow": strings.Repeat("[", n), "maps": strings.Repeat("{a: ", n), "long": "# " + strings.Repeat("x", maxFile),
		"lines": "kind: host\nlabels:\n" + strings.Repeat("  a: b\n", 2_000),
	} {
		start := time.Now()
		_, err := Parse("m.yaml", []byte(text))
		if d := time.Since(start); d > 10*time.Second || err == nil {
			t.Errorf("%s: %v after %v", name, err, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.y*ml", "testdata/bad/*.txtar"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			for _, doc := range strings.Split(string(text), "---\n") {
				f.Add([]byte(doc))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		watchdog := time.AfterFunc(20*time.Second, func() { panic(fmt.Sprintf("hangs at %q", text)) })
		defer watchdog.Stop()
		set, err := Parse("m.yaml", text)
		if err != nil {
			return
		}
		out, err := YAML(set.Documents...)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("m.yaml", out)
		if err != nil {
			if !bytes.Contains(text, []byte("config")) { // a template may be a file's name
				t.Errorf("%v\n%s", err, out)
			}
			return
		}
		again, err := YAML(back.Documents...)
		if err != nil || !bytes.Equal(again, out) {
			t.Errorf("%v: printed first\n%s\nand then\n%s", err, out, again)
		}
	})
}

// What is taken from beside a manifest is text, since what is applied is kept as JSON.
func TestFilesBeside(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"latin1.bu": "variant: fcos # Gr\xfc\xdfe\n", "parts/ok": "fine\n", "latin/a": "ok\n", "latin/b": "Gr\xfc\xdfe\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("parts", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ fields, want string }{
		{"config: {butane: latin1.bu}", "latin1.bu is no text in UTF-8"},
		{"includes: latin", "latin/b is no text in UTF-8"},
		{"includes: link", ""},
	} {
		set, err := Parse(filepath.Join(dir, "p.yaml"), []byte("kind: profile\nname: p\nboot: local\n"+test.fields+"\n"))
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want %s", test.fields, err, test.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.fields, err)
		} else if got := set.Documents[0].(*cluster.Profile).Includes["ok"]; got != "fine\n" {
			t.Errorf("%s: %q", test.fields, got)
		}
	}
}
