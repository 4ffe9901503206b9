//go:build integration && terraform

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const terraformConfig = `
terraform {
  required_providers { matchbox = { source = "poseidon/matchbox" } }
}
provider "matchbox" {
  endpoint    = %[1]q
  client_cert = file("%[2]s/client.crt")
  client_key  = file("%[2]s/client.key")
  ca          = file("%[2]s/ca.crt")
}
resource "matchbox_profile" "worker" {
  name   = "worker"
  kernel = "/assets/fedora-coreos/fedora-coreos-live-kernel-x86_64"
  initrd = ["--name main /assets/fedora-coreos/fedora-coreos-live-initramfs.x86_64.img"]
  args   = ["initrd=main", "coreos.config.url=http://matchbox.example.com:8080/ignition?uuid=$${uuid}&mac=$${mac:hexhyp}", %[3]q]
  container_linux_config = <<-EOT
    variant: fcos
    version: 1.4.0
    storage:
      files:
        - path: /etc/motd
          contents: {inline: "{{ .greeting }}"}
  EOT
  generic_config = "ROLE={{ .role }}\n"
}
resource "matchbox_group" "node" {
  name     = "node"
  profile  = matchbox_profile.worker.name
  selector = { mac = "52:54:00:a1:9c:ae" }
  metadata = { greeting = "hello", role = "worker" }
}
`

// Terraform itself, with the matchbox provider as it is: apply, plan, a change
// that replaces the profile, destroy.
func TestTerraform(t *testing.T) {
	assets := filepath.Join(t.TempDir(), "assets")
	must(t, "cp", "-r", "testdata/import/matchbox/assets", assets)
	m := newMoving(t, t.TempDir(), assets)
	certs, work := filepath.Join(m.dir, "certs"), filepath.Join(m.dir, "terraform")
	m.pilotlight("matchbox", "client", certs)
	terraform := build(t, "github.com/hashicorp/terraform", "v1.5.7", "github.com/hashicorp/terraform")
	provider := build(t, "github.com/poseidon/terraform-provider-matchbox", "v0.5.4", "github.com/poseidon/terraform-provider-matchbox")
	if err := os.MkdirAll(work, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("rc", fmt.Sprintf("disable_checkpoint = true\nprovider_installation {\n  dev_overrides { \"poseidon/matchbox\" = %q }\n  direct {}\n}\n", filepath.Dir(provider)))
	tf := func(code int, args ...string) string {
		t.Helper()
		c := exec.Command(terraform, args...)
		c.Dir, c.Env = work, append(os.Environ(), "TF_CLI_CONFIG_FILE="+filepath.Join(work, "rc"), "CHECKPOINT_DISABLE=1")
		out, err := c.CombinedOutput()
		if c.ProcessState.ExitCode() != code {
			t.Fatalf("terraform %s: %v, want %d\n%s", strings.Join(args, " "), err, code, out)
		}
		return string(out)
	}
	write("main.tf", fmt.Sprintf(terraformConfig, m.grpc, certs, "quiet"))
	tf(0, "apply", "-auto-approve", "-no-color")
	tf(0, "plan", "-detailed-exitcode", "-no-color") // 2 would be that something differs
	if code, body := get(t, "http://"+m.http+"/generic?mac=52-54-00-a1-9c-ae"); code != 200 || body != "ROLE=worker\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, body := get(t, "http://"+m.http+"/ipxe?mac=52-54-00-a1-9c-ae"); code != 200 || !strings.Contains(body, "quiet") {
		t.Errorf("%d %s", code, body)
	}

	write("main.tf", fmt.Sprintf(terraformConfig, m.grpc, certs, "debug"))
	tf(2, "plan", "-detailed-exitcode", "-no-color")
	tf(0, "apply", "-auto-approve", "-no-color")
	tf(0, "plan", "-detailed-exitcode", "-no-color")
	if _, body := get(t, "http://"+m.http+"/ipxe?mac=52-54-00-a1-9c-ae"); !strings.Contains(body, "debug") || strings.Contains(body, "quiet") {
		t.Errorf("after the change: %s", body)
	}

	// What an operator did beside Terraform, it sees.
	deleteByAPI(t, m, "group", "node")
	tf(2, "plan", "-detailed-exitcode", "-no-color")
	tf(0, "apply", "-auto-approve", "-no-color")
	tf(0, "destroy", "-auto-approve", "-no-color")
	if out := m.pilotlight("get", "host") + m.pilotlight("get", "profile"); strings.Contains(out, "node") || strings.Contains(out, "worker") {
		t.Errorf("after destroy: %s", out)
	}
}
