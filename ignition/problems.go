package ignition

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// Sentinels on which a server branches.
var (
	// ErrNotAcceptable: the client asked for something that is no Ignition v3
	// config, and would not understand one. Asking again does not help.
	ErrNotAcceptable = errors.New("not acceptable")

	// ErrNoConfig: the host's profile has no config of the kind asked for.
	ErrNoConfig = errors.New("no such config")

	// ErrToken: what was to be filled in is not a token. The error never
	// holds it.
	ErrToken = errors.New("not an introduction token")
)

// Problem is one mistake in the text of a config, or one thing that Butane or
// Ignition warns of.
type Problem struct {
	cluster.Problem        // its Field is config.butane, config.ignition or config.cloud_config
	Line            int    `json:"line,omitempty"` // in the text of that field, from 1; 0 means all of it
	Path            string `json:"path,omitempty"` // in what the template became: storage.files.0.mode
	Warning         bool   `json:"warning,omitempty"`
}

func (p Problem) fatal() bool { return !p.Warning }

// String returns "profile web: config.butane line 12: storage.files.0.mode: ...".
func (p Problem) String() string {
	return p.Ref.String() + ": " + p.Field + p.where()
}

func (p Problem) where() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, " line %d", p.Line)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Message
}

// Error is every mistake that was found in a host's config, at once.
type Error struct {
	Host     cluster.HostName
	Problems []Problem // at least one
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the config of host %s: ", e.Host)
	if len(e.Problems) == 1 {
		b.WriteString(e.Problems[0].String())
	} else {
		fmt.Fprintf(&b, "%d mistakes:", len(e.Problems))
		for _, p := range e.Problems {
			b.WriteString("\n  " + p.String())
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "; then type: pilotlight apply, or pilotlight render %s to see the config", e.Host)
	return b.String()
}

// text is a config in one language: where it stands, and what it says.
type text struct {
	ref      cluster.Ref
	field    string
	source   string // the template
	includes cluster.Includes
}

// newText is a text of a profile.
func newText(p *cluster.Profile, field, source string) text {
	return text{ref: p.Ref(), field: field, source: source, includes: p.Includes}
}

func (t text) problem(line int, path, format string, args ...any) Problem {
	return Problem{
		Problem: cluster.Problem{Ref: t.ref, Field: t.field, Message: fmt.Sprintf(format, args...)},
		Line:    line, Path: path,
	}
}
