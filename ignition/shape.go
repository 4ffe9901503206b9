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

// newShape turns a rendered template into a shape.
func newShape(t text, rendered string, at lines, p part, keys []string, a *additions) *shape {
	s := &shape{text: t, lowest: lowest}
	cfg := s.read(rendered, at)
	if s.bad() {
		return s
	}
	if s.problems = append(s.problems, conflicts(t, p, &cfg, written{rendered, at})...); s.bad() {
		return s
	}
	if s.problems = append(s.problems, a.clashes(t, p, inIgnition(&cfg))...); s.bad() {
		return s
	}
	if err := s.build(a.ignition(cfg), p, keys); err != nil {
		s.problems = append(s.problems, t.problem(0, "", "%v", err))
	}
	return s
}

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

// build finds the versions of the spec that can hold the config, adds
// pilotlight's part, and cuts the result at its holes.
func (s *shape) build(cfg v36.Config, p part, keys []string) error {
	needs, err := express(cfg)
	if err != nil {
		return err
	}
	body, err := encodeConfig(addOwn(cfg, p, keys))
	if err != nil {
		return err
	}
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
	return s.check()
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
