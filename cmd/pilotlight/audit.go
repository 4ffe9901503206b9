package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
)

func newAudit(c *cli) *cobra.Command {
	var q cluster.AuditQuery
	cmd := &cobra.Command{
		Use:   "audit [NAME]",
		Short: "Print who did what; NAME keeps what is about that host, site, secret or person",
		Long: `Print who did what, newest last; NAME keeps what is about that host, site, secret
or person. What strangers were refused is counted apart, so that it never takes
the place of what others did.`,
		Example: "  pilotlight audit web1\n  pilotlight audit --alarms -n 20",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if q.Last < 0 {
				return usageError{fmt.Errorf("-n %d is less than 0, which is all", q.Last)}
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			if len(a) > 0 {
				q.About = a[0]
			}
			page, err := client.Audit(cmd.Context(), q)
			if err != nil {
				return err
			}
			if err := c.print(page.Entries, func() table { return auditTable(page.Entries) }); err != nil {
				return err
			}
			if left := leftOut(page); left != "" {
				fmt.Fprintln(c.err, left)
			}
			return nil
		},
	}
	cmd.Flags().IntVarP(&q.Last, "last", "n", 200, "so many of the newest; 0 is all")
	cmd.Flags().BoolVar(&q.Alarms, "alarms", false, "only alarms: a token shown twice, late, or from elsewhere")
	c.outputFlag(cmd)
	return cmd
}

// auditTable has no year: entries are kept for ninety days.
func auditTable(entries []cluster.AuditEntry) table {
	t := table{header: []string{"WHEN", "ENDED", "WHO", "WHAT", "TO", "DETAIL"}, empty: "nothing in the audit"}
	for _, e := range entries {
		ended := "ok"
		if !e.OK {
			ended = "refused"
		}
		if e.Alarm {
			ended = "ALARM"
		}
		t.rows = append(t.rows, []string{e.At.Local().Format("01-02 15:04:05"), ended, e.Actor, e.Action, dash(e.Subject), e.Detail})
	}
	return t
}

func leftOut(p cluster.AuditPage) string {
	var what []string
	if p.Older > 0 {
		what = append(what, fmt.Sprintf("%d older", p.Older))
	}
	if p.OlderRefusals > 0 {
		what = append(what, fmt.Sprintf("%d older of what strangers were refused", p.OlderRefusals))
	}
	if len(what) == 0 {
		return ""
	}
	return "left out: " + strings.Join(what, ", ") + "; -n 0 prints all"
}
