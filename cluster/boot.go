package cluster

import (
	"net/netip"
	"time"
)

// State is where a host stands in its life.
type State string

// The states, in the order in which a host goes through them.
const (
	StateDiscovered State = "discovered" // seen on a network, no document names it
	StateApproved   State = "approved"   // a document names it
	StateBooting    State = "booting"
	StateInstalling State = "installing" // its installer was booted, and has not said that it is done
	StateInstalled  State = "installed"  // boots from its disk, and has not joined yet
	StateFailed     State = "failed"     // its installer was booted in vain, too often to go on
	StateJoined     State = "joined"     // introduced; its agent holds its liveness lease
	StateReady      State = "ready"      // joined, and all that it must run is healthy
	StateLost       State = "lost"       // was joined; its liveness lease has run out
)

// Step is one step of a boot.
type Step string

// The steps of a boot, in their usual order.
const (
	StepDHCP      Step = "dhcp"
	StepLoader    Step = "loader"
	StepScript    Step = "script"
	StepKernel    Step = "kernel"
	StepInitrd    Step = "initrd"
	StepRootfs    Step = "rootfs"
	StepPointer   Step = "pointer" // it was told where its config is
	StepConfig    Step = "config"
	StepAgent     Step = "agent"     // the agent's binary was fetched
	StepInstalled Step = "installed" // the installer said that the system is on the disk
	StepJoin      Step = "join"
	StepReady     Step = "ready"
)

// Event is one step of a boot as a server saw it.
type Event struct {
	Step   Step       `json:"step"`
	At     time.Time  `json:"at"`
	Addr   netip.Addr `json:"addr,omitzero"`
	Detail string     `json:"detail,omitempty"` // what was asked for or served; never a secret
	Local  bool       `json:"local,omitempty"`  // the machine was left to its disk
}

// Discovered is a machine that was seen on a network and that no document names.
type Discovered struct {
	Identity
	Network     NetworkName `json:"network,omitempty"`
	Address     netip.Addr  `json:"address,omitzero"`
	Arch        string      `json:"arch,omitempty"`         // the firmware's: BIOS, UEFI x64 ...
	VendorClass string      `json:"vendor_class,omitempty"` // DHCP option 60
	FirstSeen   time.Time   `json:"first_seen"`
	LastSeen    time.Time   `json:"last_seen"`
}

// Boot is the timeline of one boot of one machine.
type Boot struct {
	ID     string   `json:"id"` // the time of the first event, RFC 3339 in UTC with nanoseconds: sorts by age
	Host   HostName `json:"host,omitempty"`
	MAC    MAC      `json:"mac"`
	Events []Event  `json:"events"`

	Server ServerName `json:"server,omitempty"` // that saved it last
}
