package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pilotlight/pilotlight"

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// mayImport is the plan of the house: which of our own packages a package may
// import. What is not listed may import nothing of ours. cmd may import all.
var mayImport = map[string][]string{
	"boot":                       {"cluster"},
	"boot/dhcp":                  {"boot", "cluster"},
	"boot/dhcp6":                 {"boot", "cluster"},
	"boot/tftp":                  {"boot", "cluster"},
	"boot/httpboot":              {"boot", "cluster"},
	"boot/userdata":              {},
	"ignition":                   {"cluster", "ignition/netplan"},
	"ignition/netplan":           {},
	"ignition/ignitiontest":      {},
	"assets":                     {"cluster"},
	"assets/release":             {"assets", "cluster"},
	"cluster/manifest":           {"cluster"},
	"cluster/etcd":               {"cluster"},
	"cluster/secret":             {"cluster"},
	"cluster/join":               {"cluster"},
	"cluster/docker":             {"cluster", "cluster/agent"}, // what the agent asks for, it declares
	"cluster/link":               {"cluster", "cluster/agent", "cluster/secret"},
	"cluster/control":            {"cluster", "cluster/secret"},
	"cluster/api":                {"cluster", "cluster/secret"},
	"cluster/agent":              {"cluster", "cluster/secret", "cluster/join"},
	"cluster/agent/agenttest":    {"cluster", "cluster/agent"},
	"cluster/moving":             {"cluster"},
	"cluster/moving/matchbox":    {"cluster", "cluster/moving"},
	"cluster/moving/cobbler":     {"cluster", "cluster/moving"},
	"cluster/moving/dnsmasq":     {"cluster", "cluster/moving"},
	"cluster/moving/matchboxrpc": {"cluster", "cluster/moving", "cluster/moving/matchbox"},
	"cluster/clustertest":        {"cluster", "cluster/etcd", "cluster/join"},
}

// onlyIn names the packages that may import a heavy library; cmd may not.
var onlyIn = map[string][]string{
	"github.com/coreos/butane":             {"ignition"},
	"github.com/coreos/ignition":           {"ignition"},
	"github.com/insomniacslk/dhcp":         {"boot/dhcp", "boot/dhcp6"},
	"github.com/diskfs/go-diskfs":          {"boot/userdata"},
	"github.com/pin/tftp":                  {"boot/tftp"},
	"go.etcd.io/etcd/server":               {"cluster/etcd"},
	"go.etcd.io/etcd/etcdutl":              {"cluster/etcd"},
	"go.etcd.io/etcd/client/v3":            {"cluster/etcd", "cluster/link"},
	"github.com/docker/docker":             {"cluster/docker"},
	"github.com/compose-spec/compose-go":   {"cluster/manifest"},
	"github.com/distribution/distribution": {"cluster/registry"},
	"github.com/ProtonMail/go-crypto":      {"assets/release"},
	"github.com/coreos/stream-metadata-go": {"assets/release"},
	"github.com/poseidon/matchbox":         {"cluster/moving/matchboxrpc"},
}

// notInAgent is what the agent may not link, at whatever remove, and why.
var notInAgent = map[string]string{
	"go.etcd.io/etcd/server":       "a host is no member",
	"go.etcd.io/etcd/etcdutl":      "a host is no member",
	"go.etcd.io/bbolt":             "a host keeps no database",
	"github.com/coreos/butane":     "configs are made on the server",
	"github.com/coreos/ignition":   "configs are made on the server",
	"github.com/insomniacslk/dhcp": "a host does not boot others",
	"github.com/pin/tftp":          "a host does not boot others",
	"github.com/diskfs/":           "a host makes no seeds",
	"github.com/ProtonMail/":       "signatures of releases are verified on the server",
	"github.com/coreos/stream-":    "releases are found on the server",
	"github.com/aws/":              "clouds are the server's business",
	"github.com/vmware/":           "clouds are the server's business",
	"libvirt.org/":                 "clouds are the server's business",
	"github.com/goccy/go-yaml":     "what a host reads is JSON",
	"go.yaml.in/":                  "what a host reads is JSON",
	"gopkg.in/yaml":                "what a host reads is JSON",
	"sigs.k8s.io/yaml":             "what a host reads is JSON",
	"github.com/compose-spec/":     "manifests are read on the server",
}

// fence returns every import that breaks the plan.
func fence(pkgs []pkg) (broken []string) {
	for _, p := range pkgs {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		example := strings.HasPrefix(name, "examples/")
		cmd := strings.HasPrefix(name, "cmd/")
		for _, i := range p.Imports {
			if ours, is := strings.CutPrefix(i, module+"/"); is {
				switch {
				case strings.HasPrefix(ours, "cmd/"):
					broken = append(broken, fmt.Sprintf("%s imports %s: nobody imports cmd", name, ours))
				case !cmd && !example && !slices.Contains(mayImport[name], ours):
					broken = append(broken, fmt.Sprintf("%s imports %s, which the plan (mayImport) does not have", name, ours))
				}
				continue
			}
			if name == "cluster" && strings.Contains(strings.Split(i, "/")[0], ".") {
				broken = append(broken, fmt.Sprintf("cluster imports %s: it imports the standard library only", i))
			}
			for heavy, importers := range onlyIn {
				if (i == heavy || strings.HasPrefix(i, heavy+"/")) && !slices.Contains(importers, name) {
					broken = append(broken, fmt.Sprintf("%s imports %s, which is %s's alone", name, i, strings.Join(importers, " and ")))
				}
			}
		}
		if name == "cmd/pilotlight-agent" {
			for _, d := range p.Deps {
				for bad, why := range notInAgent {
					if strings.HasPrefix(d, bad) {
						broken = append(broken, fmt.Sprintf("the agent links %s: %s", d, why))
					}
				}
			}
		}
	}
	slices.Sort(broken)
	return broken
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestFence(t *testing.T) {
	for _, b := range fence(list(t)) {
		t.Error(b)
	}
}

// A fence that lets everything through would look just as green.
func TestFenceFallsForPlantedImports(t *testing.T) {
	planted := []pkg{
		{ImportPath: module + "/cluster", Imports: []string{"go.etcd.io/etcd/client/v3"}},
		{ImportPath: module + "/boot", Imports: []string{module + "/ignition"}},
		{ImportPath: module + "/ignition", Imports: []string{module + "/cmd/pilotlight"}},
		{ImportPath: module + "/cluster/agent", Imports: []string{"github.com/docker/docker/client"}},
		{ImportPath: module + "/cmd/pilotlight", Imports: []string{"github.com/coreos/butane/config"}},
		{ImportPath: module + "/assets", Imports: []string{"github.com/ProtonMail/go-crypto/openpgp"}},
		{ImportPath: module + "/cmd/pilotlight-agent", Deps: []string{"gopkg.in/yaml.v3", "go.etcd.io/etcd/server/v3/embed"}},
	}
	for _, p := range planted {
		if len(fence([]pkg{p})) == 0 {
			t.Errorf("%s may import %v %v: the fence does not see it", p.ImportPath, p.Imports, p.Deps)
		}
	}
	fine := pkg{ImportPath: module + "/boot/dhcp", Imports: []string{"fmt", module + "/boot", "github.com/insomniacslk/dhcp/dhcpv4"}}
	if broken := fence([]pkg{fine}); len(broken) > 0 {
		t.Errorf("the fence stops what is allowed: %v", broken)
	}
}

func TestEveryPackageHasOneDoc(t *testing.T) {
	for _, p := range list(t) {
		docs := 0
		for _, f := range p.GoFiles {
			tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if tree.Doc.Text() != "" {
				docs++
			}
		}
		if docs != 1 {
			t.Errorf("%s has %d package docs, not one", p.ImportPath, docs)
		}
	}
}

// maxLines is where a file has become two.
const maxLines = 450

func TestNoFileIsLong(t *testing.T) {
	for _, p := range list(t) {
		for _, f := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(text, []byte("\n")); n > maxLines {
				t.Errorf("%s/%s has %d lines; more than %d is two things", p.ImportPath, f, n, maxLines)
			}
		}
	}
}
