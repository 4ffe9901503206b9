// Package moving is what the importers share: those who have matchbox, Cobbler or
// dnsmasq get their machines as documents, and a list of what has no place there.
//
// The importers below it are pure: they read what they are handed and fetch
// nothing. What they cannot say in a document they say in a Note; nothing is left
// out without one.
package moving

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// Sort is what became of that which a Note is about.
type Sort int

// The sorts.
const (
	Lost    Sort = iota // it is not in the documents
	Waiting             // it will be, when something is there that it names
	Differs             // it is, and does not do quite the same
)

// Note is something that did not map, and where it stands.
type Note struct {
	File string
	Line int // from 1; 0 when it is about the whole file
	Text string
	Sort Sort
}

// String returns FILE:LINE: what did not map, and what to do.
func (n Note) String() string {
	if n.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Text)
	}
	return n.File + ": " + n.Text
}

// Word says what became of it.
func (n Note) Word() string {
	if n.Sort == Differs {
		return "differs"
	}
	return "not imported"
}

// Result is what an import comes to.
type Result struct {
	Documents []cluster.Document
	Notes     []Note
}

// Add adds a document, unless there is one of its kind and name.
func (r *Result) Add(d cluster.Document) bool {
	if slices.ContainsFunc(r.Documents, func(o cluster.Document) bool { return o.Ref() == d.Ref() }) {
		return false
	}
	r.Documents = append(r.Documents, d)
	return true
}

// Notef notes what did not map.
func (r *Result) Notef(file string, line int, format string, a ...any) {
	r.Notes = append(r.Notes, Note{File: file, Line: line, Text: fmt.Sprintf(format, a...)})
}

// Waitf notes what waits for something else.
func (r *Result) Waitf(file string, format string, a ...any) {
	r.Notes = append(r.Notes, Note{File: file, Text: fmt.Sprintf(format, a...), Sort: Waiting})
}

// Differf notes what does not do quite the same.
func (r *Result) Differf(file string, format string, a ...any) {
	r.Notes = append(r.Notes, Note{File: file, Text: fmt.Sprintf(format, a...), Sort: Differs})
}

// Sort brings documents into the order of their kinds and names, and notes into
// that of their places; what is said twice is said once.
func (r *Result) Sort() {
	slices.SortStableFunc(r.Documents, func(a, b cluster.Document) int {
		x, y := a.Ref(), b.Ref()
		return cmp.Or(cmp.Compare(slices.Index(cluster.Kinds, x.Kind), slices.Index(cluster.Kinds, y.Kind)), cmp.Compare(x.Name, y.Name))
	})
	slices.SortStableFunc(r.Notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	r.Notes = slices.Compact(r.Notes)
}

// Name makes the name of a document of what others call a thing: theirs where it
// is one; else in lower case, with - for what a name cannot hold. So two of theirs
// may become one of ours, which whoever adds the second has to say (Result.Add). Of
// what is too long the rest is a digest.
func Name(theirs string) string {
	const longest, digest = 63, 6
	word := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(theirs))
	for strings.Contains(word, "..") {
		word = strings.ReplaceAll(word, "..", ".")
	}
	word = strings.Trim(word, "-.")
	if word != "" && len(word) <= longest {
		return word
	}
	word = strings.TrimRight(word[:min(len(word), longest-digest-1)], "-.")
	return strings.TrimLeft(word+"-"+Digest(theirs)[:digest], "-")
}

// ParseMAC reads the address of a machine, which is neither none nor a group's.
func ParseMAC(s string) (cluster.MAC, error) {
	m, err := cluster.ParseMAC(s)
	if err == nil && (m.IsZero() || m[0]&1 == 1) {
		err = fmt.Errorf("%s is no machine's address", m)
	}
	return m, err
}

// AddressProblem says why a network has no such address for a host, or nothing.
func AddressProblem(n *cluster.Network, a netip.Addr) string {
	alone := *n
	host := &cluster.Host{Meta: cluster.Meta{Name: "made-up"}, Address: a}
	for _, p := range cluster.Check([]cluster.Document{&alone, host}) {
		if p.Ref == host.Ref() && p.Field == "address" {
			return p.Message
		}
	}
	return ""
}

// Digest is a sha256 in hexadecimal.
func Digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// Text makes a template's text one that a manifest does not take for the name of a
// file.
func Text(s string) string {
	if !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return s
}

// Literal keeps a text that is no template from being read as one.
func Literal(s string) string { return strings.ReplaceAll(s, "{{", `{{ "{{" }}`) }

// ArchOf guesses an architecture by a file's name.
func ArchOf(name string) cluster.Arch {
	if l := strings.ToLower(name); strings.Contains(l, "aarch64") || strings.Contains(l, "arm64") {
		return cluster.AArch64
	}
	return ""
}
