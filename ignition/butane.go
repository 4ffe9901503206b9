package ignition

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	butane "github.com/coreos/butane/config"
	"github.com/coreos/butane/config/common"
	"github.com/coreos/vcontext/report"
	"gopkg.in/yaml.v3"
)

// butaneVariants are the variants and versions that may be used, the newest
// last: the stable ones for the two systems that pilotlight boots. An
// experimental version would become an experimental Ignition spec, which no
// released client reads.
var butaneVariants = map[string][]string{
	"fcos":    {"1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0", "1.6.0", "1.7.0"},
	"flatcar": {"1.0.0", "1.1.0"},
}

// translateButane returns the Ignition config of a Butane config.
func translateButane(t text, rendered string, at lines) ([]byte, []Problem) {
	if p, ok := checkVariant(t, rendered, at); !ok {
		return nil, []Problem{p}
	}
	out, rep, err := butane.TranslateBytes([]byte(rendered), common.TranslateBytesOptions{})
	problems := fromReport(t, rep, at)
	if err != nil && !slices.ContainsFunc(problems, Problem.fatal) {
		problems = append(problems, fromButaneError(t, err, at)...)
	}
	return out, problems
}

// checkVariant says which variants there are when the config's is another.
// Butane reads configs that are no host's (openshift's machine configs).
func checkVariant(t text, rendered string, at lines) (Problem, bool) {
	var head struct{ Variant, Version yaml.Node }
	if yaml.Unmarshal([]byte(rendered), &head) != nil || head.Variant.Value == "" || head.Version.Value == "" {
		return Problem{}, true // no YAML, or none of a Butane config: Butane says
	}
	variant, version := head.Variant.Value, head.Version.Value
	versions, ok := butaneVariants[variant]
	if !ok {
		return t.problem(at.of(head.Variant.Line), "variant", "%q is not one that pilotlight boots: write variant: fcos, or variant: flatcar", variant), false
	}
	if !slices.Contains(versions, version) {
		return t.problem(at.of(head.Version.Line), "version", "%q is not a stable version of %s: write one of %s",
			version, variant, strings.Join(versions, ", ")), false
	}
	return Problem{}, true
}

// fromReport turns every entry of a report into a Problem.
func fromReport(t text, rep report.Report, at lines) []Problem {
	var problems []Problem
	for _, e := range rep.Entries {
		line := 0
		if e.Marker.StartP != nil {
			line = at.of(int(e.Marker.StartP.Line))
		}
		p := t.problem(line, pathOf(e), "%s", withHint(e.Message))
		p.Warning = !e.Kind.IsFatal() && !misspelt(e.Message)
		problems = append(problems, p)
	}
	return problems
}

// misspelt reports whether a warning is of something that has no effect, or
// another than the one that was meant. Such a config is refused.
func misspelt(message string) bool {
	return strings.HasPrefix(message, "unused key") ||
		message == common.ErrDecimalMode.Error()
}

var (
	yamlLine    = regexp.MustCompile(`line (\d+): (.*)`)
	anyVariants = "write variant: fcos and version: 1.5.0, or variant: flatcar and version: 1.1.0, at the top"
)

// fromButaneError turns an error without a report into Problems: text that is
// not YAML, or values of a wrong type, of which there can be several.
func fromButaneError(t text, err error, at lines) []Problem {
	var problems []Problem
	for _, m := range yamlLine.FindAllStringSubmatch(err.Error(), -1) {
		n, _ := strconv.Atoi(m[1])
		problems = append(problems, t.problem(at.of(n), "", "%s", withHint(m[2])))
	}
	if problems == nil {
		problems = []Problem{t.problem(0, "", "%s", withHint(err.Error()))}
	}
	return problems
}

// hints say what to type, by how Butane's or Ignition's message begins.
var hints = []struct{ begins, hint string }{
	{common.ErrNoFilesDir.Error(), "files of the server are not read: write the text in the config with inline:"},
	{common.ErrNoVariant.Error(), anyVariants},
	{common.ErrInvalidVersion.Error(), anyVariants},
	{"No translator exists", anyVariants},
	{common.ErrDecimalMode.Error(), "write mode: 0644"},
	{"unused key", "correct its name or its indentation, or take it out"},
	{"cannot unmarshal", "write a value of that type; text with special characters goes through {{ ... | quote }}"},
	{"could not find expected", "correct the indentation, or quote the value with {{ ... | quote }}"},
	{"did not find expected", "correct the indentation, or quote the value with {{ ... | quote }}"},
	{"mapping values are not allowed", "quote the value with {{ ... | quote }}"},
	{"found character that cannot start", "quote the value, and indent with spaces"},
	{"mapping key", "write it once"},
	{"duplicate entry defined", "write it once"},
	{"path not absolute", "begin it with /"},
	{"unable to parse url", "write it like https://example.org/file"},
	{"invalid url scheme", "write it like https://example.org/file"},
	{"malformed hash specifier", "write sha256- and 64 hexadecimal digits"},
	{"incorrect size for hash sum", "write sha256- and 64 hexadecimal digits"},
	{"unrecognized hash function", "write sha256- or sha512- and the digits"},
}

func withHint(message string) string {
	for _, h := range hints {
		if strings.HasPrefix(message, h.begins) {
			return message + ": " + h.hint
		}
	}
	return message + ": correct it; https://coreos.github.io/butane/specs/ has the fields"
}
