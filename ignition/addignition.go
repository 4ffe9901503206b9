package ignition

import (
	"net/url"
	"path"
	"slices"

	v36 "github.com/coreos/ignition/v2/config/v3_6/types"

	"github.com/pilotlight/pilotlight/cluster"
)

// inIgnition reports what an operator's Ignition config writes itself.
func inIgnition(cfg *v36.Config) func(what, name string) bool {
	return func(what, name string) bool {
		switch what {
		case "file":
			return slices.ContainsFunc(cfg.Storage.Files, func(f v36.File) bool { return path.Clean(f.Path) == name }) ||
				slices.ContainsFunc(cfg.Storage.Links, func(l v36.Link) bool { return path.Clean(l.Path) == name }) ||
				slices.ContainsFunc(cfg.Storage.Directories, func(d v36.Directory) bool { return path.Clean(d.Path) == name })
		case "unit":
			return slices.ContainsFunc(cfg.Systemd.Units, func(u v36.Unit) bool { return u.Name == name })
		}
		return slices.ContainsFunc(cfg.Passwd.Users, func(u v36.PasswdUser) bool { return u.Name == name })
	}
}

// ignition adds to an operator's config, in which none of it is.
func (a *additions) ignition(cfg v36.Config) v36.Config {
	cfg.Passwd.Users = slices.Clone(cfg.Passwd.Users)
	for _, u := range a.Users {
		cfg.Passwd.Users = append(cfg.Passwd.Users, ignitionUser(u))
	}
	cfg.Storage.Files = slices.Clone(cfg.Storage.Files)
	for _, f := range a.Files {
		out := file(f.Path, "data:,"+url.PathEscape(f.Contents), f.mode())
		out.User.Name, out.Group.Name = some(f.User), some(f.Group)
		cfg.Storage.Files = append(cfg.Storage.Files, out)
	}
	cfg.Systemd.Units = slices.Clone(cfg.Systemd.Units)
	for _, u := range a.Units {
		unit := v36.Unit{Name: u.Name, Contents: some(u.Contents)}
		if u.Enabled {
			unit.Enabled = ptr(true)
		}
		if u.Mask {
			unit.Mask = ptr(true)
		}
		for _, d := range u.Dropins {
			unit.Dropins = append(unit.Dropins, v36.Dropin{Name: d.Name, Contents: some(d.Contents)})
		}
		cfg.Systemd.Units = append(cfg.Systemd.Units, unit)
	}
	return cfg
}

func ignitionUser(u cluster.CommonUser) v36.PasswdUser {
	out := v36.PasswdUser{
		Name: u.Name, Gecos: some(u.Comment), UID: u.UID, HomeDir: some(u.Home), Shell: some(u.Shell), PasswordHash: some(u.PasswordHash),
	}
	if u.System {
		out.System, out.NoCreateHome = ptr(true), ptr(true)
	}
	for _, g := range u.Groups {
		out.Groups = append(out.Groups, v36.Group(g))
	}
	for _, k := range u.SSHKeys {
		out.SSHAuthorizedKeys = append(out.SSHAuthorizedKeys, v36.SSHAuthorizedKey(k))
	}
	return out
}

// some is a value that is there, or none.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
