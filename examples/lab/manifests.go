package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

// facts is what the manifests' templates may say.
type facts struct {
	Node   string            // where the node image is, relative to the manifests
	Sums   map[string]string // sha256 of its files
	Key    string            // the SSH key that may log in
	Digest string            // of the site's image
	User   string            // who the site runs as
	Disk   string            // what an installer writes, relative to the manifests
	Loader string            // what boots the machines: ipxe or grub
}

// writeManifests fills in a directory of examples/lab for the server to start
// from.
func writeManifests(s settings, name, dir string, f facts) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	from := filepath.Join(s.root, "examples", "lab", name)
	files, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("read the lab's manifests: %w", err)
	}
	for _, file := range files {
		err = errors.Join(err, fill(filepath.Join(from, file.Name()), filepath.Join(dir, file.Name()), f))
	}
	return err
}

// writeSite fills in the site's manifest alone: another version to roll over to.
func writeSite(s settings, to string, f facts) error {
	return fill(filepath.Join(s.root, "examples", "lab", "manifests", "www.yaml"), to, f)
}

func fill(from, to string, f facts) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	// [[ and ]] leave {{ and }} to the server.
	t, err := template.New(filepath.Base(from)).Delims("[[", "]]").Option("missingkey=error").Parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, f); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}
