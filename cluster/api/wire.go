// Package api is the operator's HTTPS API: the wire types, the handler on the
// servers and the client in the command line.
//
// It asks for an operator's certificate and audits what changes things. What
// would be served to a machine comes from the same functions that serve it,
// which the server hands in; package api decides none of it.
package api

import (
	"encoding/json"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// ApplyRequest asks that documents be as given, and others be gone.
type ApplyRequest struct {
	Documents []json.RawMessage `json:"documents,omitempty"`
	Delete    []cluster.Ref     `json:"delete,omitempty"`
	DryRun    bool              `json:"dry_run,omitempty"`

	// Hosts are those whose configs are compared in a dry run, in full; none means
	// all, and only how long a new one is.
	Hosts []cluster.HostName `json:"hosts,omitempty"`

	// Wrong are documents in which mistakes were found already: a dry run says what
	// is wrong with the rest.
	Wrong []cluster.Ref `json:"wrong,omitempty"`
}

// What an apply does to one document.
const (
	Create    = "create"
	Update    = "update"
	Delete    = "delete"
	Unchanged = "unchanged"
)

// Change is what an apply did, or would do, to one document.
type Change struct {
	Ref    cluster.Ref     `json:"ref"`
	Action string          `json:"action"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// ApplyResponse says what changed. Where there are problems nothing did.
type ApplyResponse struct {
	Changes  []Change          `json:"changes"`
	Problems []cluster.Problem `json:"problems,omitempty"`
	Advice   []cluster.Problem `json:"advice,omitempty"`  // what may be a slip in the documents that were given
	Configs  []ConfigChange    `json:"configs,omitempty"` // of a dry run
}

// ConfigChange is how one of the texts that hosts are told would change.
type ConfigChange struct {
	Hosts  []cluster.HostName `json:"hosts"` // for which the change is the same
	What   string             `json:"what"`  // ignition, cloud-config, script ...
	Action string             `json:"action"`
	Lines  int                `json:"lines,omitempty"` // of one that is new, or goes
	Diff   string             `json:"diff,omitempty"`  // unified; empty where there is too much to say
}

// RenderRequest asks for one of the texts that a host is told.
type RenderRequest struct {
	Host      string
	What      string // ignition, cloud-config, script, pointer ...; empty is what its profile was written for
	Accept    string // of its Ignition
	Installer bool   // that of its installer
}

// HostStatus is one line of `host list`.
type HostStatus struct {
	Name       string                    `json:"name"`
	State      cluster.State             `json:"state"`
	MACs       []cluster.MAC             `json:"macs,omitempty"`
	UUID       cluster.UUID              `json:"uuid,omitempty"`
	Address    string                    `json:"address,omitempty"`
	Profile    string                    `json:"profile,omitempty"`
	Group      string                    `json:"group,omitempty"`
	Alive      bool                      `json:"alive"`
	Since      time.Time                 `json:"since,omitzero"` // of the last introduction
	Expires    time.Time                 `json:"certificate_expires,omitzero"`
	Agent      string                    `json:"agent,omitempty"`
	Docker     string                    `json:"docker,omitempty"`
	Message    string                    `json:"message,omitempty"`
	Containers []cluster.ContainerStatus `json:"containers,omitempty"`
	LastStep   cluster.Step              `json:"last_step,omitempty"` // of its last boot
	LastStepAt time.Time                 `json:"last_step_at,omitzero"`
	Seen       *cluster.Discovered       `json:"seen,omitempty"`    // of a machine that no document names
	Install    *cluster.Install          `json:"install,omitempty"` // of a host of a profile with boot: install
}

// ServiceStatus is one line of `site status`: one service on one host.
type ServiceStatus struct {
	Host cluster.HostName `json:"host"`
	cluster.ContainerStatus
}

// SecretStatus is one line of `secret list`.
type SecretStatus struct {
	Name    string             `json:"name"`
	Version int                `json:"version"` // the newest; 0 when it has no value yet
	Sites   []cluster.SiteName `json:"sites"`
}

// Explanation is what a machine would get, and why.
type Explanation struct {
	Who     string            `json:"who"`
	Host    string            `json:"host,omitempty"`
	Network string            `json:"network,omitempty"`
	Group   string            `json:"group,omitempty"`
	Profile string            `json:"profile,omitempty"`
	Image   string            `json:"image,omitempty"`
	Address string            `json:"address,omitempty"`
	Why     []string          `json:"why"`
	DHCP    map[string]string `json:"dhcp,omitempty"` // by the firmware that asks
	Script  string            `json:"script,omitempty"`
	Config  string            `json:"config,omitempty"` // the kind of config, its size and digest
}

// Health is what /readyz says.
type Health struct {
	OK     bool              `json:"ok"`
	Checks map[string]string `json:"checks"` // name -> ok, or what is wrong
}

type errorBody struct {
	Error string `json:"error"`
}
