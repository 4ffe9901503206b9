package cluster

import (
	"errors"
	"reflect"
	"slices"
	"strings"
)

// target refuses a host that gets no profile, and one for which two groups are
// equally specific.
func (c *checker) target(h *Host) {
	networks := []*Network{nil}
	if n, ok := c.snap.NetworkOf(h.Address); ok {
		networks = []*Network{n}
	} else if slices.ContainsFunc(c.snap.groups, func(g *Group) bool { return g.Match.Network != "" }) {
		networks = append(networks, c.snap.networks...)
	}
	taken := false // on some network, when it is not known on which it boots
	for _, n := range networks {
		var none *NoProfileError
		if _, err := c.snap.Parts(h, n); !errors.As(err, &none) { // what is missing is said where it is named
			taken = true
		}
		c.tie(h, n)
	}
	if !taken {
		c.add("profile", "is missing and no group takes this host: set profile:, or apply a group whose match: takes it")
	}
}

// tie refuses to choose between groups. A host with a profile of its own gets their
// variables and keys still, so there it matters when these differ.
func (c *checker) tie(h *Host, n *Network) {
	all := c.snap.GroupsOf(h, n)
	var tied []string
	same := true
	for _, g := range all {
		if g.Match.specificity() != all[0].Match.specificity() {
			break
		}
		tied = append(tied, g.Name)
		same = same && reflect.DeepEqual(g.Variables, all[0].Variables) && slices.Equal(g.SSHKeys, all[0].SSHKeys)
	}
	last := len(tied) - 1
	switch {
	case last < 1 || h.Profile != "" && same:
	case h.Profile == "":
		c.add("profile", "groups %s and %s take this host and none is more specific: set profile: here, or narrow match: of %s", strings.Join(tied[:last], ", "), tied[last], tied[0])
	default:
		c.add("profile", "groups %s and %s take this host, none is more specific, and their variables: or ssh_keys: differ: narrow match: of %s", strings.Join(tied[:last], ", "), tied[last], tied[0])
	}
}
