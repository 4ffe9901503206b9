package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
)

var update = flag.Bool("update", false, "write docs/reference anew")

// golden compares a page of docs/reference with what the code says today.
func golden(t *testing.T, name string, want []byte) {
	t.Helper()
	path := filepath.Join("../../docs/reference", name)
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the code says; type: go test ./cmd/pilotlight -run Reference -update", path)
	}
}

// TestReferenceCommands makes docs/reference/commands.md from the command tree.
func TestReferenceCommands(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Commands\n\nMade from the code. Every command has `--help`; exit codes are 0 done, 1 failed, 2 wrong usage, 3 `diff` found changes.\n")
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Runnable() && !cmd.HasSubCommands() {
			fmt.Fprintf(&b, "\n## %s\n\n", cmd.CommandPath())
			text := cmd.Long
			if text == "" {
				text = cmd.Short + "."
			}
			fmt.Fprintf(&b, "%s\n\n    %s\n\nExample:\n\n%s\n", text, cmd.UseLine(), indent(cmd.Example))
			if flags := cmd.LocalNonPersistentFlags().FlagUsages(); flags != "" {
				fmt.Fprintf(&b, "\nFlags:\n\n%s\n", indent(strings.TrimRight(flags, "\n")))
			}
		}
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" && !sub.Hidden {
				visit(sub)
			}
		}
	}
	root := newRoot(&cli{})
	visit(root)
	fmt.Fprintf(&b, "\n## Flags of every command\n\n%s\n", indent(strings.TrimRight(root.PersistentFlags().FlagUsages(), "\n")))
	golden(t, "commands.md", b.Bytes())
}

func indent(s string) string { return "    " + strings.ReplaceAll(s, "\n", "\n    ") }

// TestReferenceDocuments makes docs/reference/documents.md from the words'
// types and their comments.
func TestReferenceDocuments(t *testing.T) {
	comments := wordComments(t)
	var b bytes.Buffer
	b.WriteString("# Documents\n\nMade from the code. Every document has `kind`, `name` and, where it helps, `labels`.\n" +
		"A site's `services` are written as in Compose; see [manifests](../manifests.md).\n")
	seen := map[reflect.Type]bool{}
	for _, k := range cluster.Kinds {
		d, err := cluster.New(k)
		if err != nil {
			t.Fatal(err)
		}
		typ := reflect.TypeOf(d).Elem()
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", k, comments[typ.Name()])
		writeFields(&b, typ, "", comments, seen)
	}
	b.WriteString("\n## DHCP options\n\nWhat `options:` knows by name; of any other write the number. A value may be 0x and hexadecimal digits in all of them.\n" +
		"\n| name | number | its value |\n|---|---|---|\n")
	for _, o := range cluster.KnownOptions() {
		fmt.Fprintf(&b, "| %s | %d | %s |\n", o.Name, o.Code, o.Holds)
	}
	golden(t, "documents.md", b.Bytes())
}

func writeFields(b *bytes.Buffer, typ reflect.Type, prefix string, comments map[string]string, seen map[reflect.Type]bool) {
	if prefix == "" {
		b.WriteString("\n| field | type | what it says |\n|---|---|---|\n")
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			continue // Meta
		}
		if typ.Name() == "Site" && name == "services" {
			b.WriteString("| services | Compose's | the containers |\n")
			continue
		}
		fmt.Fprintf(b, "| %s%s | %s | %s |\n", prefix, name, typeWord(f.Type), comments[typ.Name()+"."+f.Name])
		s, below := f.Type, prefix+name+"."
		if s.Kind() == reflect.Slice {
			s, below = s.Elem(), prefix+name+"[]."
		}
		if s.Kind() == reflect.Pointer {
			s = s.Elem()
		}
		if s.Kind() == reflect.Struct && (s.Name() != "File" || f.Type.Kind() != reflect.Slice) && strings.HasSuffix(s.PkgPath(), "/cluster") && s.NumField() > 0 && s.Field(0).Tag.Get("json") != "" {
			writeFields(b, s, below, comments, seen)
		}
	}
}

// typeWord says what to write for a type.
func typeWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeWord(t.Elem())
	case reflect.Slice:
		return "list of " + typeWord(t.Elem())
	case reflect.Map:
		return "mapping"
	case reflect.Int:
		return "number"
	case reflect.Bool:
		return "true or false"
	}
	switch t.Name() {
	case "Prefix":
		return "network, 10.0.0.0/24"
	case "Addr":
		return "IP address"
	case "MAC":
		return "MAC address"
	case "Duration":
		return "duration, 12h"
	case "Range":
		return "addresses, 10.0.0.100-10.0.0.200"
	case "Octets":
		return "text, or 0x0a0b"
	case "File":
		return "url and sha256"
	case "PortRange":
		return "port, or ports, 8000-8100"
	case "Source":
		return "network, 10.0.0.0/24, or IP address"
	case "string":
		return "text"
	}
	if t.Kind() == reflect.Struct {
		return "mapping"
	}
	if thing, ok := strings.CutSuffix(t.Name(), "Name"); ok {
		article := "a"
		if strings.ContainsRune("AEIOU", rune(thing[0])) {
			article = "an"
		}
		return "name of " + article + " " + strings.ToLower(thing)
	}
	return "word"
}

// wordComments returns the comments of package cluster's types and fields.
func wordComments(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, err := filepath.Glob("../../cluster/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			g, ok := n.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				return true
			}
			for _, spec := range g.Specs {
				s := spec.(*ast.TypeSpec)
				out[s.Name.Name] = strings.TrimSpace(g.Doc.Text())
				fields, ok := s.Type.(*ast.StructType)
				if !ok {
					continue
				}
				for _, field := range fields.Fields.List {
					for _, name := range field.Names {
						out[s.Name.Name+"."+name.Name] = strings.TrimSpace(field.Comment.Text())
					}
				}
			}
			return true
		})
	}
	return out
}
