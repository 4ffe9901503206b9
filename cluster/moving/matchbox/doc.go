// Package matchbox turns what matchbox keeps (groups, profiles, templates) into
// documents.
//
// Convert is a pure function of the objects and of what their kernels and initial
// RAM disks are pinned to: the import of a data directory and matchbox's API
// (package cluster/moving/matchboxrpc) both call it, so both come to the same.
package matchbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/moving"
)

// Group chooses the machines of a profile.
type Group struct {
	ID       string            `json:"id,omitempty"`
	Name     string            `json:"name,omitempty"`
	Profile  string            `json:"profile,omitempty"`
	Selector map[string]string `json:"selector,omitempty"`
	Metadata map[string]any    `json:"metadata,omitempty"`
	File     string            `json:"-"`
}

// Profile is what machines boot and are told.
type Profile struct {
	ID         string `json:"id,omitempty"`
	Name       string `json:"name,omitempty"`
	IgnitionID string `json:"ignition_id,omitempty"`
	CloudID    string `json:"cloud_id,omitempty"`
	GenericID  string `json:"generic_id,omitempty"`
	Boot       *Boot  `json:"boot,omitempty"`
	File       string `json:"-"`
}

// Boot is a kernel, its initial RAM disks and its arguments.
type Boot struct {
	Kernel string   `json:"kernel,omitempty"`
	Initrd []string `json:"initrd,omitempty"`
	Args   []string `json:"args,omitempty"`
}

// Objects is all that matchbox keeps. Templates are by their names.
type Objects struct {
	Groups   []Group
	Profiles []Profile
	Ignition map[string]string
	Cloud    map[string]string
	Generic  map[string]string
}

// Pins says what file a kernel's or RAM disk's URL stands for, as matchbox has it
// written. One that is not there has no digest, and keeps its URL.
type Pins map[string]cluster.File

// Read reads a data directory. What is no object of matchbox's is noted.
func Read(dir fs.FS) (Objects, []moving.Note) {
	o := Objects{Ignition: map[string]string{}, Cloud: map[string]string{}, Generic: map[string]string{}}
	var r moving.Result
	each(dir, "groups", &r, func(file string, text []byte) {
		var g Group
		if err := ParseGroup(text, &g); err != nil {
			r.Notef(file, lineOf(text, err), "is no group of matchbox's: %v", plainError(err))
			return
		}
		g.ID, g.File = stem(file), file // matchbox goes by the file's name
		o.Groups = append(o.Groups, g)
	})
	each(dir, "profiles", &r, func(file string, text []byte) {
		var p Profile
		if err := json.Unmarshal(text, &p); err != nil {
			r.Notef(file, lineOf(text, err), "is no profile of matchbox's: %v", plainError(err))
			return
		}
		p.ID, p.File = stem(file), file
		o.Profiles = append(o.Profiles, p)
	})
	for folder, into := range map[string]map[string]string{"ignition": o.Ignition, "cloud": o.Cloud, "generic": o.Generic} {
		each(dir, folder, &r, func(file string, text []byte) { into[path.Base(file)] = string(text) })
	}
	if len(o.Groups)+len(o.Profiles) == 0 && len(r.Notes) == 0 {
		r.Notef("groups", 0, "there is neither a group nor a profile: give matchbox's data directory, usually /var/lib/matchbox")
	}
	r.Sort()
	return o, r.Notes
}

// ParseGroup reads a group as matchbox's files have it.
func ParseGroup(text []byte, g *Group) error {
	if err := json.Unmarshal(text, g); err != nil {
		return err
	}
	if g.Profile == "" {
		return errors.New("it names no profile")
	}
	return nil
}

func stem(file string) string { return strings.TrimSuffix(path.Base(file), path.Ext(file)) }

func each(dir fs.FS, folder string, r *moving.Result, do func(file string, text []byte)) {
	entries, err := fs.ReadDir(dir, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		r.Notef(folder, 0, "cannot be read: %v", err)
		return
	}
	for _, e := range entries {
		file := path.Join(folder, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if e.IsDir() {
			r.Notef(file, 0, "is a directory, of which matchbox serves nothing: move what is in it up")
			continue
		}
		text, err := fs.ReadFile(dir, file)
		if err != nil {
			r.Notef(file, 0, "cannot be read: %v", err)
			continue
		}
		do(file, text)
	}
}

// lineOf is the line at which JSON could not be read.
func lineOf(text []byte, err error) int {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	at := int64(-1)
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &wrong):
		at = wrong.Offset
	}
	if at < 0 || at > int64(len(text)) {
		return 0
	}
	return 1 + strings.Count(string(text[:at]), "\n")
}

func plainError(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("%s: a %s where it has a %s", wrong.Field, wrong.Value, wrong.Type)
	}
	return err
}
