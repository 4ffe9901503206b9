package manifest

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/pilotlight/pilotlight/cluster"
)

var includesType = reflect.TypeFor[cluster.Includes]()

// maxIncludes is how long all includes of a profile together may be: what is
// applied goes into one value of etcd.
const maxIncludes = 512 << 10

// includes takes the files of a directory into a document, hidden ones left out. A
// mapping has the texts already.
func (d *decoder) includes(v reflect.Value, field string, n ast.Node) {
	s, ok := n.(ast.ScalarNode)
	if !ok {
		d.mapValue(v, field, n)
		return
	}
	name, _ := valueOf(s).(string)
	if name == "" {
		d.add(n, field, "must be a directory beside the manifest, or a mapping of names to texts")
		return
	}
	out, total := cluster.Includes{}, 0
	dir, err := filepath.EvalSymlinks(d.beside(name))
	if err != nil {
		d.add(n, field, "%v; write the path of a directory beside %s", err, filepath.Base(d.file))
		return
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(e.Name(), ".") && path != dir
		switch {
		case hidden && e.IsDir():
			return filepath.SkipDir
		case hidden || e.IsDir():
			return nil
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return err // a link to a directory, a socket
		}
		text, err := readText(path)
		if err != nil {
			return err
		}
		if total += len(text); total > maxIncludes {
			return fs.SkipAll
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		out[filepath.ToSlash(rel)] = string(text)
		d.origin.texts[join(field, filepath.ToSlash(rel))] = path
		return nil
	})
	switch {
	case err != nil:
		d.add(n, field, "%v; write the path of a directory beside %s", err, filepath.Base(d.file))
	case total > maxIncludes:
		d.add(n, field, "%s holds more than %d KiB: serve what is large by URL", name, maxIncludes>>10)
	case len(out) == 0:
		d.add(n, field, "%s holds no file", name)
	}
	v.Set(reflect.ValueOf(out))
}
