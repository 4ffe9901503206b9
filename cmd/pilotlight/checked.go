package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/manifest"
)

// loadManifests reads the manifests of DIR and checks all of them. To make the
// config of each host is most of that, and of a start; so it is left out where this
// very program has found that the very same documents are right.
func loadManifests(dir, data string) (*manifest.Set, error) {
	if set, err := manifest.Load(dir); err == nil {
		digest, err := checkedDigest(set.Documents)
		if err != nil {
			return nil, err
		}
		if before, err := os.ReadFile(checkedFile(data)); err == nil && bytes.Equal(before, digest) {
			return set, nil
		}
	}
	// With the configs, so that all mistakes come at once.
	return manifest.LoadWhole(draftVerifier().verify, dir)
}

// noteChecked notes that documents are right, for the next start. The data directory
// is locked.
func noteChecked(docs []cluster.Document, data string) error {
	digest, err := checkedDigest(docs)
	if err == nil {
		err = join.WriteFile(checkedFile(data), digest, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note that the manifests are right: %w", err)
	}
	return nil
}

func checkedFile(data string) string { return filepath.Join(data, "server", "checked") }

// checkedDigest is of documents and of the program that checks them.
func checkedDigest(docs []cluster.Document) ([]byte, error) {
	sum := sha256.New()
	self, err := os.Executable()
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(self); err == nil {
			fmt.Fprintln(sum, version, info.Size(), info.ModTime().UnixNano())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	for _, d := range docs {
		body, err := cluster.MarshalDocument(d)
		if err != nil {
			return nil, err
		}
		sum.Write(body)
	}
	return []byte(hex.EncodeToString(sum.Sum(nil)) + "\n"), nil
}
