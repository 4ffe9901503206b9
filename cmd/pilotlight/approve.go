package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/manifest"
)

func newHostApprove(c *cli) *cobra.Command {
	var name, profile, address string
	var labels map[string]string
	cmd := &cobra.Command{
		Use:   "approve MAC",
		Short: "Make a host of a machine that was seen",
		Long: `Make a host of a machine that was seen on a network: a host document with its MAC
address is applied. What the host gets is its --profile, or that of the group
that its --label or its address puts it in. Booted again, it gets it.`,
		Example: `  pilotlight host approve 52:54:00:12:34:56 --name web4 --label role=web`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			mac, err := cluster.ParseMAC(a[0])
			if err != nil {
				return usageError{err}
			}
			h := &cluster.Host{
				Meta: cluster.Meta{Name: name, Labels: labels}, MACs: []cluster.MAC{mac}, Profile: cluster.ProfileName(profile),
			}
			if name == "" {
				h.Name = "host-" + mac.Hyphens()
			}
			if address != "" {
				if h.Address, err = netip.ParseAddr(address); err != nil {
					return usageError{fmt.Errorf("--address: %w", err)}
				}
			}
			return c.approve(cmd, h)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "what the host is called (default: host-MAC)")
	f.StringVar(&profile, "profile", "", "its profile; default: that of the group that takes it")
	f.StringVar(&address, "address", "", "the address that is reserved for it; default: one of the pool")
	f.StringToStringVar(&labels, "label", nil, "its labels, role=web")
	return cmd
}

func (c *cli) approve(cmd *cobra.Command, h *cluster.Host) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	hosts, err := client.Hosts(cmd.Context())
	if err != nil {
		return err
	}
	seen, err := find(hosts, h)
	if err != nil {
		return err
	}
	if strings.Contains(seen.Arch, "arm64") {
		h.Arch = cluster.AArch64
	}
	out, err := client.Apply(cmd.Context(), []cluster.Document{h}, nil, false)
	if err != nil {
		return err
	}
	if err := new(manifest.Set).Place(out.Problems); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "host %s is approved; boot it again, and see it come: pilotlight boot watch %s\n", h.Name, h.Name)
	return nil
}

// find returns the machine that was seen and that is to be the host h.
func find(hosts []api.HostStatus, h *cluster.Host) (*cluster.Discovered, error) {
	for _, other := range hosts {
		if other.Name == h.Name {
			return nil, fmt.Errorf("there is a host %s already: give another --name", h.Name)
		}
	}
	for _, other := range hosts {
		for _, m := range other.MACs {
			switch {
			case m != h.MACs[0]:
			case other.Seen != nil:
				return other.Seen, nil
			default:
				return nil, fmt.Errorf("%s is host %s already", m, other.Name)
			}
		}
	}
	return nil, fmt.Errorf("%s was not seen on any network since this server was started: power it on, or apply a host document with macs: [%q]; `pilotlight host list` shows who was seen", h.MACs[0], h.MACs[0])
}
