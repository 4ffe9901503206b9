package cluster

import "net/netip"

// Site is one or more containers that together do one thing, and where they
// run.
type Site struct {
	Meta
	Services  []Service `json:"services"`           // sorted by name
	Placement Placement `json:"placement,omitzero"` // on which hosts it runs; every host that has joined when it says nothing
}

// Placement says on which hosts a site runs.
type Placement struct {
	Labels   map[string]string `json:"labels,omitempty"`   // the host's, all of them; none means any host
	Hosts    []HostName        `json:"hosts,omitempty"`    // only these
	Replicas int               `json:"replicas,omitempty"` // how many hosts; 0 means every host that fits
}

// Service is one container of a site: the fields of a Compose service that the
// agent honours, normalised.
type Service struct {
	Name        ServiceName       `json:"name"`
	Image       string            `json:"image"` // with its digest: registry/name@sha256:...
	Entrypoint  []string          `json:"entrypoint,omitempty"`
	Command     []string          `json:"command,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	WorkingDir  string            `json:"working_dir,omitempty"`
	User        string            `json:"user,omitempty"` // uid[:gid]
	Ports       []Port            `json:"ports,omitempty"`
	Secrets     []SecretMount     `json:"secrets,omitempty"`
	Restart     string            `json:"restart,omitempty"` // no, always, unless-stopped (the default), on-failure[:N]
	Health      *Healthcheck      `json:"health,omitempty"`
	Volumes     []Volume          `json:"volumes,omitempty"`
	Tmpfs       []string          `json:"tmpfs,omitempty"` // path[:options]
	ReadOnly    bool              `json:"read_only,omitempty"`
	CapAdd      []string          `json:"cap_add,omitempty"` // every other capability is dropped
	Init        bool              `json:"init,omitempty"`
	StopSignal  string            `json:"stop_signal,omitempty"`
	StopGrace   Duration          `json:"stop_grace,omitzero"`   // default 10s
	MemoryLimit int64             `json:"memory_limit,omitzero"` // bytes; 0 means none
	CPULimit    float64           `json:"cpu_limit,omitzero"`    // cores; 0 means none
	PidsLimit   int64             `json:"pids_limit,omitzero"`   // default 512
	Labels      map[string]string `json:"labels,omitempty"`
	DependsOn   []ServiceName     `json:"depends_on,omitempty"` // started, and healthy if it can say so, before this one
}

// Port is a container's port that is published on its host.
type Port struct {
	HostIP    netip.Addr `json:"host_ip,omitzero"`
	Host      uint16     `json:"host,omitempty"` // 0 means that Docker chooses
	Container uint16     `json:"container"`
	Protocol  string     `json:"protocol"` // tcp or udp
}

// SecretMount is a secret as one container sees it: a file under /run/secrets.
type SecretMount struct {
	Name   SecretName `json:"name"`
	Target string     `json:"target"` // the file's name under /run/secrets
	UID    int        `json:"uid"`
	GID    int        `json:"gid"`
	Mode   uint32     `json:"mode"` // default 0400
}

// Volume is a named volume or a directory of the host.
type Volume struct {
	Source   string `json:"source"` // a name, or an absolute path of the host
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Healthcheck says how Docker finds out whether the container is well.
type Healthcheck struct {
	Test        []string `json:"test"` // Docker's form: CMD, CMD-SHELL or NONE first
	Interval    Duration `json:"interval,omitzero"`
	Timeout     Duration `json:"timeout,omitzero"`
	StartPeriod Duration `json:"start_period,omitzero"`
	Retries     int      `json:"retries,omitzero"`
}

// Secret says who may read a value. The value itself is never in a document.
type Secret struct {
	Meta
	Sites []SiteName `json:"sites"` // whose containers may mount it
}

// Policy says which images may run, and which directories of hosts containers may
// mount. An image runs when some policy allows it.
type Policy struct {
	Meta
	Registries []string `json:"registries,omitempty"` // host[:port] or host[:port]/path; any image below it
	Digests    []string `json:"digests,omitempty"`    // sha256:...
	Paths      []string `json:"paths,omitempty"`      // directories of hosts that containers may mount, beside those below /data, /media, /mnt and /srv
}
