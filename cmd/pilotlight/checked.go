package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/manifest"
)

// loadManifests reads the manifests of DIR and checks all of them. To make the
// config of each host is most of that, and of a start; so it is left out where the
// very same documents were found to be right before. later says that it was
// another version of the program that found it: it is to be looked at again, and need
// not be waited for, since a config is made when its machine asks anyway.
func loadManifests(dir, data string) (manifests, error) {
	if set, err := manifest.Load(dir); err == nil {
		docs, program, err := checkedDigests(set.Documents)
		if err != nil {
			return manifests{}, err
		}
		switch before := readChecked(data); {
		case before == checkedNote{docs, program}:
			return manifests{set: set, known: new(verified)}, nil
		case before.docs == docs && len(cluster.Check(set.Documents)) == 0:
			return manifests{set: set, known: new(verified), later: true}, nil
		}
	}
	// With the configs, so that all mistakes come at once.
	v := draftVerifier()
	set, err := manifest.LoadWhole(v.verify, dir)
	return manifests{set: set, known: v.known}, err
}

// manifests are those of DIR.
type manifests struct {
	set   *manifest.Set
	known *verified // what was found right just now, and is not looked at again when it is applied
	later bool
}

// checkedNote says which documents are right, by the digest of the documents and of
// the program that found it.
type checkedNote struct{ docs, program string }

func readChecked(data string) (n checkedNote) {
	text, err := os.ReadFile(checkedFile(data))
	if fields := strings.Fields(string(text)); err == nil && len(fields) == 2 {
		n = checkedNote{fields[0], fields[1]}
	}
	return n
}

// noteChecked notes that documents are right, for the next start. The data directory
// is locked.
func noteChecked(docs []cluster.Document, data string) error {
	of, by, err := checkedDigests(docs)
	if err == nil {
		err = join.WriteFile(checkedFile(data), []byte(of+" "+by+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("note that the manifests are right: %w", err)
	}
	return nil
}

func checkedFile(data string) string { return filepath.Join(data, "server", "checked") }

// checkedDigests are of documents, and of the program that checks them.
func checkedDigests(docs []cluster.Document) (of, by string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", "", fmt.Errorf("find this program: %w", err)
	}
	info, err := os.Stat(self)
	if err != nil {
		return "", "", fmt.Errorf("find this program: %w", err)
	}
	program := sha256.Sum256(fmt.Appendln(nil, version, info.Size(), info.ModTime().UnixNano()))
	sum := sha256.New()
	for _, d := range docs {
		body, err := cluster.MarshalDocument(d)
		if err != nil {
			return "", "", err
		}
		sum.Write(body)
	}
	return hex.EncodeToString(sum.Sum(nil)), hex.EncodeToString(program[:]), nil
}
