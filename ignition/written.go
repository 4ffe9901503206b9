package ignition

import "gopkg.in/yaml.v3"

// written is a rendered template, in which what a config holds is found again.
type written struct {
	rendered string
	at       lines
}

// line returns the template's line on which value stands in an entry of the list
// or mapping at path, or 0. Butane and Ignition call the lists alike, and JSON is
// read as the YAML that it is.
func (w written) line(value string, path ...string) int {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(w.rendered), &doc) != nil || len(doc.Content) == 0 {
		return 0
	}
	n := doc.Content[0]
	for _, key := range path {
		if n = child(n, key); n == nil {
			return 0
		}
	}
	if found := scalarIn(n, value); found != nil {
		return w.at.of(found.Line)
	}
	return 0
}

func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// scalarIn looks for value below n, no deeper than an entry of a list.
func scalarIn(n *yaml.Node, value string) *yaml.Node {
	for _, c := range n.Content {
		if c.Kind == yaml.ScalarNode && c.Value == value {
			return c
		}
		if n.Kind == yaml.SequenceNode {
			if found := scalarIn(c, value); found != nil {
				return found
			}
		}
	}
	return nil
}
