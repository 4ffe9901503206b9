package ignition

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	v3_6 "github.com/coreos/ignition/v2/config/v3_6"
	v36 "github.com/coreos/ignition/v2/config/v3_6/types"
)

// The fields of a profile in which a config stands.
const (
	butaneField   = "config.butane"
	genericField  = "generic"
	ignitionField = "config.ignition"
	cloudField    = "config.cloud_config"
	textField     = "config.text"
	networkField  = "network_config"
	includesField = "includes"

	installPrefix = "install." // before them where the installer's config stands
)

// shape is an Ignition config but for what is one host's alone. All hosts for
// which a template renders to the same text share it, and with it all the work
// of Butane and the checks. It is immutable.
type shape struct {
	text     text
	pieces   pieces
	hash     [newest + 1]string // of the agent's binary, for each version of the spec
	refusal  [newest + 1]error  // nil where the version can hold the config
	lowest   int
	digest   []byte
	problems []Problem // when one is fatal there is nothing else
}

// document is the Ignition config of one host.
type document struct {
	shape *shape
	agent string // the agent's configuration in base64
	name  string // the host's, escaped for a URL
}

func (d *document) body(minor int, token string) []byte {
	return d.shape.pieces.fill(&values{
		holeVersion: specs[minor].version, holeHash: d.shape.hash[minor],
		holeAgent: d.agent, holeName: d.name, holeToken: token,
	})
}

// newShape turns a rendered template into a shape. moldOf makes a mold of an
// outline, or remembers it.
func newShape(t text, rendered string, at lines, p part, keys []string, moldOf molder) *shape {
	s := &shape{text: t, lowest: lowest}
	body, needs, ok := s.cast(rendered, p, keys, moldOf)
	if !ok {
		body, needs, ok = s.draw(rendered, at, p, keys)
		if !ok {
			return s
		}
		if err := s.finish(body, needs, p); err != nil {
			s.say(err)
		} else if err := s.check(); err != nil {
			s.say(err)
		}
		return s
	}
	if err := s.finish(body, needs, p); err != nil { // the mold was checked when it was made
		s.say(err)
	}
	return s
}

// molder makes the mold of an outline, or remembers it. There may be none.
type molder func(t text, o *outline, p part, keys []string) *mold

// cast fills a mold in, where there is one.
func (s *shape) cast(rendered string, p part, keys []string, moldOf molder) (body []byte, n needs, ok bool) {
	if strings.TrimPrefix(s.text.field, installPrefix) != butaneField {
		return nil, n, false
	}
	o := outlineOf(rendered)
	if o == nil {
		return nil, n, false
	}
	m := moldOf(s.text, o, p, keys)
	if m == nil {
		return nil, n, false
	}
	body, err := m.fill(o.texts)
	return body, m.needs, err == nil
}

// draw returns the config with pilotlight's part as it is served, but for its
// holes, and what each version of the spec cannot say of it; or it notes what is
// wrong.
func (s *shape) draw(rendered string, at lines, p part, keys []string) (body []byte, n needs, ok bool) {
	cfg := s.read(rendered, at)
	if s.bad() {
		return nil, n, false
	}
	if s.problems = append(s.problems, conflicts(s.text, p, &cfg, written{rendered, at})...); s.bad() {
		return nil, n, false
	}
	if s.problems = append(s.problems, p.added.clashes(s.text, p, false, inIgnition(&cfg))...); s.bad() {
		return nil, n, false
	}
	cfg = p.added.ignition(cfg)
	n, err := express(cfg)
	if err == nil {
		body, err = encodeConfig(addOwn(cfg, p, keys))
	}
	if err != nil {
		s.say(err)
	}
	return body, n, err == nil
}

func (s *shape) say(err error) { s.problems = append(s.problems, s.text.problem(0, "", "%v", err)) }

func (s *shape) bad() bool { return slices.ContainsFunc(s.problems, Problem.fatal) }

// read returns the operator's config in the newest version of the spec.
func (s *shape) read(rendered string, at lines) (cfg v36.Config) {
	switch strings.TrimPrefix(s.text.field, installPrefix) {
	case butaneField:
		var raw []byte
		if raw, s.problems = translateButane(s.text, rendered, at); s.bad() {
			return cfg
		}
		// Butane has warned already, with the lines of what the operator wrote.
		cfg, problems := s.parse(raw, nil)
		s.problems = append(s.problems, slices.DeleteFunc(problems, func(p Problem) bool { return p.Warning })...)
		return cfg
	case ignitionField:
		cfg, s.problems = s.parse([]byte(rendered), at)
	}
	return cfg
}

var anyVersion = regexp.MustCompile(`"version"\s*:\s*"([^"]*)"`)

// parse reads a config of any version of the spec that is served.
func (s *shape) parse(raw []byte, at lines) (v36.Config, []Problem) {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(raw, new(any)); errors.As(err, &syntax) {
		line := 1 + bytes.Count(raw[:min(syntax.Offset, int64(len(raw)))], []byte("\n"))
		return v36.Config{}, []Problem{s.text.problem(at.of(line), "", "%v: correct the JSON there, and write values as {{ ... | json }}", err)}
	}
	cfg, rep, err := v3_6.ParseCompatibleVersion(raw)
	problems := fromReport(s.text, rep, at)
	if err == nil || slices.ContainsFunc(problems, Problem.fatal) {
		return cfg, problems
	}
	hint := `write {"ignition": {"version": "3.3.0"}, ...}`
	if m := anyVersion.FindSubmatch(raw); m != nil {
		hint = fmt.Sprintf("version %q is not served: write one of 3.0.0 to %s; ign-converter (github.com/coreos/ign-converter) brings a v2 config up to date",
			m[1], specs[newest].version)
	}
	return cfg, append(problems, s.text.problem(0, "ignition.version", "%v: %s", err, hint))
}

// finish cuts a config at its holes, and notes which versions of the spec can hold
// it.
func (s *shape) finish(body []byte, needs needs, p part) (err error) {
	if s.pieces, err = split(body, p.holes()...); err != nil {
		return err
	}
	own := ownNeeds(p)
	for minor := newest; minor >= 0; minor-- {
		s.hash[minor] = "sha256-" + p.agent.SHA256
		if all := slices.Concat(needs[minor], own[minor]); len(all) > 0 {
			s.refusal[minor] = &UnsupportedError{Asked: specs[minor].version, Needs: all, from: s.text}
		} else {
			s.lowest = minor
		}
	}
	if p.agent.SHA512 != "" {
		s.hash[0] = "sha512-" + p.agent.SHA512 // sha256 came with 3.1.0
	}
	s.seal()
	return nil
}

// check reads the config back as its oldest client will: the last guard before
// a host is told something that it cannot read.
func (s *shape) check() error {
	if s.lowest == lowest {
		return s.refusal[newest]
	}
	sample := &document{shape: s, agent: "e30=", name: "host"}
	_, rep, err := specs[s.lowest].parse(sample.body(s.lowest, TokenPlaceholder))
	if err != nil {
		return fmt.Errorf("with pilotlight's part it is no Ignition config: %w: %s: take out what pilotlight's part meets with",
			err, strings.TrimSpace(rep.String()))
	}
	return nil
}

func (s *shape) seal() {
	h := sha256.New()
	s.pieces.digest(h)
	for minor := range specs {
		fmt.Fprintf(h, "%q %t\n", s.hash[minor], s.refusal[minor] == nil)
	}
	s.digest = h.Sum(nil)
}
