package manifest

import (
	"github.com/goccy/go-yaml/ast"
)

// maxValues is how many values a document may come to once its aliases are
// followed. Ten aliases of ten aliases, nine times, are a few lines of YAML.
const maxValues = 100_000

// anchor is a place that aliases point to.
type anchor struct {
	offset int
	value  ast.Node
}

// anchors are those of a document, by name, in the order of the text; and the
// aliases that lie within what they point to.
type anchors struct {
	byName map[string][]anchor
	loops  map[*ast.AliasNode]bool
}

func findAnchors(n ast.Node) anchors {
	a := anchors{map[string][]anchor{}, map[*ast.AliasNode]bool{}}
	a.find(n, nil)
	return a
}

// find looks through n, which lies within the anchors named by within.
func (a anchors) find(n ast.Node, within []string) {
	switch n := n.(type) {
	case *ast.AnchorNode:
		name := n.Name.GetToken().Value
		a.byName[name] = append(a.byName[name], anchor{n.GetToken().Position.Offset, n.Value})
		a.find(n.Value, append(within, name))
	case *ast.AliasNode:
		for _, name := range within {
			if name == n.Value.GetToken().Value {
				a.loops[n] = true
			}
		}
	case *ast.TagNode:
		a.find(n.Value, within)
	case *ast.MappingKeyNode:
		a.find(n.Value, within)
	case *ast.MappingValueNode:
		a.find(n.Key, within)
		a.find(n.Value, within)
	case *ast.MappingNode:
		for _, v := range n.Values {
			a.find(v, within)
		}
	case *ast.SequenceNode:
		for _, v := range n.Values {
			a.find(v, within)
		}
	}
}

// target returns what an alias points to: the last anchor of its name before it.
func (a anchors) target(alias *ast.AliasNode) (target ast.Node, ok bool) {
	for _, one := range a.byName[alias.Value.GetToken().Value] {
		if one.offset < alias.GetToken().Position.Offset {
			target, ok = one.value, true
		}
	}
	return target, ok
}

// resolve follows anchors, aliases and tags to the value itself. In the place
// of what cannot be had it returns null.
func (d *decoder) resolve(n ast.Node) ast.Node {
	if d.visited++; d.visited > maxValues {
		if d.visited == maxValues+1 {
			d.add(n, "", "comes to more than %d values once its aliases are followed; write it out, or split it", maxValues)
		}
		return ast.Null(n.GetToken())
	}
	for {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.TagNode:
			n = v.Value
		case *ast.AliasNode:
			name := v.Value.GetToken().Value
			target, ok := d.anchors.target(v)
			switch {
			case d.anchors.loops[v]:
				d.add(v, "", "*%s lies within &%s, so it would never end", name, name)
				return ast.Null(v.GetToken())
			case !ok:
				d.add(v, "", "*%s points to no anchor &%s before it in this document", name, name)
				return ast.Null(v.GetToken())
			}
			n = target
		case nil:
			return ast.Null(nil)
		default:
			return n
		}
	}
}
