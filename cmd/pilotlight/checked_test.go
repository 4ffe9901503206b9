package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// A start verifies what nobody has verified, and leaves for later what an earlier
// version of the program found right.
func TestLoadManifestsVerifiesOnce(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	write := func(butane string) {
		t.Helper()
		text := "kind: profile\nname: p\nboot: local\nconfig: {butane: \"" + butane + "\"}\n---\nkind: host\nname: h\nmacs: [\"52:54:00:00:00:01\"]\nprofile: p\n"
		if err := os.WriteFile(filepath.Join(dir, "site.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(data, "server"), 0o755))
	const good, bad = "variant: fcos\\nversion: 1.5.0\\n", "variant: fcos\\nversion: 1.5.0\\nstorag: {}\\n"
	write(good)
	m, err := loadManifests(dir, data)
	if must(err); m.later {
		t.Error("what nobody has verified is left for later")
	}
	again := draftVerifier()
	again.known, again.compile = m.known, func(_ *cluster.Snapshot, h *cluster.Host, _ bool) error {
		t.Errorf("the config of %s is made again when it is applied", h.Name)
		return nil
	}
	again.verify(cluster.NewSnapshot(1, m.set.Documents), nil)
	must(noteChecked(m.set.Documents, data))
	if m, err = loadManifests(dir, data); m.later || err != nil {
		t.Errorf("what this program verified is to be verified again: %v", err)
	}
	by := readChecked(data)
	must(os.WriteFile(checkedFile(data), []byte(by.docs+" "+strings.Repeat("0", 64)+"\n"), 0o600))
	if m, err = loadManifests(dir, data); !m.later || err != nil {
		t.Errorf("what another version verified is not left for later: %v", err)
	}
	write(bad)
	if _, err = loadManifests(dir, data); err == nil || !strings.Contains(err.Error(), "storag") {
		t.Errorf("what is new and wrong: %v", err)
	}
	must(os.WriteFile(checkedFile(data), []byte(by.docs+"\n"), 0o600)) // as it was written once
	write(good)
	if m, err = loadManifests(dir, data); m.later || err != nil {
		t.Errorf("a note of another form: %v %v", m.later, err)
	}
}
