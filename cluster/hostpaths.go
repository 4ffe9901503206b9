package cluster

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// HostRoots are where the directories of a host are that a container may mount
// without a policy's paths: data, and nothing of the system.
var HostRoots = []string{"/data", "/media", "/mnt", "/srv"}

// keptPaths are never mounted, nor is what contains them: whoever writes there,
// or reads some of it, is root on the host or reads another site's secrets.
var keptPaths = []string{
	"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/opt/pilotlight", "/proc", "/root", "/run", "/sbin", "/sys", "/usr",
	"/var/lib/containerd", "/var/lib/docker", "/var/lib/pilotlight", "/var/lib/pilotlight-agent", "/var/run",
}

// CheckHostPath says why a directory of a host may not be mounted, or nothing.
// more are the paths that policies allow beside HostRoots. A host's agent asks it
// again with what the path comes to there.
func CheckHostPath(source string, more []string) error {
	clean := path.Clean(source)
	if !path.IsAbs(clean) {
		return fmt.Errorf("%q is not an absolute path of the host", source)
	}
	for _, kept := range keptPaths {
		if within(clean, kept) || within(kept, clean) {
			return fmt.Errorf("%s is, holds or lies in %s, by which a container would be root on the host or read what is another's; mount a directory below %s",
				source, kept, strings.Join(HostRoots, ", "))
		}
	}
	if slices.ContainsFunc(slices.Concat(HostRoots, more), func(root string) bool { return within(clean, path.Clean(root)) }) {
		return nil
	}
	return fmt.Errorf("%s is not below %s: use one of them, or apply a policy with paths: [%s]", source, strings.Join(HostRoots, ", "), clean)
}

// within reports whether p is dir or lies in it.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// HostPaths returns what all policies allow beside HostRoots.
func (s *Snapshot) HostPaths() []string {
	var out []string
	for _, p := range s.policies {
		out = append(out, p.Paths...)
	}
	return out
}

func (c *checker) volumes(at string, volumes []Volume) {
	for i, v := range volumes {
		if !strings.HasPrefix(v.Source, "/") {
			continue // a volume, by its name
		}
		if err := CheckHostPath(v.Source, c.snap.HostPaths()); err != nil {
			c.add(fmt.Sprintf("%s.volumes[%d]", at, i), "%v", err)
		}
	}
}

func (c *checker) paths(p *Policy) {
	for i, dir := range p.Paths {
		if err := CheckHostPath(dir, []string{dir}); err != nil {
			c.add(fmt.Sprintf("paths[%d]", i), "%v", err)
		}
	}
}
