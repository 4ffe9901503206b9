// Package manifest reads what operators write, YAML, into the words of package
// cluster, and writes it back.
//
// It reports every mistake of every file at once, each with file, line, field
// and what to type. It does not decide whether documents fit together (that is
// cluster.Check; Set gives its answers their places) and writes nothing.
package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/pilotlight/pilotlight/cluster"
)

// Mistake is one thing that is wrong in a manifest, and where.
type Mistake struct {
	File    string
	Line    int         // from 1; 0 when the mistake is about the whole file
	Column  int         // from 1; 0 when it is not known
	Ref     cluster.Ref // the zero Ref when the document has no kind or name yet
	Field   string
	Message string
}

// String returns FILE:LINE:COLUMN: host web1: macs[0]: what is wrong.
func (m Mistake) String() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.Line > 0 {
		fmt.Fprintf(&b, ":%d", m.Line)
	}
	if m.Column > 0 {
		fmt.Fprintf(&b, ":%d", m.Column)
	}
	if m.Ref != (cluster.Ref{}) {
		b.WriteString(": " + strings.TrimSpace(m.Ref.String()))
	}
	if m.Field != "" {
		b.WriteString(": " + m.Field)
	}
	return b.String() + ": " + m.Message
}

// Mistakes is every mistake of a set. It is the error that Load returns.
type Mistakes []Mistake

// Error implements error: one mistake a line.
func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// Set is what was read from one or more files.
type Set struct {
	Documents []cluster.Document
	mistakes  Mistakes
	origins   map[cluster.Ref]*origin
}

// origin is where a document and each of its fields was written.
type origin struct {
	file   string
	fields map[string]place  // by path; "" is the document itself
	texts  map[string]string // the files that fields' texts were taken from
}

type place struct{ line, column int }

// Load reads the manifests at paths: files, or directories with all their
// *.yaml and *.yml files, hidden ones and hidden directories left out. Its
// error is a Mistakes, or says that something could not be read. Files that the
// manifests name (templates, images) are taken relative to the manifest.
func Load(paths ...string) (*Set, error) {
	s, err := Read(paths...)
	if err != nil {
		return nil, err
	}
	if err := s.Whole(nil); err != nil {
		return nil, err
	}
	return s, nil
}

// LoadWhole is Load for manifests that are all there is: what they say of each
// other is checked too, and by verify what cluster.Check cannot know, and mistakes
// of all sorts are reported together. verify may be nil; it is told in which
// documents there are mistakes already.
func LoadWhole(verify func(whole *cluster.Snapshot, wrong map[cluster.Ref]bool) []cluster.Problem, paths ...string) (*Set, error) {
	s, err := Read(paths...)
	if err != nil {
		return nil, err
	}
	problems := cluster.Check(s.Documents)
	if verify != nil {
		wrong := cluster.Refs(problems)
		for _, ref := range s.Wrong() {
			wrong[ref] = true
		}
		problems = append(problems, verify(cluster.NewSnapshot(0, s.Documents), wrong)...)
	}
	if err := s.Whole(problems); err != nil {
		return nil, err
	}
	return s, nil
}

// Wrong returns the documents in which something could not be read.
func (s *Set) Wrong() (out []cluster.Ref) {
	for _, m := range s.mistakes {
		if m.Ref != (cluster.Ref{}) && !slices.Contains(out, m.Ref) {
			out = append(out, m.Ref)
		}
	}
	return out
}

// Whole returns all that could not be read, and problems that were found in the rest,
// as one error; nil when there is nothing wrong.
func (s *Set) Whole(problems []cluster.Problem) error {
	read := s.mistakes
	for _, m := range s.place(problems) {
		if !slices.ContainsFunc(read, m.follows) {
			s.mistakes = append(s.mistakes, m)
		}
	}
	if len(s.mistakes) > 0 {
		return s.sorted()
	}
	return nil
}

// follows reports whether m may be no mistake of its own: what could not be
// read at a field is missing there.
func (m Mistake) follows(from Mistake) bool {
	return m.Ref == from.Ref && (strings.HasPrefix(from.Field, m.Field) || strings.HasPrefix(m.Field, from.Field))
}

// Read is Load that leaves out what it cannot read: see Set.Whole.
func Read(paths ...string) (*Set, error) {
	s := &Set{origins: map[cluster.Ref]*origin{}}
	for _, p := range paths {
		files, err := find(p)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", err)
			}
			s.parse(f, text)
		}
	}
	return s, nil
}

// Parse reads one manifest that is already in memory. name stands for its file.
func Parse(name string, text []byte) (*Set, error) {
	s := ReadText(name, text)
	if err := s.Whole(nil); err != nil {
		return nil, err
	}
	return s, nil
}

// ReadText is Parse that leaves out what it cannot read.
func ReadText(name string, text []byte) *Set {
	s := &Set{origins: map[cluster.Ref]*origin{}}
	s.parse(name, text)
	return s
}

func find(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && p != path
		switch {
		case hidden && d.IsDir():
			return filepath.SkipDir
		case hidden || d.IsDir():
			return nil
		}
		if ext := filepath.Ext(p); ext == ".yaml" || ext == ".yml" {
			files = append(files, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no manifest (*.yaml, *.yml) in %s: see examples/quickstart for a first one", path)
	}
	return files, nil
}

func (s *Set) parse(file string, text []byte) {
	if len(text) > maxFile || flowDepth(text) > maxDepth {
		s.mistakes = append(s.mistakes, Mistake{File: file, Message: fmt.Sprintf("is longer than %d MiB, or nested deeper than %d brackets; split it", maxFile>>20, maxDepth)})
		return
	}
	docs, err := parseDocuments(bytes.TrimPrefix(text, []byte("\ufeff")))
	if err != nil {
		m := syntaxMistake(file, err)
		if bytes.HasPrefix(text, []byte("#cloud-config")) || bytes.HasPrefix(text, []byte("variant:")) {
			m.Message += "; if it is a config that a profile names, call it otherwise than *.yaml, which are manifests"
		}
		s.mistakes = append(s.mistakes, m)
		return
	}
	for _, doc := range docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		s.document(file, doc.Body)
	}
}

// parseDocuments parses the documents of a file one by one: the library takes the
// square of their number for all together, and leaves out what comes after an empty
// one.
func parseDocuments(text []byte) (docs []*ast.DocumentNode, err error) {
	tokens := lexer.Tokenize(string(text))
	for from, i := 0, 1; i <= len(tokens); i++ {
		if i < len(tokens) && tokens[i].Type != token.DocumentHeaderType {
			continue
		}
		// Duplicate keys are noted by the decoder, which goes on after them.
		tree, err := parser.Parse(tokens[from:i], 0, parser.AllowDuplicateMapKey())
		if err != nil {
			return nil, err
		}
		docs = append(docs, tree.Docs...)
		from = i
	}
	return docs, nil
}

// What is no manifest, and would take long to be found out.
const (
	maxFile  = 16 << 20
	maxDepth = 1000
)

// flowDepth returns how deep the brackets of text nest, quoted or not.
func flowDepth(text []byte) (deepest int) {
	depth := 0
	for _, b := range text {
		switch b {
		case '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ']', '}':
			depth = max(0, depth-1)
		}
	}
	return deepest
}

func syntaxMistake(file string, err error) Mistake {
	m := Mistake{File: file, Message: "is not YAML: " + firstLine(err.Error())}
	var located yaml.Error
	if errors.As(err, &located) {
		m.Message = "is not YAML: " + located.GetMessage()
		if t := located.GetToken(); t != nil {
			m.Line, m.Column = t.Position.Line, t.Position.Column
		}
	}
	return m
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func (s *Set) document(file string, body ast.Node) {
	d := &decoder{file: file, origin: &origin{file, map[string]place{"": at(body)}, map[string]string{}}, anchors: findAnchors(body)}
	doc := d.document(body)
	for _, m := range d.mistakes {
		m.Ref = d.ref
		s.mistakes = append(s.mistakes, m)
	}
	if doc == nil {
		return
	}
	if doc.Ref().Name == "" {
		if !slices.ContainsFunc(d.mistakes, func(m Mistake) bool { return m.Field == "name" }) {
			at := d.origin.find("name")
			s.mistakes = append(s.mistakes, Mistake{
				File: file, Line: at.line, Column: at.column, Ref: doc.Ref(), Field: "name",
				Message: fmt.Sprintf("is missing; write name: and what this %s is called", doc.Ref().Kind),
			})
		}
		return
	}
	if first, twice := s.origins[doc.Ref()]; twice {
		s.mistakes = append(s.mistakes, Mistake{
			File: file, Line: d.origin.fields[""].line, Column: 1, Ref: doc.Ref(), Field: "name",
			Message: fmt.Sprintf("is already the name of a %s at %s:%d; rename one", doc.Ref().Kind, first.file, first.fields[""].line),
		})
		return
	}
	s.origins[doc.Ref()] = d.origin
	s.Documents = append(s.Documents, doc)
}

// Place turns problems into mistakes, each with the place where it was written.
// A problem of a document that is not in the set keeps its name only.
func (s *Set) Place(problems []cluster.Problem) error {
	if len(problems) == 0 {
		return nil
	}
	s.mistakes = s.place(problems)
	return s.sorted()
}

// Places gives problems their places, and takes none for a mistake of the set.
func (s *Set) Places(problems []cluster.Problem) Mistakes { return s.place(problems) }

func (s *Set) place(problems []cluster.Problem) Mistakes {
	out := make(Mistakes, 0, len(problems))
	for _, p := range problems {
		out = append(out, s.mistake(p))
	}
	return out
}

// mistake finds the place of a problem: the line of the template's own file, the
// field, or, where something that is applied already is wrong for a host of the
// set, that host.
func (s *Set) mistake(p cluster.Problem) Mistake {
	m := Mistake{Ref: p.Ref, Field: p.Field, Message: p.Text()}
	if o, ok := s.origins[p.Ref]; ok {
		at := o.find(p.Field)
		m.File, m.Line, m.Column = o.file, at.line, at.column
		if file := o.texts[p.Field]; file != "" && p.Line > 0 {
			m.File, m.Line, m.Column = file, p.Line, 0
			p.Line = 0 // said
			m.Message = p.Text()
		}
		return m
	}
	m.File = "already applied"
	if o, ok := s.origins[p.For]; ok {
		at := o.find("")
		m = Mistake{File: o.file, Line: at.line, Column: at.column, Ref: p.For}
		p.For = cluster.Ref{} // said
		m.Message = p.String()
	}
	return m
}

// find returns where a field was written, or the nearest thing around it.
func (o *origin) find(field string) place {
	for {
		if p, ok := o.fields[field]; ok {
			return p
		}
		field = field[:max(0, strings.LastIndexAny(field, ".["))]
	}
}

func (s *Set) sorted() error {
	slices.SortStableFunc(s.mistakes, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	s.mistakes = slices.Compact(s.mistakes) // an alias may be followed twice
	return s.mistakes
}

// YAML returns documents as the manifest that would be applied to have them.
func YAML(docs ...cluster.Document) ([]byte, error) {
	var out []byte
	for i, d := range docs {
		body, err := cluster.MarshalDocument(d)
		if err != nil {
			return nil, err
		}
		text, err := toYAML(d, body)
		if err != nil {
			return nil, fmt.Errorf("write %s as YAML: %w", d.Ref(), err)
		}
		if i > 0 {
			out = append(out, "---\n"...)
		}
		out = append(out, text...)
	}
	return out, nil
}
