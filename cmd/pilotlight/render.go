package main

import (
	"fmt"
	"slices"
	"strings"

	"maps"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster/api"
)

func newRender(c *cli) *cobra.Command {
	var spec string
	var in api.RenderRequest
	cmd := &cobra.Command{
		Use:   "render HOST",
		Short: "Print the exact config that a host is served; a placeholder stands for its token",
		Long: `Print the exact config that a host is served; a placeholder stands for its token.

--what says which of them: ignition, cloud-config (the user-data of a seed, too), text,
network-config, generic, script, which is iPXE's, or pointer, which is all that Ignition of
spec 3.1.0 or newer is told over HTTP: where its config is. Without it, what the host's
profile is written for.`,
		Example: `  pilotlight render web1 --spec 3.3.0
  pilotlight render web1 | ignition-validate -
  pilotlight render web1 --what script
  pilotlight render db1 --installer`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			in.Host = a[0]
			if spec != "" {
				in.Accept = "application/vnd.coreos.ignition+json;version=" + spec
			}
			body, err := client.Render(cmd.Context(), in)
			if err != nil {
				return err
			}
			_, err = c.out.Write(body)
			return err
		},
	}
	cmd.Flags().StringVar(&spec, "spec", "", "the Ignition spec version that the host's Ignition asks for, such as 3.3.0")
	cmd.Flags().StringVar(&in.What, "what", "", "ignition, cloud-config, text, network-config, generic, script or pointer")
	cmd.Flags().BoolVar(&in.Installer, "installer", false, "the config of the host's installer, not that of the system that it installs")
	return cmd
}

func newExplain(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "explain HOST|MAC",
		Short:   "Say what a machine would get from DHCP to config, and why",
		Example: "  pilotlight explain web1\n  pilotlight explain 52:54:00:12:34:56",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			e, err := client.Explain(cmd.Context(), a[0])
			if err != nil {
				return err
			}
			if c.output != "table" {
				return c.print(e, nil)
			}
			c.writeExplanation(e)
			return nil
		},
	}
	c.outputFlag(cmd)
	return cmd
}

func (c *cli) writeExplanation(e api.Explanation) {
	for _, line := range [][2]string{
		{"host", e.Host}, {"network", e.Network}, {"address", e.Address}, {"group", e.Group},
		{"profile", e.Profile}, {"image", e.Image}, {"config", e.Config},
	} {
		fmt.Fprintf(c.out, "%-8s %s\n", line[0], dash(line[1]))
	}
	fmt.Fprintln(c.out, "\nwhy")
	for _, w := range e.Why {
		fmt.Fprintf(c.out, "  %s\n", w)
	}
	if len(e.DHCP) > 0 {
		fmt.Fprintln(c.out, "\nDHCP answers")
		for _, firmware := range slices.Sorted(maps.Keys(e.DHCP)) {
			fmt.Fprintf(c.out, "  %-19s %s\n", firmware, e.DHCP[firmware])
		}
	}
	if e.Script != "" {
		fmt.Fprintf(c.out, "\niPXE script\n  %s\n", strings.ReplaceAll(strings.TrimSpace(e.Script), "\n", "\n  "))
	}
}
