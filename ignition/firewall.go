package ignition

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// Where a host's firewall is, and what puts it up.
const (
	FirewallFile = "/etc/pilotlight/firewall.nft"
	FirewallUnit = "pilotlight-firewall.service"
)

// firewallUnitText puts the firewall up before the network is, and before anything
// that listens; and behind the distribution's own, which begins by throwing every
// table away (Debian's /etc/nftables.conf). The agent does not start without it: a
// host whose firewall is broken is missed rather than open.
const firewallUnitText = `[Unit]
Description=Firewall of pilotlight
DefaultDependencies=no
After=local-fs.target systemd-modules-load.service nftables.service
ReloadPropagatedFrom=nftables.service
Before=network-pre.target docker.service ` + AgentUnit + ` shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'exec nft -f ` + FirewallFile + `'
ExecReload=/bin/sh -c 'exec nft -f ` + FirewallFile + `'

[Install]
WantedBy=sysinit.target
RequiredBy=` + AgentUnit + `
`

func (a *additions) addFirewall(p *cluster.Profile, f *cluster.Firewall) {
	a.Files = append(a.Files, addedFile{cluster.CommonFile{Path: FirewallFile, Mode: "0644", Contents: nftables(p.Name, f, a.Network.Names())}, "firewall"})
	// Before the profile's own, which cloud-init starts one after the other.
	a.Units = append([]addedUnit{{cluster.CommonUnit{Name: FirewallUnit, Enabled: true, Contents: firewallUnitText}, "firewall"}}, a.Units...)
}

// nftables is a firewall as nft reads it. It is a table of its own, put in place
// at once, and leaves those of others, Docker's first of all, alone.
//
// What is for the host itself goes through input. What is for a port that a
// container publishes goes through forward, where its destination is the
// container's already: the port that was asked for is the connection's original
// one. Accepting here leaves it to Docker's own tables, dropping is the end
// (nftables, "Configuring chains": a drop ends, an accept only a chain).
//
// The host's own interfaces are none of Docker's, whatever they are called.
func nftables(profile string, f *cluster.Firewall, own []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, nftHead, profile)
	for _, r := range f.Allow {
		for _, from := range sources(r.From) {
			fmt.Fprintf(&b, "\t\tmeta l4proto %s ct original proto-dst %s%s accept\n", r.Of(), portSet(r.Ports), from)
		}
	}
	b.WriteString("\t}\n\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n")
	b.WriteString("\t\tct state established,related accept\n\t\tct state invalid drop\n\t\tiifname \"lo\" accept\n")
	trusted := trustedLines(f.Trusted)
	b.WriteString(trusted)
	b.WriteString(nftInput)
	b.WriteString("\t}\n\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n")
	b.WriteString("\t\tct state established,related accept\n\t\tct state invalid drop\n")
	b.WriteString(trusted)
	b.WriteString(fromContainers(own))
	b.WriteString("\t\tct status dnat jump allowed\n")
	b.WriteString("\t}\n}\n")
	return b.String()
}

const nftHead = `#!/usr/sbin/nft -f
# Written by pilotlight from firewall: of profile %s. To take it down: nft delete table inet pilotlight
table inet pilotlight
delete table inet pilotlight
table inet pilotlight {
	# Who may reach which port, be it the host's or one that a container publishes.
	chain allowed {
`

// nftInput: ICMP that IP does not work without (RFC 4890, section 4.4), ping, and
// the answers of DHCP servers, which belong to no connection.
const nftInput = `		icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } accept
		icmpv6 type { echo-request, destination-unreachable, packet-too-big, time-exceeded, parameter-problem, nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect, mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept
		udp sport 67 udp dport 68 accept
		udp sport 547 udp dport 546 accept
		jump allowed
`

// dockers are Docker's bridges, its networks' last.
var dockers = []string{"docker0", "docker_gwbridge", "br-*"}

// fromContainers lets containers out. What was meant for a published port has been
// rewritten by then, and comes after it.
func fromContainers(own []string) string {
	var b strings.Builder
	for _, name := range dockers {
		var but []string
		prefix, pattern := strings.CutSuffix(name, "*")
		for _, o := range own {
			if o == name || pattern && strings.HasPrefix(o, prefix) {
				but = append(but, strconv.Quote(o))
			}
		}
		fmt.Fprintf(&b, "\t\tiifname %q", name)
		if len(but) > 0 {
			fmt.Fprintf(&b, " iifname != { %s }", strings.Join(but, ", "))
		}
		b.WriteString(" accept\n")
	}
	return b.String()
}

func trustedLines(names []string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "\t\tiifname %q accept\n", n)
	}
	return b.String()
}

// portSet is a set without overlaps, which nft refuses.
func portSet(ports []cluster.PortRange) string {
	sorted := slices.SortedFunc(slices.Values(ports), func(a, b cluster.PortRange) int { return cmp.Compare(a.First, b.First) })
	var merged []cluster.PortRange
	for _, p := range sorted {
		if n := len(merged); n > 0 && p.First <= merged[n-1].Last {
			merged[n-1].Last = max(merged[n-1].Last, p.Last)
			continue
		}
		merged = append(merged, p)
	}
	words := make([]string, len(merged))
	for i, p := range merged {
		words[i] = p.String()
	}
	return "{ " + strings.Join(words, ", ") + " }"
}

// sources returns what is to match for each kind of IP; nothing matches everybody.
// A network within another is left out: nft refuses overlaps.
func sources(from []cluster.Source) (out []string) {
	var four, six []string
	for i, s := range from {
		within := slices.ContainsFunc(from[:i], func(o cluster.Source) bool { return o == s })
		for _, o := range from {
			within = within || o != s && o.Bits() < s.Bits() && o.Contains(s.Addr())
		}
		switch {
		case within:
		case s.Addr().Is4():
			four = append(four, s.String())
		default:
			six = append(six, s.String())
		}
	}
	if len(from) == 0 {
		return []string{""}
	}
	if len(four) > 0 {
		out = append(out, " ip saddr { "+strings.Join(four, ", ")+" }")
	}
	if len(six) > 0 {
		out = append(out, " ip6 saddr { "+strings.Join(six, ", ")+" }")
	}
	return out
}
