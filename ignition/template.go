package ignition

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"

	"github.com/pilotlight/pilotlight/cluster"
)

// What a template may cost. Far above any config, far below what would hurt
// the server: a template is the operator's, and a slip of the pen in a range.
const (
	maxRendered = 4 << 20 // bytes of output, and of any one value on the way
	maxSteps    = 1 << 18 // turns of loops and calls of templates
	maxDepth    = 100     // templates that call templates
)

var (
	errTooLong  = fmt.Errorf("the text grows beyond %d MiB: serve what is large by URL", maxRendered>>20)
	errTooMany  = fmt.Errorf("more than %d turns of its loops: range over less", maxSteps)
	errTooDeep  = fmt.Errorf("templates call each other more than %d deep: end it with an {{ if }}", maxDepth)
	errNotAList = errors.New("join wants a list of texts: {{ .SSHKeys | join \",\" }}")
)

// data is the dot of a template.
type data struct {
	Host      *cluster.Host
	Group     *cluster.Group // nil when no group takes the host
	Profile   *cluster.Profile
	Image     *cluster.Image   // nil when the profile names none
	Network   *cluster.Network // nil when the host's network is not known
	Variables map[string]any
	SSHKeys   []string
	Address   string // where the host is; empty when that is not known
	Server    Server
	Install   *cluster.Installation // nil when the profile installs nothing
	SetupURL  string                // of the program that makes a system the host
}

func (in *Input) data() *data {
	t := &in.Target
	d := &data{
		Host: t.Host, Group: t.Group, Profile: t.Profile, Image: t.Image, Network: t.Network,
		Variables: plainMap(t.Variables), SSHKeys: t.SSHKeys, Server: in.Server, Install: t.Profile.Install, SetupURL: in.SetupURL,
	}
	if a := in.address(); a.IsValid() {
		d.Address = a.String()
	}
	return d
}

// plain makes a variable look the same whether it came from YAML or from JSON:
// a JSON decoder makes 10000000 a float64, which a template would print as
// 1e+07.
func plain(v any) any {
	switch v := v.(type) {
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
	case uint64:
		if v < 1<<63 {
			return int64(v)
		}
	case int:
		return int64(v)
	case map[string]any:
		return plainMap(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	}
	return v
}

func plainMap(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = plain(v)
	}
	return out
}

// functions are what a template may call beside Go's own. None reads anything
// but its arguments; those of Go's own that can grow a text are bounded.
func functions(p *program) template.FuncMap {
	return template.FuncMap{
		"quote":   func(v any) (string, error) { return toJSON(fmt.Sprint(v)) },
		"json":    toJSON,
		"b64":     func(s string) (string, error) { return bounded(base64.StdEncoding.EncodeToString([]byte(s))) },
		"indent":  indent,
		"join":    join,
		"default": orDefault,
		"include": p.include,

		"print":    func(a ...any) (string, error) { return bounded(fmt.Sprint(a...)) },
		"println":  func(a ...any) (string, error) { return bounded(fmt.Sprintln(a...)) },
		"printf":   func(f string, a ...any) (string, error) { return bounded(fmt.Sprintf(f, a...)) },
		"html":     func(a ...any) (string, error) { return bounded(template.HTMLEscaper(a...)) },
		"js":       func(a ...any) (string, error) { return bounded(template.JSEscaper(a...)) },
		"urlquery": func(a ...any) (string, error) { return bounded(template.URLQueryEscaper(a...)) },

		stepCall: p.step, enterCall: p.enter, leaveCall: p.leave,
	}
}

func bounded(s string) (string, error) {
	if len(s) > maxRendered {
		return "", errTooLong
	}
	return s, nil
}

// toJSON is also how to quote for YAML, whose double quotes are JSON's.
func toJSON(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return bounded(strings.TrimSuffix(b.String(), "\n"))
}

// indent puts n spaces before each line of s that is not empty.
func indent(n int, s string) (string, error) {
	if n < 0 || n > 200 || n*strings.Count(s, "\n") > maxRendered {
		return "", fmt.Errorf("cannot indent by %d: write {{ .Variables.text | indent 8 }}", n)
	}
	pad := strings.Repeat(" ", n)
	lines := strings.SplitAfter(s, "\n")
	for i, l := range lines {
		if l != "" && l != "\n" {
			lines[i] = pad + l
		}
	}
	return bounded(strings.Join(lines, ""))
}

func join(sep string, list any) (string, error) {
	switch list := list.(type) {
	case []string:
		return bounded(strings.Join(list, sep))
	case []any:
		words := make([]string, len(list))
		for i, v := range list {
			words[i] = fmt.Sprint(v)
		}
		return bounded(strings.Join(words, sep))
	}
	return "", errNotAList
}

// orDefault returns d in place of what is missing or empty. A variable that may
// be missing is asked for by index: {{ index .Variables "x" | default "y" }}.
func orDefault(d, v any) any {
	if full, ok := template.IsTrue(v); v == nil || ok && !full {
		return d
	}
	return v
}

// render returns what the template becomes, and for each of its lines the line
// of the template that it came from. All missing variables are reported at
// once.
func render(t text, d *data) (string, lines, []Problem) {
	if strings.ContainsRune(t.source, 0) {
		return "", nil, []Problem{t.problem(0, "", "it holds a zero byte: take it out")}
	}
	tmpl, err := programs.take(t)
	if err != nil {
		return "", nil, []Problem{templateProblem(t, err, "")}
	}
	defer programs.give(t, tmpl)
	out, err := execute(tmpl, d)
	if err != nil {
		return "", nil, everyMissing(t, tmpl, d, err)
	}
	return out, sync.OnceValue(func() []int { return traceLines(t, d, out) }), nil
}

// CheckTemplates finds texts of a profile that are no templates, whatever they
// are filled in with. whole reports that none of them is one: what they become
// is known without a host.
func CheckTemplates(p *cluster.Profile) (problems []Problem, whole bool) {
	whole = true
	said := map[Problem]bool{}
	for _, t := range textsOf(p) {
		if strings.Contains(t.source, "{{") {
			whole = false
		}
		if _, err := parseTemplate(t, false); err != nil {
			if p := templateProblem(t, err, ""); !said[p] { // one of an include, which all have
				said[p] = true
				problems = append(problems, p)
			}
		}
	}
	return problems, whole
}

// textsOf returns all texts of a profile that are templates.
func textsOf(p *cluster.Profile) []text {
	texts := append(configTexts(p, "", p.Config), newText(p, genericField, p.Generic), newText(p, networkField, p.NetworkConfig))
	if p.Install != nil {
		texts = append(texts, configTexts(p, installPrefix, p.Install.Config)...)
	}
	if p.Common != nil {
		for _, c := range commonTexts(p.Common) {
			texts = append(texts, newText(p, c.field, *c.value))
		}
	}
	return texts
}

func configTexts(p *cluster.Profile, prefix string, c cluster.Config) []text {
	var parts []text
	for i, part := range c.CloudParts {
		if !isJinja(part) {
			parts = append(parts, newText(p, partField(prefix, i), part))
		}
	}
	return append(parts, []text{
		newText(p, prefix+butaneField, c.Butane), newText(p, prefix+ignitionField, c.Ignition),
		newText(p, prefix+cloudField, c.CloudConfig), newText(p, prefix+textField, c.Text),
	}...)
}

// everyMissing goes on after a missing variable as if it were there, until the
// template renders or fails of something else.
func everyMissing(t text, tmpl *program, d *data, err error) []Problem {
	var problems []Problem
	guess := *d
	guess.Variables = plainMap(d.Variables)
	for err != nil && len(problems) < 100 {
		key := missingKey(err)
		_, there := guess.Variables[key]
		again := key != "" && !there
		if again || len(problems) == 0 {
			problems = append(problems, templateProblem(t, err, d.where(key)))
		}
		if !again {
			break
		}
		guess.Variables[key] = ""
		_, err = execute(tmpl, &guess)
	}
	return problems
}

// where says in which documents a variable can be set.
func (d *data) where(key string) string {
	if key == "" {
		return ""
	}
	s := "profile " + d.Profile.Name
	if d.Group != nil {
		s += ", group " + d.Group.Name
	}
	return fmt.Sprintf("variable %q is not set: write variables: {%s: ...} in %s or host %s, or in the template {{ index .Variables %q | default \"...\" }}",
		key, key, s, d.Host.Name, key)
}

// missingKey returns the key of a map that had none, or nothing.
func missingKey(err error) string {
	_, rest, ok := strings.Cut(err.Error(), "map has no entry for key ")
	if !ok {
		return ""
	}
	key, err := strconv.Unquote(rest)
	if err != nil {
		return ""
	}
	return key
}

// templateProblem takes apart what text/template says: "template: x:LINE:COL:
// executing "x" at <EXPR>: REASON", where COL and the middle may be missing. x is
// the template that it is about: an include has its own lines.
func templateProblem(t text, err error, hint string) Problem {
	s, name := err.Error(), templateName
	if i := strings.LastIndex(s, "template: "); i >= 0 { // the innermost, of includes that name each other
		if what, rest, ok := strings.Cut(s[i+len("template: "):], ":"); ok {
			name, s = what, rest
		}
	}
	if _, ok := t.includes[name]; ok {
		t.field, t.source = includesField+"."+name, t.includes[name]
	}
	line := 0
	if number, rest, ok := strings.Cut(s, ":"); ok {
		if n, err := strconv.Atoi(number); err == nil {
			line, s = n, rest
			if column, rest, ok := strings.Cut(s, ":"); ok {
				if _, err := strconv.Atoi(column); err == nil {
					s = rest
				}
			}
		}
	}
	s = strings.TrimSpace(s)
	s = strings.TrimPrefix(s, "executing \""+name+"\" ")
	if begun, ok := strings.CutPrefix(s, "unclosed action started at "+name+":"); ok { // line is where the text ends
		if n, err := strconv.Atoi(begun); err == nil {
			line, s = n, "unclosed action"
		}
	}
	if _, missing, ok := strings.Cut(s, "template "); ok && hint == "" && strings.Contains(missing, " not defined") ||
		strings.Contains(s, "no template ") {
		hint = s + ": " + includesHint(t.includes)
	}
	if hint != "" {
		s = hint
	} else {
		s += ": correct the {{ ... }} there"
	}
	return t.problem(line, "", "%s", s)
}

func includesHint(have cluster.Includes) string {
	if len(have) == 0 {
		return "the profile has no includes: write includes: DIRECTORY in it"
	}
	return "includes: has " + strings.Join(slices.Sorted(maps.Keys(have)), ", ")
}
