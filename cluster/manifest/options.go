package manifest

import (
	"reflect"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/pilotlight/pilotlight/cluster"
)

var optionType = reflect.TypeFor[cluster.Option]()

// option reads a DHCP option: a value, a list of them, or value: and force:,
// where value: is either again.
func (d *decoder) option(v reflect.Value, field string, n ast.Node) {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		d.values(v.FieldByName("Value"), field, n)
		return
	}
	entries, ok := d.mapping(n, field)
	if !ok {
		return
	}
	if i := slices.IndexFunc(entries, func(e entry) bool { return e.key == "value" }); i >= 0 {
		e := entries[i]
		d.origin.fields[join(field, "value")] = at(e.node)
		d.values(v.FieldByName("Value"), join(field, "value"), d.resolve(e.value))
		entries = slices.Delete(entries, i, i+1)
	}
	d.structure(v, field, entries, n)
}

// values reads a list, or a single value as a list of one.
func (d *decoder) values(v reflect.Value, field string, n ast.Node) {
	if _, list := n.(*ast.SequenceNode); list {
		d.value(v, field, n)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	d.value(v.Index(0), field, n)
}
