package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/manifest"
)

func newGet(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "get [KIND [NAME]]",
		Short:   "Print what was applied; -o yaml prints manifests that can be applied again",
		Example: "  pilotlight get host web1 -o yaml\n  pilotlight get",
		Args:    args(cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			kind, name, err := kindAndName(a)
			if err != nil {
				return err
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			docs, err := client.Documents(cmd.Context(), kind, name)
			if err != nil {
				return err
			}
			if name != "" && len(docs) == 0 {
				return fmt.Errorf("there is no %s %q; `pilotlight get %s` lists what is there", kind, name, kind)
			}
			return c.printDocuments(docs)
		},
	}
	c.outputFlag(cmd)
	return cmd
}

func (c *cli) printDocuments(docs []cluster.Document) error {
	if c.output == "yaml" {
		text, err := manifest.YAML(docs...)
		if err != nil {
			return err
		}
		_, err = c.out.Write(text)
		return err
	}
	bodies := make([]json.RawMessage, len(docs))
	for i, d := range docs {
		body, err := cluster.MarshalDocument(d)
		if err != nil {
			return err
		}
		bodies[i] = body
	}
	return c.print(bodies, func() table {
		t := table{header: []string{"KIND", "NAME", "SAYS"}, empty: "nothing was applied yet: pilotlight apply -f DIR"}
		for _, d := range docs {
			t.rows = append(t.rows, []string{string(d.Ref().Kind), d.Ref().Name, summary(d)})
		}
		return t
	})
}

// summary says in one line what a document is about.
func summary(d cluster.Document) string {
	switch d := d.(type) {
	case *cluster.Network:
		return fmt.Sprintf("%s on %s, dhcp %s", d.CIDR, dash(d.Interface), dash(string(d.DHCP)))
	case *cluster.Image:
		return d.Kernel.URL
	case *cluster.Profile:
		return fmt.Sprintf("image %s", dash(string(d.Image)))
	case *cluster.Group:
		return fmt.Sprintf("profile %s", d.Profile)
	case *cluster.Host:
		macs := make([]string, len(d.MACs))
		for i, m := range d.MACs {
			macs[i] = m.String()
		}
		return strings.Join(macs, " ")
	case *cluster.Site:
		images := make([]string, len(d.Services))
		for i, s := range d.Services {
			images[i] = string(s.Name) + "=" + s.Image
		}
		return strings.Join(images, " ")
	case *cluster.Secret:
		return fmt.Sprintf("readable by %v", d.Sites)
	case *cluster.Policy:
		return strings.Join(append(slices.Clone(d.Registries), d.Digests...), " ")
	}
	return ""
}

// kindAndName reads KIND NAME, KINDS, or KIND/NAME.
func kindAndName(a []string) (cluster.Kind, string, error) {
	if len(a) == 0 {
		return "", "", nil
	}
	word, name, _ := strings.Cut(a[0], "/")
	if len(a) > 1 {
		name = a[1]
	}
	for _, k := range cluster.Kinds {
		if word == string(k) || word == k.Plural() {
			return k, name, nil
		}
	}
	return "", "", usageError{fmt.Errorf("%q is not a kind; the kinds are %v", word, cluster.Kinds)}
}

func newDelete(c *cli) *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "delete KIND NAME | -f DIR|FILE",
		Short: "Remove documents: all that are named, or none when something still needs one",
		Long: `Remove documents: all that are named, or none when something still needs one.
A host that is removed can do nothing any more with its certificate; a site that
is removed stops on every host; a secret goes with all its values.`,
		Example: "  pilotlight delete site www",
		Args:    args(cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			refs, err := c.refsToDelete(a, files)
			if err != nil {
				return err
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			out, err := client.Apply(cmd.Context(), nil, refs, false)
			if err != nil {
				return err
			}
			if none := notThere(refs, out); len(none) > 0 {
				return fmt.Errorf("%s; nothing was deleted", strings.Join(none, "; "))
			}
			if err := new(manifest.Set).Place(out.Problems); err != nil {
				return err
			}
			for _, ch := range out.Changes {
				fmt.Fprintf(c.out, "deleted %s\n", ch.Ref)
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "remove every document of the manifests at a `PATH`, which may be repeated; - is standard input")
	return cmd
}

// notThere says of what is to be deleted and was never there in plain words: it
// is a slip at the command line, not a mistake in a manifest.
func notThere(refs []cluster.Ref, out api.ApplyResponse) (words []string) {
	for _, p := range out.Problems {
		if p.Message == api.NothingToDelete && slices.Contains(refs, p.Ref) {
			words = append(words, fmt.Sprintf("there is no %s %q; `pilotlight get %s` lists what is there", p.Ref.Kind, p.Ref.Name, p.Ref.Kind))
		}
	}
	return words
}

func (c *cli) refsToDelete(a, files []string) ([]cluster.Ref, error) {
	var refs []cluster.Ref
	if len(files) > 0 {
		set, err := c.load(files)
		if err != nil {
			return nil, err
		}
		for _, d := range set.Documents {
			refs = append(refs, d.Ref())
		}
	}
	if len(a) > 0 {
		kind, name, err := kindAndName(a)
		if err != nil {
			return nil, err
		}
		if name == "" {
			return nil, usageError{fmt.Errorf("which %s? `pilotlight get %s` lists them", kind, kind)}
		}
		refs = append(refs, cluster.Ref{Kind: kind, Name: name})
	}
	if len(refs) == 0 {
		return nil, usageError{fmt.Errorf("say what to delete: pilotlight delete KIND NAME, or -f DIR")}
	}
	return refs, nil
}
