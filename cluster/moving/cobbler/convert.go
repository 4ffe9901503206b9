package cobbler

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/moving"
)

type converter struct {
	out      moving.Result
	prefix   string // of files' names
	images   map[string]bool
	profiles map[string]*profile
	networks []*cluster.Network
}

// profile is one with all that it has from those above it.
type profile struct {
	item
	distro  string
	args    map[string]any
	vars    map[string]any
	auto    string
	dns     []string
	settled bool
	doc     *cluster.Profile
}

var arches = map[string]cluster.Arch{"x86_64": "", "aarch64": cluster.AArch64, "arm64": cluster.AArch64, "": ""}

func (c *converter) distro(d item) {
	name := d.text("name")
	arch, known := arches[d.text("arch")]
	if !known {
		c.out.Notef(d.file, 0, "arch %s is not booted by pilotlight: the distro is left out", d.text("arch"))
		return
	}
	kernel, initrd := d.text("kernel"), d.text("initrd")
	if u := d.text("remote_boot_kernel"); u != "" {
		c.out.Notef(d.file, 0, "remote_boot_kernel %s is not used: the copy in kernel is, which is pinned by its digest", u)
	}
	if kernel == "" {
		c.out.Notef(d.file, 0, "has no kernel: the distro is left out")
		return
	}
	image := &cluster.Image{Meta: cluster.Meta{Name: moving.Name(name)}, Arch: arch, Kernel: file(kernel), Args: arguments(d.options("kernel_options"))}
	if initrd != "" {
		image.Initrd = []cluster.File{file(initrd)}
	}
	if len(d.options("boot_files"))+len(d.options("fetchable_files")) > 0 {
		c.out.Notef(d.file, 0, "boot_files and fetchable_files: TFTP serves boot loaders and the files of images, nothing else")
	}
	c.images[name] = c.out.Add(image)
}

func file(p string) cluster.File {
	if strings.Contains(p, "://") {
		return cluster.File{URL: p}
	}
	return cluster.File{URL: "file://" + path.Clean("/"+p)}
}

func (c *converter) allProfiles(items []item) {
	for _, i := range items {
		c.profiles[i.text("name")] = &profile{item: i}
	}
	for _, i := range items {
		c.settle(c.profiles[i.text("name")], 0)
		c.profile(c.profiles[i.text("name")])
	}
}

const deepest = 20

// settle gives a profile what it inherits.
func (c *converter) settle(p *profile, depth int) {
	if p.settled {
		return
	}
	p.settled = true
	p.args, p.vars = map[string]any{}, map[string]any{}
	parent := p.text("parent")
	if above := c.profiles[parent]; above != nil && depth < deepest {
		c.settle(above, depth+1)
		maps.Copy(p.args, above.args)
		maps.Copy(p.vars, above.vars)
		p.distro, p.auto, p.dns = above.distro, above.auto, above.dns
	} else if parent != "" && above == nil && !c.images[parent] {
		c.out.Notef(p.file, 0, "its parent %q is not there", parent)
	}
	if d := p.text("distro"); d != "" {
		p.distro = d
	}
	if a := p.autoinstall(); a != "" {
		p.auto = a
	}
	if d := p.list("name_servers"); len(d) > 0 {
		p.dns = d
	}
	maps.Copy(p.args, p.options("kernel_options"))
	maps.Copy(p.vars, p.options("autoinstall_meta"))
}

// autoinstall is the kickstart or preseed file, under its name of 3.x or before.
func (i item) autoinstall() string {
	if a := i.text("autoinstall"); a != "" {
		return a
	}
	return i.text("kickstart")
}

func (c *converter) profile(p *profile) {
	name := p.text("name")
	doc := &cluster.Profile{Meta: cluster.Meta{Name: moving.Name(name)}, Args: arguments(p.args), Variables: variables(p.vars)}
	switch {
	case !c.images[p.distro]:
		c.out.Notef(p.file, 0, "its distro %q is not there, or is left out: hosts of it are left to their disks", p.distro)
		doc.Boot, doc.Args = cluster.BootLocal, nil
	case p.auto != "":
		doc.Image, doc.Boot = cluster.ImageName(moving.Name(p.distro)), cluster.BootLocal
		c.out.Notef(p.file, 0, "installs by %s, a template of Cobbler's, which is not translated: hosts are left to their disks; to install by pilotlight write boot: install and install: {device: /dev/...} in profile %s, with the answers as install.args or a config", p.auto, doc.Name)
	default:
		doc.Image = cluster.ImageName(moving.Name(p.distro))
	}
	for _, field := range []string{"autoinstall_snippets", "template_files", "boot_files", "fetchable_files", "mgmt_parameters"} {
		if len(p.options(field)) > 0 {
			c.out.Notef(p.file, 0, "%s has no counterpart: write what hosts are told as config:", field)
		}
	}
	for _, field := range []string{"repos", "mgmt_classes", "proxy", "dhcp_tag"} {
		if len(p.list(field)) > 0 {
			c.out.Notef(p.file, 0, "%s (%s) has no counterpart", field, strings.Join(p.list(field), " "))
		}
	}
	p.doc = doc
	if !c.out.Add(doc) {
		c.out.Notef(p.file, 0, "its name is already that of another profile: rename one")
	}
}

func variables(in map[string]any) map[string]any {
	if len(in) == 0 {
		return nil
	}
	return maps.Clone(in)
}

// localProfile is that of hosts which are not to boot from the network.
const localProfile = "own-disk"

func (c *converter) system(s item) {
	name := s.text("name")
	if name == "default" {
		c.out.Notef(s.file, 0, "takes every machine that no other system is: here `pilotlight host approve MAC`, or a group with admit:, makes hosts of them")
		return
	}
	host := &cluster.Host{Meta: cluster.Meta{Name: moving.Name(name)}, Variables: variables(s.options("autoinstall_meta"))}
	p := c.profiles[s.text("profile")]
	switch {
	case p == nil && s.text("image") != "":
		c.out.Notef(s.file, 0, "boots image %q, which has no counterpart: the host is left to its disk", s.text("image"))
		host.Profile = c.own()
	case p == nil:
		c.out.Notef(s.file, 0, "its profile %q is not there: the host is left to its disk", s.text("profile"))
		host.Profile = c.own()
	case s.off("netboot_enabled"):
		host.Profile = c.own()
		if p.doc.Boot != cluster.BootLocal {
			c.out.Notef(s.file, 0, "netboot_enabled is off: the host is left to its disk by profile %s; write profile: %s to have it booted", localProfile, p.doc.Name)
		}
	default:
		host.Profile = cluster.ProfileName(p.doc.Name)
	}
	if p != nil {
		for _, d := range c.out.Documents {
			if i, ok := d.(*cluster.Image); ok && p.doc.Image == cluster.ImageName(i.Name) {
				host.Arch = i.Arch
			}
		}
	}
	c.systemRest(s, p)
	if uuid, err := cluster.ParseUUID(s.text("uuid")); err == nil {
		host.UUID = uuid
	}
	host.Serial = s.text("serial_number")
	c.interfaces(s, p, host)
	if len(host.MACs) == 0 && host.UUID == "" && host.Serial == "" {
		c.out.Notef(s.file, 0, "has no MAC address, by which a machine is known: the system is left out")
		return
	}
	if !c.out.Add(host) {
		c.out.Notef(s.file, 0, "its name is already that of another host: rename one")
	}
}

// systemRest notes what one system has that only profiles have here.
func (c *converter) systemRest(s item, p *profile) {
	if len(s.options("kernel_options")) > 0 {
		c.out.Notef(s.file, 0, "kernel options of its own (%s): kernel arguments are a profile's; write a profile for the host, or {{ .Variables.x }} in the profile's args:", strings.Join(arguments(s.options("kernel_options")), " "))
	}
	if a := s.autoinstall(); a != "" && (p == nil || a != p.auto) {
		c.out.Notef(s.file, 0, "installs by %s, a template of Cobbler's, which is not translated", a)
	}
	if h := s.text("hostname"); h != "" && moving.Name(strings.Split(h, ".")[0]) != moving.Name(s.text("name")) && h != s.text("name") {
		c.out.Notef(s.file, 0, "hostname %s: a host is called what its document is, which is %s: rename it if that matters", h, moving.Name(s.text("name")))
	}
	for _, field := range []string{"power_type", "power_address", "virt_path", "proxy"} {
		if v := s.text(field); v != "" && v != "ipmitool" && v != "ipmilan" {
			c.out.Notef(s.file, 0, "%s (%s) has no counterpart", field, v)
		}
	}
}

func (c *converter) own() cluster.ProfileName {
	c.out.Add(&cluster.Profile{Meta: cluster.Meta{Name: localProfile}, Boot: cluster.BootLocal})
	return localProfile
}

// interfaces gives a host its MAC addresses, and the address of the first that has
// one; networks follow from that.
func (c *converter) interfaces(s item, p *profile, host *cluster.Host) {
	all, _ := s.fields["interfaces"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fields, ok := all[name].(map[string]any)
		if !ok {
			c.out.Notef(s.file, 0, "interfaces.%s is not understood", name)
			continue
		}
		i := item{s.file, fields}
		if mac := i.text("mac_address"); mac != "" {
			m, err := moving.ParseMAC(mac)
			switch {
			case err != nil:
				c.out.Notef(s.file, 0, "interfaces.%s: %v", name, err)
				continue
			case c.taken(func(h *cluster.Host) bool { return slices.Contains(h.MACs, m) }):
				c.out.Notef(s.file, 0, "interfaces.%s: %s is that of another host already: it is left out", name, m)
				continue
			}
			host.MACs = append(host.MACs, m)
		}
		for _, field := range []string{"interface_master", "cnames", "static_routes", "dhcp_tag", "virt_bridge", "ipv6_address"} {
			if v := i.list(field); len(v) > 0 {
				c.out.Notef(s.file, 0, "interfaces.%s.%s (%s) has no counterpart: write it into the host's config", name, field, strings.Join(v, " "))
			}
		}
		c.address(s, p, i, name, host)
	}
}

func (c *converter) taken(by func(*cluster.Host) bool) bool {
	return slices.ContainsFunc(c.out.Documents, func(d cluster.Document) bool {
		h, ok := d.(*cluster.Host)
		return ok && by(h)
	})
}

func (c *converter) address(s item, p *profile, i item, name string, host *cluster.Host) {
	text := i.text("ip_address")
	if text == "" {
		return
	}
	at := "interfaces." + name + ".ip_address"
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		c.out.Notef(s.file, 0, "%s: %q is no address", at, text)
		return
	case host.Address.IsValid():
		c.out.Notef(s.file, 0, "%s: a host has one reserved address, which is %s: %s is left out", at, host.Address, a)
		return
	case c.taken(func(h *cluster.Host) bool { return h.Address == a }):
		c.out.Notef(s.file, 0, "%s: %s is that of another host already: it is left out", at, a)
		return
	}
	n, why := c.network(s, p, i, a)
	if why != "" {
		c.out.Notef(s.file, 0, "%s: %s", at, why)
		return
	}
	if why := moving.AddressProblem(n, a); why != "" {
		c.out.Notef(s.file, 0, "%s: %s: it is left out", at, why)
		return
	}
	host.Address = a
}

// network finds or makes the network of an interface.
func (c *converter) network(s item, p *profile, i item, a netip.Addr) (*cluster.Network, string) {
	for _, n := range c.networks {
		if n.CIDR.Contains(a) {
			return n, ""
		}
	}
	mask := i.text("netmask")
	if mask == "" {
		mask = s.text("netmask")
	}
	m, err := netip.ParseAddr(mask)
	if err != nil || !m.Is4() || !a.Is4() {
		return nil, fmt.Sprintf("%s has no netmask, so its network is not known: write kind: network with its cidr:, and address: %s in the host", a, a)
	}
	bits := 0
	for _, b := range m.As4() {
		for ; b&0x80 != 0; b <<= 1 {
			bits++
		}
	}
	cidr := netip.PrefixFrom(a, bits).Masked()
	for _, n := range c.networks {
		if n.CIDR.Overlaps(cidr) {
			return nil, fmt.Sprintf("%s with netmask %s overlaps network %s (%s)", a, mask, n.Name, n.CIDR)
		}
	}
	n := &cluster.Network{Meta: cluster.Meta{Name: moving.Name("net-" + strings.ReplaceAll(cidr.Addr().String(), ".", "-"))}, CIDR: cidr, DHCP: cluster.DHCPAuthoritative}
	for _, text := range []string{i.text("if_gateway"), s.text("gateway")} {
		if g, err := netip.ParseAddr(text); err == nil && cidr.Contains(g) && !n.Gateway.IsValid() {
			n.Gateway = g
		}
	}
	dns := s.list("name_servers")
	if len(dns) == 0 && p != nil {
		dns = p.dns
	}
	for _, text := range dns {
		if d, err := netip.ParseAddr(text); err == nil {
			n.DNS = append(n.DNS, d)
		}
	}
	if search := s.list("name_servers_search"); len(search) > 0 {
		n.Domain = search[0]
	}
	c.networks = append(c.networks, n)
	return n, ""
}

func (c *converter) addNetworks() {
	for _, n := range c.networks {
		c.out.Add(n)
		c.out.Notef(c.prefix+"systems", 0, "network %s (%s) follows from its systems' netmask: pools: and other DHCP options stand in Cobbler's dhcp.template, which is not read: write them there, and stop Cobbler's DHCP server first", n.Name, n.CIDR)
	}
}
