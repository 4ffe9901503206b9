package cluster

import (
	"fmt"
	"time"
)

// Installation says how a profile's system is put on the disks of its hosts.
type Installation struct {
	Device string   `json:"device"`          // the disk that is written, such as /dev/sda; {{ .Install.Device }} in templates
	Args   []string `json:"args,omitempty"`  // kernel arguments of the installer, after the image's and the profile's; a template each
	Config Config   `json:"config,omitzero"` // what the installer is told, as the profile's config: is what the installed system is told
}

// InstallPhase is how far the installation of a host has come.
type InstallPhase string

// The phases. A host without a record is one that is to be installed; a zero
// phase is one of which nothing is known, and which is not.
const (
	InstallWanted InstallPhase = "wanted"     // the host's next network boot runs the installer
	InstallBegun  InstallPhase = "installing" // the installer was booted, and has not said that it is done
	InstallDone   InstallPhase = "installed"  // the host boots from its disk
	InstallFailed InstallPhase = "failed"     // the installer was booted MaxInstalls times in vain; the host is left to its disk
)

// MaxInstalls is how often the installer of a host is booted without saying that
// it is done. Then the host is left to its disk, until somebody wants otherwise:
// a machine whose boot order is wrong, or whose installer is broken, does not
// install itself for ever (matchbox#349, cobbler#3329).
const MaxInstalls = 3

// Install is where a host of a profile with boot: install stands.
type Install struct {
	Host   HostName     `json:"host"`
	Phase  InstallPhase `json:"phase"`
	Booted int          `json:"booted,omitempty"` // how often the installer was, since it was wanted
	Boot   string       `json:"boot,omitempty"`   // the boot that did so last
	At     time.Time    `json:"at,omitzero"`
	By     string       `json:"by,omitempty"` // who brought it there: an operator, or the host's own address

	Revision Revision `json:"-"` // at which it was written
}

// Pending reports whether a new network boot of the host runs the installer.
func (i Install) Pending() bool {
	return i.Phase == InstallWanted || i.Phase == InstallBegun && i.Booted < MaxInstalls
}

// Begin is for a boot that is about to run the installer. The same boot may ask
// as often as it likes: what it fetches is fetched again when the network fails.
// A boot of which nothing is known is always another one.
func (i Install) Begin(boot string, at time.Time) Install {
	switch {
	case i.Phase == InstallBegun && boot != "" && boot == i.Boot:
		return i
	case !i.Pending():
		if i.Phase == InstallBegun {
			i.Phase, i.At = InstallFailed, at
		}
		return i
	}
	i.Phase, i.Boot, i.At, i.By = InstallBegun, boot, at, ""
	i.Booted++
	return i
}

// Done is for an installer, or an installed system, that has said so. Whoever is
// not being installed stays where they are: what was ordered since counts.
func (i Install) Done(by string, at time.Time) Install {
	if i.Phase == InstallBegun || i.Phase == InstallFailed {
		i.Phase, i.At, i.By = InstallDone, at, by
	}
	return i
}

// Why says in words for an operator what the phase comes to.
func (i Install) Why() string {
	switch i.Phase {
	case InstallWanted:
		return "it is to be installed"
	case InstallDone:
		return fmt.Sprintf("it is installed, since %s", i.At.UTC().Format(time.RFC3339))
	case InstallBegun:
		if i.Pending() {
			return fmt.Sprintf("its installer was booted %d of %d times, and has not said that it is done", i.Booted, MaxInstalls)
		}
		fallthrough
	case InstallFailed:
		return fmt.Sprintf("its installer was booted %d times and never said that it was done; see its console, then: pilotlight host reinstall %s", i.Booted, i.Host)
	}
	return "where its installation stands is not known yet"
}
