package ignition

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// TextType is what a text is served as.
const TextType = "text/plain; charset=utf-8"

// compileText makes what the installer of another system reads. Nothing of
// pilotlight's is added: where it fits only the operator knows. What does it is the
// program at {{ .SetupURL }}.
func (c *Config) compileText(in *Input) []Problem {
	config, prefix := in.templates()
	rendered, _, problems := render(newText(in.Target.Profile, prefix+textField, config.Text), in.data())
	if problems == nil {
		c.text = []byte(rendered)
	}
	return problems
}

// Text returns what the installer of another system reads. There is no token in it.
func (c *Config) Text() ([]byte, error) {
	if c.text == nil {
		return nil, fmt.Errorf("%w: profile %s has no text: write config: {text: ...} in it, or in install: below it", ErrNoConfig, c.profile)
	}
	return slices.Clone(c.text), nil
}

// Said is what an installer says when it is done, for Setup.
type Said struct {
	Token string // the installer's
	URL   string // where it goes
}

// Setup returns a program, for a shell, that makes the system that it runs in the
// host that in is of: it brings the agent there, with its config and its token. An
// installer runs it in the system that it has put on the disk, as its last step; it
// says then that the installer is done, when said is not nil.
func Setup(in Input, token string, said *Said) ([]byte, error) {
	in.Installer = nil
	if err := in.check(); err != nil {
		return nil, err
	}
	tokens := []string{token}
	if said != nil {
		tokens = append(tokens, said.Token)
	}
	for _, t := range tokens {
		if err := checkToken(t); err != nil {
			return nil, fmt.Errorf("make the setup of host %s: %w", in.Target.Host.Name, err)
		}
	}
	config, err := in.agentConfig()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, setupHead, in.Target.Host.Name)
	put := func(path, mode, content string) {
		fmt.Fprintf(&b, "put %s %s <<'EOF'\n%s\nEOF\n", path, mode, wrap(base64.StdEncoding.EncodeToString([]byte(content))))
	}
	fmt.Fprintf(&b, "get %s '%s'\necho '%s  %s' | sha256sum -c - >/dev/null\nchmod 0755 %s\nmv -f %s %s\n",
		AgentFile+".new", in.Agent.URL, in.Agent.SHA256, AgentFile+".new", AgentFile+".new", AgentFile+".new", AgentFile)
	put(cluster.AgentConfigFile, "0644", string(config))
	put(cluster.AgentTokenFile, "0600", token)
	put(caFile, "0644", in.Server.CA)
	put(HostnameFile, "0644", in.Target.Host.Name+"\n")
	put(unitFile, "0644", AgentUnitText)
	fmt.Fprintf(&b, "mkdir -m 0755 -p /etc/systemd/system/multi-user.target.wants\nln -sf %s /etc/systemd/system/multi-user.target.wants/%s\n", unitFile, AgentUnit)
	if said != nil {
		put(cluster.InstallTokenFile, "0600", said.Token)
		fmt.Fprintf(&b, "tell %s '%s'\nrm -f %s\n", cluster.InstallTokenFile, said.URL, cluster.InstallTokenFile)
	}
	return []byte(b.String()), nil
}

// setupHead is for any shell, and for curl or wget, whichever there is. In a chroot
// systemd does not run, so the unit is enabled by hand.
const setupHead = `#!/bin/sh
# Makes this system pilotlight's host %s. It holds the host's token.
set -eu
umask 077
get() { # FILE URL
  mkdir -p "$(dirname "$1")"
  n=0
  until if command -v curl >/dev/null; then curl -fsS --connect-timeout 10 -o "$1" "$2"; else wget -q -O "$1" "$2"; fi; do
    n=$((n + 1))
    [ "$n" -lt 60 ] || exit 1
    sleep 5
  done
}
tell() { # FILE URL
  n=0
  until if command -v curl >/dev/null; then curl -fsS --connect-timeout 10 --cacert ` + caFile + ` --data-binary "@$1" -o /dev/null "$2"
    else wget -q --ca-certificate=` + caFile + ` --post-file="$1" -O /dev/null "$2"; fi; do
    n=$((n + 1))
    [ "$n" -lt 120 ] || exit 1
    sleep 5
  done
}
put() { # FILE MODE, its content in base64
  mkdir -p "$(dirname "$1")"
  base64 -d > "$1.new"
  chmod "$2" "$1.new"
  mv -f "$1.new" "$1"
}
mkdir -m 0755 -p /opt/pilotlight /opt/pilotlight/bin /etc/pilotlight
`

// wrap breaks base64 into lines.
func wrap(s string) string {
	const width = 76
	var b strings.Builder
	for ; len(s) > width; s = s[width:] {
		b.WriteString(s[:width] + "\n")
	}
	return b.String() + s
}
