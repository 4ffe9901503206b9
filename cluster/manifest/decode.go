package manifest

import (
	"encoding"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/pilotlight/pilotlight/cluster"
)

// decoder fills one document from its tree. It goes on after a mistake, which
// is why a library's decoder, that stops at the first, does not do.
type decoder struct {
	file     string
	ref      cluster.Ref
	origin   *origin
	anchors  anchors
	visited  int // values, each time that an alias brings them in
	mistakes []Mistake
	whole    bool // free keeps whole numbers whole, as Compose's schema wants them
	literal  bool // free takes numbers as text, as they are written
}

func at(n ast.Node) place {
	if n == nil || n.GetToken() == nil {
		return place{1, 1}
	}
	// A mapping's own token is its first colon; its place is its first key.
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 {
			return at(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return at(n.Key)
	}
	p := n.GetToken().Position
	return place{p.Line, p.Column}
}

func (d *decoder) add(n ast.Node, field, format string, args ...any) {
	p := at(n)
	d.mistakes = append(d.mistakes, Mistake{File: d.file, Line: p.line, Column: p.column, Field: field, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) document(body ast.Node) cluster.Document {
	entries, ok := d.mapping(body, "")
	if !ok {
		return nil
	}
	d.ref = cluster.Ref{Kind: cluster.Kind(scalarOf(entries, "kind")), Name: scalarOf(entries, "name")}
	if d.ref.Kind == "" {
		d.add(body, "kind", "is missing; say what the document is: kind: %s", joinKinds())
		return nil
	}
	doc, err := cluster.New(d.ref.Kind)
	if err != nil {
		d.add(body, "kind", "%q is not a kind; the kinds are %s", d.ref.Kind, joinKinds())
		d.ref = cluster.Ref{}
		return nil
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool { return e.key == "kind" })
	if site, ok := doc.(*cluster.Site); ok {
		entries = d.services(site, entries)
	}
	d.structure(reflect.ValueOf(doc).Elem(), "", entries, body)
	d.inline(doc)
	return doc
}

// joinKinds lists the kinds that people write.
func joinKinds() string {
	var words []string
	for _, k := range cluster.Kinds {
		if k != cluster.KindMatchbox { // which matchbox's API makes
			words = append(words, string(k))
		}
	}
	return strings.Join(words, ", ")
}

// entry is one key of a mapping, with the place where the key stands.
type entry struct {
	key   string
	node  ast.Node // the key's
	value ast.Node
}

// mapping returns the entries of a mapping, merge keys (<<) resolved. It notes
// a mistake and returns false when n is something else.
func (d *decoder) mapping(n ast.Node, field string) ([]entry, bool) {
	n = d.resolve(n)
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		d.add(n, field, "must be a mapping (key: value), not %s", shape(n))
		return nil, false
	}
	var own, merged []entry
	seen := make(map[string]bool, len(values))
	for _, v := range values {
		if v.Key.Type() == ast.MergeKeyType {
			merged = append(merged, d.merged(v.Value, field)...)
			continue
		}
		key := keyText(v.Key)
		if seen[key] {
			d.add(v.Key, join(field, key), "is given twice; keep one")
			continue
		}
		seen[key] = true
		own = append(own, entry{key, v.Key, v.Value})
	}
	for _, e := range merged {
		if !seen[e.key] {
			seen[e.key] = true
			own = append(own, e)
		}
	}
	return own, true
}

// merged returns what a merge key (<<) brings in: one mapping, or a list of
// them, of which the first that has a key decides.
func (d *decoder) merged(n ast.Node, field string) (out []entry) {
	sources := []ast.Node{n}
	if list, ok := d.resolve(n).(*ast.SequenceNode); ok {
		sources = list.Values
	}
	for _, s := range sources {
		if more, ok := d.mapping(s, join(field, "<<")); ok {
			out = append(out, more...)
		}
	}
	return out
}

func keyText(k ast.Node) string {
	if s, ok := k.(*ast.StringNode); ok {
		return s.Value
	}
	return strings.TrimSpace(k.GetToken().Value)
}

func join(field, key string) string {
	if field == "" {
		return key
	}
	return field + "." + key
}

func scalarOf(entries []entry, key string) string {
	for _, e := range entries {
		if s, ok := e.value.(ast.ScalarNode); e.key == key && ok {
			return fmt.Sprint(s.GetValue())
		}
	}
	return ""
}

// structure fills v, a struct, from entries by its json tags.
func (d *decoder) structure(v reflect.Value, field string, entries []entry, n ast.Node) {
	fields := fieldsOf(v.Type())
	for _, e := range entries {
		path := join(field, e.key)
		d.origin.fields[path] = at(e.node)
		if strings.HasPrefix(e.key, "x-") {
			continue // as in Compose: an operator's own, for anchors
		}
		index, ok := fields[e.key]
		if !ok {
			d.add(e.node, path, "is not a field of %s%s", d.ref.Kind, suggest(e.key, fields))
			continue
		}
		d.value(v.FieldByIndex(index), path, e.value)
	}
}

func fieldsOf(t reflect.Type) map[string][]int {
	out := map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			out[name] = f.Index
		}
	}
	return out
}

func suggest(key string, fields map[string][]int) string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		plain := func(s string) string {
			return strings.Trim(strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)), "s")
		}
		if plain(name) == plain(key) || len(key) > 2 && strings.HasPrefix(name, key) {
			return fmt.Sprintf("; did you mean %s:?", name)
		}
	}
	return "; its fields are " + strings.Join(names, ", ")
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// value fills v from n.
func (d *decoder) value(v reflect.Value, field string, n ast.Node) {
	n = d.resolve(n)
	if n.Type() == ast.NullType {
		return
	}
	if reflect.PointerTo(v.Type()).Implements(textType) {
		d.text(v, field, n)
		return
	}
	if v.Type() == optionType {
		d.option(v, field, n)
		return
	}
	if v.Type() == includesType {
		d.includes(v, field, n)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(v.Elem(), field, n)
	case reflect.Struct:
		if entries, ok := d.mapping(n, field); ok {
			d.structure(v, field, entries, n)
		}
	case reflect.Slice:
		d.slice(v, field, n)
	case reflect.Map:
		d.mapValue(v, field, n)
	case reflect.Interface:
		if x := d.free(n, field); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		d.scalar(v, field, n)
	}
}

func (d *decoder) text(v reflect.Value, field string, n ast.Node) {
	s, ok := n.(ast.ScalarNode)
	if !ok {
		d.add(n, field, "must be a single value, not %s", describe(n))
		return
	}
	text := strings.TrimSpace(s.GetToken().Value)
	err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	switch v.Interface().(type) {
	case netip.Addr:
		if err != nil {
			d.add(n, field, "%q is not an IP address; write it like 10.0.0.1", text)
		}
	case netip.Prefix:
		if err != nil {
			d.add(n, field, "%q is not a network; write it like 10.0.0.0/24", text)
		}
	default:
		if err != nil {
			d.add(n, field, "%v", err)
		}
	}
}

func (d *decoder) slice(v reflect.Value, field string, n ast.Node) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.add(n, field, "must be a list, not %s; write [a, b], or each on a line of its own after a -", shape(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		path := fmt.Sprintf("%s[%d]", field, i)
		d.origin.fields[path] = at(item)
		d.value(v.Index(i), path, item)
	}
}

func (d *decoder) mapValue(v reflect.Value, field string, n ast.Node) {
	entries, ok := d.mapping(n, field)
	if !ok {
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(entries)))
	for _, e := range entries {
		path := join(field, e.key)
		d.origin.fields[path] = at(e.node)
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(item, path, e.value)
		v.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), item)
	}
}

func (d *decoder) scalar(v reflect.Value, field string, n ast.Node) {
	s, ok := n.(ast.ScalarNode)
	if !ok {
		d.add(n, field, "must be a single value, not %s", describe(n))
		return
	}
	switch got := valueOf(s).(type) {
	case string:
		if v.Kind() == reflect.String {
			v.SetString(got)
			return
		}
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(got)
			return
		}
	case uint64:
		if v.CanInt() && got <= math.MaxInt64 && !v.OverflowInt(int64(got)) {
			v.SetInt(int64(got))
			return
		}
	case int64:
		if v.CanInt() && !v.OverflowInt(got) {
			v.SetInt(got)
			return
		}
	}
	if v.Kind() == reflect.String {
		// 0123, 1.10 and on are text where text is meant: as written.
		v.SetString(strings.TrimSpace(n.GetToken().Value))
		return
	}
	d.add(n, field, "must be %s, not %s", wanted(v.Kind()), describe(n))
}

// valueOf returns what a scalar says. The library gives a block scalar (| or >)
// as it was written, its indicator and all.
func valueOf(n ast.ScalarNode) any {
	if block, ok := n.(*ast.LiteralNode); ok {
		return block.Value.Value
	}
	return n.GetValue()
}

func wanted(k reflect.Kind) string {
	if k == reflect.Bool {
		return "true or false"
	}
	return "a whole number"
}

// free decodes a value whose shape is the operator's own.
func (d *decoder) free(n ast.Node, field string) any {
	switch n := d.resolve(n).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		entries, _ := d.mapping(n, field)
		out := make(map[string]any, len(entries))
		for _, e := range entries {
			d.origin.fields[join(field, e.key)] = at(e.node)
			out[e.key] = d.free(e.value, join(field, e.key))
		}
		return out
	case *ast.SequenceNode:
		out := make([]any, len(n.Values))
		for i, item := range n.Values {
			path := fmt.Sprintf("%s[%d]", field, i)
			d.origin.fields[path] = at(item)
			out[i] = d.free(item, path)
		}
		return out
	case *ast.NullNode:
		return nil
	case ast.ScalarNode:
		return d.number(n, field, valueOf(n))
	default:
		d.add(n, field, "cannot be used as a value")
		return nil
	}
}

// number gives a number the type that those who read it expect: compose-go
// whole numbers as int, and templates what JSON brings back from etcd, so that
// they see the same before and after. What is no number stays as it is.
func (d *decoder) number(n ast.Node, field string, x any) any {
	switch x.(type) {
	case uint64, int64, float64:
		if d.literal {
			return strings.TrimSpace(n.GetToken().Value)
		}
	}
	switch x := x.(type) {
	case uint64:
		if d.whole && x <= math.MaxInt {
			return int(x)
		}
		return float64(x)
	case int64:
		if d.whole {
			return int(x)
		}
		return float64(x)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			d.add(n, field, "is no finite number; write it in quotes if it is meant as text")
			return nil
		}
	}
	return x
}

// shape says what n is without what it says, which may be a secret that was
// indented wrongly.
func shape(n ast.Node) string {
	if _, ok := n.(ast.ScalarNode); ok && n.Type() != ast.NullType {
		return "a single value"
	}
	return describe(n)
}

func describe(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.NullType:
		return "nothing"
	}
	return fmt.Sprintf("%q", strings.TrimSpace(firstLine(n.String())))
}
