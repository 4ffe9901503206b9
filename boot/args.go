package boot

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"text/template"

	"github.com/pilotlight/pilotlight/cluster"
)

// ArgsError is every kernel argument of a machine that cannot be filled in.
type ArgsError struct{ Problems []cluster.Problem }

// Error implements error.
func (e *ArgsError) Error() string {
	words := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		words[i] = p.String()
	}
	return strings.Join(words, "; ")
}

func (e *ArgsError) add(of cluster.Ref, field, text string, err error, t cluster.Target) {
	e.Problems = append(e.Problems, cluster.Problem{Ref: of, Field: field, Message: fmt.Sprintf("%q: %s", text, argWords(err, t))})
}

const argName = "argument"

// parsed are arguments that were parsed, by their text. Documents have the same few
// for all hosts, and each boot expands them.
var parsed struct {
	mu     sync.RWMutex
	byText map[string]*template.Template
}

// parsedMost bounds what is left over of documents that have changed since.
const parsedMost = 4096

func parseArg(text string) (*template.Template, error) {
	parsed.mu.RLock()
	t, ok := parsed.byText[text]
	parsed.mu.RUnlock()
	if ok {
		return t, nil
	}
	t, err := template.New(argName).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, err
	}
	parsed.mu.Lock()
	defer parsed.mu.Unlock()
	if parsed.byText == nil || len(parsed.byText) >= parsedMost {
		parsed.byText = map[string]*template.Template{}
	}
	parsed.byText[text] = t
	return t, nil
}

// CheckArgs finds arguments that are no templates, whatever they are filled in with.
func CheckArgs(of cluster.Ref, field string, args []string) []cluster.Problem {
	wrong := new(ArgsError)
	for i, text := range args {
		if _, err := parseArg(text); err != nil {
			wrong.add(of, fmt.Sprintf("%s[%d]", field, i), text, err, cluster.Target{})
		}
	}
	return wrong.Problems
}

var (
	argPrefix  = regexp.MustCompile(`^template: ` + argName + `:(\d+:)+ (executing "` + argName + `" )?`)
	missingKey = regexp.MustCompile(`map has no entry for key "(.*)"$`)
)

// argWords says what is wrong with an argument without the words in which
// text/template talks to programmers.
func argWords(err error, t cluster.Target) string {
	if m := missingKey.FindStringSubmatch(err.Error()); m != nil && t.Profile != nil {
		in := "profile " + t.Profile.Name
		if t.Group != nil {
			in += ", group " + t.Group.Name
		}
		return fmt.Sprintf("variable %q is not set: write variables: {%s: ...} in %s or host %s", m[1], m[1], in, t.Host.Name)
	}
	said := err.Error()
	if words := argPrefix.ReplaceAllString(said, ""); words != said {
		return words + ": correct the {{ ... }} there"
	}
	return said
}
