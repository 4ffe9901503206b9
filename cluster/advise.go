package cluster

import (
	"fmt"
	"slices"
)

// Advice is what is no mistake and may be a slip of the pen all the same.
type Advice struct {
	Problem
	With Ref // the other document that it comes of, or nothing
}

// Of reports whether a document that is given is one of those that the advice comes of.
func (a Advice) Of(given func(Ref) bool) bool { return given(a.Ref) || given(a.With) }

// Advise returns a secret for a site that is not there, which may come later, or be
// gone; a port that a site publishes behind a firewall that lets nobody in; a firewall
// past which nobody logs in.
func Advise(s *Snapshot) []Advice {
	return slices.Concat(adviseSecrets(s), adviseFirewalls(s), adviseLogins(s))
}

// adviseLogins names firewalls past which the keys of a profile let nobody in. Where
// an interface is trusted, that may be the way.
func adviseLogins(s *Snapshot) (out []Advice) {
	const ssh = 22
	for _, d := range s.Documents(KindProfile) {
		p := d.(*Profile)
		if p.Firewall == nil || len(p.Firewall.Trusted) > 0 || p.Firewall.Lets(TCP, ssh) || !p.logins() {
			continue
		}
		out = append(out, Advice{Problem: Problem{Ref: p.Ref(), Field: "firewall.allow", Message: fmt.Sprintf(
			"nobody reaches port %d/tcp of its hosts, and there are SSH keys for them; write {ports: [%d], from: [NETWORK]} below allow:, unless nobody is to log in", ssh, ssh)}})
	}
	return out
}

// logins reports whether the profile gives somebody a key to log in with.
func (d *Profile) logins() bool {
	return len(d.SSHKeys) > 0 || d.Common != nil &&
		slices.ContainsFunc(d.Common.Users, func(u CommonUser) bool { return len(u.SSHKeys) > 0 })
}

// adviseFirewalls names one host for each port and profile.
func adviseFirewalls(s *Snapshot) (out []Advice) {
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
					out = append(out, Advice{With: t.Profile.Ref(), Problem: Problem{Ref: site.Ref(), Field: p.field, Message: fmt.Sprintf(
						"nobody reaches port %d/%s of host %s: firewall: of profile %s lets nobody in; write {%s} below allow: there",
						p.Host, p.Protocol, h.Name, t.Profile.Name, opening(p))}})
				}
			}
		}
	}
	return out
}

// opening is the rule that lets everybody reach a port.
func opening(p publishedPort) string {
	rule := fmt.Sprintf("ports: [%d]", p.Host)
	if of := Protocol(p.Protocol); of != TCP {
		rule += ", protocol: " + string(of)
	}
	return rule
}

// publishedPort is one that others than the host itself may want to reach.
type publishedPort struct {
	Port
	field string
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

func adviseSecrets(s *Snapshot) (out []Advice) {
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
			out = append(out, Advice{Problem: Problem{Ref: d.Ref(), Field: fmt.Sprintf("sites[%d]", i), Message: message}})
		}
	}
	return out
}
