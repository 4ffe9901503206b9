package ignition

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// operatorParts are of each kind that an operator writes.
var operatorParts = []string{
	"#cloud-config\npackages: [nftables]\nruncmd:\n  - [touch, /run/one]\nwrite_files:\n  - {path: /etc/one, content: \"{{ .Host.Name }}\"}\n",
	"#!/bin/sh\necho 'für {{ .Host.Name }}' > /etc/script\n",
	"#cloud-boothook\n#!/bin/sh\necho hook > /etc/hook\n",
	"## template: jinja\n#cloud-config\ntimezone: {{ v1.local_hostname }}\n",
	"#cloud-config\nmerge_how: 'list(append)+dict(recurse_list)+str()'\nruncmd:\n  - [touch, /run/two]\n",
}

// readParts is a message as its reader gets it: the types and bodies of its parts.
func readParts(t *testing.T, body []byte) (kinds, bodies []string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return kinds, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
		kinds, bodies = append(kinds, kind), append(bodies, string(text))
	}
}

// TestParts: what the operator wrote is there in its order, then pilotlight's own with
// common:, which says how it is merged; the same bytes each time but for the token.
func TestParts(t *testing.T) {
	in := commonInput(cluster.Config{CloudParts: operatorParts})
	c := mustCompile(t, in)
	body, err := c.CloudConfig(testToken)
	if err != nil {
		t.Fatal(err)
	}
	kinds, bodies := readParts(t, body)
	if got := strings.Join(kinds, " "); got != "text/cloud-config text/x-shellscript text/cloud-boothook text/jinja2 text/cloud-config text/cloud-config" {
		t.Fatalf("the parts are %s", got)
	}
	for i, want := range []string{"content: \"web1\"", "'für web1'", "echo hook", "{{ v1.local_hostname }}", "/run/two", "merge_how:\n  - name: list\n    settings: [append]\n"} {
		if !strings.Contains(bodies[i], want) {
			t.Errorf("part %d has no %q:\n%s", i, want, bodies[i])
		}
	}
	for _, want := range []string{testToken, "name: alice", "- default", "hostname: web1", "[systemctl, enable, pilotlight-agent.service]", "firewall"} {
		if !strings.Contains(bodies[5], want) {
			t.Errorf("pilotlight's part has no %q:\n%s", want, bodies[5])
		}
	}
	again, _ := mustCompile(t, in).CloudConfig(testToken)
	if string(again) != string(body) || c.CloudType() != MultipartType || c.Languages()[0] != LanguageCloudInit {
		t.Errorf("%s, %v, or other bytes", c.CloudType(), c.Languages())
	}
	// Taken apart and put together it is the same: as a message that was kept elsewhere.
	var kept []cloudPart
	for i := range operatorParts {
		kept = append(kept, cloudPart{kind: kinds[i], body: bodies[i]})
	}
	message := strings.ReplaceAll(string(writeMessage(kept)), "{{ v1.local_hostname }}", `{{ "{{ v1.local_hostname }}" }}`)
	body2, err := mustCompile(t, commonInput(cluster.Config{CloudConfig: message})).CloudConfig(testToken)
	if err != nil {
		t.Fatal(err)
	}
	if string(body2) != string(body) {
		t.Errorf("of a message it becomes\n%s\nof parts\n%s", body2, body)
	}
}

// TestPartKeys: where the keys go when a part has a list of users.
func TestPartKeys(t *testing.T) {
	for part, at := range map[string]int{
		"#cloud-config\nusers: [default, {name: ops}]\n": 1,
		"#cloud-config\nusers:\n  - name: core\n":        0,
		"#!/bin/sh\n": 1,
	} {
		body, err := mustCompile(t, testInput(cluster.Config{CloudParts: []string{part}})).CloudConfig(testToken)
		if err != nil {
			t.Fatal(err)
		}
		if _, bodies := readParts(t, body); strings.Count(string(body), testKey) != 1 || !strings.Contains(bodies[at], testKey) {
			t.Errorf("%q:\n%s", part, body)
		}
	}
}

// TestPartProblems: each with the part that it is in, and its line.
func TestPartProblems(t *testing.T) {
	const head = "Content-Type: multipart/mixed; boundary=\"x\"\nMIME-Version: 1.0\n\n"
	for _, row := range []struct {
		parts []string
		want  string
	}{
		{[]string{"#!/bin/sh\n", "packages: [x]\n"}, "config.cloud_parts[1] line 1: its first line is \"packages: [x]\", by which cloud-init does not know"},
		{[]string{"#!/bin/sh\n", "#cloud-config\npakages: [x]\n"}, "config.cloud_parts[1] line 2: pakages: cloud-init has no such key"},
		{[]string{"#!/bin/sh\n{{ .Variables.no }}\n", "#cloud-config\n{{ .Variables.neither }}\n"}, "config.cloud_parts[1] line 2: variable \"neither\" is not set"},
		{[]string{"#cloud-config\ncoreos: {}\n", "#!/bin/sh\n"}, "coreos-cloudinit reads no parts"},
		{[]string{"#cloud-config\nruncmd: [x]\n", "#cloud-config\nruncmd: [y]\n"}, "config.cloud_parts[1] line 2: runcmd: a part before has it too, and cloud-init would drop"},
		{[]string{"#cloud-config\nwrite_files:\n  - path: /etc/pilotlight/agent.json\n", "#!/bin/sh\n"}, "config.cloud_parts[0] line 3: write_files.0: /etc/pilotlight/agent.json is written by pilotlight"},
		{[]string{"#cloud-config\nhostname: x\n"}, "config.cloud_parts[0] line 2: hostname: pilotlight names the host web1"},
		{[]string{"#cloud-config\nusers: [{name: ops}]\n"}, "config.cloud_parts[0] line 2: users: it has neither default nor core"},
		{[]string{"#cloud-config\nruncmd:\n"}, "config.cloud_parts[0] line 2: runcmd: it is not a list"},
		{[]string{"## template: jinja\n#cloud-config\nx-a: {{ .Host.Name }}\n"}, "config.cloud_parts[0] line 3: this part is a jinja template"},
		{[]string{head + "--x\nContent-Type: text/cloud-config\n\n#cloud-config\npakages: [x]\n--x--\n"}, "config.cloud_parts[0] line 8: pakages: cloud-init has no such key"},
		{[]string{head + "--x\nContent-Type: text/cloud-config\n\n#cloud-config\n"}, "part 1: the message ends in it: write --BOUNDARY-- behind its last part"},
		{[]string{head + "nothing\n"}, "part 1: the message "},
		{[]string{head + "--x\nContent-Type: application/gzip\nContent-Transfer-Encoding: base64\n\nH4sIAAAAAAAAAwMAAAAAAAAAAAA=\n--x--\n"}, "part 1: it is packed by gzip"},
		{[]string{head + "--x\nContent-Type: text/plain; charset=\"latin1\"\n\n#!/bin/sh\n--x--\n"}, "charset \"latin1\" is not known"},
		{[]string{head + "--x\nContent-Type: application/pdf\n\nx\n--x--\n"}, "cloud-init does not know what a part of type \"application/pdf\" is"},
		{[]string{"#cloud-config\nwrite_files: [{path: /etc/motd}]\n"}, "common.files[0].path: /etc/motd is in the profile's config too"},
	} {
		in := testInput(cluster.Config{CloudParts: row.parts})
		if strings.HasPrefix(row.want, "common") {
			in = commonInput(in.Target.Profile.Config)
		}
		_, err := Compile(in)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: got %v", row.parts, err)
		}
	}
}

// TestQuotedPrintable: what is filled in later may be of any length, and its reader
// gets back what was written.
func TestQuotedPrintable(t *testing.T) {
	for _, s := range []string{"a = b \n\t\nü\r\n", strings.Repeat("long", 100), " "} {
		body := writeMessage([]cloudPart{{kind: cloudConfigPart, body: s + "é"}})
		if _, bodies := readParts(t, body); len(bodies) != 1 || bodies[0] != s+"é" {
			t.Errorf("%q became %q", s, bodies)
		}
	}
}
