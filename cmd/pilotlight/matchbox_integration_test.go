//go:build integration

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/pilotlight/pilotlight/cluster/join"
)

// The versions of others' programs, which the module proxy has, that tests build.
const (
	matchboxModule  = "github.com/poseidon/matchbox"
	matchboxVersion = "v0.11.0"
)

// build makes a program of another project, in a module of its own: the versions
// of libraries are then that project's.
func build(t *testing.T, module, version, path string) string {
	t.Helper()
	dir := t.TempDir()
	do := func(args ...string) {
		c := exec.Command("go", args...)
		c.Dir, c.Env = dir, append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	do("mod", "init", "example.org/tool")
	do("get", "-tool", path+"@"+version)
	out := filepath.Join(dir, "bin", filepath.Base(path))
	do("build", "-o", out, path)
	return out
}

// mover is a server on loopback, with matchbox's API, for those who come from it.
type mover struct {
	t    *testing.T
	dir  string
	http string
	grpc string
	bin  string
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// loopbackNetwork is one on which nobody lends addresses: a machine is what it says.
const loopbackNetwork = "kind: network\nname: loopback\ncidr: 127.0.0.0/8\n"

func newMoving(t *testing.T, site, assets string) *mover {
	t.Helper()
	m := &mover{t: t, dir: t.TempDir(), http: freeAddress(t), grpc: freeAddress(t)}
	m.bin = filepath.Join(m.dir, "pilotlight")
	must(t, "go", "build", "-o", m.bin, ".")
	agent := filepath.Join(m.dir, "agent")
	for name, text := range map[string]string{agent: "stands for the agent\n", filepath.Join(site, "network.yaml"): loopbackNetwork} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.start(m.bin, "serve", site, "--data", m.data(), "--agent", agent, "--http", m.http, "--https", freeAddress(t), "--etcd", freeAddress(t),
		"--etcd-peer", freeAddress(t), "--dhcp=", "--dhcp6=", "--pxe=", "--tftp=", "--matchbox-grpc", m.grpc, "--matchbox-assets", assets)
	m.eventually("it is ready", func() bool {
		res, err := http.Get("http://" + m.http + "/readyz")
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
	return m
}

func (m *mover) data() string { return filepath.Join(m.dir, "data") }

func (m *mover) start(name string, args ...string) {
	m.t.Helper()
	c := exec.Command(name, args...)
	var log bytes.Buffer
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		_ = c.Wait()
		if m.t.Failed() {
			m.t.Logf("%s:\n%s", filepath.Base(name), log.String())
		}
	})
}

func (m *mover) eventually(what string, ok func() bool) {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	m.t.Fatalf("not in a minute: %s", what)
}

// pilotlight runs the operator's command line.
func (m *mover) pilotlight(args ...string) string {
	m.t.Helper()
	return must(m.t, m.bin, append([]string{"--data", m.data()}, args...)...)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// matchboxDifferences are all that may differ between matchbox's answers and ours.
var matchboxDifferences = map[string]string{
	"/boot.ipxe":  "ours asks by absolute URL, tells a serial number safe for URLs, and tries again; it says no hostname, domain and arch",
	"/ipxe":       "ours names kernel and RAM disks by absolute URL below /images/, which serves them by their digest, and goes on when a step fails",
	"/grub":       "ours has one entry for BIOS and UEFI, since GRUB's linux and initrd do both now, and absolute names",
	"/ignition":   "ours adds the host's name, the agent and its token; whole numbers are not printed as 1e+07",
	"/cloud":      "ours adds the same to a cloud-config",
	"/metadata":   "whole numbers are not printed as 1e+07; lines are in order; variables of a group that takes the host are there too (the default's ZONE)",
	"no match":    "503 with the reason, so that a machine asks again, where matchbox has 404",
	"query":       "a machine does not choose its config by other words of its request (os=installed)",
	"the default": "a group that takes every machine takes hosts only",
}

// matchbox itself, and ours after an import, of the same directory: the same URLs
// have the same answers but for matchboxDifferences.
func TestIntegrationMatchboxSameAnswers(t *testing.T) {
	dir, site := t.TempDir(), t.TempDir()
	must(t, "cp", "-r", "testdata/import/matchbox/.", dir)
	var said bytes.Buffer
	if code := run(t.Context(), []string{"import", "matchbox", dir, "-o", site}, nil, nil, io.Discard, &said); code != exitPartly || strings.Contains(said.String(), "not imported:") {
		t.Fatalf("exit code %d: %s", code, &said)
	}
	m := newMoving(t, site, filepath.Join(dir, "assets"))
	theirs := freeAddress(t)
	m.start(build(t, matchboxModule, matchboxVersion, matchboxModule+"/cmd/matchbox"), "-address", theirs, "-data-path", dir, "-assets-path", filepath.Join(dir, "assets"), "-log-level", "error")
	m.eventually("matchbox answers", func() bool {
		res, err := http.Get("http://" + theirs + "/")
		return err == nil && res.Body.Close() == nil
	})
	both := func(path string) (a, b string) {
		t.Helper()
		codeA, a := get(t, "http://"+theirs+path)
		codeB, b := get(t, "http://"+m.http+path)
		if codeA != 200 || codeB != 200 {
			t.Fatalf("%s: matchbox %d, ours %d: %s", path, codeA, codeB, b)
		}
		return a, strings.ReplaceAll(b, m.http, theirs)
	}
	fetched := func(path string) string {
		t.Helper()
		code, body := get(t, "http://"+m.http+path)
		if code != 200 {
			t.Fatalf("%s: %d %s", path, code, body)
		}
		return body
	}
	const node1, node3 = "?mac=52-54-00-a1-9c-ae", "?mac=52-54-00-00-00-33&serial=VMware-42%201b"

	for _, path := range []string{
		"/generic" + node1,
		"/assets/fedora-coreos/fedora-coreos-live-kernel-x86_64",
		"/assets/fedora-coreos/fedora-coreos-live-rootfs.x86_64.img",
	} {
		if a, b := both(path); a != b {
			t.Errorf("%s:\nmatchbox\n%s\nours\n%s", path, a, b)
		}
	}
	for _, who := range []string{node1, node3, node1 + "&uuid=16e7d8a7-bfa9-428b-9117-363341bb330c&domain=x"} {
		a, b := both("/metadata" + who)
		if x, y := lines(strings.ReplaceAll(a, "1e+07", "10000000")), lines(strings.Replace(b, "ZONE=none\n", "", 1)); !slices.Equal(x, y) {
			t.Errorf("/metadata%s:\nmatchbox %q\nours     %q", who, x, y)
		}
	}
	_, ours := both("/boot.ipxe")
	_, again := both("/boot.ipxe.0")
	if ours != again || !strings.Contains(ours, "/ipxe?mac=${netX/mac:hexhyp}&uuid=${uuid}&serial=") {
		t.Errorf("/boot.ipxe: %s", ours)
	}
	sameBoot(t, both, fetched, "/ipxe"+node1)
	sameBoot(t, both, fetched, "/grub"+node1)
	a, b := both("/ignition" + node1)
	sameIgnition(t, strings.ReplaceAll(a, "1e%2B07", "10000000"), b)
	a, b = both("/cloud" + node3)
	sameCloud(t, a, b)

	for name, row := range map[string]struct {
		path string
		code int
	}{
		"nobody is 503, not 404":          {"/ignition?mac=52-54-00-00-00-99", 503},
		"an asset of no image":            {"/assets/none", 404},
		"out of the assets":               {"/assets/..%2f..%2fetc%2fpasswd", 404},
		"a machine that says only a UUID": {"/ignition?uuid=16e7d8a7-bfa9-428b-9117-363341bb330b", 503},
	} {
		if code, body := get(t, "http://"+m.http+row.path); code != row.code {
			t.Errorf("%s: %s: %d: %s", name, row.path, code, body)
		}
	}
	moving, err := os.ReadFile("../../docs/moving.md")
	if err != nil {
		t.Fatal(err)
	}
	for what := range matchboxDifferences {
		if strings.HasPrefix(what, "/") && !bytes.Contains(moving, []byte("`"+what+"`")) {
			t.Errorf("docs/moving.md does not say what differs at %s", what)
		}
	}
}

func lines(s string) []string { return slices.Sorted(strings.Lines(s)) }

// sameBoot compares what a script comes to: the very kernel and RAM disks, and the
// arguments but for the URLs and the names of RAM disks.
func sameBoot(t *testing.T, both func(string) (string, string), fetched func(string) string, path string) {
	t.Helper()
	a, b := both(path)
	for _, want := range []string{"console=ttyS0", "coreos.config.url=http://", "coreos.live.rootfs_url=http://"} {
		if !strings.Contains(a, want) || !strings.Contains(b, want) {
			t.Errorf("%s: %q is not in both:\n%s\n%s", path, want, a, b)
		}
	}
	ours := regexp.MustCompile(`/images/controller/(kernel|initrd/0|rootfs)`).FindAllString(b, -1)
	if len(slices.Compact(slices.Sorted(slices.Values(ours)))) < 3 {
		t.Errorf("%s names %q", path, ours)
	}
	for _, f := range [][2]string{
		{"/assets/fedora-coreos/fedora-coreos-live-kernel-x86_64", "/images/controller/kernel"},
		{"/assets/fedora-coreos/fedora-coreos-live-initramfs.x86_64.img", "/images/controller/initrd/0"},
		{"/assets/fedora-coreos/fedora-coreos-live-rootfs.x86_64.img", "/images/controller/rootfs"},
	} {
		if !strings.Contains(a, f[0]) {
			t.Errorf("%s of matchbox does not name %s", path, f[0])
		}
		if _, asset := both(f[0]); asset != fetched(f[1]) {
			t.Errorf("%s of ours is not %s", f[1], f[0])
		}
	}
}

type ignitionFile struct {
	Path     string
	Contents struct{ Source string }
}

// sameIgnition: all that matchbox's config says is in ours, and what ours has beside
// it is pilotlight's own.
func sameIgnition(t *testing.T, a, b string) {
	t.Helper()
	var x, y struct {
		Storage struct{ Files []ignitionFile }
		Systemd struct {
			Units []struct{ Name, Contents string }
		}
	}
	for text, into := range map[string]any{a: &x, b: &y} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range x.Storage.Files {
		if !slices.Contains(y.Storage.Files, f) {
			t.Errorf("a file of matchbox's is not in ours, or another: %+v\n%+v", f, y.Storage.Files)
		}
	}
	for _, u := range x.Systemd.Units {
		if !slices.Contains(y.Systemd.Units, u) {
			t.Errorf("a unit of matchbox's is not in ours, or another: %+v", u)
		}
	}
	if len(x.Storage.Files) != 2 || len(x.Systemd.Units) != 1 {
		t.Errorf("matchbox has %d files and %d units", len(x.Storage.Files), len(x.Systemd.Units))
	}
	for _, f := range y.Storage.Files {
		if !slices.Contains(x.Storage.Files, f) && !strings.Contains(f.Path, "pilotlight") && f.Path != "/etc/hostname" {
			t.Errorf("ours writes %s, which is nobody's", f.Path)
		}
	}
}

func sameCloud(t *testing.T, a, b string) {
	t.Helper()
	type cloud struct {
		WriteFiles []struct{ Path, Content string } `yaml:"write_files"`
	}
	var x, y cloud
	if err := yaml.Unmarshal([]byte(a), &x); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	if len(x.WriteFiles) != 1 || !slices.Contains(y.WriteFiles, x.WriteFiles[0]) {
		t.Errorf("/cloud: matchbox %+v, ours %+v", x, y)
	}
}

// matchbox's own command line, as it is, against ours.
func TestIntegrationMatchboxBootcmd(t *testing.T) {
	assets := filepath.Join(t.TempDir(), "assets")
	must(t, "cp", "-r", "testdata/import/matchbox/assets", assets)
	m := newMoving(t, t.TempDir(), assets)
	bootcmd := build(t, matchboxModule, matchboxVersion, matchboxModule+"/cmd/bootcmd")
	certs := filepath.Join(m.dir, "certs")
	m.pilotlight("matchbox", "client", certs, "--name", "mover")
	if info, err := os.Stat(filepath.Join(certs, "client.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the key: %v %v", info, err)
	}
	tls := func(dir, base string) []string {
		return []string{"--endpoints", m.grpc, "--ca-file", filepath.Join(m.data(), "operator", "ca.crt"), "--cert-file", filepath.Join(dir, base+".crt"), "--key-file", filepath.Join(dir, base+".key")}
	}
	do := func(args ...string) string {
		t.Helper()
		return must(t, bootcmd, append(args, tls(certs, "client")...)...)
	}
	fails := func(want string, with []string, args ...string) {
		t.Helper()
		out, err := exec.Command(bootcmd, append(args, with...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("bootcmd %s: %v, want %q:\n%s", strings.Join(args, " "), err, want, out)
		}
	}
	file := func(name, text string) string {
		path := filepath.Join(m.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mine := tls(certs, "client")

	// Terraform's order: the profile is there before what it names.
	do("profile", "create", "-f", "testdata/import/matchbox/profiles/controller.json")
	do("group", "create", "-f", "testdata/import/matchbox/groups/node1.json")
	if out := m.pilotlight("get", "host"); strings.Contains(out, "node1") {
		t.Errorf("a host whose profile's template is missing is there: %s", out)
	}
	do("ignition", "create", "-f", "testdata/import/matchbox/ignition/controller.yaml")
	do("generic", "create", "-f", "testdata/import/matchbox/generic/controller.env")
	if out := m.pilotlight("get", "host", "node1", "-o", "yaml"); !strings.Contains(out, "profile: controller") {
		t.Errorf("the host: %s", out)
	}
	if out := m.pilotlight("get", "image", "controller", "-o", "yaml"); strings.Count(out, "sha256: ") != 3 {
		t.Errorf("what is booted is not pinned: %s", out)
	}
	if code, body := get(t, "http://"+m.http+"/generic?mac=52-54-00-a1-9c-ae"); code != 200 || !strings.Contains(body, "ETCD=node1:2379 node1.example.com") {
		t.Errorf("%d %s", code, body)
	}
	for want, args := range map[string][]string{
		"node1":           {"group", "list"},
		"controller":      {"profile", "list"},
		"controller.yaml": {"profile", "describe", "controller"},
		"52:54:00":        {"group", "describe", "node1"},
	} {
		if out := do(args...); !strings.Contains(strings.ReplaceAll(out, "52-54-00", "52:54:00"), want) {
			t.Errorf("bootcmd %v: no %q in %s", args, want, out)
		}
	}
	fails("neither below /assets/", mine, "profile", "create", "-f", file("ftp.json", `{"id": "ftp", "boot": {"kernel": "ftp://example.org/vmlinuz"}}`))
	fails("write https://, or its digest", mine, "profile", "create", "-f", file("plain.json", `{"id": "plain", "boot": {"kernel": "http://example.org/vmlinuz"}}`))
	fails("is that of group node1 already", mine, "group", "create", "-f", file("twin.json", `{"id": "twin", "profile": "controller", "selector": {"mac": "52:54:00:a1:9c:ae", "os": "installed"}}`))
	fails("domain_name", mine, "ignition", "create", "-f", file("controller.yaml", "variant: fcos\nversion: 1.4.0\n# {{ .domain_names }}\n"))
	do("ignition", "create", "-f", file("fcos.yaml", "variant: fcos\nversion: 1.4.0\n"))

	// A profile that is replaced leaves its host there.
	deleteByAPI(t, m, "profile", "controller")
	if out := m.pilotlight("get", "host"); !strings.Contains(out, "node1") {
		t.Errorf("the host went with its profile: %s", out)
	}
	do("profile", "create", "-f", "testdata/import/matchbox/profiles/controller.json")
	if out := m.pilotlight("audit", "host node1"); strings.Contains(out, "delete") || !strings.Contains(out, "operator:mover") {
		t.Errorf("the audit: %s", out)
	}
	deleteByAPI(t, m, "group", "node1")
	deleteByAPI(t, m, "profile", "controller")
	if out := m.pilotlight("get") + m.pilotlight("get", "image"); strings.Contains(out, "host") && strings.Contains(out, "node1") || strings.Contains(out, "image  controller") {
		t.Errorf("what was deleted is there: %s", out)
	}

	// Nobody else.
	fails("operator's certificate", tls(filepath.Join(m.data(), "server"), "server"), "profile", "create", "-f", "testdata/import/matchbox/profiles/worker.json")
	foreign := filepath.Join(m.dir, "foreign")
	others, err := join.OpenCA(filepath.Join(m.dir, "another-ca"))
	if err != nil {
		t.Fatal(err)
	}
	if err := others.Ensure(foreign, join.Subject{CommonName: "mallory", Organization: join.OperatorOrg}); err != nil {
		t.Fatal(err)
	}
	refusedTLS(t, m, foreign)
}
