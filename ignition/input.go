package ignition

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// Input is everything that a config is made of. Two equal Inputs compile to the
// same bytes.
type Input struct {
	Target  cluster.Target // as Snapshot.Target returns it
	Address netip.Addr     // where the host is now; zero takes the one that is reserved for it
	Agent   Agent
	Server  Server

	Installer *Installer // nil for the config of a system
	SetupURL  string     // of the program that Setup makes, for the text of another system's installer
}

// Agent is the agent that the host fetches and what it starts from.
type Agent struct {
	URL    string // of the binary, http:// or https://; by https:// Server.CA is trusted for it
	SHA256 string // of the binary, 64 hexadecimal digits

	// SHA512 of the binary, 128 hexadecimal digits. It is only for clients
	// that know no newer spec than 3.0.0, which cannot check a sha256; without
	// it they are refused.
	SHA512 string

	// Config becomes the agent's configuration file. Its Boot is best left
	// empty: it would make every boot's config a new one to compile, and the
	// token is bound to the boot anyway.
	Config cluster.AgentConfig
}

// secure reports whether the binary comes by https://. Ignition has the authority for
// that of the Pointer by which it came.
func (a Agent) secure() bool { return strings.HasPrefix(a.URL, "https://") }

// Server is what templates may say of the server: {{ .Server.URL }}.
type Server struct {
	URL    string // http://ADDRESS:PORT, where kernels and configs are served
	Secure string // https://ADDRESS:PORT, whose certificate CA signed
	CA     string // PEM
}

// address returns where the host is, or the zero Addr.
func (in *Input) address() netip.Addr {
	if in.Address.IsValid() {
		return in.Address
	}
	return in.Target.Host.Address
}

// check refuses an Input that the program around this package got wrong. An
// operator's mistakes are found later, in their documents.
func (in *Input) check() error {
	t := &in.Target
	switch {
	case t.Host == nil || t.Host.Name == "":
		return fmt.Errorf("compile a config: no host")
	case t.Profile == nil:
		return &cluster.NoProfileError{Host: t.Host.HostName()}
	case in.Agent.Config.Host != t.Host.HostName():
		return fmt.Errorf("compile a config for host %s: the agent's config is host %q's", t.Host.Name, in.Agent.Config.Host)
	}
	if i := in.Installer; i != nil {
		if t.Profile.Install == nil {
			return fmt.Errorf("compile the config of host %s's installer: profile %s has none: set boot: install and install: in it", t.Host.Name, t.Profile.Name)
		}
		if err := checkURL(i.Done); err != nil {
			return fmt.Errorf("compile the config of host %s's installer: where it says that it is done: %w", t.Host.Name, err)
		}
		return nil
	}
	if err := checkURL(in.Agent.URL); err != nil {
		return fmt.Errorf("compile a config for host %s: where the agent is: %w", t.Host.Name, err)
	}
	if err := checkHex(in.Agent.SHA256, 32); err != nil {
		return fmt.Errorf("compile a config for host %s: the agent's sha256: %w", t.Host.Name, err)
	}
	if in.Agent.SHA512 != "" {
		if err := checkHex(in.Agent.SHA512, 64); err != nil {
			return fmt.Errorf("compile a config for host %s: the agent's sha512: %w", t.Host.Name, err)
		}
	}
	return nil
}

// checkURL also refuses what would have to be escaped in a shell script or a
// unit, where the URL goes as it is.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%q is not the URL of a server; write it like http://10.0.0.1:8080/agent", s)
	case u.User != nil || strings.ContainsAny(s, "'\"\\$`%\n\r\t {}"):
		return fmt.Errorf("%q holds a character that a shell or a unit would read; write it like http://10.0.0.1:8080/agent", u.Redacted())
	}
	return nil
}

func checkHex(s string, size int) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != size || s != strings.ToLower(s) {
		return fmt.Errorf("%q is not %d lower-case hexadecimal digits", s, 2*size)
	}
	return nil
}
