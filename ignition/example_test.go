package ignition_test

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/ignition"
)

func Example() {
	snapshot := cluster.NewSnapshot(1, []cluster.Document{
		&cluster.Profile{Meta: cluster.Meta{Name: "web"}, Config: cluster.Config{Butane: `variant: fcos
version: 1.7.0
storage:
  files:
    - path: /etc/motd
      contents:
        inline: this is {{ .Host.Name }}
`}},
		&cluster.Host{Meta: cluster.Meta{Name: "web1"}, Profile: "web", Address: netip.MustParseAddr("10.0.0.11")},
	})
	host, _ := snapshot.Host("web1")
	target, err := snapshot.Target(host, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var configs ignition.Cache // one for the life of the server
	config, err := configs.Compile(ignition.Input{
		Target: target,
		Agent: ignition.Agent{
			URL: "http://10.0.0.1:8080/agent", SHA256: strings.Repeat("0", 64),
			Config: cluster.AgentConfig{Host: "web1", Servers: []string{"https://10.0.0.1:8443"}},
		},
	})
	if err != nil {
		fmt.Println(err) // names the document, the line, and what to type
		return
	}
	fmt.Println(strings.Join(config.Versions(), " "))

	// For each request: the version that the client asks for, a token of its own.
	body, err := config.Ignition("application/vnd.coreos.ignition+json;version=3.3.0", "a-token-for-this-boot")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.Contains(string(body), `"version": "3.3.0"`))

	_, err = config.Ignition("application/vnd.coreos.ignition+json;version=3.0.0", "a-token-for-this-boot")
	fmt.Println(err)
	// Output:
	// 3.1.0 3.2.0 3.3.0 3.4.0 3.5.0 3.6.0
	// true
	// profile web: config.butane: the client reads Ignition spec 3.0.0 and no newer one, but the sha256 of /opt/pilotlight/bin/pilotlight-agent needs 3.1.0: boot an image whose Ignition reads 3.1.0 (Ignition 2.3 or newer), or take the field out
}
