package manifest

import (
	"fmt"

	"github.com/goccy/go-yaml"

	"github.com/pilotlight/pilotlight/cluster"
)

// composeServices writes services as Compose has them, every default left out.
func composeServices(services []cluster.Service) yaml.MapSlice {
	out := make(yaml.MapSlice, len(services))
	for i, s := range services {
		out[i] = yaml.MapItem{Key: string(s.Name), Value: composeService(s)}
	}
	return out
}

func composeService(s cluster.Service) yaml.MapSlice {
	var out yaml.MapSlice
	put := func(key string, set bool, value any) {
		if set {
			out = append(out, yaml.MapItem{Key: key, Value: value})
		}
	}
	put("image", true, s.Image)
	put("entrypoint", len(s.Entrypoint) > 0, s.Entrypoint)
	put("command", len(s.Command) > 0, s.Command)
	put("environment", len(s.Environment) > 0, s.Environment)
	put("working_dir", s.WorkingDir != "", s.WorkingDir)
	put("user", s.User != "", s.User)
	put("ports", len(s.Ports) > 0, each(s.Ports, composePort))
	put("secrets", len(s.Secrets) > 0, each(s.Secrets, composeSecret))
	put("restart", s.Restart != "", s.Restart)
	put("healthcheck", s.Health != nil, composeHealth(s.Health))
	put("volumes", len(s.Volumes) > 0, each(s.Volumes, composeVolume))
	put("tmpfs", len(s.Tmpfs) > 0, s.Tmpfs)
	put("read_only", s.ReadOnly, true)
	put("cap_add", len(s.CapAdd) > 0, s.CapAdd)
	put("init", s.Init, true)
	put("stop_signal", s.StopSignal != "", s.StopSignal)
	put("stop_grace_period", s.StopGrace != 0, s.StopGrace.String())
	put("mem_limit", s.MemoryLimit != 0, composeBytes(s.MemoryLimit))
	put("cpus", s.CPULimit != 0, s.CPULimit)
	put("pids_limit", s.PidsLimit != 0, s.PidsLimit)
	put("labels", len(s.Labels) > 0, s.Labels)
	put("depends_on", len(s.DependsOn) > 0, s.DependsOn)
	return out
}

func each[T, U any](in []T, f func(T) U) []U {
	out := make([]U, len(in))
	for i, x := range in {
		out[i] = f(x)
	}
	return out
}

// composeBytes writes a size as people do: 64m, not 67108864.
func composeBytes(n int64) string {
	for _, unit := range []struct {
		size   int64
		suffix string
	}{{1 << 30, "g"}, {1 << 20, "m"}, {1 << 10, "k"}} {
		if n%unit.size == 0 {
			return fmt.Sprintf("%d%s", n/unit.size, unit.suffix)
		}
	}
	return fmt.Sprintf("%db", n)
}

func composePort(p cluster.Port) string {
	text := fmt.Sprint(p.Container)
	if p.Host != 0 {
		text = fmt.Sprintf("%d:%s", p.Host, text)
	}
	if p.HostIP.IsValid() {
		if p.Host == 0 {
			text = ":" + text // Docker chooses a port at that address
		}
		ip := p.HostIP.String()
		if p.HostIP.Is6() {
			ip = "[" + ip + "]"
		}
		text = ip + ":" + text
	}
	if p.Protocol != "tcp" {
		text += "/" + p.Protocol
	}
	return text
}

func composeSecret(m cluster.SecretMount) yaml.MapSlice {
	return yaml.MapSlice{
		{Key: "source", Value: string(m.Name)},
		{Key: "target", Value: m.Target},
		{Key: "uid", Value: fmt.Sprint(m.UID)},
		{Key: "gid", Value: fmt.Sprint(m.GID)},
		{Key: "mode", Value: fmt.Sprintf("%#o", m.Mode)},
	}
}

func composeVolume(v cluster.Volume) string {
	text := v.Source + ":" + v.Target
	if v.ReadOnly {
		text += ":ro"
	}
	return text
}

func composeHealth(h *cluster.Healthcheck) yaml.MapSlice {
	if h == nil {
		return nil
	}
	if len(h.Test) == 1 && h.Test[0] == "NONE" {
		return yaml.MapSlice{{Key: "disable", Value: true}}
	}
	out := yaml.MapSlice{{Key: "test", Value: h.Test}}
	for _, v := range []struct {
		key   string
		value cluster.Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start_period", h.StartPeriod}} {
		if v.value != 0 {
			out = append(out, yaml.MapItem{Key: v.key, Value: v.value.String()})
		}
	}
	if h.Retries != 0 {
		out = append(out, yaml.MapItem{Key: "retries", Value: h.Retries})
	}
	return out
}
