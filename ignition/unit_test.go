package ignition

import (
	"os"
	"strings"
	"testing"
)

// One unit, in two places: what is shipped as an example is what hosts run.
func TestUnitIsTheExample(t *testing.T) {
	text, err := os.ReadFile("../examples/systemd/pilotlight-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	_, unit, ok := strings.Cut(string(text), "[Unit]")
	if !ok {
		t.Fatal("the example has no [Unit]")
	}
	want := strings.ReplaceAll("[Unit]"+unit, "/usr/local/bin/pilotlight-agent", AgentFile)
	if AgentUnitText != want {
		t.Error("ignition/pilotlight-agent.service differs from examples/systemd/pilotlight-agent.service by more than the binary's path")
	}
}
