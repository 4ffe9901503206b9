package ignition

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/vincent-petithory/dataurl"
)

// What a host is told, in the words in which an operator asks for it.
const (
	ToldIgnition      = "ignition"
	ToldCloudConfig   = "cloud-config"
	ToldText          = "text"
	ToldNetworkConfig = "network-config"
	ToldGeneric       = "generic"
)

// Told is one of the texts of a host's config.
type Told struct {
	What        string
	Body        []byte // with TokenPlaceholder for a token
	ContentType string
}

// Told returns all that the host is told, as it is served, first what the operator
// wrote for it; of Ignition the version that somebody gets who asks for none.
func (c *Config) Told() []Told {
	var out []Told
	add := func(what, contentType string, body []byte, err error) {
		if err == nil && len(body) > 0 {
			out = append(out, Told{what, body, contentType})
		}
	}
	for _, l := range c.Languages() {
		switch l {
		case LanguageIgnition:
			body, err := c.Render("")
			add(ToldIgnition, ContentType, body, err)
		case LanguageText:
			body, err := c.Text()
			add(ToldText, TextType, body, err)
		default:
			body, err := c.RenderCloudConfig()
			add(ToldCloudConfig, c.CloudType(), body, err)
		}
	}
	add(ToldNetworkConfig, "text/yaml", c.NetworkConfig(), nil)
	add(ToldGeneric, TextType, c.Generic(), nil)
	return out
}

// Readable returns an Ignition config in which the texts of files and units are
// lines, for a person who compares two. What cannot be read stays as it is.
func Readable(config []byte) []byte {
	var tree any
	d := json.NewDecoder(bytes.NewReader(config))
	d.UseNumber()
	if d.Decode(&tree) != nil {
		return config
	}
	root, ok := unfold(tree).(map[string]any)
	if !ok {
		return config
	}
	out, err := encode(root)
	if err != nil {
		return config
	}
	return out
}

// unfold makes a list of lines of a text with several, and of a URL that holds one.
func unfold(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if source, ok := v["source"].(string); ok {
			if text, ok := heldBy(source, v["compression"]); ok {
				delete(v, "source")
				delete(v, "compression")
				v["text"] = text
			}
		}
		for k, child := range v {
			v[k] = unfold(child)
		}
	case []any:
		for i, child := range v {
			v[i] = unfold(child)
		}
	case string:
		if lines := strings.SplitAfter(v, "\n"); len(lines) > 1 {
			out := make([]any, 0, len(lines))
			for _, line := range lines {
				if line != "" {
					out = append(out, line)
				}
			}
			return out
		}
	}
	return v
}

// mostRead bounds what a few bytes of gzip may become.
const mostRead = 4 << 20

// heldBy returns the text that a data URL holds.
func heldBy(source string, compression any) (string, bool) {
	if !strings.HasPrefix(source, "data:") {
		return "", false
	}
	u, err := dataurl.DecodeString(source)
	if err != nil {
		return "", false
	}
	text := u.Data
	if packed := fmt.Sprint(compression); packed == "gzip" {
		r, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return "", false
		}
		if text, err = io.ReadAll(io.LimitReader(r, mostRead)); err != nil {
			return "", false
		}
	}
	return string(text), utf8.Valid(text)
}
