package moving_test

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/moving"
	"github.com/pilotlight/pilotlight/cluster/moving/cobbler"
	"github.com/pilotlight/pilotlight/cluster/moving/dnsmasq"
	"github.com/pilotlight/pilotlight/cluster/moving/matchbox"
)

// sound fails when documents have a mistake that their input cannot excuse: names,
// claims, references. What waits for a digest is the operator's.
func sound(t *testing.T, r moving.Result) {
	t.Helper()
	for _, p := range cluster.Check(r.Documents) {
		switch p.Field {
		case "kernel.sha256", "initrd[0].sha256", "kernel.url", "initrd[0].url", "rootfs.sha256":
		default:
			t.Errorf("%s", p)
		}
	}
	for _, n := range r.Notes {
		if n.File == "" || n.Text == "" {
			t.Errorf("a note that says nothing: %+v", n)
		}
	}
}

func FuzzMatchbox(f *testing.F) {
	f.Add(`{"profile": "p", "selector": {"mac": "52-54-00-a1-9c-ae", "os": "x"}, "metadata": {"a": {"b": [1]}}}`,
		`{"ignition_id": "t", "boot": {"kernel": "/assets/k", "initrd": ["--name main /assets/i"], "args": ["a=${mac}", "coreos.live.rootfs_url=/assets/r"]}}`,
		"variant: fcos\n# {{ range .a }}{{ . }}{{ $.b.c }}{{ end }} {{ define \"x\" }}{{ .request.raw_query }}{{ end }}{{ template \"x\" . }}")
	f.Add(`{"profile": "p"}`, `{"boot": {"kernel": "http://x/y"}}`, "{{ with .x }}{{ .y }}{{ else }}{{ .z }}{{ end }}{{ (index . \"q\").r }}")
	f.Fuzz(func(t *testing.T, group, profile, template string) {
		o, notes := matchbox.Read(fstest.MapFS{
			"groups/g.json": {Data: []byte(group)}, "profiles/p.json": {Data: []byte(profile)}, "ignition/t": {Data: []byte(template)},
		})
		r := matchbox.Convert(o, matchbox.Pins{})
		sound(t, moving.Result{Documents: r.Documents, Notes: append(notes, r.Notes...)})
	})
}

func FuzzCobbler(f *testing.F) {
	f.Add(`{"name": "d", "kernel": "/k", "initrd": "/i", "kernel_options": "a b=c"}`, `{"name": "p", "distro": "d", "autoinstall_meta": {"x": 1}}`,
		`{"name": "S_1", "profile": "p", "interfaces": {"eth0": {"mac_address": "52:54:00:00:00:01", "ip_address": "10.0.0.9", "netmask": "255.255.255.0"}}}`)
	f.Add(`{"name": "d"}`, `{"name": "p", "parent": "p"}`, `{"name": "s", "interfaces": {"a": 3}}`)
	f.Fuzz(func(t *testing.T, distro, profile, system string) {
		sound(t, cobbler.Convert(fstest.MapFS{
			"collections/distros/d.json": {Data: []byte(distro)}, "collections/profiles/p.json": {Data: []byte(profile)}, "collections/systems/s.json": {Data: []byte(system)},
		}))
	})
}

// memory is files by their names.
type memory map[string]string

func (m memory) Open(name string) ([]byte, error) {
	if text, ok := m[name]; ok {
		return []byte(text), nil
	}
	return nil, fs.ErrNotExist
}

func (m memory) List(string) ([]string, error) { return []string{"more.conf", "old.bak"}, nil }

func FuzzDnsmasq(f *testing.F) {
	f.Add("dhcp-range=set:a,10.0.0.10,10.0.0.20,255.255.255.0,1h\ndhcp-host=52:54:00:00:00:01,n,10.0.0.5,set:a\ndhcp-option=tag:a,option:router,10.0.0.1\n"+
		"tftp-root=/t\nconf-dir=/x,*.conf\nconf-file=a\n", "LABEL x\nKERNEL k\nAPPEND initrd=i q\n")
	f.Add("dhcp-range=fd00::1,fd00::9,64\ndhcp-option=121,10.0.0.0/8,10.0.0.1\ndhcp-option=3\ndhcp-option-force=224,01:02\n#c\n\"", "default y\nlabel y\nlocalboot 0")
	f.Fuzz(func(t *testing.T, config, pxe string) {
		sound(t, dnsmasq.Convert(memory{"a": config, "/t/pxelinux.cfg/default": pxe, "/x/more.conf": config}, "a"))
	})
}
