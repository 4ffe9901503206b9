package cluster

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// DHCPMode says what pilotlight does with DHCP on a network.
type DHCPMode string

// The DHCP modes. Proxy answers beside somebody else's server and hands out no
// address (PXE specification 2.1, section 2.2).
const (
	DHCPAuthoritative DHCPMode = "authoritative"
	DHCPProxy         DHCPMode = "proxy"
	DHCPOff           DHCPMode = "off"
)

// MetadataMode says whether machines of a network find an instance metadata service,
// as they do on Amazon's EC2, and what they have to bring. The words are Amazon's
// (HttpTokens).
type MetadataMode string

// The metadata modes.
const (
	MetadataRequired MetadataMode = "required" // with a session token only (IMDSv2)
	MetadataOptional MetadataMode = "optional" // without one too (IMDSv1)
	MetadataOff      MetadataMode = "off"
)

// DefaultLease is how long an address is lent when the network does not say.
const DefaultLease = Duration(12 * 3600 * 1e9)

// Network is a subnet on which machines boot.
type Network struct {
	Meta
	CIDR      netip.Prefix `json:"cidr"`                // the subnet
	Interface string       `json:"interface,omitempty"` // the server's, for clients on the same link
	DHCP      DHCPMode     `json:"dhcp,omitempty"`      // authoritative: the only DHCP server there; proxy: what to boot, beside somebody else's server; off (the default)
	Pools     []Range      `json:"pools,omitempty"`     // what may be lent to machines without a reservation
	Gateway   netip.Addr   `json:"gateway,omitzero"`    // the default router that machines are told
	DNS       []netip.Addr `json:"dns,omitempty"`       // the name servers that machines are told
	NTP       []netip.Addr `json:"ntp,omitempty"`       // the time servers that machines are told
	Domain    string       `json:"domain,omitempty"`    // the search domain that machines are told
	Lease     Duration     `json:"lease,omitzero"`      // default 12h
	Server    netip.Addr   `json:"server,omitzero"`     // the server's own address here; default: that of the interface
	Probe     *bool        `json:"probe,omitempty"`     // look whether an address is used before it is offered anew; default true
	Metadata  MetadataMode `json:"metadata,omitempty"`  // an instance metadata service as EC2 has it, at 169.254.169.254: required: with session tokens only; optional: without them too; off (the default)
	Options   OptionSet    `json:"options,omitempty"`   // more DHCP options, by name or number: a value, a list, or value: and force: true, for machines that do not ask for it
}

// ServesMetadata reports whether the network has an instance metadata service.
func (n *Network) ServesMetadata() bool {
	return n.Metadata == MetadataRequired || n.Metadata == MetadataOptional
}

// LeaseTime returns the lease time with its default filled in.
func (n *Network) LeaseTime() Duration {
	if n.Lease == 0 {
		return DefaultLease
	}
	return n.Lease
}

// Probes reports whether addresses are looked for before they are offered.
func (n *Network) Probes() bool { return n.Probe == nil || *n.Probe }

// File is one file of an image, pinned by its digest.
type File struct {
	URL    string `json:"url"`              // file:///path, http:// or https://
	SHA256 string `json:"sha256,omitempty"` // 64 hexadecimal digits
}

// OS is a system whose releases pilotlight finds, and whose kernel arguments it knows.
type OS string

// The systems.
const (
	FedoraCoreOS OS = "fedora-coreos"
	Flatcar      OS = "flatcar"
)

// Image is what a machine boots: a kernel, its initial RAM disks, and the root
// file system that those fetch.
type Image struct {
	Meta
	Arch   Arch     `json:"arch,omitempty"`   // default x86_64
	Stream string   `json:"stream,omitempty"` // fedora-coreos/stable, flatcar/stable ...: whose releases these files are; `pilotlight image resolve` pins them, and the system's kernel arguments are known
	Kernel File     `json:"kernel"`           // the kernel
	Initrd []File   `json:"initrd,omitempty"` // the initial RAM disks, in order
	Rootfs *File    `json:"rootfs,omitempty"` // what the initial RAM disk fetches; {{ .RootfsURL }} in args
	FDT    *File    `json:"fdt,omitempty"`    // a device tree that U-Boot or a Raspberry Pi hands to the kernel in place of its own
	Args   []string `json:"args,omitempty"`   // kernel arguments that the image needs, over those that are known of stream:; a template each

	Release  string `json:"release,omitempty"`   // which release of stream: the files are
	Mirror   string `json:"mirror,omitempty"`    // where the releases of stream: are, in place of their publisher's server
	SignedBy string `json:"signed_by,omitempty"` // whose signature of the files was good when they were pinned

	Disk          *File `json:"disk,omitempty"`           // Flatcar's image of a disk, for boot: install
	DiskSignature *File `json:"disk_signature,omitempty"` // its publisher's signature, which flatcar-install verifies
}

// OS returns the system of stream:, or nothing.
func (i *Image) OS() OS {
	os, _, _ := strings.Cut(i.Stream, "/")
	return OS(os)
}

// Channel returns what stream: says behind the system.
func (i *Image) Channel() string {
	_, channel, _ := strings.Cut(i.Stream, "/")
	return channel
}

// ImageFile is a file of an image, and the field that names it.
type ImageFile struct {
	Field string
	File
}

// Files returns all files of an image that are named.
func (i *Image) Files() []ImageFile {
	out := []ImageFile{{"kernel", i.Kernel}}
	for n, f := range i.Initrd {
		out = append(out, ImageFile{fmt.Sprintf("initrd[%d]", n), f})
	}
	for _, f := range []struct {
		field string
		file  *File
	}{{"rootfs", i.Rootfs}, {"fdt", i.FDT}, {"disk", i.Disk}, {"disk_signature", i.DiskSignature}} {
		if f.file != nil {
			out = append(out, ImageFile{f.field, *f.file})
		}
	}
	return out
}

// BootMode says where a machine's system lives.
type BootMode string

// The ways to boot. Live runs from memory at every boot.
const (
	BootLive    BootMode = "live"
	BootInstall BootMode = "install" // run the installer once, then leave the machine to its disk
	BootLocal   BootMode = "local"   // leave the machine to its disk
)

// Introduce is one way in which a host proves who it is before it may join.
type Introduce string

// IntroduceToken is the single-use token in the host's first config.
const IntroduceToken Introduce = "token"

// Loader is what boots a machine's kernel.
type Loader string

// The loaders. GRUB, behind a shim, is what distributions sign for Secure Boot.
// PXELINUX is for BIOS; UEFI machines get iPXE beside it.
const (
	LoaderIPXE Loader = "ipxe"
	LoaderGRUB Loader = "grub"

	LoaderPXELINUX Loader = "pxelinux"
)

// Config is the template of what a host is told, in one of three languages, or as
// the text of some other installer.
// The text itself is here, not a path: what was applied does not change when a
// file does.
type Config struct {
	Butane      string `json:"butane,omitempty"`       // a Butane config (YAML): a file beside the manifest, or the text; a template
	Ignition    string `json:"ignition,omitempty"`     // an Ignition v3 config (JSON), likewise
	CloudConfig string `json:"cloud_config,omitempty"` // a #cloud-config, or a MIME message of several parts for cloud-init, likewise
	Text        string `json:"text,omitempty"`         // what another system's installer reads (a preseed, a kickstart, an autoinstall), likewise; {{ .TextURL }} in args

	CloudParts []string `json:"cloud_parts,omitempty"` // several parts for cloud-init: #cloud-config, scripts (#!), #cloud-boothook, ## template: jinja, #include, #part-handler; likewise
}

// IsZero reports whether nothing is said.
func (c Config) IsZero() bool {
	return c.Butane == "" && c.Ignition == "" && c.CloudConfig == "" && c.Text == "" && len(c.CloudParts) == 0
}

// ForCloudInit reports whether it is a #cloud-config, or several parts.
func (c Config) ForCloudInit() bool { return c.CloudConfig != "" || len(c.CloudParts) > 0 }

// Includes are texts that templates may name, each by its name.
type Includes map[string]string

// Profile is how a class of hosts is booted and configured.
type Profile struct {
	Meta
	Image         ImageName      `json:"image,omitempty"`          // what it boots
	Boot          BootMode       `json:"boot,omitempty"`           // live (the default); install: run the installer once, then boot from the disk; local: leave the machine to its disk
	Loader        Loader         `json:"loader,omitempty"`         // ipxe, or grub where there is no iPXE (the default); ipxe; grub: a signed shim and GRUB, for UEFI machines with Secure Boot on; pxelinux: for BIOS machines
	Install       *Installation  `json:"install,omitempty"`        // for boot: install: the disk, and what the installer gets
	Args          []string       `json:"args,omitempty"`           // kernel arguments; a template each
	Config        Config         `json:"config,omitzero"`          // what its hosts are told, with boot: install the installed system; at most one of
	Includes      Includes       `json:"includes,omitempty"`       // parts of templates by name, {{ template "NAME" . }}: a directory beside the manifest, or each below its name
	Common        *Common        `json:"common,omitempty"`         // users, files and units, said once for every language
	NetworkConfig string         `json:"network_config,omitempty"` // how its hosts set up their network, in netplan's form (version 2): a file beside the manifest, or the text; a template. Or static: each host's address: on its first card. Default: as the system does, by DHCP
	Firewall      *Firewall      `json:"firewall,omitempty"`       // who may reach which port of its hosts; default: no firewall
	Generic       string         `json:"generic,omitempty"`        // a text of any form that its hosts may fetch from /generic: a file beside the manifest, or the text; a template
	Introduce     []Introduce    `json:"introduce,omitempty"`      // how a host proves who it is; [token] is the default and the only one yet
	Variables     map[string]any `json:"variables,omitempty"`      // {{ .Variables.x }} in templates
	SSHKeys       []string       `json:"ssh_keys,omitempty"`       // public keys of user core
}

// Match says which hosts a group takes. Every field that is set must hold.
type Match struct {
	Labels     map[string]string `json:"labels,omitempty"`     // the host has all of them
	MAC        string            `json:"mac,omitempty"`        // a whole address or its beginning: 52:54:00
	UUID       UUID              `json:"uuid,omitempty"`       // the SMBIOS UUID
	Serial     string            `json:"serial,omitempty"`     // the SMBIOS serial number
	SwitchPort SwitchPort        `json:"switch_port,omitzero"` // the host's own; what is left out is not compared
	Network    NetworkName       `json:"network,omitempty"`    // where the host is
	Arch       Arch              `json:"arch,omitempty"`       // x86_64 or aarch64
}

// Group gives the hosts that it matches a profile, variables and keys. Of
// several groups that match a host the most specific one wins.
type Group struct {
	Meta
	Match     Match          `json:"match,omitzero"`      // which hosts it takes; empty takes all
	Profile   ProfileName    `json:"profile"`             // that they get
	Admit     int            `json:"admit,omitempty"`     // how many machines that no document names become hosts by themselves, when the group takes them; default none
	Variables map[string]any `json:"variables,omitempty"` // over the profile's
	SSHKeys   []string       `json:"ssh_keys,omitempty"`  // beside the profile's
}

// Host is one machine that the operator has approved.
type Host struct {
	Meta
	MACs       []MAC          `json:"macs,omitempty"`       // of all its network cards
	UUID       UUID           `json:"uuid,omitempty"`       // dmidecode -s system-uuid
	Serial     string         `json:"serial,omitempty"`     // dmidecode -s system-serial-number
	SwitchPort SwitchPort     `json:"switch_port,omitzero"` // where it is plugged in; with macs: it is this host only there
	Userdata   bool           `json:"userdata,omitempty"`   // its machine is only known by what `pilotlight userdata` gives it
	Arch       Arch           `json:"arch,omitempty"`       // default x86_64
	Address    netip.Addr     `json:"address,omitzero"`     // a reservation; with dhcp: proxy the one that the other server has
	Options    OptionSet      `json:"options,omitempty"`    // DHCP options, over those of the network
	Profile    ProfileName    `json:"profile,omitempty"`    // overrules the groups
	Variables  map[string]any `json:"variables,omitempty"`  // over the group's and the profile's
	SSHKeys    []string       `json:"ssh_keys,omitempty"`   // beside the group's and the profile's
}

// MAC returns the first of the host's addresses: {{ .Host.MAC }} in a template.
func (d *Host) MAC() (MAC, error) {
	if len(d.MACs) == 0 {
		return MAC{}, fmt.Errorf("host %s has no macs:; write them, or take .Host.MAC out of the template", d.Name)
	}
	return d.MACs[0], nil
}

// Query returns what the host says of itself in a URL, mac=...&uuid=...&serial=...:
// {{ .Host.Query }} in a template.
func (d *Host) Query() string {
	who := url.Values{}
	if len(d.MACs) > 0 {
		who.Set("mac", d.MACs[0].Hyphens())
	}
	if d.UUID != "" {
		who.Set("uuid", string(d.UUID))
	}
	if d.Serial != "" {
		who.Set("serial", d.Serial)
	}
	return who.Encode()
}

// HostName returns the host's name as a HostName.
func (d *Host) HostName() HostName { return HostName(d.Name) }
