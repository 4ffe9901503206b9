package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

const digest = "@sha256:0000000000000000000000000000000000000000000000000000000000000000"

func meta(name string, labels ...string) cluster.Meta {
	m := cluster.Meta{Name: name}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		m.Labels[k] = v
	}
	return m
}

func hosts(names ...string) (out []cluster.Document) {
	for _, n := range names {
		name, label, _ := strings.Cut(n, " ")
		h := &cluster.Host{Meta: meta(name)}
		if label != "" {
			h.Meta = meta(name, label)
		}
		out = append(out, h)
	}
	return append(out, &cluster.Policy{Meta: meta("ours"), Registries: []string{"ours.org"}})
}

func site(name string, p cluster.Placement, services ...cluster.Service) *cluster.Site {
	if len(services) == 0 {
		services = []cluster.Service{{Name: "web", Image: "ours.org/web" + digest}}
	}
	return &cluster.Site{Meta: meta(name), Services: services, Placement: p}
}

// nodes are introduced hosts; what each runs already follows its name.
func nodes(all ...string) (out []cluster.Node) {
	for _, text := range all {
		words := strings.Fields(text)
		n := cluster.Node{Host: cluster.HostName(words[0]), Introduction: &cluster.Introduction{}}
		if len(words) > 1 {
			n.Desired = new(cluster.Desired)
			for _, s := range words[1:] {
				n.Desired.Containers = append(n.Desired.Containers, cluster.Container{Site: cluster.SiteName(s)})
			}
		}
		out = append(out, n)
	}
	return out
}

// told writes an assignment as "h1: www other; h2:".
func told(all map[cluster.HostName]cluster.Desired) string {
	var out []string
	for h, d := range all {
		text := string(h) + ":"
		for _, c := range d.Containers {
			text += " " + string(c.Site)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestAssignPlaces(t *testing.T) {
	two := cluster.Placement{Replicas: 2}
	one := cluster.Placement{Replicas: 1}
	for name, c := range map[string]struct {
		docs  []cluster.Document
		nodes []cluster.Node
		lost  string
		want  string
	}{
		"nothing":           {hosts(), nil, "", ""},
		"everywhere":        {append(hosts("h1", "h2"), site("www", cluster.Placement{})), nodes("h1", "h2"), "", "h1: www; h2: www"},
		"everywhere, lost":  {append(hosts("h1", "h2"), site("www", cluster.Placement{})), nodes("h1", "h2"), "h1", "h1: www; h2: www"},
		"labels":            {append(hosts("h1 r=1", "h2 r=2"), site("www", cluster.Placement{Labels: map[string]string{"r": "2"}})), nodes("h1", "h2"), "", "h1:; h2: www"},
		"named":             {append(hosts("h1", "h2"), site("www", cluster.Placement{Hosts: []cluster.HostName{"h2", "h9"}})), nodes("h1", "h2"), "", "h1:; h2: www"},
		"not introduced":    {append(hosts("h1", "h2"), site("www", cluster.Placement{})), append(nodes("h1"), cluster.Node{Host: "h2"}), "", "h1: www"},
		"not applied":       {append(hosts("h1"), site("www", cluster.Placement{})), nodes("h1", "gone"), "", "h1: www"},
		"replicas":          {append(hosts("h1", "h2", "h3"), site("www", two)), nodes("h1", "h2", "h3"), "", "h1: www; h2: www; h3:"},
		"too few":           {append(hosts("h1"), site("www", two)), nodes("h1"), "", "h1: www"},
		"stays":             {append(hosts("h1", "h2", "h3"), site("www", one)), nodes("h1", "h2", "h3 www"), "", "h1:; h2:; h3: www"},
		"stays, though two": {append(hosts("h1", "h2", "h3"), site("www", one)), nodes("h1", "h2 www", "h3 www"), "", "h1:; h2: www; h3:"},
		"grows":             {append(hosts("h1", "h2", "h3"), site("www", two)), nodes("h1", "h2", "h3 www"), "", "h1: www; h2:; h3: www"},
		"moves from a lost": {append(hosts("h1", "h2", "h3"), site("www", one)), nodes("h1", "h2", "h3 www"), "h3", "h1: www; h2:; h3:"},
		"all lost":          {append(hosts("h1", "h2"), site("www", one)), nodes("h1", "h2 www"), "h1 h2", "h1:; h2: www"},
		"spreads": {
			append(hosts("h1", "h2", "h3"), site("a", one), site("b", one), site("c", one)), nodes("h1", "h2", "h3"), "",
			"h1: a; h2: b; h3: c",
		},
		"spreads around": {
			append(hosts("h1", "h2"), site("a", cluster.Placement{Hosts: []cluster.HostName{"h1"}}), site("b", one)), nodes("h1", "h2"), "",
			"h1: a; h2: b",
		},
		"policy narrowed": {
			append(hosts("h1"), site("www", cluster.Placement{}, cluster.Service{Name: "a", Image: "theirs.org/x" + digest}, cluster.Service{Name: "b", Image: "ours.org/x" + digest})), nodes("h1"), "",
			"h1: www",
		},
	} {
		t.Run(name, func(t *testing.T) {
			lost := map[cluster.HostName]bool{}
			for _, h := range strings.Fields(c.lost) {
				lost[cluster.HostName(h)] = true
			}
			snap := cluster.NewSnapshot(0, c.docs)
			for range 3 { // whatever order maps have
				if got := told(Assign(snap, c.nodes, nil, lost)); got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			}
		})
	}
}

func TestAssignSecrets(t *testing.T) {
	mount := func(names ...cluster.SecretName) (out []cluster.SecretMount) {
		for i, n := range names {
			out = append(out, cluster.SecretMount{Name: n, Target: fmt.Sprint(i)})
		}
		return out
	}
	snap := cluster.NewSnapshot(0, append(hosts("h1"), site("www", cluster.Placement{}, cluster.Service{Name: "web", Image: "ours.org/x" + digest, Secrets: mount("a", "b", "a", "none")})))
	got := Assign(snap, nodes("h1"), map[cluster.SecretName]int{"a": 3, "b": 1, "other": 9}, nil)["h1"].Containers[0]
	if want := []cluster.Version{{Name: "a", Version: 3}, {Name: "b", Version: 1}}; !slices.Equal(got.Secrets, want) {
		t.Errorf("secrets %v", got.Secrets)
	}
	if len(got.Service.Secrets) != 4 {
		t.Error("the agent does not hear of the secret that has no value")
	}
}
