package ignition

import (
	"bytes"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/pilotlight/pilotlight/cluster"
)

// FetchFile is the script that fetches the agent's binary on hosts that are not
// told by Ignition, which does it itself.
const FetchFile = "/opt/pilotlight/bin/fetch-agent"

// cloudDocument is a #cloud-config, cut at its hole, and its meta-data.
type cloudDocument struct {
	pieces   pieces
	metaData []byte
	coreos   bool   // coreos-cloudinit reads it
	written  bool   // the operator wrote it; else it says what is said for every language
	message  bool   // it is a MIME message of several parts
	network  []byte // nil when the profile says nothing of it
}

// CloudConfig returns the host's #cloud-config with the token in it.
func (c *Config) CloudConfig(token string) ([]byte, error) {
	if c.cloud == nil {
		return nil, fmt.Errorf("%w: profile %s has no cloud_config: write config: {cloud_config: ...} in it", ErrNoConfig, c.profile)
	}
	if err := checkToken(token); err != nil {
		return nil, fmt.Errorf("fill in the cloud-config of host %s: %w", c.host, err)
	}
	return c.cloud.pieces.fill(&values{holeToken: token}), nil
}

// RenderCloudConfig returns exactly the bytes that CloudConfig would, with
// TokenPlaceholder for a token.
func (c *Config) RenderCloudConfig() ([]byte, error) { return c.CloudConfig(TokenPlaceholder) }

// MetaData returns the meta-data of a NoCloud seed. Its instance-id changes when
// the machine does: a host's name on another machine is a new first boot, while
// a changed config is none, because cloud-init would do the first boot's work,
// new SSH host keys and all, again on a machine that is in use.
func (c *Config) MetaData() ([]byte, error) {
	if c.cloud == nil {
		return nil, fmt.Errorf("%w: profile %s has no cloud_config: write config: {cloud_config: ...} in it", ErrNoConfig, c.profile)
	}
	return slices.Clone(c.cloud.metaData), nil
}

// NetworkConfig returns the network-config of a NoCloud seed, or nil when the
// profile says nothing of the network.
func (c *Config) NetworkConfig() []byte {
	if c.cloud == nil {
		return nil
	}
	return slices.Clone(c.cloud.network)
}

func metaData(h *cluster.Host) []byte {
	return fmt.Appendf(nil, "instance-id: %s\nlocal-hostname: %s\n", h.InstanceID(), h.Name)
}

// compileCloud makes the #cloud-config, or the Problems that there are with it.
func (c *Config) compileCloud(in *Input, agentConfig []byte, added *additions) []Problem {
	config, prefix := in.templates()
	if len(config.CloudParts) > 0 {
		return c.compileParts(in, agentConfig, added)
	}
	t := newText(in.Target.Profile, prefix+cloudField, config.CloudConfig)
	if config.IsZero() {
		t.source = cloudHeader + "\n"
	}
	rendered, at, problems := render(t, in.data())
	if problems != nil {
		return problems
	}
	if isMessage(rendered) {
		parts, problems := messageParts(t, rendered, at)
		if problems != nil {
			return problems
		}
		return c.joinParts(in, agentConfig, added, t, parts)
	}
	e := &cloudEditor{text: t, at: at}
	if e.parse(rendered); e.coreos && len(e.problems) == 0 {
		e.parse(e.substitute(rendered, in.address()))
	}
	if len(e.problems) == 0 {
		e.addOwn(in, agentConfig, added)
	}
	if len(e.problems) > 0 {
		return e.problems
	}
	body, err := e.encode()
	if err != nil {
		return []Problem{t.problem(0, "", "%v", err)}
	}
	return c.sealCloud(in, added, t, body, &cloudDocument{coreos: e.coreos, written: config.CloudConfig != ""})
}

// sealCloud keeps what cloud-init or coreos-cloudinit is told.
func (c *Config) sealCloud(in *Input, added *additions, t text, body []byte, d *cloudDocument) []Problem {
	d.metaData = metaData(in.Target.Host)
	if added.Network != nil && !d.coreos {
		d.network = added.Network.CloudInit()
	}
	var err error
	if d.pieces, err = split(body, holeToken); err != nil {
		return []Problem{t.problem(0, "", "%v", err)}
	}
	c.cloud = d
	return nil
}

// cloudEditor adds pilotlight's part to an operator's #cloud-config, of which it
// keeps every key, comment and style.
type cloudEditor struct {
	text     text
	at       lines
	doc      yaml.Node
	root     *yaml.Node // a mapping
	coreos   bool       // it is for coreos-cloudinit, not for cloud-init
	problems []Problem

	edited bool           // something of pilotlight's was put in, of one of several
	others []*cloudEditor // the operator's, where this is pilotlight's own, which is merged behind them
}

func (e *cloudEditor) refuse(n *yaml.Node, where, format string, args ...any) {
	line := 0
	if n != nil {
		line = e.at.of(n.Line)
	}
	e.problems = append(e.problems, e.text.problem(line, where, format, args...))
}

const cloudHeader = "#cloud-config"

// parse reads the rendered template.
func (e *cloudEditor) parse(rendered string) {
	first, rest, _ := strings.Cut(rendered, "\n")
	if strings.TrimRight(first, " \t\r") != cloudHeader {
		e.refuse(nil, "", "its first line is %.40q: write %s there, and nothing else", first, cloudHeader)
		return
	}
	e.doc = yaml.Node{}
	d := yaml.NewDecoder(strings.NewReader("\n" + rest)) // the header is no comment of the first key
	if err := d.Decode(&e.doc); err != nil && rest != "" && err.Error() != "EOF" {
		e.problems = append(e.problems, fromButaneError(e.text, err, e.at)...)
		return
	}
	if e.doc.Kind == 0 { // nothing but comments
		root := yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", HeadComment: strings.TrimSpace(rest)}
		e.doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{&root}}
	}
	e.root = e.doc.Content[0]
	if e.root.Kind == yaml.ScalarNode && e.root.Tag == "!!null" {
		*e.root = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", HeadComment: e.root.HeadComment, FootComment: e.root.FootComment}
	}
	if e.root.Kind != yaml.MappingNode {
		e.refuse(e.root, "", "it is not a mapping: write key: value below %s", cloudHeader)
		return
	}
	if d.Decode(new(yaml.Node)) == nil {
		e.refuse(nil, "", "it holds a second YAML document: take out what follows the ---")
	}
	e.checkKeys("", e.root)
	_, v := e.find(e.root, "coreos")
	e.coreos = v != nil
}

// checkKeys refuses what is written twice: which of the two counts depends on
// who reads it.
func (e *cloudEditor) checkKeys(at string, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		seen := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			name := below(at, k.Value)
			if first, twice := seen[k.Value]; twice && k.Value != "<<" {
				e.refuse(k, name, "it is on line %d already: write it once", e.at.of(first))
			}
			seen[k.Value] = k.Line
			e.checkKeys(name, n.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			e.checkKeys(below(at, fmt.Sprint(i)), c)
		}
	}
}

// find returns a mapping's key and value, or nils. To coreos-cloudinit a hyphen
// in a key is an underscore.
func (e *cloudEditor) find(m *yaml.Node, key string) (k, v *yaml.Node) {
	for i := 0; m.Kind == yaml.MappingNode && i+1 < len(m.Content); i += 2 {
		name := m.Content[i].Value
		if name == key || e.coreos && strings.ReplaceAll(name, "-", "_") == key {
			return m.Content[i], m.Content[i+1]
		}
	}
	return nil, nil
}

// list returns the list under key, which it makes when there is none.
func (e *cloudEditor) list(m *yaml.Node, key string) *yaml.Node {
	k, v := e.find(m, key)
	switch {
	case v == nil:
		v = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		m.Content = append(m.Content, scalar(key), v)
	case v.Kind == yaml.ScalarNode && v.Tag == "!!null":
		v.Kind, v.Tag, v.Value = yaml.SequenceNode, "!!seq", ""
	case v.Kind == yaml.AliasNode:
		e.refuse(k, key, "pilotlight adds to this list, which is an alias: write it out")
		return &yaml.Node{Kind: yaml.SequenceNode}
	case v.Kind != yaml.SequenceNode:
		e.refuse(k, key, "it is not a list: write each of its entries after a - ")
		return &yaml.Node{Kind: yaml.SequenceNode}
	}
	if len(v.Content) == 0 {
		v.Style = 0 // not []
	}
	return v
}

// addOwn adds pilotlight's part.
func (e *cloudEditor) addOwn(in *Input, agentConfig []byte, added *additions) {
	if !e.coreos {
		e.checkCloudInit()
	}
	if e.coreos {
		added = added.forCoreOS()
	}
	p := in.part(added)
	if clashes := added.clashes(e.text, p, e.coreos, e.inCloud); len(clashes) > 0 {
		e.problems = append(e.problems, clashes...)
	} else {
		e.add(added)
	}
	e.addHostname(in.Target.Host.Name)
	e.addKeys(in.Target.SSHKeys)
	e.addFiles(p, agentConfig)
	if in.Installer != nil {
		return // it runs InstalledFile itself, as its last step
	}
	if e.coreos {
		e.checkCoreOS()
		e.addCoreOSUnit()
	} else {
		e.addCommands()
	}
}

func (e *cloudEditor) addHostname(name string) {
	if _, v := e.find(e.root, "hostname"); v == nil {
		e.root.Content = append(e.root.Content, scalar("hostname"), scalar(name))
	}
	e.checkHostname(name)
}

func (e *cloudEditor) checkHostname(name string) {
	if k, v := e.find(e.root, "hostname"); v != nil && v.Value != name {
		e.refuse(k, "hostname", "pilotlight names the host %s: take it out, or change the host's name:", name)
	}
	if k, v := e.find(e.root, "fqdn"); v != nil && v.Value != name && !strings.HasPrefix(v.Value, name+".") {
		e.refuse(k, "fqdn", "pilotlight names the host %s: begin it with {{ .Host.Name }}.", name)
	}
}

// addKeys gives the keys to the default user, as does a key at the top. When
// the config has users but not the default one, they are User's.
func (e *cloudEditor) addKeys(keys []string) {
	if len(keys) == 0 {
		return
	}
	to := e.root
	if k, users := e.find(e.root, "users"); !e.coreos && users != nil && users.Kind == yaml.SequenceNode &&
		!slices.ContainsFunc(users.Content, isDefaultUser) {
		i := slices.IndexFunc(users.Content, func(u *yaml.Node) bool { return e.valueOf(u, "name") == User })
		if i < 0 {
			e.refuse(k, "users", "it has neither default nor %s, so nobody would get the ssh_keys: write - default as its first entry", User)
			return
		}
		to = users.Content[i]
	}
	list := e.list(to, "ssh_authorized_keys")
	var have []string
	for _, n := range list.Content {
		have = append(have, n.Value)
	}
	for _, k := range missingKeys(have, keys) {
		list.Content = append(list.Content, scalar(k))
	}
}

func isDefaultUser(u *yaml.Node) bool { return u.Kind == yaml.ScalarNode && u.Value == "default" }

func (e *cloudEditor) valueOf(m *yaml.Node, key string) string {
	if _, v := e.find(m, key); v != nil {
		return v.Value
	}
	return ""
}

// addFiles adds what pilotlight writes and the host's first boot needs.
func (e *cloudEditor) addFiles(p part, agentConfig []byte) {
	e.checkFiles(p)
	list := e.list(e.root, "write_files")
	if p.installed != "" {
		list.Content = append(list.Content,
			cloudFile(InstalledFile, "0755", literal(p.installed)),
			cloudFile(caFile, "0644", literal(p.ca)),
			cloudFile(cluster.InstallTokenFile, "0600", quoted(holes[holeToken])),
		)
		return
	}
	list.Content = append(list.Content,
		cloudFile(cluster.AgentConfigFile, "0644", literal(string(agentConfig))),
		cloudFile(cluster.AgentTokenFile, "0600", quoted(holes[holeToken])),
		cloudFile(FetchFile, "0755", literal(fetchScript(p.agent))),
	)
	if p.ca != "" {
		list.Content = append(list.Content, cloudFile(caFile, "0644", literal(p.ca)))
	}
	if !e.coreos {
		list.Content = append(list.Content,
			cloudFile(unitFile, "0644", literal(fetchingUnit())))
	}
}

// checkFiles refuses files that pilotlight writes.
func (e *cloudEditor) checkFiles(p part) {
	_, list := e.find(e.root, "write_files")
	if list == nil {
		return
	}
	own := append(p.paths(), FetchFile)
	if p.ca != "" {
		own = append(own, caFile)
	}
	for i, f := range list.Content {
		at := path.Clean(e.valueOf(f, "path"))
		if slices.ContainsFunc(own, func(o string) bool { return overlaps(o, at, true) }) {
			e.refuse(f, fmt.Sprintf("write_files.%d", i), "%s is written by pilotlight: take it out of the config%s", at, instead(at))
		}
	}
}

// addCommands starts the agent without waiting: the first boot of cloud-init
// does not end until its commands do.
func (e *cloudEditor) addCommands() {
	list := e.list(e.root, "runcmd")
	list.Content = append(list.Content,
		command("systemctl", "daemon-reload"),
		command("systemctl", "enable", AgentUnit),
		command("systemctl", "start", "--no-block", AgentUnit),
	)
}

// encode writes the whole #cloud-config.
func (e *cloudEditor) encode() ([]byte, error) {
	keepLines(&e.doc)
	var b bytes.Buffer
	b.WriteString(cloudHeader + "\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&e.doc); err != nil {
		return nil, fmt.Errorf("encode the cloud-config: %w", err)
	}
	return b.Bytes(), enc.Close()
}

// keepLines quotes what the encoder does not write as it is below a | or a >: an empty
// first line, and line ends of other scripts, are left out.
func keepLines(n *yaml.Node) {
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 && (strings.HasPrefix(n.Value, "\n") || strings.ContainsAny(n.Value, "\u0085\u2028\u2029")) {
		n.Style = n.Style&^(yaml.LiteralStyle|yaml.FoldedStyle) | yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		keepLines(c)
	}
}

// The addresses that coreos-cloudinit knows by a variable. It has none itself
// when it reads its config from a URL, and would put nothing in their place.
var addressVariable = regexp.MustCompile(`\\?\$(?:public|private)_ipv[46]`)

// substitute puts the host's address in the place of coreos-cloudinit's
// variables. \$private_ipv4 stays: the client makes $private_ipv4 of it.
func (e *cloudEditor) substitute(rendered string, addr netip.Addr) string {
	return addressVariable.ReplaceAllStringFunc(rendered, func(name string) string {
		if name[0] == '\\' {
			return name
		}
		if !addr.IsValid() || addr.Is4() != strings.HasSuffix(name, "4") {
			i := strings.Index(rendered, name)
			e.problems = append(e.problems, e.text.problem(e.at.of(1+strings.Count(rendered[:i], "\n")), "",
				"%s: the host has no such address: write address: in the host, or take it out", name))
			return name
		}
		return addr.String()
	})
}
