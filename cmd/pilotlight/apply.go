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
			return c.apply(cmd.Context(), files, false)
		},
	}
	filesFlag(cmd, &files)
	return cmd
}

func newDiff(c *cli) *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:     "diff -f DIR|FILE|-",
		Short:   "Show what apply would change, and change nothing",
		Long:    "Show what apply would change, and change nothing. Exit code 3 says that something would.",
		Example: "  pilotlight diff -f site/",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.apply(cmd.Context(), files, true)
		},
	}
	filesFlag(cmd, &files)
	return cmd
}

func filesFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringSliceVarP(files, "file", "f", nil, "a manifest, a directory with all its *.yaml and *.yml, or - for standard input; may be repeated")
}

// load reads manifests, of which - is standard input.
func (c *cli) load(files []string) (*manifest.Set, error) {
	i := slices.Index(files, "-")
	if i < 0 {
		return manifest.Load(files...)
	}
	if len(files) > 1 {
		return nil, usageError{errors.New("-f - is all that is applied: put the files into it, or leave it out")}
	}
	text, err := io.ReadAll(c.in)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return manifest.Parse("-", text)
}

func (c *cli) apply(ctx context.Context, files []string, dryRun bool) error {
	if len(files) == 0 {
		return usageError{errors.New("say what to apply: -f DIR, -f FILE, or -f - for standard input")}
	}
	set, err := c.load(files)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	out, err := client.Apply(ctx, set.Documents, nil, dryRun)
	if err != nil {
		return err
	}
	if err := set.Place(out.Problems); err != nil {
		return err
	}
	for _, m := range set.Places(out.Advice) {
		fmt.Fprintf(c.err, "warning: %s\n", m)
	}
	changed, err := c.showChanges(out.Changes, dryRun)
	if err != nil {
		return err
	}
	if dryRun && changed > 0 {
		return exitError(exitChanges)
	}
	return nil
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
