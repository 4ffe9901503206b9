package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// artifact is something heavy that is made once and kept under the name of what
// it is made from.
type artifact struct {
	name   string
	inputs []string // files and directories; every byte of them counts
	also   []string // what else it depends on
	make   func(dir string) error
}

// get returns the artifact's directory, and makes it when there is none for
// these inputs. Older ones are removed: they are large.
func (a artifact) get(cache string) (dir string, err error) {
	key, err := a.key()
	if err != nil {
		return "", fmt.Errorf("%s: what is it made from: %w", a.name, err)
	}
	dir = filepath.Join(cache, a.name+"-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := a.removeOthers(cache, dir); err != nil {
		return "", err
	}
	// Made beside its place and moved there when it is whole.
	unfinished := dir + ".unfinished"
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(unfinished))
		}
	}()
	if err := os.MkdirAll(unfinished, 0o755); err != nil {
		return "", err
	}
	if err := a.make(unfinished); err != nil {
		return "", fmt.Errorf("make the %s: %w", a.name, err)
	}
	return dir, os.Rename(unfinished, dir)
}

func (a artifact) removeOthers(cache, dir string) error {
	others, err := filepath.Glob(filepath.Join(cache, a.name+"-*"))
	if err != nil {
		return err
	}
	for _, o := range others {
		// A key has no hyphen: this is not another artifact with a longer name.
		if o != dir && !strings.Contains(strings.TrimPrefix(filepath.Base(o), a.name+"-"), "-") {
			err = errors.Join(err, os.RemoveAll(o))
		}
	}
	return err
}

// key is a digest of all inputs: names, modes and contents.
func (a artifact) key() (string, error) {
	h := sha256.New()
	for _, s := range a.also {
		fmt.Fprintf(h, "%q\n", s)
	}
	for _, in := range a.inputs {
		err := filepath.WalkDir(in, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			return hashFile(h, in, path)
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}

func hashFile(h io.Writer, base, path string) error {
	name, err := filepath.Rel(base, path)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%q %t %d\n", name, info.Mode()&0o100 != 0, info.Size())
	_, err = io.Copy(h, f)
	return err
}
