package ignition

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// TestEveryVersion takes a config that uses nothing new through each version of
// the spec: its own parser reads it without a word, and gives all of it back.
func TestEveryVersion(t *testing.T) {
	c := mustCompile(t, testInput(goldenConfig(t, "testdata/golden/flatcar.bu")))
	if got := strings.Join(c.Versions(), " "); got != "3.0.0 3.1.0 3.2.0 3.3.0 3.4.0 3.5.0 3.6.0" {
		t.Fatalf("versions %s", got)
	}
	for minor, s := range specs {
		for _, accept := range []string{
			ContentType + ";version=" + s.version,
			ContentType + ";version=" + s.version + ", */*;q=0.1",
		} {
			body, err := c.Ignition(accept, testToken)
			if err != nil {
				t.Fatalf("%s: %v", accept, err)
			}
			parsed, rep, err := s.parse(body)
			if err != nil || len(rep.Entries) > 0 {
				t.Fatalf("%s: %v\n%s\n%s", accept, err, rep.String(), body)
			}
			var want map[string]any
			if err := json.Unmarshal(body, &want); err != nil {
				t.Fatal(err)
			}
			back, err := json.Marshal(parsed)
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(back, &got); err != nil {
				t.Fatal(err)
			}
			prune(got)
			lost := map[string]string{}
			if compareTrees("", want, got, lost); len(lost) > 0 {
				t.Errorf("%s: lost %v", accept, lost)
			}
			hash := "sha256-" + strings.Repeat("ab", 32)
			if minor == 0 {
				hash = "sha512-" + strings.Repeat("cd", 64)
			}
			if !strings.Contains(string(body), hash) || !strings.Contains(string(body), `"version": "`+s.version+`"`) {
				t.Errorf("%s: got\n%s", accept, body)
			}
		}
	}
}

// newFields are fields that came with a version of the spec, and where.
var newFields = []struct {
	needs, field, config string
}{
	{"3.1.0", "ignition.config.merge.0.httpHeaders", `"ignition": {"version": "V", "config": {"merge": [{"source": "http://10.0.0.1/x", "httpHeaders": [{"name": "A", "value": "b"}]}]}}`},
	{"3.1.0", "ignition.proxy", `"ignition": {"version": "V", "proxy": {"httpProxy": "http://10.0.0.1:3128"}}`},
	{"3.1.0", "storage.filesystems.0.mountOptions", `"storage": {"filesystems": [{"device": "/dev/vdb1", "format": "ext4", "path": "/var/x", "mountOptions": ["noatime"]}]}`},
	{"3.1.0", "storage.files.0.contents.verification.hash", `"storage": {"files": [{"path": "/x", "contents": {"source": "http://10.0.0.1/x", "verification": {"hash": "sha256-` + strings.Repeat("00", 32) + `"}}}]}`},
	{"3.2.0", "storage.luks", `"storage": {"luks": [{"name": "x", "device": "/dev/vdb"}]}`},
	{"3.2.0", "storage.disks.0.partitions.0.resize", `"storage": {"disks": [{"device": "/dev/vdb", "partitions": [{"number": 1, "sizeMiB": 100, "resize": true}]}]}`},
	{"3.2.0", "passwd.users.0.shouldExist", `"passwd": {"users": [{"name": "x", "shouldExist": false}]}`},
	{"3.2.0", "storage.files.0.contents.source", `"storage": {"files": [{"path": "/x", "contents": {"source": "gs://bucket/x"}}]}`},
	{"3.3.0", "kernelArguments", `"kernelArguments": {"shouldExist": ["quiet"]}`},
	{"3.3.0", "storage.filesystems.0.format", `"storage": {"filesystems": [{"device": "/dev/vdb1", "format": "none", "wipeFilesystem": true}]}`},
	{"3.4.0", "storage.luks.0.discard", `"storage": {"luks": [{"name": "x", "device": "/dev/vdb", "discard": true}]}`},
	{"3.4.0", "storage.luks.0.openOptions", `"storage": {"luks": [{"name": "x", "device": "/dev/vdb", "openOptions": ["--perf-no_read_workqueue"]}]}`},
	{"3.4.0", "storage.files.0.contents.source", `"storage": {"files": [{"path": "/x", "contents": {"source": "arn:aws:s3:us-west-1:123456789012:accesspoint/test/object/some/path"}}]}`},
	{"3.5.0", "storage.luks.0.cex", `"storage": {"luks": [{"name": "x", "device": "/dev/vdb", "cex": {"enabled": true}}]}`},
	{"3.6.0", "storage.files.0.mode", `"storage": {"files": [{"path": "/x", "mode": 2541, "contents": {"source": "data:,x"}}]}`},
	{"3.6.0", "storage.directories.0.mode", `"storage": {"directories": [{"path": "/x", "mode": 1023}]}`},
}

// TestNewerFields: a version that cannot carry a field is refused by the field's
// name and with the version that can; each later one is served.
func TestNewerFields(t *testing.T) {
	for _, f := range newFields {
		t.Run(f.needs+" "+f.field, func(t *testing.T) {
			config := f.config
			if !strings.Contains(config, `"ignition"`) {
				config = `"ignition": {"version": "V"}, ` + config
			}
			config = "{" + strings.Replace(config, `"V"`, `"`+f.needs+`"`, 1) + "}"
			c := mustCompile(t, testInput(cluster.Config{Ignition: config}))
			for _, s := range specs {
				body, err := c.Ignition(ContentType+";version="+s.version, testToken)
				if s.version >= f.needs {
					if err != nil {
						t.Errorf("%s: %v", s.version, err)
					}
					continue
				}
				var unsupported *UnsupportedError
				if !errors.As(err, &unsupported) || body != nil {
					t.Fatalf("%s: got %q, %v", s.version, body, err)
				}
				if unsupported.Asked != s.version || !slices.Contains(unsupported.Needs, Need{f.field, f.needs}) && s.version >= "3.2.0" {
					t.Errorf("%s: got %+v", s.version, unsupported)
				}
				if msg := err.Error(); !strings.Contains(msg, "needs "+f.needs) && s.version >= "3.2.0" ||
					!strings.Contains(msg, "reads Ignition spec "+s.version) || !strings.Contains(msg, "boot an image whose Ignition reads") {
					t.Errorf("%s: %s", s.version, msg)
				}
			}
			oldest, err := c.Ignition("*/*", testToken)
			if err != nil || !strings.Contains(string(oldest), `"version": "`+f.needs+`"`) {
				t.Errorf("the default is not %s: %v", f.needs, err)
			}
		})
	}
}

// TestNoSHA512: a client of spec 3.0 cannot check a sha256, so it gets nothing
// rather than an agent that nobody verified.
func TestNoSHA512(t *testing.T) {
	in := testInput(cluster.Config{})
	in.Agent.SHA512 = ""
	c := mustCompile(t, in)
	_, err := c.Ignition(ContentType+";version=3.0.0", testToken)
	if err == nil || !strings.Contains(err.Error(), "the sha256 of "+AgentFile+" needs 3.1.0") {
		t.Errorf("got %v", err)
	}
	if got := c.Versions()[0]; got != "3.1.0" {
		t.Errorf("oldest is %s", got)
	}
}

// TestEveryButane compiles each stable version of both variants.
func TestEveryButane(t *testing.T) {
	natives := map[string]string{
		"fcos 1.0.0": "3.0.0", "fcos 1.1.0": "3.1.0", "fcos 1.2.0": "3.2.0", "fcos 1.3.0": "3.2.0", "fcos 1.4.0": "3.3.0",
		"fcos 1.5.0": "3.4.0", "fcos 1.6.0": "3.5.0", "fcos 1.7.0": "3.6.0", "flatcar 1.0.0": "3.3.0", "flatcar 1.1.0": "3.4.0",
	}
	count := 0
	for variant, versions := range butaneVariants {
		for _, version := range versions {
			count++
			if natives[variant+" "+version] == "" {
				t.Errorf("%s %s is not in the table", variant, version)
			}
			c := mustCompile(t, testInput(cluster.Config{Butane: fmt.Sprintf(
				"variant: %s\nversion: %s\nstorage:\n  files:\n    - path: /etc/x\n      contents:\n        inline: %s\n",
				variant, version, strings.Repeat("x", 2000))}))
			if len(c.Versions()) != newest+1 {
				t.Errorf("%s %s: served as %v", variant, version, c.Versions())
			}
		}
	}
	if count != len(natives) {
		t.Errorf("%d versions", count)
	}
}

// TestAheadOfUse: what a config may be served as is known when it is compiled,
// and stays out of the way of what it may not.
func TestMixedNeeds(t *testing.T) {
	c := mustCompile(t, testInput(cluster.Config{Butane: `variant: fcos
version: 1.7.0
kernel_arguments:
  should_exist: [quiet]
storage:
  luks:
    - name: data
      device: /dev/vdb
      discard: true
  files:
    - path: /usr/local/bin/x
      mode: 04755
      contents: {inline: x}
`}))
	_, err := c.Ignition(ContentType+";version=3.2.0", testToken)
	var u *UnsupportedError
	if !errors.As(err, &u) {
		t.Fatal(err)
	}
	want := []Need{{"kernelArguments", "3.3.0"}, {"storage.files.0.mode", "3.6.0"}, {"storage.luks.0.discard", "3.4.0"}}
	if !slices.Equal(u.Needs, want) {
		t.Errorf("got %v", u.Needs)
	}
	if !strings.Contains(err.Error(), "boot an image whose Ignition reads 3.6.0 (Ignition 2.26 or newer)") {
		t.Error(err)
	}
	if got := c.Versions(); !slices.Equal(got, []string{"3.6.0"}) {
		t.Errorf("served as %v", got)
	}
}

// TestEveryVersionOfEveryExample: each example, asked for in each version as each
// client asks, is all there, or it is said which field needs which version.
func TestEveryVersionOfEveryExample(t *testing.T) {
	for _, path := range goldenFiles(t) {
		config := goldenConfig(t, path)
		if config.CloudConfig != "" {
			continue
		}
		c := mustCompile(t, testInput(config))
		may := c.Versions()
		for minor, s := range specs {
			for _, accept := range []string{ContentType + ";version=" + s.version, ContentType + ";version=" + s.version + ", */*;q=0.1"} {
				body, err := c.Ignition(accept, testToken)
				if !slices.Contains(may, s.version) {
					var u *UnsupportedError
					if !errors.As(err, &u) || body != nil || u.Asked != s.version || len(u.Needs) == 0 || u.Needs[0].Field == "" || u.Needs[0].Version <= s.version {
						t.Errorf("%s, %s: got %d bytes, %v", path, accept, len(body), err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s, %s: %v", path, accept, err)
					continue
				}
				r := readAs(minor, body)
				var want map[string]any
				if err := json.Unmarshal(body, &want); err != nil {
					t.Fatal(err)
				}
				back, err := json.Marshal(r.config)
				if err != nil {
					t.Fatal(err)
				}
				var got map[string]any
				if err := json.Unmarshal(back, &got); err != nil {
					t.Fatal(err)
				}
				prune(got)
				lost := map[string]string{}
				if compareTrees("", want, got, lost); r.err != nil || len(lost) > 0 || !strings.Contains(string(body), `"version": "`+s.version+`"`) {
					t.Errorf("%s, %s: %v, lost %v", path, accept, r.err, lost)
				}
			}
		}
		if len(may) == 0 {
			t.Errorf("%s is served to nobody", path)
		}
	}
}
