package ignition

import (
	"slices"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// A bridge of the host's own that is called as Docker's are is no way past the
// firewall.
func TestFirewallKnowsTheHostsOwnBridges(t *testing.T) {
	in := commonInput(cluster.Config{CloudConfig: "#cloud-config\n"})
	in.Target.Profile.NetworkConfig = "version: 2\nethernets: {one: {match: {macaddress: '52:54:00:00:00:01'}, set-name: br-one}}\nbridges: {br-lan: {interfaces: [one]}}\n"
	for _, test := range []struct {
		network string
		want    []string
	}{
		{in.Target.Profile.NetworkConfig, []string{`iifname "docker0" accept`, `iifname "docker_gwbridge" accept`, `iifname "br-*" iifname != { "br-lan", "br-one" } accept`}},
		{strings.ReplaceAll(in.Target.Profile.NetworkConfig, "br-lan", "docker0"), []string{`iifname "docker0" iifname != { "docker0" } accept`, `iifname "br-*" iifname != { "br-one" } accept`}},
		{cluster.StaticNetwork, []string{`iifname "docker0" accept`, `iifname "br-*" accept`}},
		{"", []string{`iifname "docker0" accept`, `iifname "br-*" accept`}},
	} {
		in.Target.Profile.NetworkConfig = test.network
		cloud, err := mustCompile(t, in).RenderCloudConfig()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(cloud), "\n")
		for i, l := range lines {
			lines[i] = strings.TrimSpace(l)
		}
		for _, want := range test.want {
			if !slices.Contains(lines, want) {
				t.Errorf("with the network %q there is no line %s in\n%s", test.network, want, cloud)
			}
		}
	}
}
