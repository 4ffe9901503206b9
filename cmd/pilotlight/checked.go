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
func (c *cli) loadManifests(dir, data string) (*manifest.Set, error) {
	file := filepath.Join(data, "server", "checked")
	before, _ := os.ReadFile(file) // none is as good as any other
	set, err := manifest.Load(dir)
	if err == nil {
		digest, sumErr := checkedDigest(set.Documents)
		if sumErr != nil {
			return nil, sumErr
		}
		if bytes.Equal(before, digest) {
			return set, nil
		}
	}
	// With the configs, so that all mistakes come at once.
	if set, err = manifest.LoadWhole(draftVerifier().verify, dir); err != nil {
		return nil, err
	}
	digest, err := checkedDigest(set.Documents)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Dir(file)); err != nil {
		return set, nil // a first start makes the directory once it holds the lock
	}
	if err := join.WriteFile(file, digest, 0o600); err != nil {
		return nil, fmt.Errorf("note that the manifests are right: %w", err)
	}
	return set, nil
}

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
