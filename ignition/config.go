package ignition

import (
	"fmt"
	"slices"

	"github.com/pilotlight/pilotlight/cluster"
)

// Config is what one host is told, compiled: everything but the introduction
// token. It is immutable, and any number of requests may use it at once.
type Config struct {
	host     cluster.HostName
	profile  cluster.ProfileName
	ignition *document      // nil when the profile has only a cloud_config
	cloud    *cloudDocument // nil when the profile has no cloud_config
	text     []byte         // nil when the profile has no text
	generic  string
	warnings []Problem
	digest   string
}

// Ignition returns the config as Ignition reads it, in the version of the spec
// that the client asked for by its Accept header, with the token in it. A
// client that names no version gets the oldest that can hold the config.
//
// The error is ErrNotAcceptable when the client reads no v3 config at all, an
// UnsupportedError when the config uses what the asked version has not, and
// ErrNoConfig when the profile has only a cloud_config. There is never a body
// beside an error, and never one that says less than the operator wrote.
func (c *Config) Ignition(accept, token string) ([]byte, error) {
	minor, err := c.chosen(accept)
	if err != nil {
		return nil, err
	}
	if err := checkToken(token); err != nil {
		return nil, fmt.Errorf("fill in the config of host %s: %w", c.host, err)
	}
	return c.ignition.body(minor, token), nil
}

// Acceptable returns the error that Ignition would for a client, whatever the token.
func (c *Config) Acceptable(accept string) error {
	_, err := c.chosen(accept)
	return err
}

// chosen is the version of the spec for a client, which the config can be told in.
func (c *Config) chosen(accept string) (minor int, err error) {
	d := c.ignition
	if d == nil {
		return 0, fmt.Errorf("%w: profile %s has only a cloud_config: write config: {butane: ...} in it", ErrNoConfig, c.profile)
	}
	if minor, err = chooseVersion(accept); err != nil {
		return 0, err
	}
	if minor == lowest {
		minor = d.shape.lowest
	}
	return minor, d.shape.refusal[minor]
}

// Render returns exactly the bytes that Ignition would, with TokenPlaceholder
// for a token: what an operator is shown.
func (c *Config) Render(accept string) ([]byte, error) { return c.Ignition(accept, TokenPlaceholder) }

// Generic returns the text that the host may fetch from /generic, or nothing. It
// has no token in it.
func (c *Config) Generic() []byte { return []byte(c.generic) }

// Versions returns the versions of the Ignition spec in which the config can be
// served, the oldest first.
func (c *Config) Versions() []string {
	var out []string
	if c.ignition != nil {
		for minor, err := range c.ignition.shape.refusal {
			if err == nil {
				out = append(out, specs[minor].version)
			}
		}
	}
	return out
}

// Warnings returns what Butane and Ignition think unwise in the operator's
// config. Each has its line.
func (c *Config) Warnings() []Problem { return slices.Clone(c.warnings) }

// Digest returns the sha256 of all that does not differ from boot to boot, in
// hexadecimal. It changes when, and only when, what the host is told does.
func (c *Config) Digest() string { return c.digest }

// ETag returns the digest as an HTTP validator. It is a weak one (RFC 9110,
// section 8.8.1): two bodies of the same tag differ in their token.
func (c *Config) ETag() string { return `W/"` + c.digest[:32] + `"` }
