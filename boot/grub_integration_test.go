//go:build integration

package boot_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// GRUB's own checker reads what is written for it.
func TestIntegrationGRUBReads(t *testing.T) {
	checker, err := exec.LookPath("grub-script-check")
	if err != nil {
		t.Fatal("grub-script-check is missing: apt-get install grub-common")
	}
	script, err := boot.GRUBScript(cluster.BootLive, live(), visit)
	if err != nil {
		t.Fatal(err)
	}
	left, err := boot.GRUBScript(cluster.BootLocal, local(), visit)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{boot.GRUBEntry(), script, left} {
		c := exec.Command(checker)
		c.Stdin = strings.NewReader(string(text))
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, text)
		}
	}
}
