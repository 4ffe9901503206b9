package httpboot

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// leaves are the values of a tree by their paths. A path that ends in a slash is a
// directory, whose value is what it lists in place of the names in it.
type leaves map[string]string

// get returns the value at a path, or what a directory lists: its directories with a
// slash behind them.
func (l leaves) get(path string) (string, bool) {
	if v, ok := l[path]; ok {
		return v, true
	}
	prefix := strings.TrimSuffix(path, "/")
	if prefix != "" {
		prefix += "/"
	}
	if v, ok := l[prefix]; ok {
		return v, true
	}
	var names []string
	for p := range l {
		if rest, below := strings.CutPrefix(p, prefix); below {
			name, _, directory := strings.Cut(rest, "/")
			if directory {
				name += "/"
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "\n"), len(names) > 0
}

// documentPath is where Amazon's SDKs look for what an instance is.
const documentPath = "dynamic/instance-identity/document"

// metadataOf is the metadata of a machine: what is known of it, and no more. What
// EC2 has beside it, an image's or an instance type's name, means nothing here.
func metadataOf(m *Machine) leaves {
	host, network := m.Host, m.Target.Network
	out := leaves{
		"meta-data/instance-id":    m.instance(),
		"meta-data/hostname":       host.Name,
		"meta-data/local-hostname": host.Name,
		"meta-data/local-ipv4":     m.Address.String(),
		"meta-data/mac":            m.Identity.MAC.String(),
		"user-data":                "", // it is listed; Handler.userData serves it
	}
	card := "meta-data/network/interfaces/macs/" + m.Identity.MAC.String() + "/"
	for name, value := range map[string]string{
		"device-number": "0", "mac": m.Identity.MAC.String(), "local-hostname": host.Name, "local-ipv4s": m.Address.String(),
		"subnet-ipv4-cidr-block": network.CIDR.String(),
	} {
		out[card+name] = value
	}
	out["meta-data/placement/availability-zone"] = network.Name
	addKeys(out, m.Target.SSHKeys)
	arch := "x86_64"
	if host.Arch == cluster.AArch64 {
		arch = "arm64" // as EC2 calls it
	}
	document, _ := json.MarshalIndent(map[string]string{ // texts, which can always be encoded
		"instanceId": m.instance(), "privateIp": m.Address.String(), "architecture": arch, "availabilityZone": network.Name,
	}, "", "  ")
	out[documentPath] = string(document)
	return out
}

// addKeys adds SSH keys: a list of N=NAME, and a directory N each.
func addKeys(out leaves, keys []string) {
	const folder = "meta-data/public-keys/"
	var names []string
	taken := map[string]bool{}
	for i, key := range keys {
		name := keyName(key)
		if name == "" || taken[name] { // cloud-init keeps one of a name
			name = fmt.Sprintf("key-%d", i)
		}
		taken[name] = true
		names = append(names, fmt.Sprintf("%d=%s", i, name))
		out[fmt.Sprintf("%s%d/openssh-key", folder, i)] = key
	}
	if len(names) > 0 {
		out[folder] = strings.Join(names, "\n")
	}
}

// keyName is the comment of an SSH key, as far as it can be a line of a listing.
func keyName(key string) string {
	words := strings.SplitN(key, " ", 3)
	if len(words) < 3 {
		return ""
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-_.@", r):
			return r
		}
		return '-'
	}, words[2])
}
