package matchbox

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// A lapse is a part of a template that says nothing here, at a line.
type lapse struct {
	line int
	text string
}

// edit puts a text in the place of another.
type edit struct {
	at, length int
	text       string
}

// rewriter walks a template as matchbox reads it. What its dot is has to be known:
// at the top it is the group's metadata, inside range and with it is not.
type rewriter struct {
	source string
	edits  []edit
	lapses []lapse
	roots  map[string]bool // templates that are called with the dot of the top
	others map[string]bool // with another dot
}

// requests is what a machine says in its request, in our words.
var requests = map[string]string{
	"mac": ".Host.MAC", "uuid": ".Host.UUID", "serial": ".Host.Serial", "hostname": ".Host.Name",
}

// rewrite turns a template over matchbox's variables into one over ours. Where a
// thing has no counterpart it is left as it is and told.
func rewrite(source string) (string, []lapse) {
	tree, err := template.New("t").Parse(source)
	if err != nil {
		line, words := templateError(err)
		return source, []lapse{{line, "is no template: " + words}}
	}
	w := &rewriter{source: source, roots: map[string]bool{}, others: map[string]bool{}}
	names := []string{}
	for _, t := range tree.Templates() {
		if t.Tree != nil && t.Name() != "t" {
			names = append(names, t.Name())
		}
	}
	slices.Sort(names)
	if tree.Tree != nil {
		w.walk(tree.Tree.Root, true)
	}
	for range names { // a template that is called by one that is called
		for _, n := range names {
			if w.roots[n] && !w.others[n] {
				w.walk(tree.Lookup(n).Tree.Root, true)
				w.roots[n] = false
			}
		}
	}
	for _, n := range names {
		if w.others[n] {
			w.lapses = append(w.lapses, lapse{0, fmt.Sprintf("template %q is called with several things as its dot: write .Variables in it where it means the metadata", n)})
		}
	}
	return w.apply(), w.lapses
}

func (w *rewriter) apply() string {
	slices.SortFunc(w.edits, func(a, b edit) int { return a.at - b.at })
	w.edits = slices.Compact(w.edits)
	var b strings.Builder
	done := 0
	for _, e := range w.edits {
		if e.at < done {
			continue
		}
		b.WriteString(w.source[done:e.at])
		b.WriteString(e.text)
		done = e.at + e.length
	}
	b.WriteString(w.source[done:])
	return b.String()
}

func (w *rewriter) lapse(at int, format string, a ...any) {
	w.lapses = append(w.lapses, lapse{1 + strings.Count(w.source[:min(max(at, 0), len(w.source))], "\n"), fmt.Sprintf(format, a...)})
}

// walk visits a node; top says whether the dot is the metadata there.
func (w *rewriter) walk(n parse.Node, top bool) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, below := range n.Nodes {
				w.walk(below, top)
			}
		}
	case *parse.ActionNode:
		w.walk(n.Pipe, top)
	case *parse.IfNode:
		w.branch(&n.BranchNode, top, top)
	case *parse.RangeNode:
		w.branch(&n.BranchNode, top, false)
	case *parse.WithNode:
		w.branch(&n.BranchNode, top, false)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			w.walk(n.Pipe, top)
		}
		if top && n.Pipe != nil && n.Pipe.String() == "." {
			w.edits = slices.DeleteFunc(w.edits, func(e edit) bool { return e.at == int(n.Pipe.Cmds[0].Args[0].Position()) })
			w.roots[n.Name] = true
		} else {
			w.others[n.Name] = true
		}
	case *parse.PipeNode:
		if n != nil {
			for _, c := range n.Cmds {
				for _, a := range c.Args {
					w.walk(a, top)
				}
			}
		}
	case *parse.ChainNode:
		w.walk(n.Node, top)
	case *parse.DotNode:
		if at := int(n.Pos); top && at < len(w.source) && w.source[at] == '.' {
			w.edits = append(w.edits, edit{at, 1, ".Variables"})
		}
	case *parse.FieldNode:
		if top {
			w.field(int(n.Pos), "", n.Ident)
		}
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			w.field(int(n.Pos), "$", n.Ident[1:])
		}
	}
}

func (w *rewriter) branch(n *parse.BranchNode, top, inside bool) {
	w.walk(n.Pipe, top)
	w.walk(n.List, inside)
	w.walk(n.ElseList, top)
}

// field rewrites .a.b, or $.a.b. The parser says where its last or its first part is.
func (w *rewriter) field(pos int, root string, parts []string) {
	written := root
	for _, p := range parts {
		written += "." + p
	}
	at := -1
	for start := pos; start >= 0 && start >= pos-len(written); start-- {
		if strings.HasPrefix(w.source[start:], written) {
			at = start
			break
		}
	}
	if at < 0 {
		w.lapse(pos, "%s cannot be found there: write {{ .Variables... }} in its place", written)
		return
	}
	ours := ".Variables"
	switch {
	case len(parts) == 0: // $ itself
	case parts[0] != "request":
		ours += "." + strings.Join(parts, ".")
	case len(parts) == 2 && parts[1] == "raw_query":
		ours = ".Host.Query"
	case len(parts) == 3 && parts[1] == "query" && requests[parts[2]] != "":
		ours = requests[parts[2]]
	default:
		w.lapse(at, "%s is what a machine says in its request: here a config is made for a host before it asks; write a variable or a label of the host", written)
		return
	}
	w.edits = append(w.edits, edit{at, len(written), root + ours})
}

func templateError(err error) (int, string) {
	s := strings.TrimPrefix(err.Error(), "template: t:")
	number, rest, ok := strings.Cut(s, ":")
	line := 0
	if ok {
		if _, err := fmt.Sscanf(number, "%d", &line); err == nil {
			s = rest
		}
	}
	return line, strings.TrimSpace(s)
}
