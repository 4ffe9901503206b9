package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/docker"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `pilotlight-agent gets this host into its pilotlight cluster, and keeps the
containers running that the cluster wants here, with their secrets.

Usage: pilotlight-agent [flags]

Example:
  pilotlight-agent --config /etc/pilotlight/agent.json

Flags:
%s
It logs JSON to stderr. SIGTERM ends it in order; containers keep running.
Exit codes: 0 ended in order, 1 failed, 2 wrong flags or configuration.
`

// options are the flags.
type options struct {
	config     string
	tokenFile  string
	state      string
	secrets    string
	docker     string
	certsD     string
	listen     string
	mountOnly  bool
	version    bool
	debug      bool
	dockerAuth string // of the environment: Docker's own file of passwords
}

// errHelp says that --help was asked for and answered.
var errHelp = errors.New("help")

func parse(args, env []string, stdout io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("pilotlight-agent", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.config, "config", cluster.AgentConfigFile, "what the host's first config `FILE` says")
	f.StringVar(&o.tokenFile, "token-file", cluster.AgentTokenFile, "`FILE` of the introduction token; removed once it is redeemed")
	f.StringVar(&o.state, "state", "/var/lib/pilotlight-agent", "`DIR` of keys, certificate and last known state")
	f.StringVar(&o.secrets, "secrets", "/run/pilotlight/secrets", "`DIR` in memory for opened secrets")
	f.StringVar(&o.docker, "docker", "", "the container engine's `HOST` (default unix:///var/run/docker.sock)")
	f.StringVar(&o.certsD, "certs.d", docker.DefaultCertificates, "`DIR` where the engine looks for certificates of registries")
	f.StringVar(&o.listen, "listen", "127.0.0.1:9273", "`ADDR` for /metrics, /healthz and /readyz; empty for none")
	f.BoolVar(&o.mountOnly, "mount-secrets", false, "mount a tmpfs on the directory for secrets, and end: for ExecStartPre=+ of a unit")
	f.BoolVar(&o.debug, "debug", false, "log more")
	f.BoolVar(&o.version, "version", false, "print the version, and end")
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		var text strings.Builder
		f.SetOutput(&text)
		f.PrintDefaults()
		fmt.Fprintf(stdout, usage, strings.ReplaceAll(text.String(), "  -", "  --"))
		return o, errHelp
	case err != nil:
		return o, fmt.Errorf("%w; see pilotlight-agent --help", err)
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q; see pilotlight-agent --help", f.Arg(0))
	}
	o.dockerAuth = dockerAuthFile(env)
	return o, nil
}

func dockerAuthFile(env []string) string {
	dir := "/root/.docker"
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "DOCKER_CONFIG="); ok && v != "" {
			dir = v
		}
	}
	return filepath.Join(dir, "config.json")
}

// readConfig reads what the host's first config left, and says all that is
// wrong with it.
func readConfig(path string) (cluster.AgentConfig, error) {
	var c cluster.AgentConfig
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("config: %w; a host's first config writes it (pilotlight render HOST), or set --config FILE", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("config %s: %w; render it again: pilotlight render HOST", path, err)
	}
	var wrong []error
	add := func(field, what string) {
		wrong = append(wrong, fmt.Errorf("config %s: %s: %s; render it again: pilotlight render HOST", path, field, what))
	}
	if c.Host == "" {
		add("host", "is missing")
	}
	if len(c.Servers) == 0 {
		add("servers", "is missing")
	}
	for i, s := range c.Servers {
		if u, err := url.Parse(s); err != nil || u.Scheme != "https" || u.Host == "" {
			add(fmt.Sprintf("servers[%d]", i), fmt.Sprintf("%q is not https://ADDRESS:PORT", s))
		}
	}
	if len(c.Etcd) == 0 {
		add("etcd", "is missing")
	}
	for i, e := range c.Etcd {
		if _, _, err := net.SplitHostPort(e); err != nil {
			add(fmt.Sprintf("etcd[%d]", i), fmt.Sprintf("%q is not ADDRESS:PORT", e))
		}
	}
	if !strings.Contains(c.CA, "-----BEGIN CERTIFICATE-----") {
		add("ca", "holds no certificate in PEM")
	}
	if c.MAC.IsZero() {
		c.MAC = ownMAC()
	}
	return c, errors.Join(wrong...)
}

// ownMAC is that of the first network card that is up, for hosts of which nothing is
// known before they are there. The servers write it down.
func ownMAC() (m cluster.MAC) {
	cards, _ := net.Interfaces() // without any it stays zero
	for _, c := range cards {
		if c.Flags&net.FlagUp != 0 && c.Flags&net.FlagLoopback == 0 && len(c.HardwareAddr) == len(m) {
			return cluster.MAC(c.HardwareAddr)
		}
	}
	return m
}
