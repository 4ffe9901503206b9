package cluster

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Common is what hosts are told whatever language their config is in: it comes
// out as Ignition, for coreos-cloudinit and for cloud-init alike.
type Common struct {
	Users []CommonUser `json:"users,omitempty"` // that are made on the host
	Files []CommonFile `json:"files,omitempty"` // that are written there
	Units []CommonUnit `json:"units,omitempty"` // systemd's
}

// StaticNetwork in place of a profile's network_config: each host's reserved address,
// on its first card.
const StaticNetwork = "static"

// IsZero reports whether nothing is said.
func (c Common) IsZero() bool { return len(c.Users)+len(c.Files)+len(c.Units) == 0 }

// CommonUser is a user of a host.
type CommonUser struct {
	Name         string   `json:"name"`                    // of the account
	Comment      string   `json:"comment,omitempty"`       // the full name (GECOS)
	UID          *int     `json:"uid,omitempty"`           // default: the system's next
	Home         string   `json:"home,omitempty"`          // default /home/NAME
	Shell        string   `json:"shell,omitempty"`         // default: the system's
	Groups       []string `json:"groups,omitempty"`        // beside the user's own; they must be there
	System       bool     `json:"system,omitempty"`        // a system account, without a home directory
	Sudo         bool     `json:"sudo,omitempty"`          // may do everything by sudo, without a password
	PasswordHash string   `json:"password_hash,omitempty"` // of crypt(5): mkpasswd --method=yescrypt prints it; default: no password
	SSHKeys      []string `json:"ssh_keys,omitempty"`      // public keys
}

// CommonFile is a file on a host.
type CommonFile struct {
	Path     string `json:"path"`               // absolute
	Mode     string `json:"mode,omitempty"`     // octal; default 0644
	User     string `json:"user,omitempty"`     // who owns it; default root
	Group    string `json:"group,omitempty"`    // default root
	Contents string `json:"contents,omitempty"` // a file beside the manifest, or the text; a template
}

// CommonUnit is a systemd unit on a host.
type CommonUnit struct {
	Name     string         `json:"name"`               // NAME.service, .timer, .mount ...
	Enabled  bool           `json:"enabled,omitempty"`  // started at each boot, the first one too
	Mask     bool           `json:"mask,omitempty"`     // never started
	Contents string         `json:"contents,omitempty"` // the whole unit: a file beside the manifest, or the text; a template
	Dropins  []CommonDropin `json:"dropins,omitempty"`  // additions to a unit that is there
}

// CommonDropin adds to a unit.
type CommonDropin struct {
	Name     string `json:"name"`     // NAME.conf
	Contents string `json:"contents"` // a file beside the manifest, or the text; a template
}

var (
	modeForm     = regexp.MustCompile(`^0?[0-7]{3,4}$`)
	userForm     = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	unitForm     = regexp.MustCompile(`^[A-Za-z0-9:_.@\\-]+\.(service|socket|timer|mount|automount|path|target|slice|swap|device|scope)$`)
	dropinForm   = regexp.MustCompile(`^[A-Za-z0-9:_.@\\-]+\.conf$`)
	passwordForm = regexp.MustCompile(`^(\$[0-9a-zA-Z]+\$[./0-9A-Za-z$=,+-]+|!|\*)$`)
)

var includeForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]*$`)

func (c *checker) common(p *Profile) {
	for _, name := range slices.Sorted(maps.Keys(p.Includes)) {
		if !includeForm.MatchString(name) {
			c.add("includes", "%q is no name of an include: use letters, digits, and . - _ /", name)
		}
	}
	if p.NetworkConfig != "" && p.Config.Text != "" {
		c.add("network_config", "is not put into a text of which pilotlight does not know the language: take it out, or take config.text out")
	}
	if p.Common == nil {
		return
	}
	once := func(field, what string, seen map[string]bool) {
		if what != "" && seen[what] {
			c.add(field, "%s is there twice; keep one", what)
		}
		seen[what] = true
	}
	users, files, units := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, u := range p.Common.Users {
		at := fmt.Sprintf("common.users[%d]", i)
		once(at+".name", u.Name, users)
		c.commonUser(at, u)
	}
	for i, f := range p.Common.Files {
		at := fmt.Sprintf("common.files[%d]", i)
		once(at+".path", f.Path, files)
		c.commonFile(at, f)
	}
	for i, u := range p.Common.Units {
		at := fmt.Sprintf("common.units[%d]", i)
		once(at+".name", u.Name, units)
		c.commonUnit(at, u)
	}
	if p.Config.Text != "" {
		c.add("common", "is not put into a text of which pilotlight does not know the language: take it out, or take config.text out")
	}
}

func (c *checker) commonUser(at string, u CommonUser) {
	if !userForm.MatchString(u.Name) {
		c.add(at+".name", "%q is not a user's name: use a to z, 0 to 9, _ and -, at most 32", u.Name)
	}
	if u.UID != nil && (*u.UID < 0 || *u.UID > 1<<31-1) {
		c.add(at+".uid", "%d is no user's number", *u.UID)
	}
	if u.Home != "" && !path.IsAbs(u.Home) {
		c.add(at+".home", "%q is not absolute; begin it with /", u.Home)
	}
	if u.Shell != "" && !path.IsAbs(u.Shell) {
		c.add(at+".shell", "%q is not absolute; write it like /bin/bash", u.Shell)
	}
	for i, g := range u.Groups {
		if !userForm.MatchString(g) {
			c.add(fmt.Sprintf("%s.groups[%d]", at, i), "%q is not a group's name", g)
		}
	}
	for _, line := range []struct{ field, value string }{{"comment", u.Comment}, {"home", u.Home}, {"shell", u.Shell}} {
		if strings.ContainsAny(line.value, ":\n") {
			c.add(at+"."+line.field, "holds a : or the end of a line, which passwd(5) cannot; take it out")
		}
	}
	if u.PasswordHash != "" && !passwordForm.MatchString(u.PasswordHash) {
		c.add(at+".password_hash", "is not a hash of crypt(5); mkpasswd --method=yescrypt prints one") // not what it is: it may be the password
	}
	c.sshKeysAt(at+".", u.SSHKeys)
}

func (c *checker) commonFile(at string, f CommonFile) {
	switch {
	case f.Path == "":
		c.add(at+".path", "is missing")
	case !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/":
		c.add(at+".path", "%q is not the whole path of a file; write it like /etc/motd", f.Path)
	}
	if f.Mode != "" && !modeForm.MatchString(f.Mode) {
		c.add(at+".mode", "%q is not a mode; write it like 0644", f.Mode)
	}
	for _, w := range []struct{ field, name string }{{"user", f.User}, {"group", f.Group}} {
		if w.name != "" && !userForm.MatchString(w.name) {
			c.add(at+"."+w.field, "%q is not a name; write it like root", w.name)
		}
	}
}

func (c *checker) commonUnit(at string, u CommonUnit) {
	if !unitForm.MatchString(u.Name) {
		c.add(at+".name", "%q is not a unit's name; write it like backup.service", u.Name)
	}
	switch {
	case u.Mask && (u.Enabled || u.Contents != "" || len(u.Dropins) > 0):
		c.add(at+".mask", "goes with name: only: a masked unit is never started")
	case !u.Mask && !u.Enabled && u.Contents == "" && len(u.Dropins) == 0:
		c.add(at, "says nothing about %s: write contents:, dropins:, enabled: or mask:", u.Name)
	}
	names := []string{}
	for i, d := range u.Dropins {
		field := fmt.Sprintf("%s.dropins[%d]", at, i)
		if !dropinForm.MatchString(d.Name) {
			c.add(field+".name", "%q is not a drop-in's name; write it like 10-limits.conf", d.Name)
		}
		if slices.Contains(names, d.Name) {
			c.add(field+".name", "%s is there twice; keep one", d.Name)
		}
		if names = append(names, d.Name); d.Contents == "" {
			c.add(field+".contents", "is missing")
		}
	}
}
