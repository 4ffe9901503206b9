package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// siteImage is one version of the site, as an image FROM scratch.
type siteImage struct {
	version string
	layout  string // the OCI image layout's directory
	digest  string // sha256:...
}

// siteUser is who the site runs as: nobody. It owns the secret's file.
const siteUser = "65534:65534"

// buildSite builds the site's binary and puts it alone into an image. The same
// source gives the same digest, so that a manifest can name it beforehand.
func buildSite(ctx context.Context, s settings, version string) (siteImage, error) {
	at := filepath.Join(s.dir, "site", version)
	binary := filepath.Join(at, "site")
	if err := os.RemoveAll(at); err != nil {
		return siteImage{}, err
	}
	if err := goBuild(ctx, s, binary, "./examples/lab/site", "-X main.version="+version); err != nil {
		return siteImage{}, err
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return siteImage{}, err
	}
	img, err := scratch(program)
	if err != nil {
		return siteImage{}, fmt.Errorf("make the image of site %s: %w", version, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return siteImage{}, err
	}
	image := siteImage{version: version, layout: filepath.Join(at, "oci"), digest: digest.String()}
	index, err := layout.Write(image.layout, empty.Index)
	if err != nil {
		return siteImage{}, err
	}
	return image, index.AppendImage(img)
}

// scratch returns an image that holds one program and nothing else.
func scratch(program []byte) (v1.Image, error) {
	files, err := archive("site", program)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, configOf(img))
}

func configOf(img v1.Image) *v1.ConfigFile {
	c, err := img.ConfigFile()
	if err != nil {
		c = &v1.ConfigFile{}
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", "amd64"
	c.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	c.Config = v1.Config{
		Entrypoint:   []string{"/site"},
		User:         siteUser,
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Healthcheck: &v1.HealthConfig{
			Test: []string{"CMD", "/site", "-health"}, Interval: 10 * time.Second, Timeout: 10 * time.Second, Retries: 3,
		},
	}
	return c
}

// archive is a tar of one executable file whose only variable is its content.
func archive(name string, content []byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	header := &tar.Header{Name: name, Mode: 0o555, Size: int64(len(content)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	return b.Bytes(), w.Close()
}
