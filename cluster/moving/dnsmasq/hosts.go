package dnsmasq

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/moving"
)

// host reads dhcp-host=[MAC][,id:...][,set:T][,ADDRESS][,NAME][,LEASE][,ignore].
func (c *converter) host(l line) {
	h, sets := &cluster.Host{}, []string(nil)
	for _, f := range l.fields() {
		key, value, _ := strings.Cut(f, ":")
		switch mac, err := moving.ParseMAC(strings.TrimPrefix(f, "01:")); {
		case f == "":
		case err == nil:
			h.MACs = append(h.MACs, mac)
		case key == "set" || key == "net":
			sets = append(sets, value)
		case key == "tag":
			c.note(l, "tag:%s: a host is the same host whatever tags it has", value)
		case key == "id":
			c.note(l, "id: is left out: a host is known by macs:, uuid:, serial: or switch_port:")
		case f == "ignore":
			c.note(l, "ignore: a machine that no document names gets an address of a pool; keep it out of the network, or take the pools out")
			return
		default:
			if !c.hostWord(l, h, f) {
				return
			}
		}
	}
	if len(h.MACs) == 0 {
		c.note(l, "names no MAC address, by which a host is known: write kind: host with its macs:")
		return
	}
	if h.Name == "" {
		h.Name = "host-" + strings.ReplaceAll(h.MACs[0].String(), ":", "")
	}
	for _, o := range c.hosts {
		switch {
		case o.Name == h.Name:
			c.note(l, "%s is the name of a host before it: its line is left out; put all macs: into one", h.Name)
			return
		case slices.ContainsFunc(h.MACs, func(m cluster.MAC) bool { return slices.Contains(o.MACs, m) }):
			c.note(l, "its MAC address is that of host %s before it, whose address on another network it may be: its line is left out", o.Name)
			return
		case h.Address.IsValid() && o.Address == h.Address:
			c.note(l, "its address is that of host %s before it: its line is left out", o.Name)
			return
		}
	}
	c.hostTags[h.Name], c.hostLines[h.Name] = sets, l
	c.hosts = append(c.hosts, h)
}

// hostWord reads an address, a lease time or a name.
func (c *converter) hostWord(l line, h *cluster.Host, f string) bool {
	if strings.ContainsAny(f, "*") {
		c.note(l, "%s is a pattern of addresses: write a group with match: {mac: ...}", f)
		return false
	}
	if a, err := netip.ParseAddr(strings.Trim(f, "[]")); err == nil {
		switch {
		case h.Address.IsValid():
			c.note(l, "a host has one reserved address: %s is left out", a)
		case !slices.ContainsFunc(c.networks, func(n *network) bool { return n.doc.CIDR.Contains(a) }):
			c.note(l, "%s is in no network that has a dhcp-range: the host has no reservation; write kind: network with its cidr:, and address: in the host", a)
		default:
			h.Address = a
		}
		return true
	}
	if _, err := duration(f); err == nil || f == "infinite" {
		c.note(l, "the lease time of one host is left out: the network's is the same for all")
		return true
	}
	h.Name = moving.Name(strings.Split(f, ".")[0])
	return true
}

// option reads a DHCP option: its number, option:NAME, and its values.
func (c *converter) option(o tagged) {
	if len(o.rest) == 0 {
		c.note(o.line, "names no option")
		return
	}
	name, values := o.rest[0], o.rest[1:]
	if i := strings.IndexByte(name, ':'); i >= 0 && name[:i] != "option" {
		c.note(o.line, "%s has no counterpart here", name[:i+1])
		return
	}
	name = strings.TrimPrefix(name, "option:")
	code, err := strconv.ParseUint(name, 10, 8)
	if other, ok := names[name]; ok {
		code = uint64(other)
	} else if err != nil {
		c.note(o.line, "no option is called %q", name)
		return
	}
	targets := c.targets(o)
	if len(targets) == 0 {
		return
	}
	for _, t := range targets {
		if why := t.set(uint8(code), values, o.name == "dhcp-option-force"); why != "" {
			c.note(o.line, "%s", why)
			return
		}
	}
}

// target is a network or a host for which an option is.
type target struct {
	network *cluster.Network
	host    *cluster.Host
}

func (c *converter) targets(o tagged) (out []target) {
	for _, n := range c.networks {
		if n.doc.CIDR.Addr().Is4() && subset(o.needs, n.tags) { // DHCPv6 has options of its own (option6:)
			out = append(out, target{network: n.doc})
		}
	}
	if len(o.needs) > 0 {
		for _, h := range c.hosts {
			if subset(o.needs, c.hostTags[h.Name]) {
				out = append(out, target{host: h})
			}
		}
	}
	if len(out) == 0 {
		if len(o.needs) == 0 {
			c.note(o.line, "there is no network that it could be for: no dhcp-range")
		} else {
			c.note(o.line, "neither a dhcp-range nor a dhcp-host sets tag %s: write the option in the network or host that is meant", strings.Join(o.needs, " and "))
		}
	}
	return out
}

func subset(needs, has []string) bool {
	return !slices.ContainsFunc(needs, func(t string) bool { return !slices.Contains(has, t) })
}

// set gives a network or host an option, or says why not.
func (t target) set(code uint8, values []string, force bool) string {
	if n := t.network; n != nil {
		into := map[uint8]*[]netip.Addr{6: &n.DNS, 42: &n.NTP}[code]
		switch {
		case len(values) == 1 && values[0] == "" || len(values) == 0:
			return "an option without a value keeps dnsmasq from sending its own: pilotlight sends what the network says, and no more"
		case code == 3 || into != nil:
			addrs, err := addresses(values)
			if err != nil {
				return err.Error()
			}
			switch {
			case into != nil:
				*into = addrs
			case len(addrs) > 1 || !n.CIDR.Contains(addrs[0]):
				return "one gateway, which is in the network, is what gateway: takes"
			default:
				n.Gateway = addrs[0]
			}
			return ""
		case code == 15:
			n.Domain = strings.TrimSuffix(values[0], ".")
			return ""
		}
	}
	if why := refused[code]; why != "" {
		return why
	}
	name := cluster.OptionName(strconv.Itoa(int(code)))
	for _, k := range cluster.KnownOptions() {
		if k.Code == code {
			name = k.Name
		}
	}
	if code == 121 || code == 249 {
		values = routes(values)
	}
	for i, v := range values { // dnsmasq writes bytes as 01:02:ff
		if raw, err := hex.DecodeString(strings.ReplaceAll(v, ":", "")); err == nil && strings.Count(v, ":") == len(raw)-1 && len(raw) > 1 {
			values[i] = "0x" + hex.EncodeToString(raw)
		}
	}
	on, options := t.network, cluster.OptionSet{}
	if t.host != nil {
		if t.host.Options == nil {
			t.host.Options = options
		}
		options = t.host.Options
	} else {
		if on.Options == nil {
			on.Options = options
		}
		options = on.Options
	}
	options[name] = cluster.Option{Value: values, Force: force}
	if why := optionProblem(t); why != "" {
		delete(options, name)
		return why
	}
	return ""
}

// optionProblem asks cluster.Check whether the options can be written so.
func optionProblem(t target) string {
	docs := []cluster.Document{}
	if t.network != nil {
		alone := *t.network
		docs = append(docs, &alone)
	} else {
		docs = append(docs, &cluster.Host{Meta: t.host.Meta, MACs: t.host.MACs, Options: t.host.Options})
	}
	for _, p := range cluster.Check(docs) {
		if strings.HasPrefix(p.Field, "options") {
			return p.Message
		}
	}
	return ""
}

func addresses(values []string) (out []netip.Addr, err error) {
	for _, v := range values {
		a, err := netip.ParseAddr(strings.Trim(v, "[]"))
		if err != nil {
			return nil, errors.New(v + " is no address")
		}
		if a.IsUnspecified() {
			return nil, errors.New(v + " stands for dnsmasq's own address: write the server's")
		}
		out = append(out, a)
	}
	return out, nil
}

// routes pairs a destination with the router behind it.
func routes(values []string) (out []string) {
	for i := 0; i+1 < len(values); i += 2 {
		out = append(out, values[i]+" via "+values[i+1])
	}
	return out
}

// refused are options that pilotlight answers itself, or has a field for.
var refused = map[uint8]string{
	60: "what firmware is told, pilotlight says by itself", 66: "pilotlight says where to boot from", 67: "pilotlight says what to boot",
	43: "PXE's own options pilotlight says by itself", 3: "the gateway of one host: write it as network", 1: "the netmask follows from cidr:",
	28: "the broadcast address follows from cidr:", 51: "write lease: in the network", 54: "is the server's own",
}

// names are dnsmasq's words for options (dnsmasq --help dhcp).
var names = map[string]uint8{
	"netmask": 1, "time-offset": 2, "router": 3, "dns-server": 6, "log-server": 7, "lpr-server": 9, "boot-file-size": 13, "domain-name": 15,
	"swap-server": 16, "root-path": 17, "extension-path": 18, "ip-forward-enable": 19, "non-local-source-routing": 20, "policy-filter": 21,
	"max-datagram-reassembly": 22, "default-ttl": 23, "mtu": 26, "all-subnets-local": 27, "broadcast": 28, "router-discovery": 31,
	"router-solicitation": 32, "static-route": 33, "trailer-encapsulation": 34, "arp-timeout": 35, "ethernet-encap": 36, "tcp-ttl": 37,
	"tcp-keepalive": 38, "nis-domain": 40, "nis-server": 41, "ntp-server": 42, "vendor-encap": 43, "netbios-ns": 44, "netbios-dd": 45,
	"netbios-nodetype": 46, "netbios-scope": 47, "x-windows-fs": 48, "x-windows-dm": 49, "requested-address": 50, "lease-time": 51,
	"vendor-class": 60, "nis+-domain": 64, "nis+-server": 65, "tftp-server": 66, "bootfile-name": 67, "mobile-ip-home": 68, "smtp-server": 69,
	"pop3-server": 70, "nntp-server": 71, "irc-server": 74, "user-class": 77, "domain-search": 119, "sip-server": 120,
	"classless-static-route": 121, "tftp-server-address": 150,
}

// boot says what hosts boot: what PXELINUX's default config has in tftp-root, or
// nothing that could be known.
func (c *converter) boot() string {
	profile := profileName
	if c.tftpRoot.value != "" {
		root := strings.Split(c.tftpRoot.value, ",")[0]
		name := path.Join(root, "pxelinux.cfg/default")
		if text, err := c.files.Open(name); err == nil {
			if c.pxelinux(name, root, string(text)) {
				profile = "pxelinux"
			}
		} else {
			c.note(c.tftpRoot, "%s", tftpWhy)
		}
	}
	for _, l := range c.boots {
		if profile == profileName {
			c.note(l, "loaders are pilotlight's own; what they boot is not said here: write kind: image with the kernel, and a profile with it")
		} else {
			c.note(l, "loaders are pilotlight's own; hosts are given profile %s, from %s", profile, path.Join(c.tftpRoot.value, "pxelinux.cfg/default"))
		}
	}
	return profile
}

// pxelinux reads the entry that PXELINUX boots when nobody chooses.
func (c *converter) pxelinux(name, root, text string) bool {
	type entry struct {
		line                  int
		label, kernel, append string
		local                 bool
	}
	var entries []*entry
	first, now := "", &entry{}
	for i, raw := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(strings.TrimSpace(raw), " ")
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "default", "ontimeout":
			first = value
		case "label":
			now = &entry{line: i + 1, label: value}
			entries = append(entries, now)
		case "kernel", "linux":
			now.kernel = value
		case "initrd":
			now.append += " initrd=" + value
		case "append":
			now.append += " " + value
		case "localboot":
			now.local = true
		case "include", "config":
			c.out.Notef(name, i+1, "%s %s is not followed", key, value)
		}
	}
	var chosen *entry
	for _, e := range entries {
		if e.label == first || chosen == nil && e.kernel != "" && (first == "" || strings.HasSuffix(first, ".c32")) {
			chosen = e
		}
	}
	for _, e := range entries {
		if e != chosen {
			c.out.Notef(name, e.line, "entry %q is nobody's choice here: write a profile for it, and name it in the hosts that are to boot it", e.label)
		}
	}
	if chosen == nil || chosen.kernel == "" || chosen.local {
		return false
	}
	file := func(p string) cluster.File {
		if strings.Contains(p, "://") {
			return cluster.File{URL: p}
		}
		return cluster.File{URL: "file://" + path.Join("/", root, path.Clean("/"+p))}
	}
	image := &cluster.Image{Meta: cluster.Meta{Name: "pxelinux"}, Kernel: file(chosen.kernel), Arch: moving.ArchOf(chosen.kernel)}
	for _, a := range strings.Fields(chosen.append) {
		if v, ok := strings.CutPrefix(a, "initrd="); ok {
			for _, f := range strings.Split(v, ",") {
				image.Initrd = append(image.Initrd, file(f))
			}
		} else {
			image.Args = append(image.Args, moving.Literal(a))
		}
	}
	c.out.Add(image)
	c.out.Add(&cluster.Profile{Meta: cluster.Meta{Name: "pxelinux"}, Image: "pxelinux"})
	return true
}
