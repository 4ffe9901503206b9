package ignition

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	baseutil "github.com/coreos/butane/base/util"

	"github.com/pilotlight/pilotlight/cluster"
)

// moldSeeds are configs in which texts of files stand in every way.
func moldSeeds(tb testing.TB) []string {
	seeds := []string{benchButane}
	for _, f := range []string{"fcos", "flatcar", "none"} {
		b, err := os.ReadFile("testdata/golden/" + f + ".bu")
		if err != nil {
			tb.Fatal(err)
		}
		seeds = append(seeds, string(b))
	}
	file := func(version, contents, more string) string {
		return "variant: fcos\nversion: " + version + "\nstorage:\n  files:\n    - path: /etc/x\n      contents: " + contents + "\n" + more
	}
	for _, version := range []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0", "1.6.0", "1.7.0"} {
		seeds = append(seeds, file(version, "{inline: \"a%b ÿ\\n\"}", ""), strings.Replace(file(version, "{inline: x}", ""), "fcos", "flatcar", 1))
	}
	long := strings.Repeat("all work and no play makes jack a dull boy ", 50)
	for _, contents := range []string{
		"{inline: \"\"}", "{inline: 12}", "{inline: yes}", "{inline: ~}", "{inline: 2020-01-01}", "{inline: !!str 12}", "{inline: !!binary aGVsbG8=}", "{inline: &a text}", "{inline: |2}",
		"{inline: " + long + "}", "{inline: " + long + ", compression: gzip}", "{inline: x, compression: \"\"}", "{inline: x, local: y}", "{inline: x, inline: y}",
		"{inline: PILOTLIGHT-TEXT-0.}", "{inline: " + TokenPlaceholder + "}", "{inline: \"" + textHole + "1.\"}", "{inline: [x]}", "{inlin: x}", "{source: \"data:,x\"}", "[]", "inline",
		"\n        inline: |\n          one\n\n            two\n", "\n        inline: >-\n          one\n          two\n", "\n        inline: \"\\ttab\\u0085\\u2028\"\n", "\n        # a comment\n        inline: x # behind\n",
		"{inline: x, verification: {hash: sha256-00}}",
	} {
		seeds = append(seeds, file("1.5.0", contents, ""))
	}
	for _, more := range []string{
		"      mode: 0644\n", "      mode: 644\n", "      mode: 04755\n", "      overwrite: yes\n", "      overwrite: \"yes\"\n", "      appnd: []\n", "      append: [{inline: x}, {inline: x}]\n",
		"    - path: /etc/x\n      contents: {inline: y}\n", "    - path: /etc/hostname\n      contents: {inline: y}\n", "    - path: relative\n      contents: {inline: y}\n", "storage: {}\n",
		"passwd:\n  users:\n    - name: core\n      ssh_authorized_keys: [a]\n", "systemd:\n  units:\n    - name: x.service\n      enabled: true\n      contents: |\n        [Service]\n        ExecStart=/bin/true\n",
		"boot_device:\n  luks: {tpm2: true}\n", "kernel_arguments: {should_exist: [a]}\n", "ignition: {config: {replace: {source: \"http://x/\"}}}\n", "ignition: {config: {merge: [{inline: x}]}}\n",
		"---\nvariant: fcos\n", "grub: {users: [{name: root, password_hash: grub.pbkdf2.x}]}\n", "x: &a 1\ny: *a\n", "<<: {a: b}\n", "    - contents: {inline: y}\n", "\t\n",
		"    - path: /etc/y\n      contents: {inline: " + textHole + "0.}\n      user: {name: " + textHole + "1.}\n",
	} {
		seeds = append(seeds, file("1.5.0", "{inline: "+long+"}", more))
	}
	return seeds
}

// sameShape compares what is found out with molds and without.
func sameShape(t *testing.T, rendered string) (molded bool) {
	t.Helper()
	in := testInput(cluster.Config{Butane: "x"})
	about := text{ref: in.Target.Profile.Ref(), field: butaneField, source: rendered}
	for _, p := range []part{in.part(new(additions)), {installed: "done", ca: "ca", added: new(additions)}} {
		want := newShape(about, rendered, nil, p, in.Target.SSHKeys, func(text, *outline, part, []string) *mold { return nil })
		got := newShape(about, rendered, nil, p, in.Target.SSHKeys, func(t text, o *outline, p part, keys []string) *mold {
			m := newMold(t, o, p, keys)
			molded = molded || m != nil
			return m
		})
		for _, s := range []*shape{got, want} { // Butane names unused keys in any order
			slices.SortFunc(s.problems, func(a, b Problem) int { return strings.Compare(a.String(), b.String()) })
		}
		if !reflect.DeepEqual(got.problems, want.problems) {
			t.Fatalf("problems\n%v\nwith a mold, without:\n%v\nof\n%s", got.problems, want.problems, rendered)
		}
		if !bytes.Equal(got.digest, want.digest) || got.lowest != want.lowest || got.hash != want.hash || !reflect.DeepEqual(got.refusal, want.refusal) {
			t.Errorf("another shape with a mold: lowest %d and %d, refused %v and %v", got.lowest, want.lowest, got.refusal, want.refusal)
		}
		for minor := range specs {
			g, w := &document{shape: got, agent: "e30=", name: "x"}, &document{shape: want, agent: "e30=", name: "x"}
			if g, w := g.body(minor, testToken), w.body(minor, testToken); !bytes.Equal(g, w) {
				t.Fatalf("with a mold\n%s\nwithout\n%s\nof\n%s", g, w, rendered)
			}
		}
	}
	return molded
}

func TestMoldsChangeNothing(t *testing.T) {
	molded := 0
	for _, seed := range moldSeeds(t) {
		if strings.Contains(seed, "{{") {
			in := testInput(cluster.Config{Butane: seed})
			out, _, problems := render(text{ref: in.Target.Profile.Ref(), field: butaneField, source: seed}, in.data())
			if problems != nil {
				t.Fatal(problems)
			}
			seed = out
		}
		if sameShape(t, seed) {
			molded++
		}
	}
	t.Logf("%d of %d by molds", molded, len(moldSeeds(t)))
	if molded < 30 {
		t.Errorf("molds were good for %d configs only", molded)
	}
}

func FuzzMold(f *testing.F) {
	for _, seed := range moldSeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rendered string) {
		if len(rendered) < 4096 {
			sameShape(t, rendered)
		}
	})
}

func TestMoldIsShared(t *testing.T) {
	var c Cache
	for i := range 3 {
		if _, err := c.Compile(namedInput(fmt.Sprint("web", i), cluster.Config{Butane: benchButane})); err != nil {
			t.Fatal(err)
		}
	}
	if n, shapes := c.molds.len(), c.shapes.len(); n != 1 || shapes != 3 {
		t.Errorf("three hosts that differ in texts only have %d molds and %d shapes", n, shapes)
	}
}

func FuzzDataURL(f *testing.F) {
	for _, seed := range []string{"", "a", "a b", "\x00\x01\xff", strings.Repeat("ab", 30), strings.Repeat("%", 12), strings.Repeat("x", 41), strings.Repeat("ÿ\n", 5000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, packed, err := baseutil.MakeDataURL([]byte(text), nil, true)
		if err != nil {
			t.Fatal(err)
		}
		got, compression, err := dataURL(text)
		if err != nil || got != want || compression != *packed {
			t.Errorf("%q is\n%s %s, not\n%s %s", text, got, compression, want, *packed)
		}
	})
}
