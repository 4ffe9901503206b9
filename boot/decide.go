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
	family, known := families[q.Arch()]
	switch {
	case !known:
		return Reply{}, fmt.Errorf("host %s (%s) asks as %s, which pilotlight does not boot: set its firmware to BIOS, UEFI x64 or UEFI arm64 network boot",
			t.Host.Name, q.MAC, q.Arch())
	case family.Machine() != imageArch(t.Image):
		return Reply{}, fmt.Errorf("host %s (%s) asks as %s, but its image %s is for %s: set image: in profile %s to one with arch: %s",
			t.Host.Name, q.MAC, q.Arch(), t.Image.Name, imageArch(t.Image), t.Profile.Name, family.Machine())
	case q.IsIPXE() && canHTTP(q):
		return Reply{URL: p.Server.URL + EntryPath, Why: "iPXE runs the script"}, nil
	}
	if s, ok := signed[family]; ok && t.Profile.Loader == cluster.LoaderGRUB {
		family = s
	}
	return decideLoader(q, t, family, p)
}

// LeaveFile is the name of a loader that is not there. UEFI that cannot load what
// it was told to goes on to its next boot option at once.
const LeaveFile = "boot-from-disk"

// decideLocal leaves a machine to its own disk. A BIOS that gets no boot options
// goes on to its next boot device by itself, which is more reliable than any
// loader's exit (sidero#413). UEFI does so too, but only after it has asked for a
// minute whether nobody has any ("PXE-E16: No valid offer received", OVMF of
// Debian 12), so it is given one that fails. iPXE that already runs is told to
// leave.
func decideLocal(q Request, why string, p Policy) Reply {
	switch family := families[q.Arch()]; {
	case q.IsIPXE() && canHTTP(q):
		return Reply{URL: p.Server.URL + EntryPath, Why: why, Local: true}
	case q.IsIPXE(), family == BIOS, family == "":
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
			t.Host.Name, q.MAC, q.Arch(), strings.Join(Candidates[family], ", "))
	case q.IsIPXE():
		// An iPXE built without HTTP cannot fetch the script. It needs the
		// whole URL: a bare name it may take for a path of its own (tinkerbell).
		return Reply{URL: p.Server.TFTP(loader), Why: "iPXE without HTTP is chained to one that has it"}, nil
	case q.Class == ClassHTTP && isSigned(family):
		return Reply{}, fmt.Errorf("host %s (%s) asks as %s, and profile %s has loader: grub, which is booted by PXE only: set its firmware to PXE over IPv4",
			t.Host.Name, q.MAC, q.Arch(), t.Profile.Name)
	case q.Class == ClassHTTP:
		return Reply{URL: p.Server.URL + LoaderPath + loader, Why: q.Arch().String() + " fetches its loader by HTTP"}, nil
	}
	return Reply{Loader: loader, Why: q.Arch().String() + " fetches its loader by TFTP"}, nil
}

// canHTTP reports whether iPXE can fetch the script. One that does not list its
// features is taken at its best.
func canHTTP(q Request) bool { return len(q.Features) == 0 || q.Has(FeatureHTTP) }

func imageArch(i *cluster.Image) cluster.Arch {
	if i.Arch == "" {
		return cluster.X86_64
	}
	return i.Arch
}
