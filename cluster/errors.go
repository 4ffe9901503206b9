package cluster

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinels on which callers branch.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("changed meanwhile") // the caller read an older revision than there is
)

// NoProfileError says that nothing tells how a host is to be booted.
type NoProfileError struct{ Host HostName }

// Error implements error.
func (e *NoProfileError) Error() string {
	return fmt.Sprintf("host %s gets no profile: set its profile:, or apply a group whose match: takes it", e.Host)
}

// MissingError says that one document names another that was not applied.
type MissingError struct {
	Ref      Ref
	NeededBy Ref
}

// Error implements error.
func (e *MissingError) Error() string {
	return fmt.Sprintf("%s names %s, which does not exist: apply a document with kind: %s and name: %s",
		e.NeededBy, e.Ref, e.Ref.Kind, e.Ref.Name)
}

// Is makes a MissingError an ErrNotFound.
func (e *MissingError) Is(target error) bool { return target == ErrNotFound }

// LeaseConflictError says that leases are not as their writer believed: another
// server was faster. It is an ErrConflict, and nothing was written.
type LeaseConflictError struct {
	Leases []Lease // as they are; one that is not there has an address and no MAC
}

// Error implements error.
func (e *LeaseConflictError) Error() string {
	words := make([]string, len(e.Leases))
	for i, l := range e.Leases {
		words[i] = l.Address.String()
		if !l.MAC.IsZero() {
			words[i] += " of " + l.MAC.String()
		}
	}
	return fmt.Sprintf("another server changed the leases %s meanwhile", strings.Join(words, ", "))
}

// Is makes a LeaseConflictError an ErrConflict.
func (e *LeaseConflictError) Is(target error) bool { return target == ErrConflict }

// Problem is one mistake in what was applied.
type Problem struct {
	Ref     Ref    `json:"ref"`
	Field   string `json:"field"`          // its path in the document: services.web.image
	Line    int    `json:"line,omitempty"` // in the text of a field that is a template, from 1
	For     Ref    `json:"for,omitzero"`   // the host for which it is one
	Message string `json:"message"`
}

// Text is what is wrong, with the line of the template and the host.
func (p Problem) Text() string {
	text := p.Message
	if p.Line > 0 {
		text = fmt.Sprintf("line %d of the template: %s", p.Line, text)
	}
	if p.For != (Ref{}) && p.For != p.Ref {
		text = fmt.Sprintf("%s (for %s)", text, p.For)
	}
	return text
}

// Refs are the documents that problems are in.
func Refs(problems []Problem) map[Ref]bool {
	out := make(map[Ref]bool, len(problems))
	for _, p := range problems {
		out[p.Ref] = true
	}
	return out
}

// String returns "site www: services.web.image: ...".
func (p Problem) String() string {
	if p.Field == "" {
		return p.Ref.String() + ": " + p.Text()
	}
	return p.Ref.String() + ": " + p.Field + ": " + p.Text()
}
