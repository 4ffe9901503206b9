package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/manifest"
	"github.com/pilotlight/pilotlight/cluster/moving"
	"github.com/pilotlight/pilotlight/cluster/moving/cobbler"
	"github.com/pilotlight/pilotlight/cluster/moving/dnsmasq"
	"github.com/pilotlight/pilotlight/cluster/moving/matchbox"
)

const importLong = `

The manifests are printed, or written into the directory of -o, one file a kind; a
file that is there is never written over. What did not map is listed on standard
error, each with its file and why, and the exit code is 4 then. Nothing is applied:
read the manifests, then pilotlight diff -f DIR and pilotlight serve DIR.`

func newImport(c *cli) *cobra.Command {
	return group(&cobra.Command{
		Use:     "import",
		Short:   "Make manifests of what matchbox, Cobbler or dnsmasq has",
		Example: "  pilotlight import matchbox /var/lib/matchbox -o site/",
	}, c.importMatchbox(), c.importCobbler(), c.importDnsmasq())
}

func (c *cli) importMatchbox() *cobra.Command {
	var into string
	p := pinner{}
	cmd := &cobra.Command{
		Use:   "matchbox DIR",
		Short: "Make manifests of matchbox's data directory: groups, profiles, templates, assets",
		Long: "Make manifests of matchbox's data directory: groups, profiles, templates, assets." + importLong + `

Kernels and initial RAM disks below /assets/ are pinned to what they are now. Others
need a sha256, which --fetch computes of what their URL has now; without it, it is
yours to fill in.`,
		Example: "  pilotlight import matchbox /var/lib/matchbox -o site/\n  pilotlight import matchbox /var/lib/matchbox --fetch",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := isDirectory(a[0]); err != nil {
				return err
			}
			if p.assets == "" {
				p.assets = filepath.Join(a[0], "assets")
			}
			objects, notes := matchbox.Read(os.DirFS(a[0]))
			pins, more := p.all(cmd.Context(), objects)
			r := matchbox.Convert(objects, pins)
			r.Notes = slices.Concat(notes, more, r.Notes)
			return c.imported(r, into)
		},
	}
	intoFlag(cmd, &into)
	cmd.Flags().BoolVar(&p.fetch, "fetch", false, "fetch remote kernels and initial RAM disks once, to compute their sha256")
	cmd.Flags().StringVar(&p.assets, "assets", "", "what matchbox serves below /assets/ (default: assets in DIR)")
	return cmd
}

func (c *cli) importCobbler() *cobra.Command {
	var into string
	cmd := &cobra.Command{
		Use:     "cobbler DIR",
		Short:   "Make manifests of Cobbler's collections (3.x): distros, profiles, systems",
		Long:    "Make manifests of Cobbler's collections (3.x): distros, profiles, systems." + importLong,
		Example: "  pilotlight import cobbler /var/lib/cobbler -o site/",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			if err := isDirectory(a[0]); err != nil {
				return err
			}
			return c.imported(cobbler.Convert(os.DirFS(a[0])), into)
		},
	}
	intoFlag(cmd, &into)
	return cmd
}

func (c *cli) importDnsmasq() *cobra.Command {
	var into string
	cmd := &cobra.Command{
		Use:     "dnsmasq FILE...",
		Short:   "Make manifests of dnsmasq's configuration: ranges, hosts, options, what is booted",
		Long:    "Make manifests of dnsmasq's configuration: ranges, hosts, options, what is booted." + importLong,
		Example: "  pilotlight import dnsmasq /etc/dnsmasq.conf -o site/",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			for _, name := range a {
				if _, err := os.Stat(name); err != nil {
					return fmt.Errorf("read dnsmasq's configuration: %w", err)
				}
			}
			return c.imported(dnsmasq.Convert(diskFiles{}, a...), into)
		},
	}
	intoFlag(cmd, &into)
	return cmd
}

func intoFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVarP(into, "out", "o", "", "write the manifests into this directory, one file a kind (default: print them)")
}

func isDirectory(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("read what is to be imported: %w", err)
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", path)
	}
	return nil
}

// diskFiles opens the files that dnsmasq's configuration names.
type diskFiles struct{}

// Open implements dnsmasq.Files.
func (diskFiles) Open(name string) ([]byte, error) { return os.ReadFile(name) }

// List implements dnsmasq.Files.
func (diskFiles) List(dir string) (out []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// imported prints or writes what an import came to, with what did not map, and what
// `apply` would refuse.
func (c *cli) imported(r moving.Result, into string) error {
	if err := c.writeDocuments(r.Documents, into); err != nil {
		return err
	}
	for _, n := range r.Notes {
		fmt.Fprintf(c.err, "%s: %s\n", n.Word(), n)
	}
	problems := cluster.Check(r.Documents)
	problems = append(problems, draftVerifier().verify(cluster.NewSnapshot(0, r.Documents), cluster.Refs(problems))...)
	for _, p := range problems {
		fmt.Fprintf(c.err, "to correct: %s\n", p)
	}
	fmt.Fprintf(c.err, "%s; %d not imported or different, %d to correct\n", plural(len(r.Documents), "document"), len(r.Notes), len(problems))
	if len(r.Notes)+len(problems) > 0 {
		return exitError(exitPartly)
	}
	return nil
}

// writeDocuments prints documents, or writes them into a directory, all or none.
func (c *cli) writeDocuments(docs []cluster.Document, into string) error {
	if into == "" {
		text, err := manifest.YAML(docs...)
		if err != nil {
			return err
		}
		_, err = c.out.Write(text)
		return err
	}
	if err := os.MkdirAll(into, 0o755); err != nil {
		return fmt.Errorf("write the manifests: %w", err)
	}
	files := map[string][]byte{}
	for _, kind := range cluster.Kinds {
		of := slices.DeleteFunc(slices.Clone(docs), func(d cluster.Document) bool { return d.Ref().Kind != kind })
		if len(of) == 0 {
			continue
		}
		name := filepath.Join(into, kind.Plural()+".yaml")
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already, and is not written over: give another directory with -o", name)
		}
		text, err := manifest.YAML(of...)
		if err != nil {
			return err
		}
		files[name] = text
	}
	for name, text := range files {
		if err := writeNew(name, text); err != nil {
			return err
		}
	}
	return nil
}

func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write the manifests: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the manifests: %w", err)
	}
	return nil
}

// all pins what the profiles boot.
func (p pinner) all(ctx context.Context, o matchbox.Objects) (matchbox.Pins, []moving.Note) {
	pins := matchbox.Pins{}
	var r moving.Result
	for _, profile := range o.Profiles {
		for _, raw := range matchbox.Wants(profile) {
			if _, done := pins[raw]; done {
				continue
			}
			f, err := p.pin(ctx, raw)
			if err != nil {
				r.Notef(profile.File, 0, "%v", err)
			}
			pins[raw] = f
		}
	}
	return pins, r.Notes
}
