package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/manifest"
)

func newApply(c *cli) *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:     "apply -f DIR|FILE|-",
		Short:   "Bring the cluster to where the manifests say: all of it, or nothing",
		Example: "  pilotlight apply -f site/",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.apply(cmd.Context(), files)
		},
	}
	filesFlag(cmd, &files)
	return cmd
}

func newDiff(c *cli) *cobra.Command {
	var files, hosts []string
	cmd := &cobra.Command{
		Use:   "diff -f DIR|FILE|-",
		Short: "Show what apply would change, and what each host's config would become",
		Long: `Show what apply would change, and change nothing. Exit code 3 says that something would.

Behind the documents come the configs: what each host is told, and its boot script,
where that would become another. Texts of files and units are shown as they are, not
as Ignition writes them; hosts with the same change are told of together.`,
		Example: "  pilotlight diff -f site/\n  pilotlight diff -f site/ --host web1",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.diff(cmd.Context(), files, hosts)
		},
	}
	filesFlag(cmd, &files)
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "only the configs of these hosts, new ones in full too; may be repeated")
	return cmd
}

func filesFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "file", "f", nil, "the `PATH` of a manifest, of a directory with all its *.yaml and *.yml, or - for standard input; may be repeated")
}

// load reads manifests, in which nothing may be wrong.
func (c *cli) load(files []string) (*manifest.Set, error) {
	set, err := c.read(files)
	if err == nil {
		err = set.Whole(nil)
	}
	return set, err
}

// read reads manifests, of which - is standard input.
func (c *cli) read(files []string) (*manifest.Set, error) {
	i := slices.Index(files, "-")
	if i < 0 {
		return manifest.Read(files...)
	}
	if len(files) > 1 {
		return nil, usageError{errors.New("-f - is all that is applied: put the files into it, or leave it out")}
	}
	text, err := io.ReadAll(c.in)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return manifest.ReadText("-", text), nil
}

func (c *cli) apply(ctx context.Context, files []string) error {
	client, set, err := c.toApply(ctx, files)
	if err != nil {
		return err
	}
	out, err := client.Apply(ctx, set.Documents, nil, false)
	if err != nil {
		return err
	}
	_, err = c.applied(set, out, false)
	return err
}

func (c *cli) diff(ctx context.Context, files, hosts []string) error {
	client, set, err := c.toApply(ctx, files)
	if err != nil {
		return err
	}
	var named []cluster.HostName
	for _, h := range hosts {
		of := cluster.Ref{Kind: cluster.KindHost, Name: h}
		if !slices.ContainsFunc(set.Documents, func(d cluster.Document) bool { return d.Ref() == of }) {
			if err := c.mustBe(ctx, client, cluster.KindHost, h); err != nil {
				return err
			}
		}
		named = append(named, cluster.HostName(h))
	}
	out, err := client.Diff(ctx, set.Documents, named)
	if err != nil {
		return err
	}
	changed, err := c.applied(set, out, true)
	if err != nil {
		return err
	}
	c.showConfigs(out.Configs)
	if changed > 0 {
		return exitError(exitChanges)
	}
	return nil
}

// toApply reads what is to be applied. Where something cannot be read the server is
// asked what is wrong with the rest, so that all mistakes come at once.
func (c *cli) toApply(ctx context.Context, files []string) (*api.Client, *manifest.Set, error) {
	if len(files) == 0 {
		return nil, nil, usageError{errors.New("say what to apply: -f DIR, -f FILE, or -f - for standard input")}
	}
	set, err := c.read(files)
	if err != nil {
		return nil, nil, err
	}
	client, err := c.client()
	wrong := set.Wrong()
	if set.Whole(nil) == nil {
		return client, set, err
	}
	if err == nil {
		if out, err := client.Check(ctx, set.Documents, wrong); err == nil {
			return nil, nil, set.Whole(out.Problems)
		}
	}
	return nil, nil, set.Whole(nil)
}

// applied says what an apply did, or would do, and counts the changes.
func (c *cli) applied(set *manifest.Set, out api.ApplyResponse, dryRun bool) (int, error) {
	if err := set.Place(out.Problems); err != nil {
		return 0, err
	}
	for _, m := range set.Places(out.Advice) {
		fmt.Fprintf(c.err, "warning: %s\n", m)
	}
	return c.showChanges(out.Changes, dryRun)
}

// showConfigs prints what becomes of hosts' configs.
func (c *cli) showConfigs(changes []api.ConfigChange) {
	untold := map[cluster.HostName]bool{}
	hosts := map[cluster.HostName]bool{}
	for _, ch := range changes {
		names := make([]string, len(ch.Hosts))
		for i, h := range ch.Hosts {
			hosts[h], names[i] = true, string(h)
		}
		of := strings.Join(names, ", ")
		switch {
		case ch.Diff != "":
			fmt.Fprintf(c.out, "\n%s of %s\n%s", ch.What, of, ch.Diff)
		case ch.Action == api.Create:
			fmt.Fprintf(c.out, "\n%s of %s: new, %d lines\n", ch.What, of, ch.Lines)
		case ch.Action == api.Delete:
			fmt.Fprintf(c.out, "\n%s of %s: there would be none any more\n", ch.What, of)
		default:
			for _, h := range ch.Hosts {
				untold[h] = true
			}
			fmt.Fprintf(c.out, "\n%s of %s: another\n", ch.What, of)
		}
	}
	if len(untold) > 0 {
		fmt.Fprintf(c.out, "\nwhat becomes of the last %d hosts is too much to show; type: pilotlight diff -f ... --host NAME\n", len(untold))
	}
	if len(hosts) > 0 {
		fmt.Fprintf(c.out, "\nwhat %d hosts are told would change\n", len(hosts))
	}
}

// showChanges prints what changed, as a diff of manifests, and counts it.
func (c *cli) showChanges(changes []api.Change, dryRun bool) (int, error) {
	counts := map[string]int{}
	for _, ch := range changes {
		counts[ch.Action]++
		if ch.Action == api.Unchanged {
			continue
		}
		text, err := changeText(ch)
		if err != nil {
			return 0, err
		}
		fmt.Fprint(c.out, text)
	}
	changed := len(changes) - counts[api.Unchanged]
	verb := map[bool]string{true: "would be ", false: ""}[dryRun]
	fmt.Fprintf(c.out, "%screated %d, %supdated %d, %sdeleted %d, unchanged %d\n",
		verb, counts[api.Create], verb, counts[api.Update], verb, counts[api.Delete], counts[api.Unchanged])
	return changed, nil
}

func changeText(ch api.Change) (string, error) {
	before, err := documentYAML(ch.Before)
	if err != nil {
		return "", err
	}
	after, err := documentYAML(ch.After)
	if err != nil {
		return "", err
	}
	name := ch.Ref.String()
	text := string(diff.Diff(name+" (applied)", before, name+" (manifest)", after))
	_, text, _ = strings.Cut(text, "\n") // its "diff a b" line says nothing more
	return fmt.Sprintf("%s %s\n%s", ch.Action, name, text), nil
}

func documentYAML(body []byte) ([]byte, error) {
	if len(body) == 0 {
		return nil, nil
	}
	d, err := cluster.UnmarshalDocument(body)
	if err != nil {
		return nil, err
	}
	return manifest.YAML(d)
}
