// Package cobbler turns Cobbler's collections (3.x: collections/distros/*.json,
// profiles/, systems/ below /var/lib/cobbler) into documents.
//
// What comes of it never writes a machine's disk: profiles that install are boot:
// local until somebody names the disk in them.
package cobbler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster/moving"
)

// item is an object of a collection, as it stands there.
type item struct {
	file   string
	fields map[string]any
}

// collections are what an import reads, and those of which nothing maps.
var collections, others = []string{"distros", "profiles", "systems"}, map[string]string{
	"repos": "mirrors of packages", "images": "images for virtual machines", "mgmtclasses": "classes for configuration management",
	"packages": "packages for configuration management", "files": "files for configuration management", "menus": "boot menus",
}

// Convert reads a directory that has collections/ in it, or is that.
func Convert(dir fs.FS) moving.Result {
	c := &converter{images: map[string]bool{}, profiles: map[string]*profile{}}
	if _, err := fs.Stat(dir, "collections"); err == nil {
		if below, err := fs.Sub(dir, "collections"); err == nil {
			dir, c.prefix = below, "collections/"
		}
	}
	found := map[string][]item{}
	for _, name := range collections {
		found[name] = c.read(dir, name)
	}
	for name, what := range others {
		if entries, err := fs.ReadDir(dir, name); err == nil && len(entries) > 0 {
			c.out.Notef(c.prefix+name, 0, "%d of them, %s, have no counterpart", len(entries), what)
		}
	}
	if len(found["distros"])+len(found["profiles"])+len(found["systems"]) == 0 && len(c.out.Notes) == 0 {
		c.out.Notef(c.prefix+"distros", 0, "there is no collection: give Cobbler's data directory, usually /var/lib/cobbler (Cobbler 3.x with its file serializer)")
	}
	for _, d := range found["distros"] {
		c.distro(d)
	}
	c.allProfiles(found["profiles"])
	for _, s := range found["systems"] {
		c.system(s)
	}
	c.addNetworks()
	c.out.Sort()
	return c.out
}

func (c *converter) read(dir fs.FS, name string) (out []item) {
	entries, err := fs.ReadDir(dir, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.out.Notef(c.prefix+name, 0, "cannot be read: %v", err)
	}
	for _, e := range entries {
		file := path.Join(name, e.Name())
		if e.IsDir() || path.Ext(file) != ".json" {
			continue
		}
		text, err := fs.ReadFile(dir, file)
		i := item{file: c.prefix + file}
		if err == nil {
			err = json.Unmarshal(text, &i.fields)
		}
		var syntax *json.SyntaxError
		switch {
		case errors.As(err, &syntax):
			c.out.Notef(i.file, 1+strings.Count(string(text[:min(int(syntax.Offset), len(text))]), "\n"), "is no JSON: %v", err)
		case err != nil:
			c.out.Notef(i.file, 0, "is no item of Cobbler's: %v", err)
		case i.text("name") == "":
			c.out.Notef(i.file, 0, "has no name")
		default:
			out = append(out, i)
		}
	}
	return out
}

// inherit is Cobbler's word for what stands in the item above.
const inherit = "<<inherit>>"

// text is a field that is one word.
func (i item) text(key string) string {
	switch v := i.fields[key].(type) {
	case string:
		if v != inherit {
			return v
		}
	case float64:
		return fmt.Sprint(v)
	}
	return ""
}

// list is a field that is a list, or words behind each other.
func (i item) list(key string) (out []string) {
	switch v := i.fields[key].(type) {
	case string:
		if v != inherit {
			return strings.Fields(v)
		}
	case []any:
		for _, w := range v {
			out = append(out, fmt.Sprint(w))
		}
	}
	return out
}

// options are kernel options or template variables: a mapping, or words a=b.
func (i item) options(key string) map[string]any {
	switch v := i.fields[key].(type) {
	case map[string]any:
		return v
	case string:
		out := map[string]any{}
		for _, w := range i.list(key) {
			k, value, has := strings.Cut(w, "=")
			if out[k] = value; !has {
				out[k] = nil
			}
		}
		return out
	}
	return nil
}

// off reports whether a field says no, as it may in several ways.
func (i item) off(key string) bool {
	switch v := i.fields[key].(type) {
	case bool:
		return !v
	case string:
		return slices.Contains([]string{"false", "0", "no", "off"}, strings.ToLower(v))
	case float64:
		return v == 0
	}
	return false
}

// arguments writes kernel options in the order of their names.
func arguments(options map[string]any) (out []string) {
	keys := []string{}
	for k := range options {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		switch v := options[k].(type) {
		case nil:
			out = append(out, moving.Literal(k))
		case []any:
			for _, w := range v {
				out = append(out, moving.Literal(fmt.Sprintf("%s=%v", k, w)))
			}
		case string:
			if v == "" || v == "~" {
				out = append(out, moving.Literal(k))
				continue
			}
			out = append(out, moving.Literal(k+"="+v))
		default:
			out = append(out, moving.Literal(fmt.Sprintf("%s=%v", k, v)))
		}
	}
	return out
}
