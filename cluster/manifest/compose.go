package manifest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/pilotlight/pilotlight/cluster"
)

// honoured are the keys of a Compose service that the agent carries out. Every
// other key is refused by name: what is written is what runs.
var honoured = []string{
	"cap_add", "cap_drop", "command", "cpus", "depends_on", "entrypoint", "environment", "healthcheck", "image", "init",
	"labels", "mem_limit", "pids_limit", "ports", "read_only", "restart", "secrets", "security_opt", "stop_grace_period",
	"stop_signal", "tmpfs", "user", "volumes", "working_dir",
}

// instead says what to write in the place of keys that people try.
var instead = map[string]string{
	"build":          "build the image elsewhere, push it, and name it by its digest in image:",
	"privileged":     "root in such a container is root on the host; name the capabilities that it needs in cap_add:",
	"env_file":       "write the values in environment:, and what is secret in secrets:",
	"network_mode":   "services of one site share a network and reach each other by name; publish ports: for the rest",
	"networks":       "services of one site share a network and reach each other by name",
	"deploy":         "say where and how often in placement: of the site, and limits in cpus:, mem_limit: and pids_limit:",
	"scale":          "say how many hosts run the site in placement.replicas:",
	"container_name": "the agent names containers after their site and service",
	"configs":        "put the file into the image, or into a secret",
	"expose":         "services of one site reach every port of each other",
	"hostname":       "services of one site reach each other by the service's name",
	"devices":        "not supported yet",
	"pid":            "a container sees its own processes only",
	"ipc":            "a container has its own IPC namespace",
	"extends":        "use a YAML anchor: &name, then <<: *name",
	"profiles":       "a document says what runs; leave out the service that shall not",
}

// services decodes the services: of a site by compose-go, and returns the
// entries that are left for the site itself.
func (d *decoder) services(site *cluster.Site, entries []entry) []entry {
	rest := slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return e.key == "services" })
	for _, e := range entries {
		if e.key != "services" {
			continue
		}
		d.origin.fields["services"] = at(e.node)
		services, ok := d.mapping(e.value, "services")
		if !ok {
			continue
		}
		for _, s := range services {
			d.service(site, s)
		}
	}
	slices.SortFunc(site.Services, func(a, b cluster.Service) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return rest
}

func (d *decoder) service(site *cluster.Site, e entry) {
	at0 := "services." + e.key
	d.origin.fields[at0] = at(e.node)
	if !serviceForm.MatchString(e.key) {
		d.add(e.node, at0, "is not the name of a service: use a to z, A to Z, 0 to 9, - and _, at most 63")
		return
	}
	fields, ok := d.mapping(e.value, at0)
	if !ok {
		return
	}
	d.whole = true
	defer func() { d.whole = false }()
	raw := map[string]any{}
	for _, f := range fields {
		path := at0 + "." + f.key
		d.origin.fields[path] = at(f.node)
		switch {
		case strings.HasPrefix(f.key, "x-"):
		case !slices.Contains(honoured, f.key):
			d.add(f.node, path, "%s", refusal(f.key))
		default:
			d.literal = f.key == "environment" || f.key == "labels" // VERSION: 1.10 is not 1.1
			raw[f.key] = d.free(f.value, path)
			d.literal = false
		}
	}
	d.unhonoured(at0, raw)
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		// compose-go stops at its first mistake: it is asked field by field.
		if !d.checkField(at0, key, raw[key]) {
			delete(raw, key)
		}
	}
	compose, err := loadService(e.key, raw)
	if err != nil {
		d.together(at0, raw)
		return
	}
	c := &converter{d: d, at: at0, in: compose}
	site.Services = append(site.Services, c.service(e.key))
}

func refusal(key string) string {
	if hint, ok := instead[key]; ok {
		return "is not done by the agent: " + hint
	}
	return "is not done by the agent; what it does is " + strings.Join(honoured, ", ")
}

// loadService has compose-go check one service against Compose's schema and
// bring its short forms into the long ones.
func loadService(name string, raw map[string]any) (types.ServiceConfig, error) {
	model := map[string]any{"name": "site", "services": map[string]any{name: raw}}
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  "/",
		ConfigFiles: []types.ConfigFile{{Filename: "manifest", Config: model}},
	}, func(o *loader.Options) {
		o.SkipInterpolation, o.SkipNormalization, o.SkipConsistencyCheck = true, true, true
		o.SkipInclude, o.SkipExtends, o.SkipResolveEnvironment = true, true, true
		o.ResolvePaths = false
		o.SetProjectName("site", true)
	})
	if err != nil {
		return types.ServiceConfig{}, err
	}
	return project.Services[name], nil
}

// converter turns one Compose service into ours.
type converter struct {
	d  *decoder
	at string
	in types.ServiceConfig
}

func (c *converter) wrong(field, format string, args ...any) {
	c.d.wrong(c.at+"."+field, format, args...)
}

func (c *converter) service(name string) cluster.Service {
	in := c.in
	out := cluster.Service{
		Name: cluster.ServiceName(name), Image: in.Image, Entrypoint: in.Entrypoint, Command: in.Command,
		WorkingDir: in.WorkingDir, User: in.User, Restart: in.Restart, Tmpfs: in.Tmpfs, ReadOnly: in.ReadOnly,
		CapAdd: in.CapAdd, StopSignal: in.StopSignal, MemoryLimit: int64(in.MemLimit), PidsLimit: in.PidsLimit,
		CPULimit: roundCPU(in.CPUS), Labels: in.Labels,
		Environment: c.environment(), Ports: c.ports(), Secrets: c.secrets(), Health: c.health(), Volumes: c.volumes(),
	}
	if in.Init != nil {
		out.Init = *in.Init
	}
	if in.StopGracePeriod != nil {
		out.StopGrace = cluster.Duration(*in.StopGracePeriod)
	}
	for dep, how := range in.DependsOn {
		out.DependsOn = append(out.DependsOn, cluster.ServiceName(dep))
		if how.Condition == types.ServiceConditionCompletedSuccessfully || how.Restart || !how.Required {
			c.wrong("depends_on."+dep, "asks for more than the agent does: it starts %s first and waits until it is healthy; leave out restart:, required: and service_completed_successfully", dep)
		}
	}
	slices.Sort(out.DependsOn)
	slices.Sort(out.CapAdd)
	for _, o := range in.SecurityOpt {
		if o != "no-new-privileges" && o != "no-new-privileges:true" {
			c.wrong("security_opt", "%q would loosen what every container gets; no-new-privileges is always on", o)
		}
	}
	for key := range in.Labels {
		if strings.HasPrefix(key, "io.pilotlight.") {
			c.wrong("labels", "%q is the agent's own; choose another name", key)
		}
	}
	return out
}

// roundCPU undoes what float32 does to 0.1.
func roundCPU(f float32) float64 {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	return v
}

func (c *converter) environment() map[string]string {
	var out map[string]string
	for k, v := range c.in.Environment {
		if v == nil {
			field := "environment"
			if _, named := c.d.origin.fields[c.at+".environment."+k]; named { // an item of a list may be a value that lost its name
				field += "." + k
			}
			c.wrong(field, "has no value, and a host's environment is not handed on; write NAME: value, or NAME=value in a list")
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = *v
	}
	return out
}

func (c *converter) ports() []cluster.Port {
	var out []cluster.Port
	for i, p := range c.in.Ports {
		field := fmt.Sprintf("ports[%d]", i)
		port := cluster.Port{Container: uint16(p.Target), Protocol: p.Protocol}
		if p.Published != "" {
			n, err := strconv.ParseUint(p.Published, 10, 16)
			if err != nil || n == 0 {
				c.wrong(field, "host port %q is not one port from 1 to 65535; write a line for each", p.Published)
				continue
			}
			port.Host = uint16(n)
		}
		if p.HostIP != "" {
			ip, err := netip.ParseAddr(p.HostIP)
			if err != nil {
				c.wrong(field, "%q is not an IP address", p.HostIP)
				continue
			}
			port.HostIP = ip
		}
		if p.Protocol != "tcp" && p.Protocol != "udp" {
			c.wrong(field, "protocol %q is neither tcp nor udp", p.Protocol)
		}
		out = append(out, port)
	}
	return out
}

func (c *converter) secrets() []cluster.SecretMount {
	uid, gid, numeric := owner(c.in.User)
	var out []cluster.SecretMount
	for i, s := range c.in.Secrets {
		field := fmt.Sprintf("secrets[%d]", i)
		m := cluster.SecretMount{Name: cluster.SecretName(s.Source), Target: strings.TrimPrefix(s.Target, "/run/secrets/"), UID: uid, GID: gid, Mode: 0o400}
		if s.Source == "" {
			c.wrong(field, "names no secret; write source: NAME")
			continue
		}
		if m.Target == "" {
			m.Target = s.Source
		}
		if !numeric && (s.UID == "" || s.GID == "") {
			c.wrong(field, "user %q is not numeric, so the file's owner is not known here; write user: as uid:gid, or the secret's uid: and gid:", c.in.User)
		}
		for _, id := range []struct {
			text string
			to   *int
		}{{s.UID, &m.UID}, {s.GID, &m.GID}} {
			if id.text == "" {
				continue
			}
			n, err := strconv.Atoi(id.text)
			if err != nil || n < 0 {
				c.wrong(field, "%q is not a numeric id", id.text)
				continue
			}
			*id.to = n
		}
		if s.Mode != nil {
			m.Mode = uint32(*s.Mode)
			if m.Mode&0o222 != 0 || m.Mode > 0o777 {
				c.wrong(field, "mode %#o lets a container write its secret; use 0400, 0440 or 0444", m.Mode)
			}
		}
		out = append(out, m)
	}
	return out
}

func owner(user string) (uid, gid int, numeric bool) {
	if user == "" {
		return 0, 0, true
	}
	u, g, both := strings.Cut(user, ":")
	uid, err := strconv.Atoi(u)
	if err != nil {
		return 0, 0, false
	}
	if !both {
		return uid, 0, true
	}
	gid, err = strconv.Atoi(g)
	return uid, gid, err == nil
}

func (c *converter) health() *cluster.Healthcheck {
	h := c.in.HealthCheck
	if h == nil {
		return nil
	}
	if h.Disable {
		return &cluster.Healthcheck{Test: []string{"NONE"}}
	}
	if h.StartInterval != nil {
		c.wrong("healthcheck.start_interval", "is not done by every Docker Engine in use; leave it out")
	}
	if len(h.Test) == 0 || !slices.Contains([]string{"CMD", "CMD-SHELL", "NONE"}, h.Test[0]) {
		c.wrong("healthcheck", "has no test: that Docker runs; %s", written["healthcheck"])
	}
	out := &cluster.Healthcheck{Test: h.Test}
	for _, v := range []struct {
		from *types.Duration
		to   *cluster.Duration
	}{{h.Interval, &out.Interval}, {h.Timeout, &out.Timeout}, {h.StartPeriod, &out.StartPeriod}} {
		if v.from != nil {
			*v.to = cluster.Duration(time.Duration(*v.from))
		}
	}
	if h.Retries != nil {
		out.Retries = int(min(*h.Retries, 1000))
	}
	return out
}

func (c *converter) volumes() []cluster.Volume {
	var out []cluster.Volume
	for i, v := range c.in.Volumes {
		field := fmt.Sprintf("volumes[%d]", i)
		switch {
		case v.Type != "bind" && v.Type != "volume":
			c.wrong(field, "type %q is not done by the agent; use a named volume, an absolute path, or tmpfs:", v.Type)
		case !strings.HasPrefix(v.Target, "/"):
			c.wrong(field, "%q is not an absolute path in the container; %s", v.Target, written["volumes"])
		case v.Source == "":
			c.wrong(field, "has no source; name the volume: NAME:%s", v.Target)
		case v.Type == "bind" && !strings.HasPrefix(v.Source, "/"):
			c.wrong(field, "%q is not an absolute path of the host; a manifest's own directory is not on it", v.Source)
		case strings.HasPrefix(v.Target, "/run/secrets"):
			c.wrong(field, "%s is where secrets are; use secrets:", v.Target)
		default:
			out = append(out, cluster.Volume{Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly})
		}
	}
	return out
}
