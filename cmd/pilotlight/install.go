package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
)

func newHostReinstall(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "reinstall HOST...",
		Short: "Install a host anew at its next network boot, once",
		Long: `Install a host anew at its next network boot, once: what is on the disk that its
profile's install: names is lost. When the installer says that it is done, or
the system that it installed joins, the host boots from its disk again. An
installer that never does is booted three times at most.

It does not restart the machine.`,
		Example: "  pilotlight host reinstall db1",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			return c.each(cmd.Context(), a, client.Reinstall, "is installed anew at its next network boot")
		},
	}
}

func newHostInstalled(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "installed HOST...",
		Short: "Say that a host is installed already: it boots from its disk",
		Long: `Say that a host is installed already: it boots from its disk. This is for machines
that were installed before pilotlight knew them, or by hand.`,
		Example: "  pilotlight host installed db1 db2",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			return c.each(cmd.Context(), a, client.Installed, "boots from its disk")
		},
	}
}

// each does one thing to every host, and says how it went for all of them.
func (c *cli) each(ctx context.Context, hosts []string, do func(context.Context, string) (cluster.Install, error), said string) error {
	var errs []error
	for _, h := range hosts {
		if _, err := do(ctx, h); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(c.out, "host %s %s\n", h, said)
	}
	return errors.Join(errs...)
}
