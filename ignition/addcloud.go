package ignition

import (
	"path"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// systemUnits is where an operator's units are.
const systemUnits = "/etc/systemd/system/"

// inCloud reports what an operator's #cloud-config writes itself, or one of several.
func (e *cloudEditor) inCloud(what, name string) bool {
	if slices.ContainsFunc(e.others, func(o *cloudEditor) bool { return o.inCloud(what, name) }) {
		return true
	}
	list := func(m *yaml.Node, key string) []*yaml.Node {
		if m == nil {
			return nil
		}
		if _, v := e.find(m, key); v != nil && v.Kind == yaml.SequenceNode {
			return v.Content
		}
		return nil
	}
	called := func(key, want string) func(*yaml.Node) bool {
		return func(n *yaml.Node) bool { return path.Clean(e.valueOf(n, key)) == want }
	}
	switch what {
	case "file":
		return slices.ContainsFunc(list(e.root, "write_files"), called("path", name))
	case "unit":
		_, coreos := e.find(e.root, "coreos")
		return slices.ContainsFunc(list(coreos, "units"), called("name", name)) ||
			slices.ContainsFunc(list(e.root, "write_files"), called("path", systemUnits+name))
	}
	return slices.ContainsFunc(list(e.root, "users"), called("name", name))
}

// add adds to an operator's #cloud-config, in which none of it is.
func (e *cloudEditor) add(a *additions) {
	e.addUsers(a.Users)
	if len(a.Files) > 0 {
		list := e.list(e.root, "write_files")
		for _, f := range a.Files {
			list.Content = append(list.Content, e.file(f))
		}
	}
	switch {
	case len(a.Units) == 0:
	case e.coreos:
		e.addCoreOSUnits(a.Units)
	default:
		e.addUnitFiles(a.Units)
	}
}

func (e *cloudEditor) addUsers(users []cluster.CommonUser) {
	if len(users) == 0 {
		return
	}
	has := func(e *cloudEditor) bool {
		_, users := e.find(e.root, "users")
		return users != nil
	}
	there := has(e) || slices.ContainsFunc(e.others, has)
	list := e.list(e.root, "users")
	if !there && !e.coreos {
		list.Content = append(list.Content, scalar("default")) // which a list of users would take away
	}
	for _, u := range users {
		list.Content = append(list.Content, e.user(u))
	}
}

// user is an entry of users. coreos-cloudinit has other words for some.
func (e *cloudEditor) user(u cluster.CommonUser) *yaml.Node {
	word := func(cloudInit, coreOS string) string {
		if e.coreos {
			return coreOS
		}
		return cloudInit
	}
	n := mapping("name", scalar(u.Name))
	set := func(key string, v *yaml.Node) { n.Content = append(n.Content, scalar(key), v) }
	text := func(key, value string) {
		if value != "" {
			set(key, scalar(value))
		}
	}
	text("gecos", u.Comment)
	text("homedir", u.Home)
	text("shell", u.Shell)
	if u.UID != nil {
		set("uid", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(*u.UID)})
	}
	if len(u.Groups) > 0 {
		set("groups", words(u.Groups))
	}
	if u.System {
		set("system", boolean(true))
		set(word("no_create_home", "no-create-home"), boolean(true))
	}
	if u.PasswordHash != "" {
		set("passwd", quoted(u.PasswordHash))
		if !e.coreos {
			set("lock_passwd", boolean(false))
		}
	}
	if len(u.SSHKeys) > 0 {
		set(word("ssh_authorized_keys", "ssh-authorized-keys"), words(u.SSHKeys))
	}
	return n
}

func words(list []string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for _, w := range list {
		n.Content = append(n.Content, scalar(w))
	}
	return n
}

func boolean(v bool) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}
}

// file is an entry of write_files. cloud-init writes files before it makes users,
// so a file of one of these has to wait (cloud-init 22.1).
func (e *cloudEditor) file(f addedFile) *yaml.Node {
	mode := f.Mode
	if mode == "" {
		mode = "0644"
	}
	n := cloudFile(f.Path, mode, literal(f.Contents))
	user, group := f.User, f.Group
	if user == "" && group == "" {
		return n
	}
	if user == "" {
		user = "root"
	}
	if group == "" {
		group = "root"
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "owner" {
			n.Content[i+1] = scalar(user + ":" + group)
		}
	}
	if !e.coreos {
		n.Content = append(n.Content, scalar("defer"), boolean(true))
	}
	return n
}

// addCoreOSUnits adds units to coreos.units; one that says nothing is restarted.
func (e *cloudEditor) addCoreOSUnits(units []addedUnit) {
	list := e.coreOSUnits()
	if list == nil {
		return
	}
	for _, u := range units {
		n := mapping("name", scalar(u.Name))
		set := func(key string, v *yaml.Node) { n.Content = append(n.Content, scalar(key), v) }
		switch {
		case u.Mask:
			set("mask", boolean(true))
		case u.Enabled:
			set("enable", boolean(true))
			set("command", scalar("restart"))
		case u.Contents == "" && len(u.Dropins) == 0:
			set("command", scalar("restart"))
		case len(u.Dropins) > 0:
			set("command", scalar("try-restart"))
		}
		if u.Contents != "" {
			set("content", literal(u.Contents))
		}
		if len(u.Dropins) > 0 {
			dropins := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
			for _, d := range u.Dropins {
				dropins.Content = append(dropins.Content, mapping("name", scalar(d.Name), "content", literal(d.Contents)))
			}
			set("drop-ins", dropins)
		}
		list.Content = append(list.Content, n)
	}
}

// addUnitFiles writes units for cloud-init, which knows none, and has systemd take
// them. It does not wait for them: the first boot would not end before they did.
func (e *cloudEditor) addUnitFiles(units []addedUnit) {
	list, run := e.list(e.root, "write_files"), e.list(e.root, "runcmd")
	put := func(at, contents string) {
		list.Content = append(list.Content, cloudFile(at, "0644", literal(contents)))
	}
	run.Content = append(run.Content, command("systemctl", "daemon-reload"))
	for _, u := range units {
		if u.Contents != "" {
			put(systemUnits+u.Name, u.Contents)
		}
		for _, d := range u.Dropins {
			put(systemUnits+u.Name+".d/"+d.Name, d.Contents)
		}
		switch {
		case u.Mask:
			run.Content = append(run.Content, command("systemctl", "mask", "--now", u.Name))
		case u.Enabled:
			run.Content = append(run.Content, command("systemctl", "enable", u.Name), command("systemctl", "--no-block", "restart", u.Name))
		case len(u.Dropins) > 0:
			run.Content = append(run.Content, command("systemctl", "--no-block", "try-restart", u.Name))
		}
	}
}
