package boot

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// Server is where a machine finds this server: an address on, or routed to,
// its own network.
type Server struct {
	Addr   netip.Addr
	URL    string // http://ADDRESS:PORT
	Secure string // https://ADDRESS:PORT; empty when there is none
}

// MetadataAddress is where an instance looks for its metadata service, on any link.
var MetadataAddress = netip.AddrFrom4([4]byte{169, 254, 169, 254})

// ServerAt returns the Server at an address. A zero securePort means no HTTPS.
func ServerAt(addr netip.Addr, port, securePort uint16) Server {
	s := Server{Addr: addr, URL: "http://" + hostPort(addr, port, 80)}
	if securePort != 0 {
		s.Secure = "https://" + hostPort(addr, securePort, 443)
	}
	return s
}

// TFTP returns the URL of a file that the server has for TFTP.
func (s Server) TFTP(file string) string { return "tftp://" + hostPort(s.Addr, 69, 69) + "/" + file }

func hostPort(addr netip.Addr, port, usual uint16) string {
	switch {
	case port != usual:
		return netip.AddrPortFrom(addr, port).String()
	case addr.Is6():
		return "[" + addr.String() + "]"
	}
	return addr.String()
}

// Policy is what there is to answer with.
type Policy struct {
	Server  Server
	Loaders Loaders
}

// Reply is what a machine gets. The zero Reply is no boot options at all: the
// machine gets its address, or silence, and its firmware goes on to whatever
// it boots next.
type Reply struct {
	Loader string // the name of a file to fetch by TFTP from Policy.Server
	URL    string // or an absolute URL
	Why    string // for logs and for explain; set in a zero Reply too
	Local  bool   // the machine is left to its disk; a loader is one that is not there
	Chain  bool   // it is iPXE, and the loader is a newer one: Request.Chained the next time
}

// IsZero reports whether the machine gets no boot options.
func (r Reply) IsZero() bool { return r.Loader == "" && r.URL == "" }

// Decide says what a machine gets. t is what was applied for it; a zero Target
// is a machine that no document names. An error is something for the operator
// to put right; it names the machine and comes with a zero Reply.
func Decide(q Request, t cluster.Target, p Policy) (Reply, error) {
	switch {
	case t.Host == nil:
		return Reply{Why: "no host document names this machine"}, nil
	case !q.IsFirmware():
		return Reply{Why: "an operating system asks, not firmware"}, nil
	case t.Profile == nil:
		return Reply{}, &cluster.NoProfileError{Host: t.Host.HostName()}
	}
	mode, why := CourseOf(t)
	switch {
	case mode == cluster.BootLocal:
		return decideLocal(q, why, p), nil
	case t.Image == nil:
		return Reply{}, errNoImage(t)
	}
	family, known := familyOf(q)
	switch {
	case !known:
		return Reply{}, fmt.Errorf("host %s (%s) asks as %s, which pilotlight does not boot: set its firmware to network boot by BIOS, UEFI (x64, IA32 or arm64) or U-Boot",
			t.Host.Name, q.MAC, q.Arch())
	case family.Machine() != ImageArch(t.Image):
		return Reply{}, fmt.Errorf("host %s (%s) asks as %s, but its image %s is for %s: set image: in profile %s to one with arch: %s",
			t.Host.Name, q.MAC, family, t.Image.Name, ImageArch(t.Image), t.Profile.Name, family.Machine())
	case family == UBootX86, family == UBootARM64:
		return Reply{Loader: UBootScriptFile, Why: "U-Boot fetches its pxelinux.cfg by TFTP"}, nil
	}
	by := p.Loaders.by(t.Profile.Loader, family, q)
	if q.IsIPXE() && by != BIOSPXELINUX && lacks(q, family) == "" {
		return Reply{URL: p.Server.URL + EntryPath, Why: "iPXE runs the script"}, nil
	}
	return decideLoader(q, t, by, p)
}

// LeaveFile is the name of a loader that is not there. UEFI that cannot load what
// it was told to goes on to its next boot option at once.
const LeaveFile = "boot-from-disk"

// decideLocal leaves a machine to its own disk. A BIOS that gets no boot options
// goes on to its next boot device by itself, which is more reliable than any
// loader's exit (sidero#413). UEFI does so too, but only after it has asked for a
// minute whether nobody has any ("PXE-E16: No valid offer received", OVMF of
// Debian 12), so it is given one that fails. iPXE that already runs is told to
// leave. U-Boot and a Raspberry Pi go on by themselves.
func decideLocal(q Request, why string, p Policy) Reply {
	switch family, _ := familyOf(q); {
	case q.IsIPXE() && lacks(q, family) != "HTTP":
		return Reply{URL: p.Server.URL + EntryPath, Why: why, Local: true}
	case q.IsIPXE(), family == BIOS, family == "", family == Pi, q.Class == ClassUBoot:
		return Reply{Why: why, Local: true}
	case q.Class == ClassHTTP:
		return Reply{URL: p.Server.URL + LoaderPath + LeaveFile, Why: why, Local: true}
	}
	return Reply{Loader: LeaveFile, Why: why, Local: true}
}

func errNoImage(t cluster.Target) error {
	return fmt.Errorf("host %s is to boot an image, but its profile %s names none: set image: or boot: local in profile %s",
		t.Host.Name, t.Profile.Name, t.Profile.Name)
}

func decideLoader(q Request, t cluster.Target, family Family, p Policy) (Reply, error) {
	loader := p.Loaders[family]
	switch {
	case loader == "":
		return Reply{}, fmt.Errorf("host %s (%s) asks as %s, for which there is no loader: put one of %s into the directory of loaders",
			t.Host.Name, q.MAC, family, strings.Join(Candidates[family], ", "))
	case family == BIOSPXELINUX:
		return Reply{Loader: loader, Why: "PXELINUX, as profile " + t.Profile.Name + " has it"}, nil
	case q.IsIPXE() && q.Chained:
		// What it was chained to is no better: once more would be for ever.
		return Reply{}, fmt.Errorf("host %s (%s) asks as an iPXE without %s again, after it was given %s: put a newer build of it into the directory of loaders",
			t.Host.Name, q.MAC, lacks(q, family), loader)
	case q.IsIPXE():
		// It needs the whole URL: a bare name it may take for a path of its own (tinkerbell).
		return Reply{URL: p.Server.TFTP(loader), Chain: true, Why: "iPXE without " + lacks(q, family) + " is chained to one that has it"}, nil
	case q.Class == ClassHTTP:
		return Reply{URL: p.Server.URL + LoaderPath + loader, Why: q.Arch().String() + " fetches its loader by HTTP"}, nil
	}
	return Reply{Loader: loader, Why: q.Arch().String() + " fetches its loader by TFTP"}, nil
}

// lacks names what iPXE has to have to run the script and does not list. One that
// lists no features is taken at its best.
func lacks(q Request, f Family) string {
	switch {
	case len(q.Features) == 0:
		return ""
	case !q.Has(FeatureHTTP):
		return "HTTP"
	case (f == BIOS || f == BIOSPXELINUX) && !q.Has(FeatureBzImage):
		return "bzImage"
	case f != BIOS && f != BIOSPXELINUX && !q.Has(FeatureEFI):
		return "EFI"
	}
	return ""
}

// ImageArch returns the architecture that an image is for.
func ImageArch(i *cluster.Image) cluster.Arch {
	if i.Arch == "" {
		return cluster.X86_64
	}
	return i.Arch
}
