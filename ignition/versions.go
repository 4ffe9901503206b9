package ignition

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	v3_0 "github.com/coreos/ignition/v2/config/v3_0"
	v3_1 "github.com/coreos/ignition/v2/config/v3_1"
	v3_2 "github.com/coreos/ignition/v2/config/v3_2"
	v3_3 "github.com/coreos/ignition/v2/config/v3_3"
	v3_4 "github.com/coreos/ignition/v2/config/v3_4"
	v3_5 "github.com/coreos/ignition/v2/config/v3_5"
	v3_6 "github.com/coreos/ignition/v2/config/v3_6"
	v36 "github.com/coreos/ignition/v2/config/v3_6/types"
	"github.com/coreos/vcontext/report"
)

// newest is the newest minor version of the Ignition v3 spec that is served.
const newest = 6

// specs are the versions, by their minor number.
var specs = [newest + 1]struct {
	version string
	client  string // the Ignition that first read it
	parse   func([]byte) (any, report.Report, error)
}{
	{"3.0.0", "2.0", exactly(v3_0.Parse)},
	{"3.1.0", "2.3", exactly(v3_1.Parse)},
	{"3.2.0", "2.7", exactly(v3_2.Parse)},
	{"3.3.0", "2.11", exactly(v3_3.Parse)},
	{"3.4.0", "2.15", exactly(v3_4.Parse)},
	{"3.5.0", "2.20", exactly(v3_5.Parse)},
	{"3.6.0", "2.26", exactly(v3_6.Parse)},
}

func exactly[C any](parse func([]byte) (C, report.Report, error)) func([]byte) (any, report.Report, error) {
	return func(b []byte) (any, report.Report, error) { return parse(b) }
}

// Need is a field that an older version of the spec does not have.
type Need struct {
	Field   string // storage.luks.0.cex
	Version string // the oldest one that has it; empty when none has
}

// UnsupportedError says that a config cannot be said in the version that a
// client asked for. A server answers it with a status that the client retries:
// the operator can mend it while the host waits.
type UnsupportedError struct {
	Asked string
	Needs []Need // at least one
	from  text
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: the client reads Ignition spec %s and no newer one, but ", e.from.ref, e.from.field, e.Asked)
	version := ""
	for i, n := range e.Needs {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s needs %s", n.Field, cmp.Or(n.Version, "another"))
		version = max(version, n.Version)
	}
	fmt.Fprintf(&b, ": boot an image whose Ignition reads %s", version)
	for _, s := range specs {
		if s.version == version {
			fmt.Fprintf(&b, " (Ignition %s or newer)", s.client)
		}
	}
	b.WriteString(", or take the field out")
	return b.String()
}

// needs are, for each version of the spec, the fields that it cannot say. A
// version without needs can hold the config.
type needs [newest + 1][]Need

// express finds out in which versions of the spec a config can be said, and for
// the others what stands in the way. What the newest version warns of too is no
// reason to refuse an older one.
func express(cfg v36.Config) (needs, error) {
	cfg.Ignition.Version = holes[holeVersion]
	tree, err := toTree(cfg)
	if err != nil {
		return needs{}, err
	}
	body, err := encode(tree)
	if err != nil {
		return needs{}, err
	}
	var read [newest + 1]reading
	for minor := range specs {
		read[minor] = readAs(minor, bytes.ReplaceAll(body, []byte(holes[holeVersion]), []byte(specs[minor].version)))
	}
	tolerated := map[string]bool{}
	for _, e := range read[newest].report.Entries {
		if !e.Kind.IsFatal() {
			tolerated[e.Context.String()+e.Message] = true
		}
	}
	var lost [newest + 1]map[string]string
	for minor := range specs {
		lost[minor] = read[minor].losses(tree, tolerated)
	}
	var out needs
	for minor := range specs {
		for field := range lost[minor] {
			out[minor] = append(out[minor], Need{Field: field, Version: firstWithout(field, lost[minor+1:])})
		}
		slices.SortFunc(out[minor], func(a, b Need) int { return cmp.Compare(a.Field, b.Field) })
	}
	return out, nil
}

// firstWithout returns the oldest of the last versions that does not lose field.
func firstWithout(field string, later []map[string]string) string {
	for i, lost := range later {
		if _, still := lost[field]; !still {
			return specs[len(specs)-len(later)+i].version
		}
	}
	return ""
}

// reading is what the parser of exactly one version made of a config.
type reading struct {
	config any
	report report.Report
	err    error
}

func readAs(minor int, body []byte) (r reading) {
	r.config, r.report, r.err = specs[minor].parse(body)
	return r
}

// losses returns the fields of tree that the parser refused, warned of, did not
// know, or did not give back.
func (r reading) losses(tree map[string]any, tolerated map[string]bool) map[string]string {
	lost := map[string]string{}
	for _, e := range r.report.Entries {
		if e.Kind.IsFatal() || !tolerated[e.Context.String()+e.Message] {
			lost[pathOf(e)] = e.Message
		}
	}
	if r.err != nil {
		if len(lost) == 0 {
			lost["ignition.version"] = r.err.Error()
		}
		return lost
	}
	back, err := toTree(r.config)
	if err != nil {
		lost["ignition"] = err.Error()
		return lost
	}
	compareTrees("", tree, back, lost)
	return lost
}

func pathOf(e report.Entry) string {
	words := make([]string, len(e.Context.Path))
	for i, w := range e.Context.Path {
		words[i] = fmt.Sprint(w)
	}
	return strings.Join(words, ".")
}

// compareTrees notes each path of want that got does not hold, and each that
// got holds beyond it.
func compareTrees(at string, want, got any, lost map[string]string) {
	switch want := want.(type) {
	case map[string]any:
		got, _ := got.(map[string]any)
		for k, v := range want {
			if g, ok := got[k]; ok {
				compareTrees(below(at, k), v, g, lost)
			} else {
				lost[below(at, k)] = "no such field"
			}
		}
		for k := range got {
			if _, ok := want[k]; !ok {
				lost[below(at, k)] = "a field appears"
			}
		}
	case []any:
		got, _ := got.([]any)
		for i, v := range want {
			if i < len(got) {
				compareTrees(below(at, fmt.Sprint(i)), v, got[i], lost)
			} else {
				lost[below(at, fmt.Sprint(i))] = "no such entry"
			}
		}
	default:
		if want != got && want != holes[holeVersion] {
			lost[at] = "another value"
		}
	}
}

func below(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// encodeConfig returns a config as it is served, but for its holes.
func encodeConfig(cfg v36.Config) ([]byte, error) {
	cfg.Ignition.Version = holes[holeVersion]
	tree, err := toTree(cfg)
	if err != nil {
		return nil, err
	}
	return encode(tree)
}

// toTree returns a config as plain JSON without its empty objects, which are
// how the library's types write what is not there.
func toTree(cfg any) (map[string]any, error) {
	b, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var tree map[string]any
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	prune(tree)
	return tree, nil
}

// prune removes nulls and empty objects from an object, and reports whether
// nothing is left of it.
func prune(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for k, child := range v {
			if prune(child) {
				delete(v, k)
			}
		}
		return len(v) == 0
	case []any:
		for _, child := range v {
			prune(child)
		}
	}
	return false
}

// encode writes a tree as it is served: indented, so that a person can read
// what curl prints, its keys sorted, and < as <.
func encode(tree map[string]any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(tree); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
