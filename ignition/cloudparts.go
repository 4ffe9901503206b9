package ignition

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// fetchScript fetches the agent's binary and makes it executable once its hash
// is right. It is run each time before the agent starts, and does nothing when
// the binary is there: what has that name has been verified.
func fetchScript(a Agent) string {
	trust := ""
	if a.secure() {
		trust = "--cacert " + caFile + " "
	}
	return `#!/bin/sh
# Fetches pilotlight's agent, verifies it, and only then makes it executable.
set -eu
agent=` + AgentFile + `
[ ! -x "$agent" ] || exit 0
umask 077
new=$(mktemp "$agent.XXXXXX")
trap 'rm -f "$new"' EXIT
curl --fail --silent --show-error --location --connect-timeout 10 --max-time 600 \
  ` + trust + `--output "$new" '` + a.URL + `'
if ! echo '` + a.SHA256 + `  '"$new" | sha256sum -c - >/dev/null 2>&1; then
  echo "pilotlight: what ` + a.URL + ` sent is not the agent: its sha256 is another" >&2
  exit 1
fi
chmod 0755 "$new"
mv "$new" "$agent"
if command -v restorecon >/dev/null 2>&1; then restorecon "$agent" || :; fi
`
}

// fetchingUnit is the agent's unit where the agent has to be fetched first, by
// one that may write where the agent itself may not (+). A fetch that fails is
// tried again as the unit is. TimeoutStartSec=0, which is
// no limit, is read by the systemd of every CoreOS.
func fetchingUnit() string {
	return strings.Replace(AgentUnitText, "[Service]\n", "[Service]\nExecStartPre=+/bin/sh "+FetchFile+"\nTimeoutStartSec=0\n", 1)
}

// coreOSKeys are all that coreos-cloudinit reads at the top of a config.
var coreOSKeys = []string{"ssh_authorized_keys", "coreos", "write_files", "hostname", "users", "manage_etc_hosts"}

// checkCoreOS refuses what coreos-cloudinit would pass over in silence.
func (e *cloudEditor) checkCoreOS() {
	for i := 0; i+1 < len(e.root.Content); i += 2 {
		k := e.root.Content[i]
		if !slices.Contains(coreOSKeys, strings.ReplaceAll(k.Value, "-", "_")) {
			e.refuse(k, k.Value, "coreos-cloudinit, for which a config with coreos: is, has no such key: take it out, or take out coreos: for cloud-init")
		}
	}
}

// addCoreOSUnit adds the agent's unit to coreos.units. Drop-ins that the config
// has for it stay.
func (e *cloudEditor) addCoreOSUnit() {
	units := e.coreOSUnits()
	if units == nil {
		return
	}
	var unit *yaml.Node
	for i, u := range units.Content {
		if e.valueOf(u, "name") != AgentUnit {
			continue
		}
		for j := 0; j+1 < len(u.Content); j += 2 {
			if key := strings.ReplaceAll(u.Content[j].Value, "-", "_"); key != "name" && key != "drop_ins" {
				e.refuse(u, fmt.Sprintf("coreos.units.%d", i), "%s is pilotlight's unit: take it out of the config, or write only its drop-ins:", AgentUnit)
				return
			}
		}
		unit = u
	}
	if unit == nil {
		unit = mapping("name", scalar(AgentUnit))
		units.Content = append(units.Content, unit)
	}
	unit.Content = append(unit.Content, mapping(
		"enable", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"},
		"command", scalar("start"), "content", literal(fetchingUnit())).Content...)
}

// coreOSUnits returns the list coreos.units, or nil after a mistake.
func (e *cloudEditor) coreOSUnits() *yaml.Node {
	k, coreos := e.find(e.root, "coreos")
	if coreos.Kind == yaml.ScalarNode && coreos.Tag == "!!null" {
		*coreos = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	if coreos.Kind != yaml.MappingNode {
		e.refuse(k, "coreos", "it is not a mapping: write units: below it")
		return nil
	}
	return e.list(coreos, "units")
}

// cloudFile is an entry of write_files, which cloud-init and coreos-cloudinit
// read alike.
func cloudFile(path, permissions string, content *yaml.Node) *yaml.Node {
	return mapping("path", scalar(path), "owner", scalar("root:root"), "permissions", quoted(permissions), "content", content)
}

func command(words ...string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
	for _, w := range words {
		n.Content = append(n.Content, scalar(w))
	}
	return n
}

// mapping takes keys and nodes in turn.
func mapping(pairs ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i+1 < len(pairs); i += 2 {
		n.Content = append(n.Content, scalar(pairs[i].(string)), pairs[i+1].(*yaml.Node))
	}
	return n
}

// scalar is a text, quoted where it would be read as something else.
func scalar(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// quoted is always quoted: a token of digits stays a text.
func quoted(s string) *yaml.Node {
	n := scalar(s)
	n.Style = yaml.DoubleQuotedStyle
	return n
}

func literal(s string) *yaml.Node {
	n := scalar(s)
	n.Style = yaml.LiteralStyle
	return n
}
