package docker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"

	"github.com/pilotlight/pilotlight/cluster/agent"
)

// Auth returns the user and the password for a registry, if it needs any.
type Auth func(registry string) (user, password string, ok bool)

// AuthFile reads the auths of a file like ~/.docker/config.json whenever a
// registry is asked. A file that is not there holds none.
func AuthFile(path string) Auth {
	return func(registry string) (string, string, bool) {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", "", false
		}
		var file struct {
			Auths map[string]struct {
				Auth string `json:"auth"`
			} `json:"auths"`
		}
		if json.Unmarshal(b, &file) != nil {
			return "", "", false
		}
		if registry == "docker.io" {
			registry = "https://index.docker.io/v1/"
		}
		plain, err := base64.StdEncoding.DecodeString(file.Auths[registry].Auth)
		if err != nil {
			return "", "", false
		}
		return strings.Cut(string(plain), ":")
	}
}

// pinned returns name@digest: a tag beside a digest means nothing, and older
// engines do not find an image again by both.
func pinned(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("image %q: %w; write REGISTRY/NAME@sha256:DIGEST", image, err)
	}
	digested, ok := named.(reference.Digested)
	if !ok {
		return "", fmt.Errorf("image %q has no digest; write %s@sha256:DIGEST", image, image)
	}
	canonical, err := reference.WithDigest(reference.TrimNamed(named), digested.Digest())
	if err != nil {
		return "", fmt.Errorf("image %q: %w", image, err)
	}
	return canonical.String(), nil
}

// Image implements agent.Images.
func (e *Engine) Image(ctx context.Context, ref string) (*agent.Image, error) {
	ref, err := pinned(ref)
	if err != nil {
		return nil, nil // Pull says what is wrong with it
	}
	found, err := e.api.ImageInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("inspect image %s: %w", ref, err)
	}
	out := &agent.Image{}
	if found.Config != nil {
		out.User = found.Config.User
	}
	return out, nil
}

// Pull implements agent.Images. The engine verifies the digest.
func (e *Engine) Pull(ctx context.Context, ref string) error {
	ref, err := pinned(ref)
	if err != nil {
		return err
	}
	var options image.PullOptions
	if e.auth != nil {
		named, err := reference.ParseNormalizedNamed(ref)
		if err != nil {
			return fmt.Errorf("image %q: %w", ref, err)
		}
		if user, password, ok := e.auth(reference.Domain(named)); ok {
			if options.RegistryAuth, err = registry.EncodeAuthConfig(registry.AuthConfig{Username: user, Password: password, ServerAddress: reference.Domain(named)}); err != nil {
				return fmt.Errorf("registry of %s: encode the password: %w", ref, err)
			}
		}
	}
	progress, err := e.api.ImagePull(ctx, ref, options)
	if err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	defer progress.Close()
	if err := followPull(progress); err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	return nil
}

// followPull reads progress to its end, where the engine says whether it
// failed.
func followPull(r io.Reader) error {
	for d := json.NewDecoder(r); ; {
		var line struct {
			Error string `json:"error"`
		}
		switch err := d.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}

// RemoveImage implements agent.Images.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	ref, err := pinned(ref)
	if err != nil {
		return err
	}
	_, err = e.api.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	return nil
}
