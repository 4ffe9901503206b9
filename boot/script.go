package boot

import (
	"bytes"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// Where things are on the HTTP server. package httpboot serves them.
const (
	EntryPath       = "/boot.ipxe"
	ScriptPath      = "/ipxe"
	LoaderPath      = "/loaders/"
	ImagePath       = "/images/"
	IgnitionPath    = "/ignition"
	CloudConfigPath = "/cloud-config"
	SeedPath        = "/cloud/"
	TextPath        = "/text"  // what the installer of another system reads
	SetupPath       = "/setup" // a program that makes a system one of pilotlight's hosts

	// Behind these are the configs of an installer, not those of the system that
	// it installs.
	InstallerKey    = "installer"  // in a query: installer=1
	InstallerFolder = "installer/" // below a seed
)

// waits are the seconds between one try of the machine's script and the next.
// After the last the machine reboots: it is never left at a prompt.
var waits = []int{1, 2, 5, 10, 20, 30, 60, 60}

// Entry returns the script with which every machine starts. It tells the
// server who the machine is, runs what comes back, and tries again when that
// fails. It uses only commands that iPXE has had since 2011 (no inc, no
// iflinkwait), because it may run in a NIC's ROM.
func Entry(s Server) []byte {
	var b strings.Builder
	b.WriteString("#!ipxe\n\n")
	fmt.Fprintf(&b, "echo pilotlight at %s\n", s.URL)
	fmt.Fprintf(&b, "set script %s%s?mac=${netX/mac:hexhyp}&uuid=${uuid}&serial=${serial:uristring}&platform=${platform}\n", s.URL, ScriptPath)
	for _, w := range waits {
		b.WriteString("chain --autofree ${script} && goto done ||\n")
		fmt.Fprintf(&b, "echo pilotlight: that did not work (see the message above); again in %d s\n", w)
		fmt.Fprintf(&b, "sleep %d\n", w)
	}
	b.WriteString("echo pilotlight: giving up; the machine reboots\nreboot\n\n")
	b.WriteString(":done\nisset ${leave} && exit 1 ||\nexit\n")
	return []byte(b.String())
}

// AutoexecFile is what iPXE for UEFI looks for beside itself, by the way that it
// came, and runs in place of its usual boot (since 2021). A signed iPXE takes no
// script in any other way.
const AutoexecFile = "autoexec.ipxe"

// Autoexec returns that script: Entry, behind DHCP, which nobody has run yet.
func Autoexec(s Server) []byte {
	var b strings.Builder
	b.WriteString("#!ipxe\n\n")
	for _, w := range waits {
		fmt.Fprintf(&b, "dhcp && goto up ||\necho pilotlight: no address; again in %d s\nsleep %d\n", w, w)
	}
	b.WriteString("echo pilotlight: giving up; the machine reboots\nreboot\n\n:up\n")
	_, entry, _ := strings.Cut(string(Entry(s)), "\n\n")
	b.WriteString(entry)
	return []byte(b.String())
}

// Visit is a machine that fetches its script or its config.
type Visit struct {
	Identity cluster.Identity
	Address  netip.Addr
	Platform string // iPXE's word: pcbios or efi; empty when unknown
	Server   Server
}

// Facts is what a kernel argument's template may say.
type Facts struct {
	Host      *cluster.Host
	Profile   *cluster.Profile
	Group     *cluster.Group // nil when no group takes the host
	Image     *cluster.Image
	Network   *cluster.Network // nil when it is not known
	Variables map[string]any
	SSHKeys   []string
	Server    Server
	MAC       cluster.MAC
	UUID      cluster.UUID
	Address   netip.Addr

	KernelURL      string
	RootfsURL      string // empty when the image has no root file system
	RootfsSHA256   string
	ConfigURL      string // of the Ignition config
	CloudConfigURL string // of the #cloud-config
	SeedURL        string // of the NoCloud seed, with its slash at the end
	TextURL        string // of config: {text: ...}: a preseed, a kickstart, an autoinstall
	SetupURL       string // of the program that makes a system one of pilotlight's hosts

	// Of a boot that runs the installer. The URLs above are what the
	// installer itself is told then; these are for the system that it installs.
	Install         *cluster.Installation // nil when the machine does not run the installer
	SystemConfigURL string                // of the Ignition config
	SystemSeedURL   string                // of the NoCloud seed, with its slash at the end
}

// FactsOf returns what templates may say of a machine on a visit that boots it
// so.
func FactsOf(mode cluster.BootMode, t cluster.Target, v Visit) Facts {
	who := url.Values{"mac": {v.Identity.MAC.Hyphens()}}
	if v.Identity.UUID != "" {
		who.Set("uuid", string(v.Identity.UUID))
	}
	f := Facts{
		Host: t.Host, Profile: t.Profile, Group: t.Group, Image: t.Image, Network: t.Network,
		Variables: t.Variables, SSHKeys: t.SSHKeys,
		Server: v.Server, MAC: v.Identity.MAC, UUID: v.Identity.UUID, Address: v.Address,
		SeedURL: v.Server.URL + SeedPath + v.Identity.MAC.Hyphens() + "/",
	}
	query := "?" + who.Encode()
	at := func(path string) string { return v.Server.URL + path + query }
	if mode == cluster.BootInstall {
		f.Install, f.SystemConfigURL, f.SystemSeedURL = t.Profile.Install, at(IgnitionPath), f.SeedURL
		f.SeedURL += InstallerFolder
		who.Set(InstallerKey, "1")
		query = "?" + who.Encode()
	}
	f.ConfigURL, f.CloudConfigURL, f.TextURL, f.SetupURL = at(IgnitionPath), at(CloudConfigPath), at(TextPath), at(SetupPath)
	if t.Image != nil {
		f.KernelURL = imageURL(v.Server, t.Image, "kernel")
		if t.Image.Rootfs != nil {
			f.RootfsURL = imageURL(v.Server, t.Image, "rootfs")
			f.RootfsSHA256 = t.Image.Rootfs.SHA256
		}
	}
	return f
}

func imageURL(s Server, i *cluster.Image, file string) string {
	return s.URL + ImagePath + url.PathEscape(i.Name) + "/" + file
}

// maxCommandLine is what an x86 or arm64 kernel takes (COMMAND_LINE_SIZE); it
// cuts off the rest without a word.
const maxCommandLine = 2047

// Args returns the kernel arguments: those that are known of the image's system,
// unless one of the others says another; then the image's, then the profile's, then
// those of the profile's installation when that is what the machine boots. Each is a
// template over Facts. One that comes out empty is left out.
func Args(mode cluster.BootMode, t cluster.Target, v Visit) ([]string, error) {
	facts := FactsOf(mode, t, v)
	var out []string
	wrong := new(ArgsError)
	expand := func(of cluster.Ref, field string, args []string) {
		for i, text := range args {
			arg, err := expandArg(text, facts)
			if err != nil {
				wrong.add(of, fmt.Sprintf("%s[%d]", field, i), text, err, t)
			} else if arg != "" {
				out = append(out, arg)
			}
		}
	}
	if t.Image != nil {
		expand(t.Image.Ref(), "args", t.Image.Args)
	}
	expand(t.Profile.Ref(), "args", t.Profile.Args)
	if mode == cluster.BootInstall {
		expand(t.Profile.Ref(), "install.args", t.Profile.Install.Args)
	}
	if len(wrong.Problems) > 0 {
		return nil, wrong
	}
	out = overruled(knownArgs(mode, t, facts), out)
	if n := len(strings.Join(out, " ")); n > maxCommandLine {
		return nil, fmt.Errorf("host %s: the kernel arguments are %d bytes long and a kernel reads only %d: shorten args: of image %s or profile %s",
			t.Host.Name, n, maxCommandLine, t.Image.Name, t.Profile.Name)
	}
	return out, nil
}

func expandArg(text string, facts Facts) (string, error) {
	if !strings.Contains(text, "{{") {
		return checkArg(text)
	}
	tmpl, err := parseArg(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := tmpl.Execute(&b, facts); err != nil {
		return "", err
	}
	return checkArg(b.String())
}

// checkArg refuses what would end the line of the script that the argument
// stands in: what follows would be a command.
func checkArg(s string) (string, error) {
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return "", fmt.Errorf("it holds a control character: write it on one line")
		}
	}
	return strings.TrimSpace(s), nil
}

// Script returns the iPXE script of one machine that boots so. When a step fails
// it says which and ends with an error, upon which Entry tries again.
func Script(mode cluster.BootMode, t cluster.Target, v Visit) ([]byte, error) {
	if mode == cluster.BootLocal {
		_, why := CourseOf(t)
		return localScript(t, why), nil
	}
	if t.Image == nil {
		return nil, errNoImage(t)
	}
	args, err := Args(mode, t, v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("#!ipxe\n\n")
	if mode == cluster.BootInstall {
		fmt.Fprintf(&b, "echo pilotlight: host %s is installed to %s (boot %d of %d that may try): image %s, profile %s\n",
			t.Host.Name, t.Profile.Install.Device, t.Install.Booted, cluster.MaxInstalls, t.Image.Name, t.Profile.Name)
	} else {
		fmt.Fprintf(&b, "echo pilotlight: host %s boots image %s, profile %s\n", t.Host.Name, t.Image.Name, t.Profile.Name)
	}
	b.WriteString("imgfree\n")
	// A UEFI kernel finds its initial RAM disks by the names in its arguments,
	// and panics without them (fedora-coreos-docs#233); on BIOS they do no harm.
	fmt.Fprintf(&b, "kernel %s", imageURL(v.Server, t.Image, "kernel"))
	for i := range t.Image.Initrd {
		fmt.Fprintf(&b, " initrd=initrd%d", i)
	}
	for _, a := range args {
		b.WriteString(" " + a)
	}
	b.WriteString(" || goto failed\n")
	for i := range t.Image.Initrd {
		fmt.Fprintf(&b, "initrd --name initrd%d %s || goto failed\n", i, imageURL(v.Server, t.Image, "initrd/"+strconv.Itoa(i)))
	}
	b.WriteString("boot || goto failed\n\n")
	fmt.Fprintf(&b, ":failed\necho pilotlight: host %s could not boot image %s\nimgfree\nexit 1\n", t.Host.Name, t.Image.Name)
	return b.Bytes(), nil
}

// localScript leaves a machine to its disk. On BIOS a ROM's exit often ends in
// the next network boot, so the first disk is booted directly. UEFI goes on to
// the next entry of its boot order when iPXE ends with an error: after a success
// it stops at its menu (UEFI 2.10, section 3.1.1), so that is how Entry leaves.
func localScript(t cluster.Target, why string) []byte {
	return fmt.Appendf(nil, `#!ipxe

echo pilotlight: host %s is left to its disk:
echo %s
set leave 1
iseq ${platform} pcbios && sanboot --no-describe --drive 0x80 ||
exit
`, t.Host.Name, strings.Map(plainWord, why))
}

// plainWord leaves out what iPXE would read as more than a word to print.
func plainWord(r rune) rune {
	if strings.ContainsRune("${}|&\\\"'#", r) || r < ' ' || r > '~' {
		return -1
	}
	return r
}
