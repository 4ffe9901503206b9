package ignition

import (
	"fmt"
	"testing"

	butane "github.com/coreos/butane/config"
	"github.com/coreos/butane/config/common"
	"github.com/pilotlight/pilotlight/cluster"
)

const benchButane = `variant: fcos
version: 1.5.0
storage:
  files:
{{ range 20 }}    - path: /etc/bench/{{ . }}.conf
      mode: 0644
      contents:
        inline: |
          host = {{ $.Host.Name }}
          port = {{ $.Variables.port }}
{{ end }}systemd:
  units:
    - name: bench.service
      enabled: true
      contents: |
        [Service]
        ExecStart=/bin/true
        [Install]
        WantedBy=multi-user.target
`

// BenchmarkIgnition is what a request costs.
func BenchmarkIgnition(b *testing.B) {
	c := mustCompile(b, testInput(cluster.Config{Butane: benchButane}))
	b.ReportAllocs()
	for b.Loop() {
		body, err := c.Ignition("application/vnd.coreos.ignition+json;version=3.4.0, */*;q=0.1", testToken)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(body)))
	}
}

// BenchmarkButane is what a request would cost if Butane were on its path.
func BenchmarkButane(b *testing.B) {
	in := testInput(cluster.Config{Butane: benchButane})
	rendered, _, problems := render(text{ref: in.Target.Profile.Ref(), field: "config.butane", source: benchButane}, in.data())
	if problems != nil {
		b.Fatal(problems)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := butane.TranslateBytes([]byte(rendered), common.TranslateBytesOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompile is what a changed host costs.
func BenchmarkCompile(b *testing.B) {
	in := testInput(cluster.Config{Butane: benchButane})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompileHosts is what each of a thousand hosts costs, whose Butane of a
// hundred lines becomes another for each.
func BenchmarkCompileHosts(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		cache := new(Cache)
		for i := range 1000 {
			in := testInput(cluster.Config{Butane: benchButane})
			host := *in.Target.Host
			host.Name = fmt.Sprint("host", i)
			in.Target.Host, in.Agent.Config.Host = &host, host.HostName()
			if _, err := cache.Compile(in); err != nil {
				b.Fatal(err)
			}
		}
	}
}
