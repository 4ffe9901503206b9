package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/manifest"
)

func newImage(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Find, fetch and verify releases of operating systems",
	}
	return group(cmd, newImageResolve(c), newImageFetch(c), newImageVerify(c), newImageList(c), newImageCollect(c))
}

// resolveOptions is what `image resolve` is told.
type resolveOptions struct {
	files           []string
	write, keys     string
	mirror, release string
	noDisk          bool
}

func newImageResolve(c *cli) *cobra.Command {
	o := resolveOptions{}
	cmd := &cobra.Command{
		Use:   "resolve NAME... | -f FILE",
		Short: "Find the newest release of images with a stream:, verify it, and print them pinned",
		Long: `Find the newest release of images with a stream:, verify it, and print them pinned.

The server that is asked fetches the release's files, verifies their signatures by
the publisher's key and their sha256, and keeps them for a day. What is printed is
the same document with the files' URLs and sha256s in it: look at the diff, and
apply it. Nothing that machines get changes by itself.

NAME is an image that is applied; it goes to the newest release of its stream, or to
that of --release, which is the way back, too. Images of FILE go to the release:
that they say, or to the newest.`,
		Example: `  pilotlight image resolve -f fcos.yaml -w fcos-pinned.yaml && pilotlight apply -f fcos-pinned.yaml
  pilotlight image resolve fcos | pilotlight apply -f -
  pilotlight image resolve fcos --release 44.20260802.3.1 | pilotlight apply -f -`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, a []string) error { return c.resolveImages(cmd.Context(), a, o) },
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "file", "f", nil, "resolve the images with a stream: of the manifests at a `PATH`, which may be repeated; - is standard input")
	f.StringVarP(&o.write, "write", "w", "", "write what is pinned into this file, not to standard output")
	f.StringVar(&o.mirror, "mirror", "", "URL at which the releases are, in place of the publisher's server; it is written into mirror:")
	f.StringVar(&o.release, "release", "", "this release, not the newest")
	f.StringVar(&o.keys, "keys", "", "a file of public keys (gpg --export --armor) that are believed in place of those that are built in")
	f.BoolVar(&o.noDisk, "no-disk", false, "leave out Flatcar's image of a disk, for machines that are never installed")
	return cmd
}

func (c *cli) resolveImages(ctx context.Context, names []string, o resolveOptions) error {
	if (len(names) == 0) == (len(o.files) == 0) {
		return usageError{errors.New("say which images: pilotlight image resolve NAME, or -f FILE")}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	applied, err := client.Documents(ctx, cluster.KindImage, "")
	if err != nil {
		return err
	}
	images, err := c.imagesToResolve(applied, names, o)
	if err != nil {
		return err
	}
	var keys []byte
	if o.keys != "" {
		if keys, err = os.ReadFile(o.keys); err != nil {
			return fmt.Errorf("read the keys: %w: give what gpg --export --armor KEY prints", err)
		}
	}
	show := newProgress(c.err)
	var pinned []cluster.Document
	for _, i := range images {
		out, err := client.ResolveImage(ctx, i, keys, o.noDisk, show.tell)
		show.end()
		if err != nil {
			return err
		}
		if err := c.tellPinned(applied, out); err != nil {
			return err
		}
		pinned = append(pinned, out)
	}
	return c.writePinned(pinned, o.write)
}

// writePinned prints documents, or writes them into a file.
func (c *cli) writePinned(pinned []cluster.Document, file string) error {
	text, err := manifest.YAML(pinned...)
	if err != nil {
		return err
	}
	if file == "" {
		_, err = c.out.Write(text)
		return err
	}
	if err := join.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "wrote %s; look at it, and type: pilotlight apply -f %s\n", file, file)
	return nil
}

// imagesToResolve are those with a stream, as they are to be looked for.
func (c *cli) imagesToResolve(applied []cluster.Document, names []string, o resolveOptions) (out []*cluster.Image, err error) {
	docs := applied
	if len(o.files) > 0 {
		set, err := c.load(o.files)
		if err != nil {
			return nil, err
		}
		docs = set.Documents
	}
	found := map[string]bool{}
	for _, d := range docs {
		i, ok := d.(*cluster.Image)
		if !ok || len(names) > 0 && !slices.Contains(names, i.Name) || len(names) == 0 && i.Stream == "" {
			continue
		}
		if i.Stream == "" {
			return nil, fmt.Errorf("image %s has no stream: its files are those that it names; write stream: fedora-coreos/stable or flatcar/stable in it", i.Name)
		}
		found[i.Name] = true
		want := *i
		if len(names) > 0 || o.release != "" {
			want.Release = o.release
		}
		if o.mirror != "" {
			want.Mirror = o.mirror
		}
		out = append(out, &want)
	}
	for _, n := range names {
		if !found[n] {
			return nil, fmt.Errorf("there is no image %q; `pilotlight image list` shows the images that are applied, and -f FILE takes those of a file", n)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("none of these documents is an image with a stream: write kind: image and stream: fedora-coreos/stable or flatcar/stable")
	}
	return out, nil
}

// tellPinned says beside the document what it changes.
func (c *cli) tellPinned(applied []cluster.Document, out *cluster.Image) error {
	after, err := cluster.MarshalDocument(out)
	if err != nil {
		return err
	}
	ch := api.Change{Ref: out.Ref(), Action: api.Create, After: after}
	for _, d := range applied {
		if d.Ref() != out.Ref() {
			continue
		}
		if ch.Before, err = cluster.MarshalDocument(d); err != nil {
			return err
		}
		ch.Action = api.Update
	}
	if bytes.Equal(ch.Before, ch.After) {
		fmt.Fprintf(c.err, "image %s is at release %s already, the one that is wanted\n", out.Name, out.Release)
		return nil
	}
	text, err := changeText(ch)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.err, "image %s: release %s of %s, signed by %s; applied, it would be this:\n%s", out.Name, out.Release, out.Stream, out.SignedBy, text)
	return nil
}

func newImageFetch(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "fetch [NAME...]",
		Short: "Bring the files of applied images to the server, and wait for them",
		Long: `Bring the files of applied images to the server, and wait for them. The server does
so by itself when an image is applied; this shows how far it is, and what is in the
way. Files come from the other servers where they have them, else from their URLs; a
download that was interrupted goes on where it ended.`,
		Example: "  pilotlight image fetch\n  pilotlight image fetch fcos",
		Args:    args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, a []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			show := newProgress(c.err)
			files, err := client.FetchImages(cmd.Context(), a, show.tell)
			show.end()
			if err != nil {
				return err
			}
			var size int64
			for _, f := range files {
				size += f.Size
			}
			fmt.Fprintf(c.out, "%s there, %s\n", plural(len(files), "file"), bytesWord(size))
			return nil
		},
	}
}

func newImageVerify(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Hash every image file of the server again; what is damaged is fetched anew",
		Long: `Hash every image file of the server again. One that is not what it should be is moved
aside, served to nobody, and fetched anew. A file that looks changed is hashed before
it is served anyway; this finds what a disk has lost without looking different.`,
		Example: "  pilotlight image verify",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			show := newProgress(c.err)
			found, err := client.VerifyImages(cmd.Context(), show.tell)
			show.end()
			if err != nil {
				return err
			}
			for _, d := range found.Damaged {
				fmt.Fprintln(c.out, d)
			}
			fmt.Fprintf(c.out, "%s as they should be, %s\n", plural(found.Files, "file"), bytesWord(found.Bytes))
			if n := len(found.Damaged); n > 0 {
				return fmt.Errorf("%s damaged: moved aside, and fetched anew (pilotlight image list says how far that is); look at the server's disk: dmesg, smartctl -a", plural(n, "file"))
			}
			return nil
		},
	}
}

func newImageList(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the files of applied images, and which are not there",
		Example: "  pilotlight image list\n  pilotlight image list -o json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			files, err := client.Images(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(files, func() table {
				t := table{header: []string{"IMAGE", "RELEASE", "FILE", "SIZE", "SHA256", "STATE"}, empty: "there is no image yet: pilotlight image resolve -f FILE, then pilotlight apply"}
				for _, f := range files {
					state := "there"
					if f.Lack != "" {
						state = f.Lack
					}
					t.rows = append(t.rows, []string{string(f.Image), dash(f.Release), f.File, bytesWord(f.Size), dash(f.SHA256[:min(12, len(f.SHA256))]), state})
				}
				return t
			})
		},
	}
	c.outputFlag(cmd)
	return cmd
}

func newImageCollect(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "collect",
		Short: "Remove files of the server that no image has and no boot uses",
		Long: `Remove files of the server that no image has and no boot uses. The server does so
by itself when images change, once all of their files are there. Kept are the files
with which a machine's boot began in the last two hours, and those of what was
resolved in the last day and is not applied.`,
		Example: "  pilotlight image collect",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			gone, err := client.CollectImages(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "removed %s, %s\n", plural(gone.Files, "file"), bytesWord(gone.Bytes))
			return nil
		},
	}
}

// bytesWord is a size for people.
func bytesWord(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// progress shows on a terminal how much of each file there is.
type progress struct {
	w     io.Writer // nil shows nothing
	width int
	files []string
	of    map[string][2]int64
	shown bool
}

// newProgress shows on w when that is a terminal: a log is better without.
func newProgress(w io.Writer) *progress {
	p := &progress{of: map[string][2]int64{}}
	if width := terminalWidth(w); width > 0 {
		p.w, p.width = w, width
	}
	return p
}

// tell is api.ImageProgress.
func (p *progress) tell(file string, done, total int64) {
	if p.w == nil {
		return
	}
	if _, ok := p.of[file]; !ok {
		p.files = append(p.files, file)
	}
	p.of[file] = [2]int64{done, total}
	line := p.line()
	fmt.Fprintf(p.w, "\r\x1b[K%s", line[:min(len(line), p.width-1)])
	p.shown = true
}

// line is about the file that was heard of first and is not there, and all of them.
func (p *progress) line() string {
	var done, total int64
	name := ""
	for _, f := range p.files {
		d := p.of[f]
		done, total = done+d[0], total+max(d[0], d[1])
		if name == "" && d[0] != d[1] {
			name = f
		}
	}
	percent := int64(100)
	if total > 0 {
		percent = done * 100 / total
	}
	return fmt.Sprintf("%3d%%  %s of %s  %s", percent, bytesWord(done), bytesWord(total), name)
}

// end leaves the line.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
	p.files, p.of = nil, map[string][2]int64{}
}
