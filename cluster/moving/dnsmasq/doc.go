// Package dnsmasq turns dnsmasq's configuration into documents: what it says of
// DHCP and of booting. Of DNS there is nothing here, and each such line is told.
package dnsmasq

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster/moving"
)

// Files opens files by the names that the configuration has for them.
type Files interface {
	Open(name string) ([]byte, error)
	List(dir string) ([]string, error) // the names of the files in it
}

// line is one setting: name=value.
type line struct {
	file        string
	number      int
	name, value string
}

const (
	maxFiles = 1000
	maxLines = 200_000
)

// reader reads files and those that they include.
type reader struct {
	files Files
	out   *moving.Result
	lines []line
	seen  map[string]bool
}

// Convert reads configuration files, and makes documents of them.
func Convert(files Files, names ...string) moving.Result {
	var out moving.Result
	r := &reader{files: files, out: &out, seen: map[string]bool{}}
	for _, n := range names {
		r.file(n, line{file: n}, "")
	}
	newConverter(&out, files).convert(r.lines)
	out.Sort()
	return out
}

// file reads a file; as is what each of its lines is a value of, or nothing.
func (r *reader) file(name string, at line, as string) {
	if r.seen[as+" "+name] || len(r.seen) >= maxFiles {
		return
	}
	r.seen[as+" "+name] = true
	text, err := r.files.Open(name)
	if err != nil {
		why := err.Error()
		if errors.Is(err, fs.ErrNotExist) {
			why = "it is not there"
		}
		r.out.Notef(at.file, at.number, "%s cannot be read: %s", name, why)
		return
	}
	for i, raw := range strings.Split(string(text), "\n") {
		words := strings.TrimSpace(uncomment(raw))
		if words == "" || len(r.lines) >= maxLines {
			continue
		}
		l := line{file: name, number: i + 1, name: as, value: words}
		if as == "" {
			key, value, _ := strings.Cut(words, "=")
			l.name, l.value = strings.TrimSpace(key), strings.TrimSpace(value)
		}
		r.include(l)
	}
}

func (r *reader) include(l line) {
	switch l.name {
	case "conf-file":
		r.file(strings.Trim(l.value, `"`), l, "")
	case "dhcp-hostsfile", "dhcp-hostsdir":
		r.below(l, "dhcp-host")
	case "dhcp-optsfile", "dhcp-optsdir":
		r.below(l, "dhcp-option")
	case "conf-dir":
		r.below(l, "")
	default:
		r.lines = append(r.lines, l)
	}
}

// below reads a directory's files, as conf-dir=DIR,.bak,*.conf chooses them; or the
// one file that is named.
func (r *reader) below(l line, as string) {
	dir, rest, _ := strings.Cut(strings.Trim(l.value, `"`), ",")
	if !strings.HasSuffix(l.name, "dir") {
		r.file(dir, l, as)
		return
	}
	names, err := r.files.List(dir)
	if err != nil {
		r.out.Notef(l.file, l.number, "directory %s cannot be read: %v", dir, err)
		return
	}
	slices.Sort(names)
	for _, n := range names {
		if chosen(n, strings.Split(rest, ",")) {
			r.file(path.Join(dir, n), l, as)
		}
	}
}

func chosen(name string, by []string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") {
		return false
	}
	only, taken := false, false
	for _, b := range by {
		switch ending, star := strings.CutPrefix(strings.TrimSpace(b), "*"); {
		case star:
			only = true
			taken = taken || strings.HasSuffix(name, ending)
		case ending != "" && strings.HasSuffix(name, ending):
			return false
		}
	}
	return taken || !only
}

// uncomment cuts a line at its #, unless that is quoted or inside a word.
func uncomment(s string) string {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '#' && !quoted && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t'):
			return s[:i]
		}
	}
	return s
}

func (l line) String() string {
	if l.value == "" {
		return l.name
	}
	return fmt.Sprintf("%s=%s", l.name, l.value)
}

// fields are the parts of a value between its commas, of which a quoted one may
// hold some.
func (l line) fields() (out []string) {
	quoted, from := false, 0
	for i := range len(l.value) {
		switch {
		case l.value[i] == '"':
			quoted = !quoted
		case l.value[i] == ',' && !quoted:
			out, from = append(out, l.value[from:i]), i+1
		}
	}
	out = append(out, l.value[from:])
	for i := range out {
		out[i] = strings.Trim(strings.TrimSpace(out[i]), `"`)
	}
	return out
}

// tags takes the parts tag:X (or net:X, the old word) and set:X from the beginning of fields.
func tags(fields []string) (needs, sets, rest []string) {
	for i, f := range fields {
		key, value, ok := strings.Cut(f, ":")
		switch {
		case ok && (key == "tag" || key == "net"):
			needs = append(needs, value)
		case ok && key == "set":
			sets = append(sets, value)
		default:
			return needs, sets, fields[i:]
		}
	}
	return needs, sets, nil
}
