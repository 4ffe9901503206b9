package main

import (
	"fmt"
	"slices"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/ignition"
)

// adviseNetworks says of which hosts cloud-init asks the metadata service, by which it
// hears nothing of network_config:, once for a profile that is given. Its Ec2 data
// source knows the cards and their addresses, and sets them all up by DHCP.
func (b *bootServices) adviseNetworks(next *cluster.Snapshot, given func(cluster.Ref) bool) (out []cluster.Problem) {
	if !slices.ContainsFunc(next.Networks(), (*cluster.Network).ServesMetadata) {
		return nil
	}
	said := map[cluster.Ref]bool{}
	for _, d := range next.Documents(cluster.KindHost) {
		h := d.(*cluster.Host)
		n := bootsOn(next, h.Address)
		t, err := next.Parts(h, n)
		if err != nil || t.Profile.NetworkConfig == "" || t.Profile.Boot != cluster.BootLocal || n == nil || !n.ServesMetadata() {
			continue
		}
		ref, field := h.Ref(), "profile"
		if given(t.Profile.Ref()) {
			ref, field = t.Profile.Ref(), "network_config"
		}
		if said[ref] || !given(ref) {
			continue
		}
		_, c, err := b.compile(next, h, false)
		if err != nil || !slices.Contains(c.Languages(), ignition.LanguageCloudInit) {
			continue
		}
		said[ref] = true
		out = append(out, cluster.Problem{Ref: ref, Field: field, Message: fmt.Sprintf(
			"cloud-init on host %s, where it asks the metadata service of network %s, hears nothing of network_config: and sets up its cards by DHCP: give it a seed instead (pilotlight userdata %s --for nocloud-iso)",
			h.Name, n.Name, h.Name)})
	}
	return out
}
