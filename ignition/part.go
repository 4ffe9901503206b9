package ignition

import (
	"net/url"

	v36 "github.com/coreos/ignition/v2/config/v3_6/types"

	"github.com/pilotlight/pilotlight/cluster"
)

// What pilotlight writes for an installer.
const (
	// InstalledFile is the program with which an installer says that it is done.
	// The unit runs it behind coreos-installer; any other installer's last step
	// has to.
	InstalledFile = "/opt/pilotlight/bin/installed"
	InstalledUnit = "pilotlight-installed.service"
	caFile        = "/etc/pilotlight/ca.crt"
)

// Installer makes a config that of the installer, not of the system that it
// installs.
type Installer struct {
	Done string // https:// URL to which the installer's token is sent when it is done
}

// part is what pilotlight adds to a config: the agent to a system's, and to an
// installer's the means to say that it is done.
type part struct {
	agent     Agent
	installed string // the program InstalledFile; empty in a system's config
	ca        string
}

func (in *Input) part() part {
	if in.Installer == nil {
		return part{agent: in.Agent}
	}
	return part{installed: installedScript(in.Installer.Done), ca: in.Server.CA}
}

// holes are what is not known before the config is asked for.
func (p part) holes() []int {
	if p.installed != "" {
		return []int{holeVersion, holeName, holeToken}
	}
	return []int{holeVersion, holeHash, holeAgent, holeName, holeToken}
}

// files are pilotlight's files in an Ignition config. What differs from version
// to version, from host to host and from boot to boot is a hole.
func (p part) files() []v36.File {
	name := file(HostnameFile, "data:,"+holes[holeName]+"%0A", 0o644)
	if p.installed != "" {
		return []v36.File{
			file(InstalledFile, "data:,"+url.PathEscape(p.installed), 0o755),
			file(caFile, "data:,"+url.PathEscape(p.ca), 0o644),
			file(cluster.InstallTokenFile, "data:,"+holes[holeToken], 0o600),
			name,
		}
	}
	agent := file(AgentFile, p.agent.URL, 0o755)
	agent.Contents.Verification.Hash = ptr(holes[holeHash])
	return []v36.File{
		agent,
		file(cluster.AgentConfigFile, "data:;base64,"+holes[holeAgent], 0o644),
		file(cluster.AgentTokenFile, "data:,"+holes[holeToken], 0o600),
		name,
	}
}

// paths are the files that pilotlight writes, whatever the language.
func (p part) paths() []string {
	name, _ := p.unit()
	unit := "/etc/systemd/system/" + name
	if p.installed != "" {
		return []string{InstalledFile, caFile, cluster.InstallTokenFile, HostnameFile, unit}
	}
	return []string{AgentFile, cluster.AgentConfigFile, cluster.AgentTokenFile, HostnameFile, unit}
}

// unit is pilotlight's systemd unit.
func (p part) unit() (name, text string) {
	if p.installed != "" {
		return InstalledUnit, installedUnitText
	}
	return AgentUnit, AgentUnitText
}

// installedScript tells the server that the system is on the disk. It asks until
// it is heard: what it says is what keeps the next boot from installing again.
func installedScript(done string) string {
	return `#!/bin/sh
# Tells pilotlight that this machine's system is on its disk, from which it boots
# from then on. It is the last thing that an installer does.
set -eu
curl --fail --silent --show-error --connect-timeout 10 --max-time 30 \
  --retry 120 --retry-delay 5 --retry-all-errors \
  --cacert ` + caFile + ` --data-binary @` + cluster.InstallTokenFile + ` '` + done + `'
rm -f ` + cluster.InstallTokenFile + `
`
}

// installedUnitText hooks into coreos-installer where its documentation says
// (customizing-install.md): behind the installation, before the reboot.
const installedUnitText = `[Unit]
Description=Tell pilotlight that this machine is installed
After=coreos-installer.service network-online.target
Requires=coreos-installer.service
Wants=network-online.target
Before=coreos-installer.target

[Service]
Type=oneshot
ExecStart=` + InstalledFile + `

[Install]
RequiredBy=coreos-installer.target
`
