package ignition

import (
	"errors"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

func renderString(t testing.TB, source string) (string, []Problem) {
	t.Helper()
	in := testInput(cluster.Config{})
	out, _, problems := render(text{ref: in.Target.Profile.Ref(), field: butaneField, source: source}, in.data())
	return out, problems
}

func TestFunctions(t *testing.T) {
	for source, want := range map[string]string{
		`{{ .Variables.port }}`:                                 "10000000",
		`{{ .Variables.nested.a | json }}`:                      `["x",2]`,
		`{{ .Variables.motd | quote }}`:                         `"It's a \"web\" host: <be careful>\n"`,
		`{{ quote 7 }}`:                                         `"7"`,
		`{{ .SSHKeys | join "," }}`:                             testKey,
		`{{ .Variables.nested.a | join "-" }}`:                  "x-2",
		"{{ \"a\\n\\nb\\n\" | indent 2 }}":                      "  a\n\n  b\n",
		`{{ "hello" | b64 }}`:                                   "aGVsbG8=",
		`{{ index .Variables "no" | default "d" }}`:             "d",
		`{{ index .Variables "port" | default 1 }}`:             "10000000",
		`{{ default 5 0 }}`:                                     "5",
		`{{ .Host.Name }} {{ .Host.Labels.role }}`:              "web1 web",
		`{{ range .Host.MACs }}{{ . }} {{ .Hyphens }}{{ end }}`: "52:54:00:12:34:56 52-54-00-12-34-56",
		`{{ .Address }} {{ .Network.Domain }}`:                  "10.0.0.11 lab.example.org",
		`{{ with .Image }}{{ .Name }}{{ else }}none{{ end }}`:   "none",
		`{{ printf "%s-%d" .Host.Name 3 }}`:                     "web1-3",
		`{{ .Host.Architecture }}`:                              "x86_64",
	} {
		if got, problems := renderString(t, source); got != want || problems != nil {
			t.Errorf("%s: got %q, %v", source, got, problems)
		}
	}
}

// TestNoWayOut: a template reaches nothing but its host.
func TestNoWayOut(t *testing.T) {
	for _, source := range []string{
		`{{ env "HOME" }}`, `{{ file "/etc/passwd" }}`, `{{ readFile "/etc/passwd" }}`, `{{ exec "id" }}`, `{{ include "x" }}`,
		`{{ template "x" }}`, `{{ .Host.NoSuch }}`, `{{ .Nothing }}`, `{{ call .Host.Ref }}`,
	} {
		if out, problems := renderString(t, source); problems == nil {
			t.Errorf("%s: rendered %q", source, out)
		}
	}
}

// TestBounds: no template takes the server's memory or time with it.
func TestBounds(t *testing.T) {
	for name, source := range map[string]string{
		"an endless loop": `{{ range 2000000000 }}{{ end }}`,
		"nested loops":    `{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}`,
		"much output":     `{{ range 1000000 }}0123456789{{ end }}`,
		"doubling":        `{{ $x := "0123456789" }}{{ range 60 }}{{ $x = printf "%s%s" $x $x }}{{ end }}`,
		"recursion":       `{{ define "a" }}{{ template "a" }}{{ template "a" }}{{ end }}{{ template "a" }}`,
		"wide recursion":  `{{ define "a" }}{{ range . }}{{ template "a" $ }}{{ end }}{{ end }}{{ template "a" .SSHKeys }}`,
		"indent":          `{{ "a" | indent 1000000000 }}`,
		"html":            `{{ $x := "<<<<<<<<<<<<<<<<" }}{{ range 60 }}{{ $x = html $x }}{{ $x = print $x $x }}{{ end }}`,
		"a zero byte":     "a\x00b",
	} {
		if out, problems := renderString(t, source); problems == nil {
			t.Errorf("%s: %d bytes", name, len(out))
		}
	}
}

// TestTrace: each line of what a template became knows its line in the template.
func TestTrace(t *testing.T) {
	source := "one\n{{ range .Variables.nested.a -}}\nthree {{ . }}\nfour\n{{ end -}}\n\n{{ .Variables.motd }}\nlast"
	in := testInput(cluster.Config{})
	in.Target.Variables["motd"] = "seven\nseven too"
	out, at, problems := render(text{source: source}, in.data())
	if problems != nil {
		t.Fatal(problems)
	}
	want := map[string]int{"one": 1, "three x": 3, "three 2": 3, "four": 4, "seven": 7, "seven too": 7, "last": 8}
	for i, line := range strings.Split(out, "\n") {
		if got := at.of(i + 1); got != want[line] {
			t.Errorf("%q: line %d, want %d", line, got, want[line])
		}
	}
}

// TestProblems: every mistake, at once, with its document, its line in the
// template, and what to type.
func TestProblems(t *testing.T) {
	head := "variant: fcos\nversion: 1.5.0\n"
	for name, tt := range map[string]struct {
		config cluster.Config
		want   []string
	}{
		"missing variables": {cluster.Config{Butane: head + "# {{ .Variables.colour }}\n# {{ .Variables.port }}\n# {{ .Variables.size }} {{ .Variables.colour }}\n"}, []string{
			`profile web: config.butane line 3: variable "colour" is not set: write variables: {colour: ...} in profile web, group frontends or host web1`,
			`profile web: config.butane line 5: variable "size" is not set`,
		}},
		"missing below":  {cluster.Config{Butane: head + "\n# {{ .Variables.nested.b }}"}, []string{`config.butane line 4: variable "b" is not set`}},
		"a bad action":   {cluster.Config{Butane: head + "# {{ if }}"}, []string{"config.butane line 3: missing value for if: correct the {{ ... }} there"}},
		"not closed":     {cluster.Config{Butane: head + "# {{ range .SSHKeys }}"}, []string{"config.butane line 3: unexpected EOF"}},
		"no group":       {cluster.Config{Butane: head + "# {{ .Image.Name }}"}, []string{"config.butane line 3: at <.Image.Name>: nil pointer"}},
		"unused keys":    {cluster.Config{Butane: head + "storrage: {}\nstorage:\n  files:\n    - path: /x\n      contnts: {}\n"}, []string{"line 3: storrage: unused key storrage: correct its name", "line 7: storage.files.0.contnts: unused key"}},
		"a relative":     {cluster.Config{Butane: head + "storage:\n  files:\n    - path: etc/x\n    - path: {{ quote \"etc/y\" }}\n"}, []string{"line 5: storage.files.0.path: path not absolute: begin it with /", "line 6: storage.files.1.path: path not absolute"}},
		"decimal mode":   {cluster.Config{Butane: head + "storage:\n  files:\n    - path: /etc/x\n      mode: 644\n"}, []string{"line 6: storage.files.0.mode: unreasonable mode", "write mode: 0644"}},
		"wrong types":    {cluster.Config{Butane: head + "storage: 7\nsystemd: x\n"}, []string{"line 3: cannot unmarshal", "line 4: cannot unmarshal"}},
		"no YAML":        {cluster.Config{Butane: head + "storage:\n  files: [\n"}, []string{"config.butane line 4: did not find expected"}},
		"twice":          {cluster.Config{Butane: head + "storage: {}\nstorage: {}\n"}, []string{"line 4: mapping key", "write it once"}},
		"duplicates":     {cluster.Config{Butane: head + "storage:\n  files:\n    - path: /x\n    - path: /x\n"}, []string{"line 6: storage.files.1: duplicate entry defined: write it once"}},
		"local":          {cluster.Config{Butane: head + "storage:\n  files:\n    - path: /x\n      contents: {local: x}\n"}, []string{"line 6: storage.files.0.contents.local", "write the text in the config with inline:"}},
		"no variant":     {cluster.Config{Butane: "version: 1.5.0\n"}, []string{"variant; must be specified: write variant: fcos and version: 1.5.0"}},
		"no version":     {cluster.Config{Butane: "variant: fcos\n"}, []string{"version; must be a valid semver: write variant: fcos"}},
		"openshift":      {cluster.Config{Butane: "variant: openshift\nversion: 4.14.0\n"}, []string{`line 1: variant: "openshift" is not one that pilotlight boots: write variant: fcos`}},
		"quoted variant": {cluster.Config{Butane: "{variant: r4e, version: 1.1.0}\n"}, []string{`variant: "r4e" is not one`}},
		"experimental":   {cluster.Config{Butane: "variant: fcos\nversion: 1.8.0-experimental\n"}, []string{`line 2: version: "1.8.0-experimental" is not a stable version of fcos: write one of 1.0.0, `}},
		"both":           {cluster.Config{Butane: head, Ignition: "{}"}, []string{"it has both butane and ignition"}},
		"ignition 2":     {cluster.Config{Ignition: `{"ignition": {"version": "2.3.0"}}`}, []string{`version "2.3.0" is not served: write one of 3.0.0 to 3.6.0; ign-converter`}},
		"ignition 3.7":   {cluster.Config{Ignition: `{"ignition": {"version": "3.7.0-experimental"}}`}, []string{`version "3.7.0-experimental" is not served`}},
		"no JSON":        {cluster.Config{Ignition: "{\n\"ignition\": {\n"}, []string{"config.ignition line 3: unexpected end of JSON"}},
		"an unused key":  {cluster.Config{Ignition: "{\"ignition\": {\"version\": \"3.3.0\"},\n\"storge\": {}}"}, []string{"config.ignition line 2: storge: unused key storge"}},
		"no version 3":   {cluster.Config{Ignition: "{}"}, []string{`write {"ignition": {"version": "3.3.0"}, ...}`}},
		"a bad URL":      {cluster.Config{Ignition: `{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"path": "/x", "contents": {"source": "ftp://x"}}]}}`}, []string{"storage.files.0.contents.source: invalid url scheme: write it like https://"}},
		"our hole":       {cluster.Config{Ignition: `{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"path": "/x", "contents": {"source": "data:,` + TokenPlaceholder + `"}}]}}`}, []string{"which pilotlight fills in itself: take it out"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(testInput(tt.config))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if len(e.Problems) != len(tt.want) && name != "decimal mode" && name != "twice" && name != "local" {
				t.Errorf("%d problems", len(e.Problems))
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %s in\n%v", want, err)
				}
			}
			if !strings.HasSuffix(err.Error(), "; then type: pilotlight apply, or pilotlight render web1 to see the config") {
				t.Errorf("what to type? %v", err)
			}
		})
	}
}

// TestConflicts: what pilotlight writes, nobody else does.
func TestConflicts(t *testing.T) {
	for config, want := range map[string]string{
		"storage:\n  files:\n    - path: /etc/hostname":                                                            "line 5: storage.files.0: /etc/hostname is written by pilotlight: take it out of the config; the host's name:",
		"storage:\n  files:\n    - path: /etc/pilotlight/agent.json":                                               "/etc/pilotlight/agent.json is written by pilotlight",
		"storage:\n  files:\n    - path: /etc/pilotlight/introduction-token":                                       "/etc/pilotlight/introduction-token is written by pilotlight",
		"storage:\n  directories:\n    - path: /opt/pilotlight/bin/pilotlight-agent":                               "storage.directories.0: /opt/pilotlight/bin/pilotlight-agent is written",
		"storage:\n  links:\n    - path: /opt/pilotlight\n      target: /var/x":                                    "line 5: storage.links.0: /opt/pilotlight is written by pilotlight",
		"systemd:\n  units:\n    - name: pilotlight-agent.service\n      contents: \"[Unit]\"":                     "line 5: systemd.units.0: pilotlight-agent.service is pilotlight's unit: take it out of the config, or write only its dropins:",
		"systemd:\n  units:\n    - name: pilotlight-agent.service\n      mask: true":                               "pilotlight-agent.service is pilotlight's unit",
		"ignition:\n  config:\n    replace:\n      source: https://example.org/x":                                  "line 6: ignition.config.replace: it would replace pilotlight's part too",
		"storage:\n  links:\n    - path: /etc/systemd/system/pilotlight-agent.service\n      target: /var/x/y/z/w": "pilotlight-agent.service",
	} {
		_, err := Compile(testInput(cluster.Config{Butane: "variant: fcos\nversion: 1.5.0\n" + config + "\n"}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", config, err)
		}
	}
	_, err := Compile(testInput(cluster.Config{Ignition: "{\"ignition\": {\"version\": \"3.3.0\"},\n\"storage\": {\"files\": [\n{\"path\": \"/x\"}, {\"path\":\n\"/etc/hostname\"}]}}"}))
	if err == nil || !strings.Contains(err.Error(), "config.ignition line 4: storage.files.1: /etc/hostname") {
		t.Errorf("got %v", err)
	}
	mustCompile(t, testInput(cluster.Config{Butane: "variant: fcos\nversion: 1.5.0\nstorage:\n  directories:\n    - path: /opt/pilotlight\n"}))
}

// TestWarnings: what is unwise but meant is served, and said.
func TestWarnings(t *testing.T) {
	c := mustCompile(t, testInput(cluster.Config{Butane: "variant: fcos\nversion: 1.5.0\nstorage:\n  files:\n    - path: /etc/x\n      mode: 04755\n      contents: {inline: x}\n"}))
	w := c.Warnings()
	if len(w) != 1 || !strings.Contains(w[0].String(), "config.butane line 6: storage.files.0.mode: setuid/setgid/sticky bits are not supported") {
		t.Errorf("got %v", w)
	}
}

// FuzzTemplate: whatever an operator writes, there is a config that every
// version's own parser reads, or an Error that names the place.
func FuzzTemplate(f *testing.F) {
	for _, path := range goldenFiles(f) {
		c := goldenConfig(f, path)
		f.Add(c.Butane + c.Ignition + c.CloudConfig)
	}
	f.Add("{{ range 5 }}{{ . }}{{ end }}")
	f.Add("variant: fcos\nversion: 1.5.0\nstorage: {files: [{path: {{ .Variables.motd }}}]}")
	f.Fuzz(func(t *testing.T, source string) {
		for _, config := range []cluster.Config{{Butane: source}, {Ignition: source}, {CloudConfig: source}} {
			if config.IsZero() {
				continue
			}
			c, err := Compile(testInput(config))
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || len(e.Problems) == 0 || c != nil {
					t.Fatalf("%T %v", err, err)
				}
				continue
			}
			if config.CloudConfig != "" {
				if b, err := c.CloudConfig(testToken); err != nil || !strings.HasPrefix(string(b), "#cloud-config\n") {
					t.Fatalf("%s %v", b, err)
				}
				continue
			}
			for _, s := range specs {
				body, err := c.Ignition(ContentType+";version="+s.version, testToken)
				if err != nil {
					continue
				}
				if _, _, err := s.parse(body); err != nil {
					t.Fatalf("%s: %v\n%s", s.version, err, body)
				}
			}
		}
	})
}
