package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// The library's own writer loses tabs, and what else in a text is neither
// printable nor quoted by it. What is applied is what is printed back, so texts
// are written here.

// decodeOrdered returns JSON with its objects as yaml.MapSlice, in their order.
func decodeOrdered(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return decodeNext(d)
}

// ordered brings a value that holds yaml.MapSlice, or what JSON can hold, into
// the same form.
func ordered(v any) (any, error) {
	switch v := v.(type) {
	case yaml.MapSlice:
		out := make(yaml.MapSlice, len(v))
		for i, item := range v {
			value, err := ordered(item.Value)
			if err != nil {
				return nil, err
			}
			out[i] = yaml.MapItem{Key: item.Key, Value: value}
		}
		return out, nil
	case []yaml.MapSlice:
		out := make([]any, len(v))
		for i, item := range v {
			var err error
			if out[i], err = ordered(item); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return decodeOrdered(body)
}

func decodeNext(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		out := yaml.MapSlice{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			value, err := decodeNext(d)
			if err != nil {
				return nil, err
			}
			out = append(out, yaml.MapItem{Key: key, Value: value})
		}
		_, err := d.Token()
		return out, err
	case json.Delim('['):
		out := []any{}
		for d.More() {
			value, err := decodeNext(d)
			if err != nil {
				return nil, err
			}
			out = append(out, value)
		}
		_, err := d.Token()
		return out, err
	}
	return t, nil
}

// block returns the lines of a mapping or a list; none for what stands on one
// line, which text returns.
func block(v any) []string {
	var out []string
	switch v := v.(type) {
	case yaml.MapSlice:
		for _, item := range v {
			out = append(out, entryLines(plain(fmt.Sprint(item.Key)), item.Value)...)
		}
	case []any:
		for _, item := range v {
			lines := block(item)
			if len(lines) == 0 {
				lines = text(item)
			}
			out = append(out, "- "+lines[0])
			out = append(out, indent(lines[1:])...)
		}
	}
	return out
}

func entryLines(key string, value any) []string {
	lines := block(value)
	if len(lines) == 0 {
		lines = text(value)
		return append([]string{key + ": " + lines[0]}, indent(lines[1:])...)
	}
	if _, list := value.([]any); !list {
		lines = indent(lines)
	}
	return append([]string{key + ":"}, lines...)
}

func indent(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		if l != "" {
			out[i] = "  " + l
		}
	}
	return out
}

// text returns a value as one line, or as a | and the lines below it, without
// their indentation.
func text(v any) []string {
	switch v := v.(type) {
	case nil:
		return []string{"null"}
	case yaml.MapSlice:
		return []string{"{}"}
	case []any:
		return []string{"[]"}
	case string:
		if literal(v) {
			return append([]string{"|"}, strings.Split(strings.TrimSuffix(v, "\n"), "\n")...)
		}
		return []string{plain(v)}
	}
	return []string{fmt.Sprint(v)}
}

// literal reports whether a text can stand as it is below a |.
func literal(s string) bool {
	if !strings.HasSuffix(s, "\n") || strings.HasSuffix(s, "\n\n") || !utf8.ValidString(s) {
		return false
	}
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" && strings.TrimSpace(line) == "" {
			return false
		}
	}
	if unicode.IsSpace(rune(s[0])) || strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }) {
		return false
	}
	var back map[string]string
	lines := indent(strings.Split(s, "\n"))
	return yaml.Unmarshal([]byte("a: |\n"+strings.Join(lines, "\n")), &back) == nil && back["a"] == s
}

// elsewhere are texts that other readers of YAML take for something else.
var elsewhere = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+|[-+]?[0-9.]+e[-+]?[0-9]+)$`)

// simple are the texts of which most manifests are made: words, paths and
// addresses, which mean themselves but for those of special.
var (
	simple  = regexp.MustCompile(`^([A-Za-z_/][A-Za-z0-9_./-]*|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|([0-9a-f]{2}:){5}[0-9a-f]{2})$`)
	special = regexp.MustCompile(`(?i)^(null|true|false|inf|nan)$`)
)

// plain returns a text without quotes where it is read back as it is, and in
// quotes, as in JSON, elsewhere.
func plain(s string) string {
	printable := s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
	if printable && !elsewhere.MatchString(s) {
		if simple.MatchString(s) && !special.MatchString(s) || readsBack(s) {
			return s
		}
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can be encoded
	return strings.TrimSuffix(b.String(), "\n")
}

// readsBack tries a text without quotes wherever it may stand. That takes longer than
// all else of writing it.
func readsBack(s string) bool {
	var back map[string]any
	var entry []any
	if yaml.Unmarshal([]byte(s+": [\nx,\n"+s+"]\n"), &back) != nil || // as a key, and within brackets
		yaml.Unmarshal([]byte("- "+s+"\n"), &entry) != nil { // and in a list, where "x:" would be a mapping
		return false
	}
	list, ok := back[s].([]any)
	return ok && len(list) == 2 && list[1] == s && len(entry) == 1 && entry[0] == s
}
