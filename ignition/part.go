package ignition

import (
	"net/url"
	"strings"

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
	InstallFile   = "/opt/pilotlight/bin/install" // the program that installs Flatcar
	caFile        = "/etc/pilotlight/ca.crt"
)

// Installer makes a config that of the installer, not of the system that it
// installs.
type Installer struct {
	Done string // https:// URL to which the installer's token is sent when it is done

	Flatcar *FlatcarInstall // for a machine that boots Flatcar to install it; else nil
}

// FlatcarInstall is what flatcar-install is told. It takes no URL of a config, and
// no kernel argument starts it.
type FlatcarInstall struct {
	Device  string
	Release string
	Base    string // URL below which are RELEASE/IMAGE and its signature; empty is its publisher's
	Channel string
	Config  string // URL of the Ignition config of the system
}

// part is what pilotlight adds to a config: the agent to a system's, and to an
// installer's the means to say that it is done.
type part struct {
	agent     Agent
	installed string // the program InstalledFile; empty in a system's config
	install   string // the program InstallFile; empty where the system's own installer is started by kernel arguments
	ca        string // for what is fetched or told by https://; else empty

	added *additions // what the profile says in words of its own; never nil
}

func (in *Input) part(added *additions) part {
	if in.Installer == nil {
		p := part{agent: in.Agent, added: added}
		if in.Agent.secure() {
			p.ca = in.Server.CA
		}
		return p
	}
	p := part{added: added, installed: installedScript(in.Installer.Done), ca: in.Server.CA}
	if f := in.Installer.Flatcar; f != nil {
		p.install = f.script()
	}
	return p
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
		files := []v36.File{
			file(InstalledFile, "data:,"+url.PathEscape(p.installed), 0o755),
			file(caFile, "data:,"+url.PathEscape(p.ca), 0o644),
			file(cluster.InstallTokenFile, "data:,"+holes[holeToken], 0o600),
			name,
		}
		if p.install != "" {
			files = append(files, file(InstallFile, "data:,"+url.PathEscape(p.install), 0o755))
		}
		return files
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
		return []string{InstalledFile, InstallFile, caFile, cluster.InstallTokenFile, HostnameFile, unit}
	}
	return []string{AgentFile, cluster.AgentConfigFile, cluster.AgentTokenFile, HostnameFile, unit}
}

// unit is pilotlight's systemd unit.
func (p part) unit() (name, text string) {
	switch {
	case p.install != "":
		return InstalledUnit, flatcarUnitText
	case p.installed != "":
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

// script installs Flatcar. flatcar-install verifies the publisher's signature of
// what it writes, and removes what it wrote when that is not good.
func (f *FlatcarInstall) script() string {
	args := "-d " + shellWord(f.Device) + " -o '' -i \"$config\""
	if f.Release != "" {
		args += " -V " + shellWord(f.Release)
	}
	if f.Base != "" {
		args += " -b " + shellWord(f.Base)
	} else if f.Channel != "" {
		args += " -C " + shellWord(f.Channel)
	}
	return `#!/bin/sh
# Installs Flatcar to this machine's disk, tells pilotlight, and boots from the disk.
set -eu
umask 077
config=/run/pilotlight-system.ign
curl --fail --silent --show-error --connect-timeout 10 --max-time 60 \
  --retry 120 --retry-delay 5 --retry-all-errors --output "$config" ` + shellWord(f.Config) + `
flatcar-install ` + args + `
` + InstalledFile + `
rm -f "$config"
systemctl --no-block reboot
`
}

// shellWord quotes a word for a shell.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// flatcarUnitText runs the program that installs Flatcar, which fails when nothing
// could be fetched: then it is tried again.
const flatcarUnitText = `[Unit]
Description=Install this machine, and tell pilotlight
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=` + InstallFile + `
Restart=on-failure
RestartSec=30

[Install]
WantedBy=multi-user.target
`
