package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
)

// What a container gets that does not say.
const (
	DefaultPids  = 512
	DefaultGrace = 10 * time.Second
	logSize      = "10m"
	logFiles     = "3"
	secretsPath  = "/run/secrets"
)

// Create implements agent.Containers.
func (e *Engine) Create(ctx context.Context, s agent.Spec) (string, error) {
	if err := e.ensureNetwork(ctx, s.Site); err != nil {
		return "", err
	}
	config, host, err := e.translate(s)
	if err != nil {
		return "", err
	}
	name := networkName(s.Site)
	net := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		name: {Aliases: []string{string(s.Service.Name)}},
	}}
	called := containerName(s.Slot)
	made, err := e.api.ContainerCreate(ctx, config, host, net, nil, called)
	if errdefs.IsConflict(err) {
		return e.adopt(ctx, called, err)
	}
	if err != nil {
		return "", fmt.Errorf("create container %s: %w", called, err)
	}
	return made.ID, nil
}

// adopt returns the container that has the name already, if it is ours: the
// answer to an earlier Create was lost.
func (e *Engine) adopt(ctx context.Context, name string, conflict error) (string, error) {
	there, err := e.api.ContainerInspect(ctx, name)
	if err != nil || there.Config == nil || there.Config.Labels[LabelHost] != string(e.host) {
		return "", fmt.Errorf("create container %s: %w; remove the one that has the name: docker rm -f %s", name, conflict, name)
	}
	return there.ID, nil
}

func containerName(s agent.Slot) string {
	return "pilotlight-" + string(s.Site) + "-" + string(s.Service) + "-" + s.Hash
}

// translate says a service in Docker's words.
func (e *Engine) translate(s agent.Spec) (*container.Config, *container.HostConfig, error) {
	v := s.Service
	exposed, bindings := ports(v.Ports)
	mounts, err := e.mounts(s)
	if err != nil {
		return nil, nil, err
	}
	restart, err := restartPolicy(v.Restart)
	if err != nil {
		return nil, nil, err
	}
	image, err := pinned(v.Image)
	if err != nil {
		return nil, nil, err
	}
	grace := int(defaulted(time.Duration(v.StopGrace), DefaultGrace).Round(time.Second).Seconds())
	config := &container.Config{
		Image: image, Entrypoint: v.Entrypoint, Cmd: v.Command, WorkingDir: v.WorkingDir,
		User: v.User, Env: environment(v.Environment), Labels: e.labels(s),
		ExposedPorts: exposed, StopSignal: v.StopSignal, StopTimeout: &grace,
		Healthcheck: healthcheck(v.Health),
	}
	pids := defaulted(v.PidsLimit, DefaultPids)
	host := &container.HostConfig{
		NetworkMode:    container.NetworkMode(networkName(s.Site)),
		PortBindings:   bindings,
		Mounts:         mounts,
		Tmpfs:          tmpfs(v.Tmpfs),
		RestartPolicy:  restart,
		ReadonlyRootfs: v.ReadOnly,
		CapDrop:        []string{"ALL"},
		CapAdd:         v.CapAdd,
		SecurityOpt:    []string{"no-new-privileges:true"},
		LogConfig:      container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": logSize, "max-file": logFiles}},
		Resources: container.Resources{
			Memory: v.MemoryLimit, MemorySwap: v.MemoryLimit, // no swap beside it
			NanoCPUs: int64(v.CPULimit * 1e9), PidsLimit: &pids,
		},
	}
	if v.Init {
		host.Init = &v.Init
	}
	return config, host, nil
}

func defaulted[T comparable](v, standard T) T {
	var zero T
	if v == zero {
		return standard
	}
	return v
}

// labels are the service's own, and ours, which it cannot set.
func (e *Engine) labels(s agent.Spec) map[string]string {
	out := maps.Clone(s.Service.Labels)
	if out == nil {
		out = map[string]string{}
	}
	maps.DeleteFunc(out, func(k, _ string) bool { return strings.HasPrefix(k, labelPrefix) })
	out[LabelHost], out[LabelSite], out[LabelService] = string(e.host), string(s.Site), string(s.Slot.Service)
	out[LabelHash], out[LabelImage] = s.Hash, s.Service.Image
	return out
}

func environment(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}

func healthcheck(h *cluster.Healthcheck) *container.HealthConfig {
	if h == nil {
		return nil // the image's own
	}
	return &container.HealthConfig{
		Test: h.Test, Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout),
		StartPeriod: time.Duration(h.StartPeriod), Retries: h.Retries,
	}
}

func ports(all []cluster.Port) (nat.PortSet, nat.PortMap) {
	exposed, bindings := nat.PortSet{}, nat.PortMap{}
	for _, p := range all {
		port := nat.Port(fmt.Sprintf("%d/%s", p.Container, strings.ToLower(defaulted(p.Protocol, "tcp"))))
		exposed[port] = struct{}{}
		b := nat.PortBinding{}
		if p.HostIP.IsValid() {
			b.HostIP = p.HostIP.String()
		}
		if p.Host != 0 {
			b.HostPort = strconv.Itoa(int(p.Host))
		}
		bindings[port] = append(bindings[port], b)
	}
	return exposed, bindings
}

// mounts are made by Mounts, never by Binds: Docker makes an empty directory
// for a bind whose source is missing, and a container would run without its
// secrets.
func (e *Engine) mounts(s agent.Spec) ([]mount.Mount, error) {
	var out []mount.Mount
	for _, v := range s.Service.Volumes {
		m := mount.Mount{Type: mount.TypeVolume, Source: "pilotlight-" + string(s.Site) + "-" + v.Source, Target: v.Target, ReadOnly: v.ReadOnly}
		if filepath.IsAbs(v.Source) {
			if err := onHost(v.Source); err != nil {
				return nil, fmt.Errorf("volume %s: %w", v.Source, err)
			}
			m.Type, m.Source = mount.TypeBind, v.Source
		}
		if m.Target == secretsPath || strings.HasPrefix(m.Target, secretsPath+"/") {
			return nil, fmt.Errorf("volume %s is at %s, where secrets are; choose another target", v.Source, v.Target)
		}
		out = append(out, m)
	}
	if s.Secrets != "" {
		out = append(out, mount.Mount{
			Type: mount.TypeBind, Source: s.Secrets, Target: secretsPath, ReadOnly: true,
			BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate},
		})
	}
	return out, nil
}

// onHost says why a directory may not be mounted for what it comes to on this
// host: a link below /srv may lead to /etc. What policies allow was checked when
// the site was applied.
func onHost(source string) error {
	real, err := filepath.EvalSymlinks(source)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Docker says so
	}
	if err != nil {
		return err
	}
	return cluster.CheckHostPath(real, []string{real})
}

func tmpfs(all []string) map[string]string {
	out := map[string]string{}
	for _, t := range all {
		path, options, _ := strings.Cut(t, ":")
		out[path] = options
	}
	return out
}

func restartPolicy(s string) (container.RestartPolicy, error) {
	name, times, _ := strings.Cut(s, ":")
	p := container.RestartPolicy{Name: container.RestartPolicyMode(defaulted(name, string(container.RestartPolicyUnlessStopped)))}
	if times != "" {
		var err error
		if p.MaximumRetryCount, err = strconv.Atoi(times); err != nil {
			return p, fmt.Errorf("restart %q: write on-failure:3", s)
		}
	}
	return p, nil
}

// found says in the agent's words what Docker says of a container.
func found(c container.InspectResponse) (agent.Found, bool) {
	if c.ContainerJSONBase == nil || c.Config == nil || c.State == nil || c.HostConfig == nil {
		return agent.Found{}, false
	}
	l := c.Config.Labels
	f := agent.Found{
		Slot:  agent.Slot{Key: agent.Key{Site: cluster.SiteName(l[LabelSite]), Service: cluster.ServiceName(l[LabelService])}, Hash: l[LabelHash]},
		ID:    c.ID,
		Image: l[LabelImage], Phase: agent.Phase(c.State.Status),
		ExitCode: c.State.ExitCode, Restarts: c.RestartCount, Error: c.State.Error,
		Created: instant(c.Created), Started: instant(c.State.StartedAt), Finished: instant(c.State.FinishedAt),
		Restart: string(c.HostConfig.RestartPolicy.Name),
		Ports:   published(c.HostConfig.PortBindings),
	}
	if n := c.HostConfig.RestartPolicy.MaximumRetryCount; n > 0 {
		f.Restart += ":" + strconv.Itoa(n)
	}
	if c.State.Health != nil {
		switch c.State.Health.Status {
		case container.Starting:
			f.Health = cluster.HealthStarting
		case container.Healthy:
			f.Health = cluster.HealthHealthy
		case container.Unhealthy:
			f.Health = cluster.HealthUnhealthy
		}
	}
	return f, f.Site != "" && f.Service != "" && f.Hash != ""
}

// instant reads a time; Docker writes that of the year 1 for never.
func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 2 {
		return time.Time{}
	}
	return t
}

func published(all nat.PortMap) []cluster.Port {
	var out []cluster.Port
	for port, bindings := range all {
		for _, b := range bindings {
			p := cluster.Port{Container: uint16(port.Int()), Protocol: port.Proto()}
			p.HostIP, _ = netip.ParseAddr(b.HostIP) // none is every address
			if n, err := strconv.ParseUint(b.HostPort, 10, 16); err == nil {
				p.Host = uint16(n)
			}
			out = append(out, p)
		}
	}
	return out
}
