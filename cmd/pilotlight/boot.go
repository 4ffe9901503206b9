package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

func newBoot(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "boot", Short: "See how machines boot"}
	list := &cobra.Command{
		Use:     "list HOST",
		Short:   "Print the timelines of a host's last boots, newest last",
		Example: "  pilotlight boot list web1",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			boots, err := client.Boots(cmd.Context(), a[0])
			if err != nil {
				return err
			}
			if len(boots) == 0 {
				if err := c.mustBe(cmd.Context(), client, cluster.KindHost, a[0]); err != nil {
					return err
				}
			}
			if c.output != "table" {
				return c.print(boots, nil)
			}
			if len(boots) == 0 {
				fmt.Fprintf(c.out, "host %s has not booted yet\n", a[0])
			}
			for i, b := range boots {
				writeTimeline(c.out, b)
				if why, stuck := boot.Stuck(b, time.Now()); stuck && i == len(boots)-1 {
					fmt.Fprintf(c.out, "  nothing came after that: %s\n", why)
				}
			}
			return nil
		},
	}
	c.outputFlag(list)
	return group(cmd, list, newBootWatch(c))
}

// writeTimeline prints one boot: each step with the time since the first, and
// since the one before.
func writeTimeline(w io.Writer, b cluster.Boot) {
	if len(b.Events) == 0 {
		return
	}
	start := b.Events[0].At
	fmt.Fprintf(w, "boot of %s (%s) at %s\n", dash(string(b.Host)), b.MAC, start.Format(time.RFC3339))
	before := start
	for _, e := range b.Events {
		fmt.Fprintf(w, "  %8.3fs  +%7.3fs  %-8s %s\n", e.At.Sub(start).Seconds(), e.At.Sub(before).Seconds(), e.Step, e.Detail)
		before = e.At
	}
}
