// Package netplan reads how a host sets up its network, in netplan's form (version
// 2, netplan.readthedocs.io/en/stable/netplan-yaml), and says it in the words of
// systemd-networkd, of NetworkManager, or of cloud-init.
//
// It is pure: text in, files out. What of netplan's form it does not know it
// refuses by name, because a host with half of its network set up is out of reach.
package netplan

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Renderer is what sets up the network on a host.
type Renderer string

// The renderers, in netplan's own words.
const (
	Networkd       Renderer = "networkd"
	NetworkManager Renderer = "NetworkManager"
)

// Config is the network of one host.
type Config struct {
	Version   int                 `yaml:"version"`
	Renderer  Renderer            `yaml:"renderer,omitempty"`
	Ethernets map[string]Ethernet `yaml:"ethernets,omitempty"`
	Bonds     map[string]Bond     `yaml:"bonds,omitempty"`
	Bridges   map[string]Bridge   `yaml:"bridges,omitempty"`
	VLANs     map[string]VLAN     `yaml:"vlans,omitempty"`
}

// Interface is what can be said of any interface.
type Interface struct {
	DHCP4       bool         `yaml:"dhcp4,omitempty"`
	DHCP6       bool         `yaml:"dhcp6,omitempty"`
	AcceptRA    *bool        `yaml:"accept-ra,omitempty"` // default: the system's
	LinkLocal   *[]string    `yaml:"link-local,omitempty"`
	Addresses   []string     `yaml:"addresses,omitempty"` // with their length: 10.0.0.5/24
	Gateway4    string       `yaml:"gateway4,omitempty"`
	Gateway6    string       `yaml:"gateway6,omitempty"`
	Nameservers *Nameservers `yaml:"nameservers,omitempty"`
	Routes      []Route      `yaml:"routes,omitempty"`
	MTU         int          `yaml:"mtu,omitempty"`
	MACAddress  string       `yaml:"macaddress,omitempty"` // that it is to have
	Optional    bool         `yaml:"optional,omitempty"`   // the boot does not wait for it
}

// Nameservers are asked for names by way of an interface.
type Nameservers struct {
	Addresses []string `yaml:"addresses,omitempty"`
	Search    []string `yaml:"search,omitempty"`
}

// Route is one way out.
type Route struct {
	To     string `yaml:"to"` // default, or 10.9.0.0/16
	Via    string `yaml:"via,omitempty"`
	Metric *int   `yaml:"metric,omitempty"`
	OnLink bool   `yaml:"on-link,omitempty"`
}

// Ethernet is a network card.
type Ethernet struct {
	Match     *Match `yaml:"match,omitempty"` // default: its name is that of the entry
	SetName   string `yaml:"set-name,omitempty"`
	Interface `yaml:",inline"`
}

// Match says which card is meant.
type Match struct {
	MACAddress string `yaml:"macaddress,omitempty"`
	Name       string `yaml:"name,omitempty"`
}

// Bond is several cards that are one.
type Bond struct {
	Interfaces []string        `yaml:"interfaces"`
	Parameters *BondParameters `yaml:"parameters,omitempty"`
	Interface  `yaml:",inline"`
}

// BondParameters are in netplan's words; times are in milliseconds.
type BondParameters struct {
	Mode               string `yaml:"mode,omitempty"` // default balance-rr, as Linux has it
	LACPRate           string `yaml:"lacp-rate,omitempty"`
	MIIMonitorInterval int    `yaml:"mii-monitor-interval,omitempty"`
	MinLinks           int    `yaml:"min-links,omitempty"`
	TransmitHashPolicy string `yaml:"transmit-hash-policy,omitempty"`
	UpDelay            int    `yaml:"up-delay,omitempty"`
	DownDelay          int    `yaml:"down-delay,omitempty"`
	Primary            string `yaml:"primary,omitempty"`
}

// Bridge is a switch in the host.
type Bridge struct {
	Interfaces []string          `yaml:"interfaces,omitempty"`
	Parameters *BridgeParameters `yaml:"parameters,omitempty"`
	Interface  `yaml:",inline"`
}

// BridgeParameters are in netplan's words.
type BridgeParameters struct {
	STP          *bool `yaml:"stp,omitempty"` // default true, as netplan has it
	ForwardDelay *int  `yaml:"forward-delay,omitempty"`
}

// VLAN is a network with a tag on another interface.
type VLAN struct {
	ID        int    `yaml:"id"`
	Link      string `yaml:"link"`
	Interface `yaml:",inline"`
}

// Mistake is one thing that is wrong in a text, with its line, or 0.
type Mistake struct {
	Line    int
	Path    string // bonds.bond0.interfaces
	Message string
}

// Parse reads a text: with network: at its top, as netplan's files have it, or
// without, as cloud-init's.
func Parse(source string) (*Config, []Mistake) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(source), &doc); err != nil {
		return nil, fromYAML(err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, []Mistake{{Message: "it is no network of netplan's: write version: 2, then ethernets:"}}
	}
	root, c := doc.Content[0], new(Config)
	var into any = c
	if at := valueOf(root, "network"); at != nil {
		root, into = at, &struct {
			Network *Config `yaml:"network"`
		}{c}
	}
	d := yaml.NewDecoder(strings.NewReader(source))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		return nil, fromYAML(err)
	}
	if d.Decode(new(yaml.Node)) == nil {
		return nil, []Mistake{{Message: "it holds a second YAML document: take out what follows the ---"}}
	}
	k := &checker{root: root, names: map[string]string{}, inUse: map[string]string{}}
	k.config(c)
	return c, k.mistakes
}

var (
	lineForm  = regexp.MustCompile(`line (\d+): (.*)`)
	fieldForm = regexp.MustCompile(`^field (\S+) not found in type .*`)
	typeForm  = regexp.MustCompile(` into \S+`)
)

func fromYAML(err error) (out []Mistake) {
	texts := []string{err.Error()}
	var several *yaml.TypeError
	if errors.As(err, &several) {
		texts = several.Errors
	}
	for _, text := range texts {
		m := Mistake{Message: strings.TrimPrefix(text, "yaml: ")}
		if found := lineForm.FindStringSubmatch(text); found != nil {
			m.Line, _ = strconv.Atoi(found[1])
			m.Message = found[2]
		}
		if found := fieldForm.FindStringSubmatch(m.Message); found != nil {
			m.Message = fmt.Sprintf("%s is nothing that pilotlight can set up there: correct its name or its indentation, or take it out", found[1])
		} else {
			m.Message = typeForm.ReplaceAllString(m.Message, "") + ": write it as netplan's reference has it"
		}
		out = append(out, m)
	}
	return out
}

func valueOf(m *yaml.Node, key string) *yaml.Node {
	for i := 0; m != nil && m.Kind == yaml.MappingNode && i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// device returns the name that a card has once it is set up, or nothing when only
// its address is known.
func (e Ethernet) device() string {
	switch {
	case e.SetName != "":
		return e.SetName
	case e.Match == nil:
		return "" // its name is the entry's
	case strings.ContainsAny(e.Match.Name, "*?["):
		return ""
	}
	return e.Match.Name
}

// speaks reports whether an interface has, or asks for, addresses of a kind of IP.
func (i *Interface) speaks(four bool) bool {
	if four && i.DHCP4 || !four && (i.DHCP6 || i.AcceptRA != nil && *i.AcceptRA) {
		return true
	}
	for _, a := range i.Addresses {
		if strings.Contains(a, ":") != four {
			return true
		}
	}
	return false
}

// CloudInit returns the network as cloud-init's network-config, version 2.
func (c *Config) CloudInit() []byte {
	out, _ := yaml.Marshal(c) // of texts and numbers
	return out
}

// File is one that a host needs.
type File struct {
	Path     string
	Mode     int
	Contents string
}

// Files returns what a renderer reads.
func (c *Config) Files(r Renderer) []File {
	if r == NetworkManager {
		return c.keyfiles()
	}
	return c.networkd()
}

// member is what an interface is a part of, or what is on top of it.
type member struct {
	bond, bridge string
	primary      bool
	vlans        []string
}

// members returns for each interface what it is a part of.
func (c *Config) members() map[string]*member {
	out := map[string]*member{}
	of := func(id string) *member {
		if out[id] == nil {
			out[id] = new(member)
		}
		return out[id]
	}
	for id, b := range c.Bonds {
		for _, i := range b.Interfaces {
			of(i).bond = id
			of(i).primary = b.Parameters != nil && b.Parameters.Primary == i
		}
	}
	for id, b := range c.Bridges {
		for _, i := range b.Interfaces {
			of(i).bridge = id
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.VLANs)) {
		of(c.VLANs[id].Link).vlans = append(of(c.VLANs[id].Link).vlans, id)
	}
	for _, id := range c.ids() {
		of(id)
	}
	return out
}

// Names returns what its interfaces are called, as far as that is known, sorted.
func (c *Config) Names() []string {
	if c == nil {
		return nil
	}
	names := c.ids()
	for _, e := range c.Ethernets {
		if name := e.device(); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ids returns the names of all entries, sorted.
func (c *Config) ids() []string {
	ids := slices.Concat(slices.Collect(maps.Keys(c.Ethernets)), slices.Collect(maps.Keys(c.Bonds)),
		slices.Collect(maps.Keys(c.Bridges)), slices.Collect(maps.Keys(c.VLANs)))
	slices.Sort(ids)
	return ids
}
