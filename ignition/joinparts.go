package ignition

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

func partField(prefix string, i int) string {
	return fmt.Sprintf("%sconfig.cloud_parts[%d]", prefix, i)
}

// compileParts makes a message of the operator's parts and pilotlight's own.
func (c *Config) compileParts(in *Input, agentConfig []byte, added *additions) (problems []Problem) {
	config, prefix := in.templates()
	var parts []cloudPart
	for i, source := range config.CloudParts {
		t := newText(in.Target.Profile, partField(prefix, i), source)
		rendered, at := source, lines(nil)
		if isJinja(source) {
			problems = append(problems, t.checkJinja()...)
		} else {
			var bad []Problem
			if rendered, at, bad = render(t, in.data()); bad != nil {
				problems = append(problems, bad...)
				continue
			}
		}
		more, bad := partsOf(t, rendered, at)
		parts, problems = append(parts, more...), append(problems, bad...)
	}
	if problems != nil {
		return problems
	}
	t := newText(in.Target.Profile, prefix+"config.cloud_parts", "")
	return c.joinParts(in, agentConfig, added, t, parts)
}

// checkJinja refuses pilotlight's own words in a template that is cloud-init's to fill
// in, on the machine.
func (t text) checkJinja() []Problem {
	for i, line := range strings.Split(t.source, "\n") {
		if squeezed := strings.ReplaceAll(line, " ", ""); strings.Contains(squeezed, "{{.") || strings.Contains(squeezed, "{{-.") {
			return []Problem{t.problem(i+1, "", "this part is a jinja template, which cloud-init fills in and pilotlight does not: put what is pilotlight's into a part of its own")}
		}
	}
	return nil
}

// joinParts adds pilotlight's own #cloud-config behind the operator's parts. It says
// of itself how cloud-init has to merge it: nothing of either is lost.
func (c *Config) joinParts(in *Input, agentConfig []byte, added *additions, t text, parts []cloudPart) []Problem {
	own := &cloudEditor{text: t}
	own.parse(cloudHeader + "\n")
	for i := range parts {
		p := &parts[i]
		if p.kind != cloudConfigPart {
			continue
		}
		p.editor = &cloudEditor{text: p.text, at: p.at}
		if p.editor.parse(p.body); len(p.editor.problems) == 0 {
			p.editor.checkPart(in, added, p.header.Get("Merge-Type")+p.header.Get("X-Merge-Type") != "", own.others)
		}
		own.problems = append(own.problems, p.editor.problems...)
		if p.editor.root != nil {
			own.others = append(own.others, p.editor)
		}
	}
	if len(own.problems) == 0 {
		own.mergeBehind()
		own.addBehind(in, agentConfig, added)
	}
	for i := range parts {
		if e := parts[i].editor; e != nil && e.edited && len(own.problems) == 0 {
			body, err := e.encode()
			if err != nil {
				return []Problem{t.problem(0, "", "%v", err)}
			}
			parts[i].body = string(body)
		}
	}
	if len(own.problems) > 0 {
		return own.problems
	}
	body, err := own.encode()
	if err != nil {
		return []Problem{t.problem(0, "", "%v", err)}
	}
	message := writeMessage(append(parts, cloudPart{kind: cloudConfigPart, body: string(body)}))
	return c.sealCloud(in, added, t, message, &cloudDocument{written: true, message: true})
}

// mergeBehind has cloud-init append to the lists of the parts before, and leave what
// else they have.
func (e *cloudEditor) mergeBehind() {
	rule := func(name string, settings ...string) *yaml.Node {
		list := words(settings)
		list.Style = yaml.FlowStyle
		return mapping("name", scalar(name), "settings", list)
	}
	e.root.Content = append(e.root.Content, scalar("merge_how"), &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{
		rule("list", "append"), rule("dict", "no_replace", "recurse_list"),
	}})
}

// addBehind adds pilotlight's part behind the operator's.
func (e *cloudEditor) addBehind(in *Input, agentConfig []byte, added *additions) {
	p := in.part(added)
	keys := e
	for _, o := range e.others { // a list of users without the default one counts alone
		if _, users := o.find(o.root, "users"); users != nil && !slices.ContainsFunc(users.Content, isDefaultUser) {
			keys = o
		}
	}
	if keys.addKeys(in.Target.SSHKeys); keys != e {
		keys.edited = true
		e.problems = append(e.problems, keys.problems...)
	}
	if clashes := added.clashes(e.text, p, false, e.inCloud); len(clashes) > 0 {
		e.problems = append(e.problems, clashes...)
	} else {
		e.add(added)
	}
	e.addHostname(in.Target.Host.Name)
	e.addFiles(p, agentConfig)
	if in.Installer == nil {
		e.addCommands()
	}
}

// appended are the lists to which pilotlight's part adds.
var appended = []string{"write_files", "runcmd", "users", "ssh_authorized_keys"}

// checkPart refuses what does not go together with pilotlight's part, and what
// cloud-init would drop of the parts before.
func (e *cloudEditor) checkPart(in *Input, added *additions, merges bool, before []*cloudEditor) {
	if e.coreos {
		k, _ := e.find(e.root, "coreos")
		e.refuse(k, "coreos", "coreos-cloudinit reads no parts: write one cloud_config:")
		return
	}
	e.checkCloudInit()
	e.checkHostname(in.Target.Host.Name)
	e.checkFiles(in.part(added))
	for _, key := range appended {
		if k, v := e.find(e.root, key); v != nil && v.Kind != yaml.SequenceNode {
			e.refuse(k, key, "it is not a list: write each of its entries after a - , or take it out")
		}
	}
	for _, key := range []string{"merge_how", "merge_type"} {
		_, v := e.find(e.root, key)
		merges = merges || v != nil
	}
	for i := 0; i+1 < len(e.root.Content) && !merges; i += 2 {
		k, v := e.root.Content[i], e.root.Content[i+1]
		if v.Kind == yaml.ScalarNode || strings.HasPrefix(k.Value, "x-") {
			continue
		}
		for _, o := range before {
			if _, v := o.find(o.root, k.Value); v != nil {
				e.refuse(k, k.Value, "a part before has it too, and cloud-init would drop what that one says: say it in one, or write merge_how: 'list(append)+dict(recurse_list)+str()' in this part")
			}
		}
	}
}
