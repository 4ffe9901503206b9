package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/etcd"
	"github.com/pilotlight/pilotlight/cluster/join"
)

func newServer(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "server", Short: "Have several servers share one etcd"}
	return group(cmd, newServerInvite(c), newServerJoin(c), newServerMembers(c), newServerRemove(c), newServerRecover(c))
}

func newServerInvite(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "invite",
		Short: "Print an invitation, with which one more server may join within the hour",
		Long: `Print an invitation, with which one more server may join within the hour. It leads
to the authority's key and to that of all secrets, so it goes from one command to
the other, and into no file, argument or chat.`,
		Example: "  pilotlight server invite | ssh server2 sudo pilotlight server join --etcd-peer 10.0.0.3:2380",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			out, err := client.Invite(cmd.Context())
			if err != nil {
				return err
			}
			if out.Note != "" {
				fmt.Fprintln(c.err, "note: "+out.Note)
			}
			fmt.Fprintln(c.out, out.Token)
			return nil
		},
	}
}

func newServerJoin(c *cli) *cobra.Command {
	var peer, name string
	cmd := &cobra.Command{
		Use:   "join",
		Short: "Make this machine one of the servers; it reads an invitation from standard input",
		Long: `Make this machine one of the servers; it reads an invitation from standard input,
which ` + "`pilotlight server invite`" + ` prints on a server that there is. The data directory
must not be one of a server already.

Then start it as the others: pilotlight serve. It has a vote in etcd as soon as the
votes are three, or another odd number: of two servers either's loss would stop the
other, so the second one only learns, and serves machines all the same.`,
		Example: "  ssh server1 sudo pilotlight server invite | sudo pilotlight server join --etcd-peer 10.0.0.3:2380",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := netip.ParseAddrPort(peer)
			if err == nil {
				err = checkPeer(at)
			}
			if err != nil {
				return usageError{fmt.Errorf("--etcd-peer %q is not the ADDRESS:PORT at which the other servers reach this one, as 10.0.0.3:2380", peer)}
			}
			p := settlePlace(place{}, cluster.ServerName(name), at)
			if !join.ValidServerName(p.Name) {
				return usageError{fmt.Errorf("--name %q is no name of a host", name)}
			}
			if c.fromTerminal() {
				return usageError{fmt.Errorf("the invitation comes from standard input, not from a terminal that would show it: ssh SERVER sudo pilotlight server invite | %s --etcd-peer %s", cmd.CommandPath(), at)}
			}
			return c.joinServers(cmd.Context(), p)
		},
	}
	cmd.Flags().StringVar(&peer, "etcd-peer", "", "ADDRESS:PORT at which the other servers reach this one (required)")
	cmd.Flags().StringVar(&name, "name", "", "this server's name among the others (default: the machine's)")
	return cmd
}

// maxInvitation is far more than an invitation has.
const maxInvitation = 64 << 10

func (c *cli) joinServers(ctx context.Context, p place) (err error) {
	d, err := lockDataDir(c.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.mayJoin(); err != nil {
		return err
	}
	invite, err := io.ReadAll(io.LimitReader(c.in, maxInvitation))
	if err != nil {
		return fmt.Errorf("read the invitation: %w", err)
	}
	got, err := join.AskToJoin(ctx, string(invite), join.ServerRequest{Name: p.Name, Peer: p.Peer})
	if err != nil {
		return err
	}
	p.Members, p.Several = got.Members, true
	if err := d.become(p, got); err != nil {
		return fmt.Errorf("%w: the invitation is used up; once that is put right, ask for another", err)
	}
	fmt.Fprintf(c.out, "%s is one of the servers; start it: pilotlight serve%s\n", p.Name, dataFlag(c.data))
	return nil
}

// mayJoin refuses a directory that is a server's already.
func (d *dataDir) mayJoin() error {
	has, err := etcd.HasMember(d.join("etcd"))
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	p, err := d.place()
	if err != nil {
		return err
	}
	if _, err := os.Stat(d.join("ca", "ca.key")); has || err == nil && p.Members == "" {
		return fmt.Errorf("%s is a server's already: give another with --data, or move that away", d.path)
	}
	return nil
}

// become keeps what a server needs to be one of several; its place comes last,
// which says that the rest is there.
func (d *dataDir) become(p place, got join.ServerResponse) error {
	if err := os.MkdirAll(d.join("server"), 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if err := join.PlaceCA(d.join("ca"), []byte(got.CA), []byte(got.Key)); err != nil {
		return err
	}
	if err := join.WriteFile(d.join("server", "secrets.key"), []byte(strings.TrimSpace(got.Secrets)+"\n"), 0o600); err != nil {
		return err
	}
	return d.putPlace(p)
}

func newServerMembers(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "members",
		Short:   "List the servers, and how their etcd is",
		Example: "  pilotlight server members",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			members, err := client.Members(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.print(members, func() table { return memberTable(members) }); err != nil || c.output != "table" {
				return err
			}
			fmt.Fprintln(c.out, standing(members))
			return nil
		},
	}
	c.outputFlag(cmd)
	return cmd
}

func memberTable(members []cluster.Member) table {
	t := table{header: []string{"NAME", "STATE", "PEERS", "CLIENTS", "ETCD", "SIZE", "BEHIND", "MESSAGE"}}
	for _, m := range members {
		state := "votes"
		switch {
		case m.Learner:
			state = "learns"
		case m.Leader:
			state = "leads"
		}
		size := "-"
		if m.Version != "" {
			size = fmt.Sprintf("%.1f MB", float64(m.DBSize)/(1<<20))
		}
		t.rows = append(t.rows, []string{dash(string(m.Name)), state, m.Peer, dash(m.Client), dash(m.Version), size, fmt.Sprint(m.Behind), m.Problem})
	}
	return t
}

// standing says what the loss of a server would mean.
func standing(members []cluster.Member) string {
	votes, answer := 0, 0
	for _, m := range members {
		if m.Learner {
			continue
		}
		votes++
		if m.Version != "" {
			answer++
		}
	}
	more := answer - (votes - cluster.MayFail(votes))
	switch {
	case len(members) == 1:
		return "one server: while it is away nothing boots, and what runs stays"
	case more < 0:
		return fmt.Sprintf("%d of %d votes are away: nothing can be changed until they are back", votes-answer, votes)
	case more > 0:
		return fmt.Sprintf("%d more may be lost before nothing can be changed any more", more)
	case answer < votes:
		return "no more may be lost, or nothing can be changed any more: start the one that is away, or remove it and add another"
	}
	return "none that votes may be lost, or nothing can be changed any more: add servers until three vote"
}

func newServerRemove(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a server out: one that is lost, or is to be",
		Long: `Take a server out: one that is lost, or is to be. If it runs it stops. It still
has the authority's key and that of all secrets: wipe its data directory.`,
		Example: "  pilotlight server remove server2",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			if err := client.RemoveServer(cmd.Context(), a[0]); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "server %s is none any more; wipe its data directory, which has the keys of all\n", a[0])
			return nil
		},
	}
}

func newServerRecover(c *cli) *cobra.Command {
	var gone bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Go on with this server alone: those that vote are lost for good",
		Long: `Go on with this server alone: those that vote are lost for good, and with them the
right to change anything. What this server holds becomes all that there is. It must
not run meanwhile; start it afterwards, and have others join it anew.

None of the others may ever be started again with the data that it has: nothing
would reconcile the two. What was here stays beside it.`,
		Example: "  pilotlight server recover --others-are-gone",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !gone {
				return usageError{errors.New("this is for when the others are lost for good: make sure that none runs or ever will, then give --others-are-gone")}
			}
			return c.recoverServer(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&gone, "others-are-gone", false, "say so")
	return cmd
}

func (c *cli) recoverServer(ctx context.Context) (err error) {
	d, err := lockDataDir(c.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	known, err := d.place()
	if err != nil {
		return err
	}
	p := settlePlace(known, "", netip.AddrPort{})
	before, err := etcd.Recover(ctx, d.member(p, netip.AddrPort{}))
	if err != nil {
		return err
	}
	p.Members = ""
	if err := d.putPlace(p); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s goes on alone; start it: pilotlight serve%s\nwhat it held before is in %s\n", p.Name, dataFlag(c.data), before)
	return nil
}
