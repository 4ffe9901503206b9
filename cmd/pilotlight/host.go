package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
)

func newHost(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "host", Short: "See hosts, let them in, have them installed, take them out"}
	return group(cmd, newHostList(c), newHostApprove(c), newHostReinstall(c), newHostInstalled(c), newHostRetire(c))
}

func newHostList(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List every host and every machine that was seen, with its state",
		Long: `List every host and every machine that was seen, with its state:
  discovered  seen on a network; no document names it
  approved    a document names it; it has not booted yet
  booting     on its way; LAST says which step came last
  installing  runs its installer, which has not said that it is done
  installed   boots from its disk, and has not joined yet
  failed      its installer was booted three times in vain; it is left to its disk
  joined      introduced and alive, not yet running all that it must
  ready       runs all that it must, in good health
  lost        was introduced; its agent is silent`,
		Example: "  pilotlight host list -o json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			hosts, err := client.Hosts(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(hosts, func() table { return hostTable(hosts) })
		},
	}
	c.outputFlag(cmd)
	return cmd
}

func hostTable(hosts []api.HostStatus) table {
	t := table{
		header: []string{"NAME", "STATE", "ADDRESS", "MAC", "PROFILE", "HEALTHY", "LAST", "MESSAGE"},
		empty:  "no host was applied and no machine was seen yet",
	}
	for _, h := range hosts {
		mac := ""
		if len(h.MACs) > 0 {
			mac = h.MACs[0].String()
		}
		healthy := 0
		for _, s := range h.Containers {
			if s.Health == cluster.HealthHealthy {
				healthy++
			}
		}
		last := dash(string(h.LastStep))
		if h.LastStep != "" {
			last += " " + ago(h.LastStepAt)
		}
		t.rows = append(t.rows, []string{
			h.Name, string(h.State), dash(h.Address), dash(mac), dash(h.Profile),
			fmt.Sprintf("%d/%d", healthy, len(h.Containers)), last, strings.ReplaceAll(h.Message, "\n", " "),
		})
	}
	return t
}

func newHostRetire(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "retire HOST",
		Short: "Shut a host out at once: its certificate opens nothing any more",
		Long: `Shut a host out at once: its etcd user, its secrets and its introduction are
removed, so that its certificate opens nothing any more. Its document stays:
booted again, it is introduced anew. To be rid of it for good, delete it too.`,
		Example: "  pilotlight host retire web3",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			if err := client.Retire(cmd.Context(), a[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "retired host %s\n", a[0])
			return nil
		},
	}
}
