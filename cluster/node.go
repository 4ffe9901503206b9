package cluster

import (
	"net/netip"
	"time"
)

// Desired is what one host must run: the leader writes it, the host reads it.
type Desired struct {
	Containers []Container `json:"containers"`
	Uplinks    Uplinks     `json:"uplinks,omitzero"` // where the servers are by now; empty while there is one
}

// Container is one service of one site on one host, all decided.
type Container struct {
	Site    SiteName  `json:"site"`
	Service Service   `json:"service"`
	Secrets []Version `json:"secrets,omitempty"` // the versions that the service's secrets have
}

// Version is one version of a secret.
type Version struct {
	Name    SecretName `json:"name"`
	Version int        `json:"version"`
}

// Status is what one host says of itself.
type Status struct {
	At         time.Time         `json:"at"`
	Agent      string            `json:"agent"`             // the agent's version
	Revision   Revision          `json:"revision"`          // of the Desired that this answers
	Docker     string            `json:"docker,omitempty"`  // the engine's version
	Message    string            `json:"message,omitempty"` // what keeps the host from being well
	Containers []ContainerStatus `json:"containers,omitempty"`
}

// Health is how a container is.
type Health string

// The healths, from first sight to gone.
const (
	HealthPending   Health = "pending" // pulling, or waiting for its turn
	HealthStarting  Health = "starting"
	HealthHealthy   Health = "healthy" // running, and its health check, if it has one, passes
	HealthUnhealthy Health = "unhealthy"
	HealthFailed    Health = "failed" // could not be pulled, made or started; Message says why
	HealthStopped   Health = "stopped"
	HealthUnknown   Health = "unknown" // its host is silent; only servers say so
)

// ContainerStatus is how one service fares on one host.
type ContainerStatus struct {
	Site    SiteName    `json:"site"`
	Service ServiceName `json:"service"`
	Image   string      `json:"image"` // the one that runs
	Health  Health      `json:"health"`
	Current bool        `json:"current"`           // what runs is what is desired
	Since   time.Time   `json:"since,omitzero"`    // when it came to this health
	Message string      `json:"message,omitempty"` // never holds a secret
	Secrets []Version   `json:"secrets,omitempty"`
}

// Alive is what a host's liveness key says while its lease holds.
type Alive struct {
	Since time.Time `json:"since"`
	Agent string    `json:"agent"`
}

// Introduction is the record of a host's last introduction: who it is and to
// whom its secrets are sealed.
type Introduction struct {
	Host        HostName   `json:"host"`
	At          time.Time  `json:"at"`
	Boot        string     `json:"boot,omitempty"`
	Address     netip.Addr `json:"address"`
	MAC         MAC        `json:"mac"`
	KeyHash     string     `json:"key_hash"`               // sha256 of the certificate's public key, hexadecimal
	PreviousKey string     `json:"previous_key,omitempty"` // the key before the last renewal, whose answer may have been lost
	Recipient   string     `json:"recipient"`              // age1...: the key that the host's secrets are sealed to
	Certificate string     `json:"certificate"`
	NotAfter    time.Time  `json:"not_after"`
}

// Token is what the store keeps of an introduction token: everything but the
// token.
type Token struct {
	Host    HostName   `json:"host"`
	MAC     MAC        `json:"mac"`
	UUID    UUID       `json:"uuid,omitempty"`
	Address netip.Addr `json:"address"`
	Boot    string     `json:"boot,omitempty"`
	Minted  time.Time  `json:"minted"`

	Installer bool `json:"installer,omitempty"` // says that an installation is done, and introduces nobody

	// Userdata is of a token in userdata: nothing is known of the machine that will
	// have it, so MAC and Address are those of whoever redeems it.
	Userdata *Userdata `json:"userdata,omitempty"`

	Rest *Rest `json:"rest,omitempty"` // the config that a boot's token opens; nil is none

	Expires time.Time  `json:"expires"`
	After   Revision   `json:"after"` // of the host's introduction before: the next one ends this token too
	Used    time.Time  `json:"used,omitzero"`
	UsedBy  netip.Addr `json:"used_by,omitzero"`
	Revoked time.Time  `json:"revoked,omitzero"` // by an operator
}

// Userdata is what the store keeps of userdata: a pointer to a host's config that an
// operator hands to a machine which pilotlight does not boot.
type Userdata struct {
	By       string `json:"by"`       // who asked for it: operator:NAME
	Digest   string `json:"digest"`   // of the config, which is given as long as it is this one
	Language string `json:"language"` // who reads it
	URL      string `json:"url"`      // https://...: where that machine finds the server
}

// Rest is what the store keeps of a machine that was given a pointer, and is to fetch
// the rest of its config.
type Rest struct {
	Digest string `json:"digest"` // of the config
	Spec   string `json:"spec"`   // the version of Ignition's spec that was asked for
	URL    string `json:"url"`    // https://...: where the machine found the server
}

// Lease is an address that is lent to a machine.
type Lease struct {
	Network  NetworkName `json:"network"`
	Address  netip.Addr  `json:"address"`
	MAC      MAC         `json:"mac"`
	Hostname string      `json:"hostname,omitempty"`
	Port     SwitchPort  `json:"switch_port,omitzero"` // where the machine was when it got the address
	Expires  time.Time   `json:"expires"`
	Declined bool        `json:"declined,omitempty"` // somebody else uses it (RFC 2131, section 4.3.3)

	Revision Revision `json:"-"` // of the store's record; zero when that is not known
}

// Equal reports whether two leases say the same, whenever that was written.
// Expires may be written in two time zones.
func (l Lease) Equal(o Lease) bool {
	same := l.Expires.Equal(o.Expires)
	l.Expires, o.Expires = time.Time{}, time.Time{}
	l.Revision, o.Revision = 0, 0
	return same && l == o
}

// Where a host's first config leaves what its agent starts from.
const (
	AgentConfigFile = "/etc/pilotlight/agent.json"
	AgentTokenFile  = "/etc/pilotlight/introduction-token" // mode 0600; the agent removes it once it is redeemed

	// InstallTokenFile is what an installer's config leaves there, mode 0600: with
	// it the installer says that it is done.
	InstallTokenFile = "/etc/pilotlight/install-token"
)

// AgentConfig is what a host's first config tells its agent. It holds no
// secret: the introduction token is in a file of its own.
type AgentConfig struct {
	Host    HostName `json:"host"`
	Servers []string `json:"servers"` // https://ADDRESS:PORT, for join, renewal and the registry
	Etcd    []string `json:"etcd"`    // ADDRESS:PORT
	CA      string   `json:"ca"`      // PEM: the only authority to trust for either
	MAC     MAC      `json:"mac"`
	UUID    UUID     `json:"uuid,omitempty"`
	Boot    string   `json:"boot,omitempty"`
}

// Node is all that the store holds of one introduced host.
type Node struct {
	Host         HostName      `json:"host"`
	Introduction *Introduction `json:"introduction,omitempty"`
	IntroducedAt Revision      `json:"introduced_at,omitempty"` // of the introduction's record
	Alive        *Alive        `json:"alive,omitempty"`         // nil when its liveness lease has run out
	Status       *Status       `json:"status,omitempty"`
	Desired      *Desired      `json:"desired,omitempty"`
	DesiredAt    Revision      `json:"desired_at,omitempty"`
	Secrets      []Version     `json:"secrets,omitempty"` // that are sealed to it
}
