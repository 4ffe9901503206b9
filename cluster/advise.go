package cluster

import "fmt"

// Advise returns what is no mistake and may be a slip of the pen all the same: a
// secret for a site that is not there, which may come later, or be gone.
func Advise(s *Snapshot) (out []Problem) {
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
