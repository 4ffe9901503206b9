package cluster

import (
	"fmt"
	"slices"
)

// Advise returns what is no mistake and may be a slip of the pen all the same: a
// secret for a site that is not there, which may come later, or be gone; a port that
// a site publishes behind a firewall that lets nobody in.
func Advise(s *Snapshot) []Problem { return append(adviseSecrets(s), adviseFirewalls(s)...) }

// adviseFirewalls names one host for each port and profile.
func adviseFirewalls(s *Snapshot) (out []Problem) {
	type behind struct {
		profile string
		port    uint16
		of      string
	}
	if !slices.ContainsFunc(s.Documents(KindProfile), func(d Document) bool { return d.(*Profile).Firewall != nil }) {
		return nil
	}
	for _, d := range s.Documents(KindSite) {
		site := d.(*Site)
		if len(site.published()) == 0 {
			continue
		}
		said := map[behind]bool{}
		for _, d := range s.Documents(KindHost) {
			h := d.(*Host)
			if !site.Placement.Fits(h) {
				continue
			}
			n, _ := s.NetworkOf(h.Address)
			t, err := s.Parts(h, n)
			if err != nil || t.Profile.Firewall == nil {
				continue
			}
			for _, p := range site.closed(t.Profile.Firewall) {
				if key := (behind{t.Profile.Name, p.Host, p.Protocol}); !said[key] {
					said[key] = true
					out = append(out, Problem{Ref: site.Ref(), Field: p.field, Message: fmt.Sprintf(
						"nobody reaches port %d/%s of host %s: firewall: of profile %s lets nobody in; write {ports: [%d]%s} below allow: there",
						p.Host, p.Protocol, h.Name, t.Profile.Name, p.Host, p.inRule())})
				}
			}
		}
	}
	return out
}

// publishedPort is one that others than the host itself may want to reach.
type publishedPort struct {
	Port
	field string
}

// inRule is what a rule for the port says beside its number.
func (p publishedPort) inRule() string {
	if p.Protocol == string(TCP) {
		return ""
	}
	return ", protocol: " + p.Protocol
}

func (d *Site) published() (out []publishedPort) {
	for _, svc := range d.Services {
		for i, p := range svc.Ports {
			if p.Host != 0 && !p.HostIP.IsLoopback() {
				out = append(out, publishedPort{p, fmt.Sprintf("services.%s.ports[%d]", svc.Name, i)})
			}
		}
	}
	return out
}

// closed are the ports into which a firewall lets nobody.
func (d *Site) closed(f *Firewall) (out []publishedPort) {
	for _, p := range d.published() {
		if !f.Lets(Protocol(p.Protocol), p.Host) {
			out = append(out, p)
		}
	}
	return out
}

func adviseSecrets(s *Snapshot) (out []Problem) {
	var sites []string
	for _, d := range s.Documents(KindSite) {
		sites = append(sites, d.Ref().Name)
	}
	for _, d := range s.Documents(KindSecret) {
		for i, site := range d.(*Secret).Sites {
			if _, ok := s.Get(Ref{KindSite, string(site)}); ok {
				continue
			}
			message := fmt.Sprintf("there is no site %q yet", site)
			if near := Nearest(string(site), sites); near != "" {
				message += fmt.Sprintf("; did you mean %q?", near)
			}
			out = append(out, Problem{Ref: d.Ref(), Field: fmt.Sprintf("sites[%d]", i), Message: message})
		}
	}
	return out
}
