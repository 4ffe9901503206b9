package ignition

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"

	"github.com/pilotlight/pilotlight/cluster"
)

// Compile makes a host's config. It does no I/O and takes milliseconds; Cache
// keeps its results. The error of a config that an operator can mend is an
// *Error with every mistake in it.
func Compile(in Input) (*Config, error) {
	return compile(in, func(t text, rendered string, at lines, p part, keys []string) *shape {
		return newShape(t, rendered, at, p, keys, newMold)
	})
}

// shaper makes a shape, or remembers it.
type shaper func(t text, rendered string, at lines, p part, keys []string) *shape

func compile(in Input, shapeOf shaper) (*Config, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	agentConfig, err := in.agentConfig()
	if err != nil {
		return nil, err
	}
	c := &Config{host: in.Target.Host.HostName(), profile: cluster.ProfileName(in.Target.Profile.Name)}
	config, _ := in.templates()
	added, problems := in.additions()
	if slices.ContainsFunc(problems, Problem.fatal) {
		added = new(additions) // what else is wrong is told all the same
	}
	// A profile without any config gets one of pilotlight's own, for Ignition, and as a
	// #cloud-config too where its system may read that.
	either := config.IsZero() && (in.Target.Image == nil || in.Target.Image.OS() == "")
	if config.ForCloudInit() || either {
		problems = append(problems, c.compileCloud(&in, agentConfig, added)...)
	}
	if config.Text != "" {
		problems = append(problems, c.compileText(&in)...)
	}
	if config.Butane != "" || config.Ignition != "" || !config.ForCloudInit() {
		problems = append(problems, c.compileIgnition(&in, agentConfig, added, shapeOf)...)
	}
	if in.Installer == nil && in.Target.Profile.Generic != "" {
		var p []Problem
		c.generic, _, p = render(newText(in.Target.Profile, genericField, in.Target.Profile.Generic), in.data())
		problems = append(problems, p...)
	}
	if slices.ContainsFunc(problems, Problem.fatal) {
		return nil, &Error{Host: c.host, Problems: slices.DeleteFunc(problems, func(p Problem) bool { return p.Warning })}
	}
	c.warnings = problems
	c.seal()
	return c, nil
}

// compileIgnition makes the Ignition config, or the Problems that there are
// with it.
func (c *Config) compileIgnition(in *Input, agentConfig []byte, added *additions, shapeOf shaper) []Problem {
	t, p := in.ignitionText()
	if p != nil {
		return p
	}
	rendered, at, p := render(t, in.data())
	if p != nil {
		return p
	}
	if added, p = added.forIgnition(in, rendered); p != nil {
		return p
	}
	s := shapeOf(t, rendered, at, in.part(added), in.Target.SSHKeys)
	c.ignition = &document{
		shape: s,
		agent: base64.StdEncoding.EncodeToString(agentConfig),
		name:  url.PathEscape(in.Target.Host.Name),
	}
	return slices.Clone(s.problems)
}

// templates returns the templates of the config that is meant, and what stands
// before their fields in the profile.
func (in *Input) templates() (cluster.Config, string) {
	p := in.Target.Profile
	if in.Installer != nil {
		return p.Install.Config, installPrefix
	}
	return p.Config, ""
}

// ignitionText returns the profile's Butane or Ignition template.
func (in *Input) ignitionText() (text, []Problem) {
	c, prefix := in.templates()
	t := newText(in.Target.Profile, prefix+"config", "")
	switch {
	case c.Butane != "" && c.Ignition != "":
		return t, []Problem{t.problem(0, "", "it has both butane and ignition: keep one of them")}
	case c.Butane != "":
		t.field, t.source = prefix+butaneField, c.Butane
	case c.Ignition != "":
		t.field, t.source = prefix+ignitionField, c.Ignition
	}
	return t, nil
}

// seal computes the digest.
func (c *Config) seal() {
	h := sha256.New()
	if d := c.ignition; d != nil {
		fmt.Fprintf(h, "ignition %x %q %q\n", d.shape.digest, d.agent, d.name)
	}
	if c.cloud != nil {
		c.cloud.pieces.digest(h)
		fmt.Fprintf(h, "cloud %q %q\n", c.cloud.metaData, c.cloud.network)
	}
	if c.text != nil {
		fmt.Fprintf(h, "text %q\n", c.text)
	}
	if c.generic != "" {
		fmt.Fprintf(h, "generic %q\n", c.generic)
	}
	c.digest = hex.EncodeToString(h.Sum(nil))
}
