package ignition

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/ignition/netplan"
)

// additions are what a profile says in words of pilotlight's own, for one host,
// before they come out in one language or another. Their texts are templates no
// more.
type additions struct {
	Users []cluster.CommonUser
	Files []addedFile
	Units []addedUnit

	Network *netplan.Config // nil: as the system does
}

// addedFile is a file, and the field of the profile that it comes from.
type addedFile struct {
	cluster.CommonFile
	field string
}

// addedUnit is a unit, and the field of the profile that it comes from.
type addedUnit struct {
	cluster.CommonUnit
	field string
}

// mode returns the file's mode as a number. Its form has been checked.
func (f *addedFile) mode() int {
	n, err := strconv.ParseUint(f.Mode, 8, 32)
	if err != nil {
		return 0o644
	}
	return int(n)
}

// key tells additions apart, for what is made of them.
func (a *additions) key() []byte {
	b, _ := json.Marshal(a) // of texts and numbers
	return b
}

// commonText is a text below common:, and the field that it stands in.
type commonText struct {
	field string
	value *string
}

func commonTexts(c *cluster.Common) (out []commonText) {
	for i := range c.Files {
		out = append(out, commonText{fmt.Sprintf("common.files[%d].contents", i), &c.Files[i].Contents})
	}
	for i := range c.Units {
		u := &c.Units[i]
		out = append(out, commonText{fmt.Sprintf("common.units[%d].contents", i), &u.Contents})
		for j := range u.Dropins {
			out = append(out, commonText{fmt.Sprintf("common.units[%d].dropins[%d].contents", i, j), &u.Dropins[j].Contents})
		}
	}
	return out
}

// additions makes what the profile's common: and its other words say of the host. An
// installer gets none of it: it is for the system.
func (in *Input) additions() (*additions, []Problem) {
	p := in.Target.Profile
	a := &additions{}
	if in.Installer != nil {
		return a, nil
	}
	problems := append(a.addCommon(in), a.addNetwork(in)...)
	if f := p.Firewall; f != nil {
		a.addFirewall(p, f)
	}
	return a, problems
}

func (a *additions) addCommon(in *Input) (problems []Problem) {
	p := in.Target.Profile
	if p.Common == nil {
		return nil
	}
	c := cloneCommon(p.Common)
	d := in.data()
	for _, t := range commonTexts(c) {
		if *t.value == "" {
			continue
		}
		rendered, _, bad := render(newText(p, t.field, *t.value), d)
		*t.value = rendered
		problems = append(problems, bad...)
	}
	a.Users = c.Users
	for i, u := range c.Units {
		a.Units = append(a.Units, addedUnit{u, fmt.Sprintf("common.units[%d].name", i)})
	}
	for i, f := range c.Files {
		a.Files = append(a.Files, addedFile{f, fmt.Sprintf("common.files[%d].path", i)})
	}
	for i, u := range c.Users {
		if u.Sudo {
			a.Files = append(a.Files, addedFile{cluster.CommonFile{
				Path: "/etc/sudoers.d/pilotlight-" + u.Name, Mode: "0440", Contents: u.Name + " ALL=(ALL) NOPASSWD: ALL\n",
			}, fmt.Sprintf("common.users[%d].sudo", i)})
		}
	}
	return problems
}

// cloneCommon copies what rendering changes.
func cloneCommon(c *cluster.Common) *cluster.Common {
	out := &cluster.Common{Users: c.Users}
	out.Files = append(out.Files, c.Files...)
	for _, u := range c.Units {
		u.Dropins = append([]cluster.CommonDropin(nil), u.Dropins...)
		out.Units = append(out.Units, u)
	}
	return out
}

// clashes are the additions that pilotlight's own part, or the operator's config in
// the same language, would write too, and what coreos-cloudinit cannot say.
func (a *additions) clashes(t text, p part, coreOS bool, wrote func(what, name string) bool) (problems []Problem) {
	add := func(field, format string, args ...any) {
		t.field = field
		problems = append(problems, t.problem(0, "", format, args...))
	}
	a.twice(add)
	const both = "%s is in the profile's config too: say it in one of the two"
	for _, f := range a.Files {
		for _, own := range p.paths() {
			if overlaps(own, f.Path, true) {
				add(f.field, "%s is written by pilotlight: take it out%s", f.Path, instead(own))
			}
		}
		if wrote("file", path.Clean(f.Path)) {
			add(f.field, both, f.Path)
		}
	}
	unit, _ := p.unit()
	for _, u := range a.Units {
		switch {
		case u.Name == unit && (u.Contents != "" || u.Enabled || u.Mask):
			add(u.field, "%s is pilotlight's unit: take it out, or write only its dropins:", u.Name)
		case wrote("unit", u.Name):
			add(u.field, both, u.Name)
		}
	}
	for i, u := range a.Users {
		if wrote("user", u.Name) {
			add(fmt.Sprintf("common.users[%d].name", i), both, u.Name)
		}
		if u.UID != nil && coreOS {
			add(fmt.Sprintf("common.users[%d].uid", i), "coreos-cloudinit, for which a config with coreos: is, cannot give a user's number: take it out")
		}
	}
	return problems
}

// twice finds what two of the profile's own words would write: one of them would be
// lost, and it may be the firewall.
func (a *additions) twice(add func(field, format string, args ...any)) {
	const also = "%s is written because of %s, too: take it out"
	files, units := map[string]string{}, map[string]string{} // their fields
	for _, f := range a.Files {
		if first, ok := files[f.Path]; ok {
			add(first, also, f.Path, f.field)
		}
		files[f.Path] = f.field
	}
	for _, u := range a.Units {
		if u.Contents == "" && len(u.Dropins) == 0 && !u.Enabled && !u.Mask {
			continue // it is only restarted
		}
		if first, ok := units[u.Name]; ok {
			add(u.field, also, u.Name, first)
		}
		units[u.Name] = u.field
		if of, ok := files[systemUnits+u.Name]; ok && (u.Contents != "" || u.Mask) {
			add(of, also, systemUnits+u.Name, u.field)
		}
		for _, d := range u.Dropins {
			at := systemUnits + u.Name + ".d/" + d.Name
			if of, ok := files[at]; ok {
				add(of, also, at, u.field)
			}
		}
	}
	for _, f := range a.Files {
		for up := path.Dir(f.Path); up != "/" && up != "."; up = path.Dir(up) {
			if of, ok := files[up]; ok {
				add(of, "%s is a file, and %s of %s is below it: rename one", up, f.Path, f.field)
			}
		}
	}
}
