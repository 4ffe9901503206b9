//go:build integration

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// What the import of dnsmasq is tested with, dnsmasq itself takes.
func TestIntegrationDnsmasqTakesTheTestInput(t *testing.T) {
	c := exec.Command("dnsmasq", "--test", "-C", "dnsmasq.conf")
	c.Dir = "testdata/import/dnsmasq"
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "syntax check OK") {
		t.Errorf("dnsmasq --test: %v: %s", err, out)
	}
}
