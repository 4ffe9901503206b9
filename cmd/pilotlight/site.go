package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/cluster"
)

func newSite(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "site", Short: "See how sites fare, and push their images"}
	return group(cmd, newSiteStatus(c), newSitePush(c))
}

func newSiteStatus(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status [SITE]",
		Short:   "Show every service of every site, on each of its hosts",
		Example: "  pilotlight site status www",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			all, err := client.Services(cmd.Context())
			if err != nil {
				return err
			}
			services := all[:0]
			for _, s := range all {
				if len(a) == 0 || string(s.Site) == a[0] {
					services = append(services, s)
				}
			}
			if len(a) > 0 && len(services) == 0 {
				if err := c.mustBe(cmd.Context(), client, cluster.KindSite, a[0]); err != nil {
					return err
				}
			}
			return c.print(services, func() table {
				t := table{
					header: []string{"SITE", "SERVICE", "HOST", "HEALTH", "CURRENT", "SINCE", "IMAGE", "MESSAGE"},
					empty:  "nothing runs yet: `pilotlight host list` shows which hosts have joined, `pilotlight get site` which sites there are",
				}
				for _, s := range services {
					current := map[bool]string{true: "yes", false: "no"}[s.Current]
					t.rows = append(t.rows, []string{
						string(s.Site), string(s.Service), string(s.Host), string(s.Health), current, ago(s.Since), shortImage(s.Image), s.Message,
					})
				}
				return t
			})
		},
	}
	c.outputFlag(cmd)
	return cmd
}

// shortImage keeps as much of a digest as tells two apart.
func shortImage(image string) string {
	base, digest, found := strings.Cut(image, "@sha256:")
	if !found {
		return dash(image)
	}
	return base + "@" + digest[:min(12, len(digest))]
}

func newSitePush(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "push ARCHIVE|LAYOUT NAME[:TAG]",
		Short: "Push an image into the server's registry, and print its name for a manifest",
		Long: `Push an image into the server's registry, and print its name for a manifest, with
its digest. ARCHIVE is what "docker save" or "podman save" writes; LAYOUT is an
OCI image layout, such as "skopeo copy ... oci:DIR" or "buildah push ... oci:DIR"
makes.`,
		Example: "  docker save www:7 > www.tar && pilotlight site push www.tar www:7",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return c.push(cmd.Context(), a[0], a[1])
		},
	}
}

func (c *cli) push(ctx context.Context, path, as string) error {
	img, err := loadImage(path)
	if err != nil {
		return err
	}
	server, config, err := c.connection()
	if err != nil {
		return err
	}
	host := strings.TrimPrefix(server, "https://")
	ref, err := name.ParseReference(host + "/" + strings.TrimPrefix(as, host+"/"))
	if err != nil {
		return usageError{fmt.Errorf("%q is not a name for an image; write it like www:7: %w", as, err)}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig, transport.Proxy = config, nil
	if err := remote.Write(ref, img, remote.WithContext(ctx), remote.WithTransport(transport)); err != nil {
		return fmt.Errorf("push %s to %s: %w", path, ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("read the digest of %s: %w", path, err)
	}
	fmt.Fprintf(c.out, "%s@%s\n", ref.Context().Name(), digest)
	return nil
}

// loadImage reads an archive of docker save, or an OCI layout with one image.
func loadImage(path string) (v1.Image, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	if !info.IsDir() {
		img, err := tarball.ImageFromPath(path, nil)
		if err != nil {
			return nil, fmt.Errorf("%s is not an archive with one image, as docker save writes it: %w", path, err)
		}
		return img, nil
	}
	index, err := layout.ImageIndexFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("%s is not an OCI image layout: %w", path, err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(list.Manifests) != 1 {
		return nil, fmt.Errorf("%s holds %d images; make a layout with one", path, len(list.Manifests))
	}
	img, err := index.Image(list.Manifests[0].Digest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, nil
}
