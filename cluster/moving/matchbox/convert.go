package matchbox

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/moving"
)

// Wants returns the URLs that Convert takes pins for: of kernels and initial RAM
// disks, and of root file systems that an argument names below /assets/.
func Wants(p Profile) (out []string) {
	if p.Boot == nil {
		return nil
	}
	for _, u := range append([]string{p.Boot.Kernel}, p.Boot.Initrd...) {
		if u = lastWord(u); u != "" {
			out = append(out, u)
		}
	}
	for _, a := range p.Boot.Args {
		if _, u, ok := rootfs(a); ok {
			out = append(out, u)
		}
	}
	return out
}

// AssetPath returns the path below matchbox's assets directory of a URL that
// matchbox itself serves, which it does below /assets/.
func AssetPath(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil || u.RawQuery != "" {
		return "", false
	}
	below, ok := strings.CutPrefix(path.Clean(u.Path), "/assets/")
	return below, ok && below != ""
}

// lastWord takes iPXE's options (--name main) from an initrd.
func lastWord(s string) string {
	words := strings.Fields(s)
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// rootfs reads an argument that has the initial RAM disk fetch its root file
// system from matchbox.
func rootfs(arg string) (key, file string, ok bool) {
	key, file, ok = strings.Cut(arg, "=")
	if !ok || key != "coreos.live.rootfs_url" {
		return "", "", false
	}
	_, is := AssetPath(file)
	return key, file, is
}

// converter is one call of Convert.
type converter struct {
	Objects
	pins     Pins
	out      moving.Result
	profiles map[string]cluster.Arch // those that became documents, and what they are for
	machines map[string]string       // what names a machine -> the group that has it
}

// Convert makes documents of objects. A profile whose template is missing, and a
// group whose profile is, come to nothing but a Note.
func Convert(o Objects, pins Pins) moving.Result {
	c := &converter{Objects: o, pins: pins, profiles: map[string]cluster.Arch{}, machines: map[string]string{}}
	for _, p := range o.Profiles {
		c.profile(p)
	}
	// What names one machine with less beside it comes first: that is what matchbox
	// answers to firmware, which says no more.
	groups := slices.Clone(o.Groups)
	slices.SortStableFunc(groups, func(a, b Group) int { return len(a.Selector) - len(b.Selector) })
	for _, g := range groups {
		c.group(g)
	}
	c.unused()
	c.out.Sort()
	return c.out
}

func (c *converter) profile(p Profile) {
	file := orElse(p.File, "profile "+p.ID)
	doc := &cluster.Profile{Meta: cluster.Meta{Name: moving.Name(p.ID), Labels: label("matchbox-name", p.Name, p.ID)}}
	whole := c.configs(p, file, doc)
	arch := cluster.Arch("")
	if p.Boot == nil || p.Boot.Kernel == "" {
		doc.Boot = cluster.BootLocal
	} else {
		image := c.image(p, file, doc)
		arch = image.Arch
		if whole {
			c.out.Add(image)
		}
	}
	if !whole {
		return
	}
	if !c.out.Add(doc) {
		c.out.Notef(file, 0, "its name is already that of another profile: rename one")
		return
	}
	c.profiles[p.ID] = arch
}

// configs gives a profile its templates, and reports whether all are there.
func (c *converter) configs(p Profile, file string, doc *cluster.Profile) bool {
	whole := true
	find := func(in map[string]string, folder, id string) (string, bool) {
		text, ok := in[id]
		if !ok && id != "" {
			c.out.Waitf(file, "it names %s/%s, which is not there: the profile is left out until it is", folder, id)
			whole = false
		}
		return text, ok && id != ""
	}
	if text, ok := find(c.Ignition, "ignition", p.IgnitionID); ok {
		c.ignition("ignition/"+p.IgnitionID, text, doc)
	}
	if text, ok := find(c.Cloud, "cloud", p.CloudID); ok {
		at := "cloud/" + p.CloudID
		switch {
		case p.IgnitionID != "":
			c.out.Notef(at, 0, "profile %s has an Ignition config too, and a host is told one of them: make a profile of its own of it", p.ID)
		case !strings.HasPrefix(text, "#cloud-config"):
			c.out.Notef(at, 0, "is a script, not a #cloud-config: write it as runcmd: or write_files: of one")
		default:
			doc.Config.CloudConfig = c.template(at, text)
		}
	}
	if text, ok := find(c.Generic, "generic", p.GenericID); ok {
		doc.Generic = c.template("generic/"+p.GenericID, text)
	}
	return whole
}

var oldIgnition = regexp.MustCompile(`"version"\s*:\s*"[12]\.`)

func (c *converter) ignition(at, text string, doc *cluster.Profile) {
	switch {
	case strings.HasSuffix(at, ".ign") || strings.HasSuffix(at, ".ignition"):
		if oldIgnition.MatchString(text) {
			c.out.Notef(at, 0, "is an Ignition config before version 3: translate it with ignition-converter (github.com/coreos/ign-converter)")
			return
		}
		doc.Config.Ignition = moving.Text(moving.Literal(text)) // matchbox fills in none of it
	case !regexp.MustCompile(`(?m)^variant:`).MatchString(text):
		c.out.Notef(at, 0, "is a Container Linux Config, without variant: and version:, which neither Butane nor matchbox since 0.9 reads: write it as Butane (variant: flatcar, version: 1.0.0)")
		return
	default:
		doc.Config.Butane = c.template(at, text)
	}
	if i := strings.Index(text, "/etc/hostname"); i >= 0 {
		c.out.Notef(at, 1+strings.Count(text[:i], "\n"), "writes /etc/hostname, which pilotlight writes (the host's name): take it out")
	}
}

func (c *converter) template(at, text string) string {
	ours, lapses := rewrite(text)
	for _, l := range lapses {
		c.out.Notef(at, l.line, "%s", l.text)
	}
	return moving.Text(ours)
}

func (c *converter) image(p Profile, file string, doc *cluster.Profile) *cluster.Image {
	image := &cluster.Image{Meta: cluster.Meta{Name: doc.Name}, Kernel: c.pin(p.Boot.Kernel), Arch: moving.ArchOf(p.Boot.Kernel)}
	for _, i := range p.Boot.Initrd {
		image.Initrd = append(image.Initrd, c.pin(i))
	}
	doc.Image = cluster.ImageName(image.Name)
	for _, a := range p.Boot.Args {
		if arg, ok := c.argument(a, file, image); ok {
			doc.Args = append(doc.Args, arg)
		}
	}
	return image
}

func (c *converter) pin(raw string) cluster.File {
	raw = lastWord(raw)
	if f, ok := c.pins[raw]; ok {
		return f
	}
	if u, err := url.Parse(raw); err == nil && u.Scheme == "" {
		return cluster.File{URL: "file://" + path.Clean("/"+u.Path)}
	}
	return cluster.File{URL: raw}
}

// Whom a machine says it is in iPXE's words, and in ours.
var ipxeWords = strings.NewReplacer(
	"${mac:hexhyp}", "{{ .MAC.Hyphens }}", "${net0/mac:hexhyp}", "{{ .MAC.Hyphens }}", "${mac}", "{{ .MAC }}", "${net0/mac}", "{{ .MAC }}",
	"${uuid}", "{{ .UUID }}", "${serial}", "{{ .Host.Serial }}", "${hostname}", "{{ .Host.Name }}", "${ip}", "{{ .Address }}", "${net0/ip}", "{{ .Address }}",
)

// identities are what matchbox's URLs say of a machine that is no choice of the
// machine's.
var identities = []string{"mac", "uuid", "serial", "hostname", "domain", "arch", "ip"}

// argument turns a kernel argument into ours, or says that it is written anyway.
func (c *converter) argument(arg, file string, image *cluster.Image) (string, bool) {
	if strings.HasPrefix(arg, "initrd=") {
		return "", false // a script of ours names each
	}
	if key, raw, ok := rootfs(arg); ok {
		if f, pinned := c.pins[raw]; pinned {
			image.Rootfs = &f
			return key + "={{ .RootfsURL }}", true
		}
	}
	key, value, _ := strings.Cut(arg, "=")
	if u, err := url.Parse(strings.NewReplacer("${", "%24", "}", "").Replace(value)); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		query, ours := u.Query(), map[string]string{"/ignition": "{{ .ConfigURL }}", "/cloud": "{{ .CloudConfigURL }}",
			"/generic":  "{{ .Server.URL }}/generic?mac={{ .MAC.Hyphens }}",
			"/metadata": "{{ .Server.URL }}/metadata?mac={{ .MAC.Hyphens }}"}[u.Path]
		for _, k := range slices.Sorted(maps.Keys(query)) {
			if ours != "" && !slices.Contains(identities, k) {
				c.out.Differf(file, "%s asks with %s=%s: a machine does not choose its config here; with boot: install, what an installer and what the installed system are told differ", key, k, query.Get(k))
			}
		}
		if ours != "" {
			return key + "=" + ours, true
		}
	}
	return ipxeWords.Replace(moving.Literal(arg)), true
}

func (c *converter) group(g Group) {
	file := orElse(g.File, "group "+g.ID)
	arch, there := c.profiles[g.Profile]
	if !there {
		c.out.Waitf(file, "it names profile %q, which is not there, or is left out: so is the group", g.Profile)
		return
	}
	s, err := c.selector(g, file)
	if err != nil {
		c.out.Notef(file, 0, "%v: the group is left out", err)
		return
	}
	name, profile := moving.Name(g.ID), cluster.ProfileName(moving.Name(g.Profile))
	meta := cluster.Meta{Name: name}
	if s.machine == "" {
		doc := &cluster.Group{Meta: meta, Profile: profile, Variables: s.variables, Match: cluster.Match{Labels: s.labels}}
		doc.Labels = label("matchbox-name", g.Name, g.ID)
		if len(s.labels) == 0 {
			c.out.Differf(file, "it takes every machine: here a machine is a host first; write a document with kind: host for each, `pilotlight host approve MAC`, or admit: in group %s", name)
		} else {
			c.out.Differf(file, "it takes machines that say %s in their request: here a host has such labels: write labels: in the hosts that group %s is to take", words(s.labels), name)
		}
		c.add(doc, file)
		return
	}
	if other, taken := c.machines[s.machine]; taken {
		c.out.Notef(file, 0, "the machine %s is that of group %s already, and is one host here: if this is what it is told once it is installed, write boot: install in profile %s, and this group's profile as its config:", s.machine, other, profile)
		return
	}
	c.machines[s.machine] = g.ID
	meta.Labels = s.labels
	host := &cluster.Host{Meta: meta, UUID: s.uuid, Serial: s.serial, Profile: profile, Variables: s.variables, Arch: arch}
	if !s.mac.IsZero() {
		host.MACs = []cluster.MAC{s.mac}
	}
	c.add(host, file)
}

func (c *converter) add(d cluster.Document, file string) {
	if !c.out.Add(d) {
		c.out.Notef(file, 0, "its name is already that of another %s: rename one", d.Ref().Kind)
	}
}

// selected is whom a group takes.
type selected struct {
	machine   string // what names it, when it is one
	mac       cluster.MAC
	uuid      cluster.UUID
	serial    string
	labels    map[string]string
	variables map[string]any
}

func (c *converter) selector(g Group, file string) (s selected, err error) {
	s.variables = maps.Clone(g.Metadata)
	if s.variables == nil {
		s.variables = map[string]any{}
	}
	if _, ok := s.variables["request"]; ok {
		c.out.Differf(file, "metadata.request is matchbox's own word: it is left out")
		delete(s.variables, "request")
	}
	for _, key := range slices.Sorted(maps.Keys(g.Selector)) {
		value, lower := g.Selector[key], strings.ToLower(key)
		s.variables[lower] = value // as matchbox's templates have it
		switch lower {
		case "mac":
			hw, err := net.ParseMAC(value)
			if err != nil || len(hw) != len(s.mac) {
				return s, fmt.Errorf("selector.mac: %q is not a MAC address", value)
			}
			copy(s.mac[:], hw)
			if _, err := moving.ParseMAC(s.mac.String()); err != nil {
				return s, fmt.Errorf("selector.mac: %w", err)
			}
			s.machine, s.variables[lower] = s.mac.String(), hw.String()
		case "uuid":
			if s.uuid, err = cluster.ParseUUID(value); err != nil {
				return s, fmt.Errorf("selector.uuid: %w", err)
			}
			s.machine = orElse(s.machine, string(s.uuid))
		case "serial":
			s.serial = value
			s.machine = orElse(s.machine, "with the serial number "+value)
		default:
			if s.labels == nil {
				s.labels = map[string]string{}
			}
			s.labels[key] = value
		}
	}
	if len(s.variables) == 0 {
		s.variables = nil
	}
	return s, nil
}

// unused notes templates that no profile names: nothing of them is anywhere.
func (c *converter) unused() {
	for folder, in := range map[string]map[string]string{"ignition": c.Ignition, "cloud": c.Cloud, "generic": c.Generic} {
		for name := range in {
			if !slices.ContainsFunc(c.Profiles, func(p Profile) bool {
				return map[string]string{"ignition": p.IgnitionID, "cloud": p.CloudID, "generic": p.GenericID}[folder] == name
			}) {
				c.out.Waitf(folder+"/"+name, "no profile names it: it is left out")
			}
		}
	}
}

func label(key, value, unless string) map[string]string {
	if value == "" || value == unless {
		return nil
	}
	return map[string]string{key: value}
}

func words(labels map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, k+"="+labels[k])
	}
	return strings.Join(out, ", ")
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
