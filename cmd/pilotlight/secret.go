package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/cluster"
)

func newSecret(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "secret", Short: "Give secrets their values, and list them"}
	return group(cmd, newSecretPut(c), newSecretList(c))
}

func newSecretPut(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "put NAME",
		Short: "Give a secret a new value, read from standard input",
		Long: `Give a secret a new value, read from standard input as it is, to its last byte.
It is never an argument, which others on this machine could read. The containers
that mount it are rolled over to the new version.`,
		Example: "  pilotlight secret put page-token < token.txt\n  printf %s \"$TOKEN\" | pilotlight secret put page-token",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if c.fromTerminal() {
				return usageError{fmt.Errorf("the value comes from standard input, not from a terminal that would show it: pilotlight secret put %s < FILE", a[0])}
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			v, err := client.PutSecret(cmd.Context(), a[0], c.in)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "secret %s has version %d\n", v.Name, v.Version)
			return nil
		},
	}
}

// fromTerminal reports whether standard input is a terminal, which would show what
// is typed.
func (c *cli) fromTerminal() bool {
	f, ok := c.in.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func newSecretList(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List secrets, their newest version and who may read them; never a value",
		Example: "  pilotlight secret list",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			secrets, err := client.Secrets(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(secrets, func() table {
				t := table{header: []string{"NAME", "VERSION", "SITES"}, empty: "no secret was applied yet: kind: secret, name: NAME, sites: [SITE]"}
				for _, s := range secrets {
					version := fmt.Sprint(s.Version)
					if s.Version == 0 {
						version = "no value yet: pilotlight secret put " + s.Name
					}
					t.rows = append(t.rows, []string{s.Name, version, joinNames(s.Sites)})
				}
				return t
			})
		},
	}
	c.outputFlag(cmd)
	return cmd
}

func joinNames(names []cluster.SiteName) string {
	out := ""
	for i, n := range names {
		if i > 0 {
			out += ", "
		}
		out += string(n)
	}
	return out
}
