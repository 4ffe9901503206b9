//go:build integration

package ignition

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// partsScript runs Debian's cloud-init, all its stages, with a NoCloud seed in a copy
// of this machine's system that is gone afterwards, and hands out what came of it.
const partsScript = `set -eu
export SYSTEMD_OFFLINE=1 # there is none that runs
dir=$1 seed=$2 out=$3
mount -t tmpfs tmpfs "$dir"
root=$dir/root
mkdir "$dir/up" "$dir/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/up,workdir=$dir/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
rm -rf "$root/var/lib/cloud" "$root/etc/pilotlight"
mkdir -p "$root/var/lib/cloud/seed/nocloud"
cp "$seed"/* "$root/var/lib/cloud/seed/nocloud/"
printf '%s\n' 'datasource_list: [NoCloud]' 'network: {config: disabled}' 'cloud_init_modules: [write-files, users-groups]' \
  'cloud_config_modules: [runcmd]' 'cloud_final_modules: [write-files-deferred, scripts-user]' > "$root/etc/cloud/cloud.cfg.d/99-test.cfg"
chroot "$root" cloud-init init --local
chroot "$root" cloud-init init
chroot "$root" cloud-init modules --mode config
chroot "$root" cloud-init modules --mode final
for f in etc/one etc/script etc/hook etc/jinja etc/two etc/three etc/motd etc/sudoers.d/pilotlight-alice etc/pilotlight/agent.json etc/pilotlight/introduction-token; do
  mkdir -p "$out/$(dirname $f)"
  cp "$root/$f" "$out/$f"
done
chroot "$root" getent passwd alice > "$out/alice"
chroot "$root" systemctl is-enabled pilotlight-agent.service > "$out/enabled"
`

// TestIntegrationPartsByCloudInit: what each part says takes effect, and common: and
// the agent beside it; plain, and packed as for a place that takes little.
func TestIntegrationPartsByCloudInit(t *testing.T) {
	tool := needTool(t, "cloud-init", "cloud-init")
	in := commonInput(cluster.Config{CloudParts: []string{
		"#cloud-config\nruncmd:\n  - [sh, -c, 'echo first > /etc/three']\nwrite_files:\n  - {path: /etc/one, content: \"{{ .Host.Name }}\"}\n",
		"#!/bin/sh\necho 'für {{ .Host.Name }}' > /etc/script\n",
		"#cloud-boothook\n#!/bin/sh\necho hook > /etc/hook\n",
		"## template: jinja\n#cloud-config\nmerge_how: 'list(append)+dict(recurse_list)+str()'\nwrite_files:\n  - {path: /etc/jinja, content: \"{{ v1.local_hostname }}\"}\n",
		"#cloud-config\nmerge_how: 'list(append)+dict(recurse_list)+str()'\nruncmd:\n  - [sh, -c, 'echo second >> /etc/three']\nwrite_files:\n  - {path: /etc/two, content: two}\n",
	}})
	in.Target.Profile.Common.Users[0].Groups = nil // which are not on this machine
	in.Target.Profile.NetworkConfig = ""
	c := mustCompile(t, in)
	body, err := c.CloudConfig(testToken)
	if err != nil {
		t.Fatal(err)
	}
	kinds, bodies := readParts(t, body)
	for i, kind := range kinds {
		if kind != cloudConfigPart {
			continue
		}
		path := filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(path, []byte(bodies[i]), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(tool, "schema", "--config-file", path).CombinedOutput(); err != nil || !strings.Contains(string(out), "Valid") {
			t.Errorf("part %d: %v\n%s", i, err, out)
		}
	}
	meta, err := c.MetaData()
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(body); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for how, userData := range map[string][]byte{"plain": body, "packed": packed.Bytes()} {
		t.Run(how, func(t *testing.T) { tookEffect(t, userData, meta) })
	}
}

func tookEffect(t *testing.T, userData, meta []byte) {
	seed, got := t.TempDir(), t.TempDir()
	for name, text := range map[string][]byte{"user-data": userData, "meta-data": meta} {
		if err := os.WriteFile(filepath.Join(seed, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", partsScript, "sh", t.TempDir(), seed, got).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string]string{
		"etc/one": "web1", "etc/script": "für web1\n", "etc/hook": "hook\n", "etc/jinja": "web1", "etc/two": "two", "etc/three": "first\nsecond\n",
		"etc/pilotlight/introduction-token": testToken, "etc/sudoers.d/pilotlight-alice": "alice ALL=(ALL) NOPASSWD: ALL\n", "enabled": "enabled\n",
	} {
		if text, err := os.ReadFile(filepath.Join(got, name)); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v; want %q", name, text, err, want)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(got, "alice")); !strings.Contains(string(text), "Alice") {
		t.Errorf("the user of common: is %q\n%s", text, out)
	}
}
