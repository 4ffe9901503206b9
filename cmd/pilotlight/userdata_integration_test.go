//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

const cloudManifest = `kind: profile
name: ign
boot: local
config:
  butane: |
    variant: fcos
    version: 1.4.0
    storage: {files: [{path: /etc/motd, contents: {inline: "an Ignition host's\n"}}]}
---
kind: profile
name: ci
boot: local
config:
  cloud_config: |
    #cloud-config
    write_files: [{path: /etc/motd, content: "a cloud's\n"}]
---
kind: host
name: i1
userdata: true
profile: ign
---
kind: host
name: c1
userdata: true
profile: ci
`

// carriedLab is a server, and a machine that pilotlight does not boot: it has an
// address of its own, which no network document knows.
func carriedLab(t *testing.T) (l *lab, server *process, ns string) {
	t.Helper()
	l = newLab(t)
	l.write("all.yaml", cloudManifest)
	server = l.serve()
	ns = l.machine(mac1)
	must(t, "ip", "-n", ns, "addr", "add", "10.98.0.77/24", "dev", "eth0")
	return l, server, ns
}

func (l *lab) userdata(host, place string) string {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), host+"."+place)
	l.pilotlight("userdata", host, "--for", place, "-o", path)
	return path
}

// spoil writes a changed copy of a pointer.
func spoil(t *testing.T, path, from, to string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := regexp.MustCompile(from).ReplaceAllString(string(text), to)
	if changed == string(text) {
		t.Fatalf("%s holds no %s", path, from)
	}
	out := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(out, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// applyIgnition runs the real Ignition with a pointer, as far as the files stage, in a
// directory of its own.
func (l *lab) applyIgnition(ns, pointer string) (root, out string, err error) {
	l.t.Helper()
	dir := l.t.TempDir()
	root = l.newRoot(dir)
	for _, stage := range []string{"fetch", "files"} {
		out, err = l.in(ns, "env", "IGNITION_CONFIG_FILE="+pointer, "PATH="+dir+":"+os.Getenv("PATH"), debianIgnition,
			"--stage="+stage, "--platform=file", "--root="+root, "--config-cache="+dir+"/cache", "--state-file="+dir+"/state", "--neednet="+dir+"/net", "--log-to-stdout")
		if err != nil {
			return root, out, err
		}
	}
	return root, out, nil
}

// newRoot makes the root of a system for Ignition in dir, with the programs beside it
// that it calls and this machine lacks.
func (l *lab) newRoot(dir string) string {
	l.t.Helper()
	root := filepath.Join(dir, "root")
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // users' keys are written as these users
		l.t.Fatal(err)
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/shadow": "root:*:19000:0:99999:7:::\n",
		"etc/selinux/config": "SELINUX=disabled\nSELINUXTYPE=none\n", "etc/selinux/none/contexts/files/file_contexts": "", // see ignition/integration_test.go
	} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			l.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "setfiles"), []byte("#!/bin/sh\ncat >/dev/null\n"), 0o755); err != nil {
		l.t.Fatal(err)
	}
	return root
}

// TestIntegrationUserdataIgnition: Debian's Ignition follows a pointer, and no spoiled
// one; the agent that it fetched joins, and then the pointer opens nothing.
func TestIntegrationUserdataIgnition(t *testing.T) {
	l, server, ns := carriedLab(t)
	pointer := l.userdata("i1", "qemu")
	must(t, "ignition-validate", pointer)
	// A client that trusts nobody asks again and again: it is told to end.
	const impatient = `"timeouts":{"httpTotal":3}`
	for name, bad := range map[string]struct{ from, to, says string }{
		"another hash":  {`sha256-.{4}`, "sha256-0000", "hash verification failed"},
		"another token": {`Bearer .{4}`, "Bearer AAAA", "GET result: Forbidden"},
		"no authority":  {`"security":\{.*\}\},"timeouts":\{\}`, impatient, "certificate signed by unknown authority"},
	} {
		if root, out, err := l.applyIgnition(ns, spoil(t, pointer, bad.from, bad.to)); err == nil || !strings.Contains(out, bad.says) {
			t.Errorf("%s: %v\n%s", name, err, out)
		} else if _, err := os.Stat(root + "/etc/motd"); err == nil {
			t.Errorf("%s: the config was applied", name)
		}
	}
	root, out, err := l.applyIgnition(ns, pointer)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.same(l.agent, root+"/opt/pilotlight/bin/pilotlight-agent")
	if motd, err := os.ReadFile(root + "/etc/motd"); err != nil || string(motd) != "an Ignition host's\n" {
		t.Errorf("%q, %v", motd, err)
	}
	token := l.joinBy(ns, "i1", root)
	if _, out, err := l.applyIgnition(ns, pointer); err == nil || !strings.Contains(out, "GET result: Conflict") {
		t.Errorf("userdata that was used: %v\n%s", err, out)
	}
	if out, err := l.in(l.server, l.bin, "--data", l.data(), "userdata", "i1", "--for", "raw"); err == nil || !strings.Contains(out, "is alive") {
		t.Errorf("a host that is alive: %v\n%s", err, out)
	}
	if audit := l.pilotlight("audit", "i1"); !strings.Contains(audit, "by userdata of operator:admin; MAC "+mac1) || strings.Contains(audit, token) {
		t.Errorf("%s", audit)
	}
	if strings.Contains(server.text(), token) {
		t.Error("the token is in the server's log")
	}
}

func (l *lab) same(a, b string) {
	l.t.Helper()
	if out, err := exec.Command("cmp", a, b).CombinedOutput(); err != nil {
		l.t.Errorf("%v: %s", err, out)
	}
}

// joinBy has the real agent join with what was written below root, and returns the
// token that it had.
func (l *lab) joinBy(ns, host, root string) string {
	l.t.Helper()
	tokenFile := root + "/etc/pilotlight/introduction-token"
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		l.t.Fatal(err)
	}
	info, err := os.Stat(tokenFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		l.t.Fatalf("%v, %v", info, err)
	}
	state := l.t.TempDir()
	l.start(ns, l.agent, "--config", root+"/etc/pilotlight/agent.json", "--token-file", tokenFile,
		"--state", state, "--secrets", state+"/secrets", "--docker", "unix://"+state+"/none", "--certs.d", state+"/certs.d", "--listen", "127.0.0.1:0")
	l.eventually(host+" is alive", func() bool { return l.hosts()[host].Alive })
	return strings.TrimSpace(string(token))
}

// seedScript runs Debian's cloud-init with a seed in a copy of this machine's system that
// is gone afterwards, and hands what it wrote to then.
const seedScript = `set -eu
dir=$1 seed=$2
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
printf '%s\n' 'datasource_list: [NoCloud]' 'network: {config: disabled}' 'cloud_init_modules: [write-files]' > "$root/etc/cloud/cloud.cfg.d/99-test.cfg"
chroot "$root" cloud-init init --local
chroot "$root" cloud-init init
[ -d "$root/etc/pilotlight" ] || exit 3
chroot "$root" rm -rf /var/lib/cloud/instance/sem/config_write_files /etc/motd
chroot "$root" cloud-init init # as at its next boot: with what it has
cp -a "$root/etc/motd" "$root/etc/pilotlight" "$3"
stat -c '%a %n' "$root"/var/lib/cloud/instances/*/cloud-config.txt "$root"/var/lib/cloud/instances/*/pilotlight-config
`

func (l *lab) seededCloudInit(ns, seed string) (wrote, out string) {
	l.t.Helper()
	wrote = l.t.TempDir()
	out, err := l.in(ns, "unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", seedScript, "sh", l.t.TempDir(), seed, wrote)
	if err != nil {
		out += fmt.Sprint("\n", err)
	}
	return wrote, out
}

// unpack has the files of a CD, by the names that a machine sees.
func unpack(t *testing.T, iso string) string {
	t.Helper()
	if names := must(t, "isoinfo", "-R", "-f", "-i", iso); strings.TrimSpace(names) != "/meta-data\n/user-data" {
		t.Errorf("the CD holds\n%s", names)
	}
	if label := must(t, "isoinfo", "-d", "-i", iso); !strings.Contains(label, "Volume id: cidata\n") {
		t.Errorf("%s", label)
	}
	if out := must(t, "blkid", "-p", "-o", "value", "-s", "LABEL", iso); strings.TrimSpace(out) != "cidata" {
		t.Errorf("blkid says %q", out)
	}
	dir := t.TempDir()
	for _, name := range []string{"meta-data", "user-data"} {
		text, err := exec.Command("isoinfo", "-R", "-i", iso, "-x", "/"+name).Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestIntegrationUserdataCloudInit: Debian's cloud-init reads the CD, fetches and
// verifies the config, and does what it says, at its next boot too; it takes no
// spoiled one.
func TestIntegrationUserdataCloudInit(t *testing.T) {
	l, server, ns := carriedLab(t)
	iso := l.userdata("c1", "nocloud-iso")
	seed := unpack(t, iso)
	for name, bad := range map[string]struct{ from, to, says string }{
		"another hash":      {`"sha256": ".{4}`, `"sha256": "0000`, "its sha256 is another"},
		"another token":     {`"token": ".{4}`, `"token": "AAAA`, "answers 403: "},
		"another authority": {`"ca": ".*"`, `"ca": ` + otherCA(t), "is not the server that is meant"},
	} {
		spoiled := filepath.Dir(spoil(t, filepath.Join(seed, "user-data"), bad.from, strings.ReplaceAll(bad.to, "$", "$$")))
		must(t, "cp", filepath.Join(seed, "meta-data"), spoiled)
		wrote, out := l.seededCloudInit(ns, spoiled)
		if _, err := os.Stat(wrote + "/pilotlight"); err == nil || !strings.Contains(out, bad.says) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	wrote, out := l.seededCloudInit(ns, seed)
	if motd, err := os.ReadFile(wrote + "/motd"); err != nil || string(motd) != "a cloud's\n" {
		t.Fatalf("%q, %v\n%s", motd, err, out)
	}
	if strings.Count(out, "600 /") != 2 {
		t.Errorf("others may read what cloud-init keeps:\n%s", out)
	}
	must(t, "mkdir", "-p", wrote+"/etc")
	must(t, "mv", wrote+"/pilotlight", wrote+"/etc/")
	token := l.joinBy(ns, "c1", wrote)
	if _, out := l.seededCloudInit(ns, seed); !strings.Contains(out, "answers 409: ") {
		t.Errorf("userdata that was used:\n%s", out)
	}
	for what, text := range map[string]string{"cloud-init's output": out, "the server's log": server.text(), "the audit": l.pilotlight("audit", "c1")} {
		if strings.Contains(text, token) {
			t.Errorf("the token is in %s", what)
		}
	}
	server.stop(syscall.SIGTERM)
}

// otherCA is an authority, in JSON, that did not sign the server's certificate.
func otherCA(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=other", "-keyout", dir+"/key", "-out", dir+"/ca")
	text, err := os.ReadFile(dir + "/ca")
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
