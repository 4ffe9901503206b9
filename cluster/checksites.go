package cluster

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var (
	serviceForm   = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}$`)
	digestForm    = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	restartForm   = regexp.MustCompile(`^(no|always|unless-stopped|on-failure(:[0-9]+)?)$`)
	registryForm  = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]+)?$`)
	referenceForm = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?/[a-z0-9._/-]+(:[A-Za-z0-9._-]+)?@sha256:[0-9a-f]{64}$`)
)

const minMemory = 6 << 20 // bytes; what Docker allows

func (c *checker) policy(p *Policy) {
	if len(p.Registries) == 0 && len(p.Digests) == 0 && len(p.Paths) == 0 {
		c.add("registries", "is missing: a policy names registries: or digests: from which images may run, or paths: that containers may mount")
	}
	c.paths(p)
	for i, r := range p.Registries {
		if !registryForm.MatchString(r) {
			c.add(fmt.Sprintf("registries[%d]", i), "%q is not a registry; write host[:port] or host[:port]/path, without https://", r)
		}
	}
	for i, d := range p.Digests {
		if !digestForm.MatchString(d) {
			c.add(fmt.Sprintf("digests[%d]", i), "%q is not a digest; write sha256: and 64 hexadecimal digits", d)
		}
	}
}

// Allows reports whether the policy lets an image run.
func (d *Policy) Allows(image string) bool {
	name, digest, _ := strings.Cut(image, "@")
	if slices.Contains(d.Digests, digest) {
		return true
	}
	return slices.ContainsFunc(d.Registries, func(r string) bool {
		return strings.HasPrefix(name, strings.TrimSuffix(r, "/")+"/")
	})
}

// Allowed reports whether some policy lets an image run.
func (s *Snapshot) Allowed(image string) bool {
	return slices.ContainsFunc(s.policies, func(p *Policy) bool { return p.Allows(image) })
}

func (c *checker) secret(s *Secret) {
	if len(s.Sites) == 0 {
		c.add("sites", "is missing: it lists the sites whose containers may read the secret")
	}
	// A site that is not there is no mistake: it may come later, or be gone. Advise
	// speaks of it.
}

func (c *checker) site(s *Site) {
	if len(s.Services) == 0 {
		c.add("services", "is missing: a site has at least one service")
	}
	if s.Placement.Replicas < 0 {
		c.add("placement.replicas", "%d is less than 0", s.Placement.Replicas)
	}
	for i, h := range s.Placement.Hosts {
		c.needs(fmt.Sprintf("placement.hosts[%d]", i), KindHost, string(h))
	}
	var published []Port
	var by []ServiceName
	for _, v := range s.Services {
		at := "services." + string(v.Name)
		c.serviceImage(at+".image", v.Image)
		for i, p := range v.Ports {
			if other := slices.IndexFunc(published, p.collides); other >= 0 {
				c.add(fmt.Sprintf("%s.ports[%d]", at, i), "host port %d/%s is also published by services.%s", p.Host, p.protocol(), by[other])
			}
			published, by = append(published, p), append(by, v.Name)
		}
		if v.Restart != "" && !restartForm.MatchString(v.Restart) {
			c.add(at+".restart", "%q is not one of no, always, unless-stopped, on-failure, on-failure:N", v.Restart)
		}
		c.serviceLimits(at, v)
		c.volumes(at, v.Volumes)
		c.serviceSecrets(SiteName(s.Name), at, v.Secrets)
		for _, other := range v.DependsOn {
			if !slices.ContainsFunc(s.Services, func(o Service) bool { return o.Name == other }) {
				c.add(at+".depends_on", "there is no service %q in this site", other)
			}
		}
	}
	if loop := dependencyLoop(s.Services); loop != "" {
		c.add("services."+loop+".depends_on", "leads back to %s itself", loop)
	}
}

func (c *checker) serviceImage(field, image string) {
	switch {
	case image == "":
		c.add(field, "is missing")
	case !strings.Contains(image, "@"):
		c.add(field, "%q is not pinned by a digest; write %s@sha256:..., as printed by: skopeo inspect --format {{.Digest}} docker://%s", image, image, image)
	case !referenceForm.MatchString(image):
		c.add(field, "%q is not an image; write REGISTRY/NAME@sha256:... with 64 hexadecimal digits and the registry's name, such as docker.io/library/nginx@sha256:...", image)
	case !c.snap.Allowed(image):
		registry, _, _ := strings.Cut(image, "/")
		c.add(field, "no policy allows %s; apply a document with kind: policy and registries: [%s]", image, registry)
	}
}

// capabilities are Linux's, without CAP_ (include/uapi/linux/capability.h of
// 6.12, which has forty-one).
var capabilities = strings.Fields(`
	CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
	NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
	SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
	MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

func (c *checker) serviceLimits(at string, v Service) {
	if !serviceForm.MatchString(string(v.Name)) {
		c.add(at, "is not the name of a service: use a to z, A to Z, 0 to 9, - and _, at most 63")
	}
	field := at + ".cap_add" // its order is not the manifest's
	for _, capability := range v.CapAdd {
		switch name := strings.TrimPrefix(capability, "CAP_"); {
		case name == "ALL":
			c.add(field, "ALL makes root in the container root on the host; name the capabilities that it needs")
		case !slices.Contains(capabilities, name):
			hint := "; write it like NET_BIND_SERVICE (man 7 capabilities)"
			if near := Nearest(name, capabilities); near != "" {
				hint = fmt.Sprintf("; did you mean %s?", near)
			}
			c.add(field, "%q is not a capability%s", capability, hint)
		}
	}
	if v.MemoryLimit < 0 || v.MemoryLimit > 0 && v.MemoryLimit < minMemory {
		c.add(at+".mem_limit", "%d bytes are less than Docker's least, 6m", v.MemoryLimit)
	}
	if v.CPULimit < 0 {
		c.add(at+".cpus", "%v is less than 0", v.CPULimit)
	}
	if v.PidsLimit < 0 {
		c.add(at+".pids_limit", "%d would lift the limit that every container has; write how many processes it needs", v.PidsLimit)
	}
}

func (c *checker) serviceSecrets(site SiteName, at string, mounts []SecretMount) {
	targets := map[string]bool{}
	for i, m := range mounts {
		field := fmt.Sprintf("%s.secrets[%d]", at, i)
		if targets[m.Target] {
			c.add(field, "the file /run/secrets/%s is given twice", m.Target)
		}
		targets[m.Target] = true
		if m.Target == "" || m.Target != strings.Trim(m.Target, "/.") || strings.Contains(m.Target, "/") {
			c.add(field, "target %q is not the name of a file under /run/secrets", m.Target)
		}
		if !c.needs(field, KindSecret, string(m.Name)) {
			continue
		}
		d, _ := c.snap.Get(Ref{KindSecret, string(m.Name)})
		if !slices.Contains(d.(*Secret).Sites, site) {
			c.add(field, "secret %s may not be read by site %s; add it to the secret's sites:", m.Name, site)
		}
	}
}

// collides reports whether two published ports of one host cannot both be had.
func (p Port) collides(o Port) bool {
	anywhere := func(p Port) bool { return !p.HostIP.IsValid() || p.HostIP.IsUnspecified() }
	return p.Host != 0 && p.Host == o.Host && p.protocol() == o.protocol() &&
		(anywhere(p) || anywhere(o) || p.HostIP == o.HostIP)
}

func (p Port) protocol() string {
	if p.Protocol == "" {
		return "tcp"
	}
	return p.Protocol
}

// dependencyLoop returns a service whose depends_on leads back to itself.
func dependencyLoop(services []Service) string {
	needs := map[ServiceName][]ServiceName{}
	for _, v := range services {
		needs[v.Name] = v.DependsOn
	}
	for _, v := range services {
		seen := map[ServiceName]bool{}
		next := slices.Clone(v.DependsOn)
		for len(next) > 0 {
			n := next[0]
			next = next[1:]
			if n == v.Name {
				return string(v.Name)
			}
			if !seen[n] {
				seen[n] = true
				next = append(next, needs[n]...)
			}
		}
	}
	return ""
}

// hostPorts refuses two sites that publish the same port and may meet on one
// host. Sites that are placed by replicas could be kept apart, and still one
// dead host would bring them together.
func (c *checker) hostPorts() {
	type owner struct {
		site    *Site
		service ServiceName
		port    Port
	}
	owners := map[uint16][]owner{} // by the host's port
	for _, d := range c.snap.Documents(KindSite) {
		site := d.(*Site)
		for _, v := range site.Services {
			for _, p := range v.Ports {
				if p.Host != 0 {
					owners[p.Host] = append(owners[p.Host], owner{site, v.Name, p})
				}
			}
		}
	}
	for _, port := range slices.Sorted(maps.Keys(owners)) {
		all := owners[port]
		for i, a := range all {
			for _, b := range all[:i] {
				if a.site == b.site || !a.port.collides(b.port) {
					continue
				}
				if h := c.meet(a.site, b.site); h != "" {
					c.ref = a.site.Ref()
					c.add("services."+string(a.service)+".ports", "host port %d/%s is also published by site %s, and both may run on host %s: change one's port or placement", port, a.port.protocol(), b.site.Name, h)
				}
			}
		}
	}
}

// meet returns a host on which both sites may run.
func (c *checker) meet(a, b *Site) string {
	for _, d := range c.snap.Documents(KindHost) {
		if h := d.(*Host); a.Placement.Fits(h) && b.Placement.Fits(h) {
			return h.Name
		}
	}
	return ""
}
