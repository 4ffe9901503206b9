package ignition

import (
	_ "embed" // for the unit
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	v36 "github.com/coreos/ignition/v2/config/v3_6/types"
)

// What pilotlight writes on a host, beside cluster.AgentConfigFile and
// cluster.AgentTokenFile.
const (
	AgentFile    = "/opt/pilotlight/bin/pilotlight-agent"
	AgentUnit    = "pilotlight-agent.service"
	HostnameFile = "/etc/hostname"
	unitFile     = "/etc/systemd/system/" + AgentUnit // where no config language has units

	// User is whose SSH keys the manifests' ssh_keys are.
	User = "core"
)

// AgentUnitText is the agent's systemd unit: that of examples/systemd, with the
// binary where a config puts it.
//
//go:embed pilotlight-agent.service
var AgentUnitText string

// agentConfig returns what the agent's configuration file holds.
func (in *Input) agentConfig() ([]byte, error) {
	b, err := json.MarshalIndent(in.Agent.Config, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the agent's config of host %s: %w", in.Target.Host.Name, err)
	}
	return append(b, '\n'), nil
}

func file(path, source string, mode int) v36.File {
	return v36.File{
		Node:          v36.Node{Path: path, Overwrite: ptr(true)},
		FileEmbedded1: v36.FileEmbedded1{Mode: &mode, Contents: v36.Resource{Source: &source}},
	}
}

func ptr[T any](v T) *T { return &v }

// addOwn returns the operator's config with pilotlight's part added, which
// conflicts found to be free of conflicts.
func addOwn(cfg v36.Config, p part, keys []string) v36.Config {
	cfg.Storage.Files = append(slices.Clone(cfg.Storage.Files), p.files()...)
	p.addUnit(&cfg)
	addKeys(&cfg, keys)
	return cfg
}

// ownNeeds are the fields of pilotlight's part that old versions cannot say.
func ownNeeds(p part) (n needs) {
	if p.installed == "" && p.agent.SHA512 == "" {
		n[0] = []Need{{Field: "the sha256 of " + AgentFile, Version: specs[1].version}}
	}
	return n
}

// addUnit adds pilotlight's unit. Drop-ins that the config has for it stay.
func (p part) addUnit(cfg *v36.Config) {
	name, text := p.unit()
	unit := v36.Unit{Name: name, Enabled: ptr(true), Contents: &text}
	units := slices.Clone(cfg.Systemd.Units)
	i := slices.IndexFunc(units, func(u v36.Unit) bool { return u.Name == name })
	if i >= 0 {
		unit.Dropins = units[i].Dropins
		units[i] = unit
	} else {
		units = append(units, unit)
	}
	cfg.Systemd.Units = units
}

// addKeys adds keys to those that the config gives to User, each once.
func addKeys(cfg *v36.Config, keys []string) {
	if len(keys) == 0 {
		return
	}
	users := slices.Clone(cfg.Passwd.Users)
	i := slices.IndexFunc(users, func(u v36.PasswdUser) bool { return u.Name == User })
	if i < 0 {
		i = len(users)
		users = append(users, v36.PasswdUser{Name: User})
	}
	var have []string
	for _, k := range users[i].SSHAuthorizedKeys {
		have = append(have, string(k))
	}
	all := slices.Clone(users[i].SSHAuthorizedKeys)
	for _, k := range missingKeys(have, keys) {
		all = append(all, v36.SSHAuthorizedKey(k))
	}
	users[i].SSHAuthorizedKeys = all
	cfg.Passwd.Users = users
}

// missingKeys returns those of keys that are not in have, each once. Two keys
// that differ in their comment are one.
func missingKeys(have, keys []string) []string {
	seen := map[string]bool{}
	for _, k := range have {
		seen[keyIdentity(k)] = true
	}
	var out []string
	for _, k := range keys {
		k = strings.TrimSpace(k)
		if id := keyIdentity(k); k != "" && !seen[id] {
			seen[id] = true
			out = append(out, k)
		}
	}
	return out
}

// keyIdentity returns a key without its comment. Options stay: the same key
// with other options is another permission.
func keyIdentity(k string) string {
	words := strings.Fields(k)
	for i, w := range words {
		if strings.HasPrefix(w, "ssh-") || strings.HasPrefix(w, "ecdsa-") || strings.HasPrefix(w, "sk-") {
			return strings.Join(words[:min(i+2, len(words))], " ")
		}
	}
	return k
}

// conflicts finds what the operator's config and pilotlight would both write,
// and what would throw pilotlight's part away. wrote is the rendered template.
func conflicts(t text, p part, cfg *v36.Config, wrote written) []Problem {
	var problems []Problem
	unit, _ := p.unit()
	node := func(kind string, i int, n v36.Node, link bool) {
		for _, own := range p.paths() {
			if overlaps(own, n.Path, link) {
				problems = append(problems, t.problem(wrote.line(n.Path, "storage", kind), fmt.Sprintf("storage.%s.%d", kind, i),
					"%s is written by pilotlight: take it out of the config%s", n.Path, instead(own)))
				return
			}
		}
	}
	for i, f := range cfg.Storage.Files {
		node("files", i, f.Node, true)
	}
	for i, l := range cfg.Storage.Links {
		node("links", i, l.Node, true)
	}
	for i, d := range cfg.Storage.Directories {
		node("directories", i, d.Node, false)
	}
	for i, u := range cfg.Systemd.Units {
		if u.Name == unit && (u.Contents != nil || u.Enabled != nil || u.Mask != nil) {
			problems = append(problems, t.problem(wrote.line(u.Name, "systemd", "units"), fmt.Sprintf("systemd.units.%d", i),
				"%s is pilotlight's unit: take it out of the config, or write only its dropins:", u.Name))
		}
	}
	if source := cfg.Ignition.Config.Replace.Source; source != nil {
		problems = append(problems, t.problem(wrote.line(*source, "ignition", "config", "replace"), "ignition.config.replace",
			"it would replace pilotlight's part too, and the host would never join: write ignition.config.merge"))
	}
	return problems
}

// overlaps reports whether what a config has at p stands in the way of our file
// own. A directory above ours does not; a link or a file above it does.
func overlaps(own, p string, inTheWay bool) bool {
	p = path.Clean(p)
	return p == own || inTheWay && strings.HasPrefix(own, p+"/")
}

func instead(own string) string {
	if own == HostnameFile {
		return "; the host's name: is its host name"
	}
	return ""
}
