package ignition

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
)

const (
	templateName = "(config)" // which no include is called
	mark         = "\x00"     // encloses a template's line number in a traced output

	// Calls that parseTemplate adds to a template.
	stepCall  = "pilotlight_step"  // in each turn of a loop
	enterCall = "pilotlight_enter" // where each template begins
	leaveCall = "pilotlight_leave" // and where it ends
)

// lines finds, when it is asked, the template's line for each line of what the
// template became.
type lines func() []int

// of returns the template's line for line n of the output.
func (l lines) of(n int) int {
	if l == nil || n <= 0 {
		return n
	}
	if table := l(); n <= len(table) {
		return table[n-1]
	}
	return n
}

// program is a parsed template that keeps count of itself.
type program struct {
	template *template.Template
	steps    int
	depth    int
}

func (p *program) step() (string, error) {
	if p.steps++; p.steps > maxSteps {
		return "", errTooMany
	}
	return "", nil
}

func (p *program) enter() (string, error) {
	if p.depth++; p.depth > maxDepth {
		return "", errTooDeep
	}
	return p.step()
}

func (p *program) leave() string {
	p.depth--
	return ""
}

// include returns what a template that has a name becomes, for what is to be done
// with it: indented, quoted.
func (p *program) include(name string, dot any) (string, error) {
	var out limited
	if err := p.template.ExecuteTemplate(&out, name, dot); err != nil {
		return "", err
	}
	return out.String(), nil
}

// parseTemplate parses a text with its includes, makes it keep count of itself, and,
// when it is traced, makes each line of its own begin with its number. What an
// include brings belongs to the line that names it.
func parseTemplate(from text, traced bool) (*program, error) {
	p := new(program)
	funcs := functions(p)
	t := template.New(templateName).Option("missingkey=error").Funcs(funcs)
	for _, name := range slices.Sorted(maps.Keys(from.includes)) {
		if _, err := t.New(name).Parse(from.includes[name]); err != nil {
			return nil, err
		}
	}
	included := t.Templates()
	if _, err := t.Parse(from.source); err != nil {
		return nil, err
	}
	call := func(name string) parse.Node {
		return template.Must(template.New("").Funcs(funcs).Parse("{{" + name + "}}")).Root.Nodes[0]
	}
	enter, leave := call(enterCall), call(leaveCall)
	for _, each := range t.Templates() {
		if each.Tree != nil && each.Root != nil {
			w := walker{source: from.source, traced: traced && !slices.Contains(included, each), step: call(stepCall)}
			w.list(each.Root)
			each.Root.Nodes = slices.Concat([]parse.Node{enter}, each.Root.Nodes, []parse.Node{leave})
		}
	}
	p.template = t
	return p, nil
}

// execute runs the template once.
func execute(p *program, d *data) (string, error) {
	p.steps, p.depth = 0, 0
	var out limited
	if err := p.template.Execute(&out, d); err != nil {
		return "", err
	}
	return out.String(), nil
}

// limited is a builder that refuses to grow without end.
type limited struct{ strings.Builder }

func (l *limited) Write(b []byte) (int, error) {
	if l.Len()+len(b) > maxRendered {
		return 0, errTooLong
	}
	return l.Builder.Write(b)
}

// traceLines renders source again with numbered lines. Lines that a value
// brought belong to the line that the value stands on.
func traceLines(from text, d *data, want string) []int {
	t, err := parseTemplate(from, true)
	if err != nil {
		return nil
	}
	out, err := execute(t, d)
	if err != nil {
		return nil
	}
	var table []int
	var clean strings.Builder
	line := 1
	for _, l := range strings.SplitAfter(out, "\n") {
		number := 0
		for i, part := range strings.Split(l, mark) {
			if i%2 == 1 {
				line, _ = strconv.Atoi(part)
				continue
			}
			if clean.WriteString(part); part != "" && number == 0 {
				number = line
			}
		}
		table = append(table, cmp.Or(number, line))
	}
	if clean.String() != want { // a value held a zero byte
		return nil
	}
	return table
}

// walker visits the nodes of a parsed template and changes them.
type walker struct {
	source string
	traced bool
	step   parse.Node
}

func (w *walker) list(l *parse.ListNode) {
	if l == nil {
		return
	}
	var nodes []parse.Node
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			w.text(n)
		case *parse.ActionNode:
			nodes = w.mark(nodes, n.Pos, n.Line)
		case *parse.TemplateNode:
			nodes = w.mark(nodes, n.Pos, n.Line)
		case *parse.IfNode:
			w.list(n.List)
			w.list(n.ElseList)
		case *parse.WithNode:
			w.list(n.List)
			w.list(n.ElseList)
		case *parse.RangeNode:
			w.list(n.List)
			w.list(n.ElseList)
			n.List.Nodes = append([]parse.Node{w.step}, n.List.Nodes...)
		}
		nodes = append(nodes, n)
	}
	l.Nodes = nodes
}

// mark puts the number of a line before what a value brings.
func (w *walker) mark(nodes []parse.Node, at parse.Pos, line int) []parse.Node {
	if !w.traced {
		return nodes
	}
	return append(nodes, &parse.TextNode{NodeType: parse.NodeText, Pos: at, Text: marked(line)})
}

func marked(line int) []byte { return []byte(mark + strconv.Itoa(line) + mark) }

func (w *walker) text(n *parse.TextNode) {
	if !w.traced {
		return
	}
	start := int(n.Pos)
	line := 1 + strings.Count(w.source[:min(start, len(w.source))], "\n")
	var b bytes.Buffer
	for i, l := range strings.SplitAfter(string(n.Text), "\n") {
		b.Write(marked(line + i))
		b.WriteString(l)
	}
	n.Text = b.Bytes()
}
