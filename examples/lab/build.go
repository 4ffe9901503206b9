package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// nodeImage makes the node image, or returns the one that is there.
func nodeImage(ctx context.Context, s settings, say sayer) (string, error) {
	node := filepath.Join(s.root, "examples", "lab", "node")
	script := filepath.Join(node, "build.sh")
	log := filepath.Join(s.dir, "log", "node-image.log")
	env := []string{"LAB_APT_SOURCE=" + os.Getenv("LAB_APT_SOURCE"), "LAB_ZSTD_LEVEL=" + os.Getenv("LAB_ZSTD_LEVEL")}
	installed, err := artifact{
		name: "packages", inputs: []string{filepath.Join(node, "packages")}, also: env[:1],
		make: func(dir string) error {
			say("node image: a first run takes three minutes, later ones have it")
			return progress(ctx, say, log, env[:1], script, "packages", dir)
		},
	}.get(s.dir)
	if err != nil {
		return "", err
	}
	return artifact{
		name: "node", inputs: []string{node}, also: append(env, filepath.Base(installed)),
		make: func(dir string) error { return progress(ctx, say, log, env, script, "image", installed, dir) },
	}.get(s.dir)
}

// checksums reads what build.sh wrote with sha256sum.
func checksums(dir string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "sha256sums"))
	if err != nil {
		return nil, fmt.Errorf("the node image has no checksums: %w; try: make lab-clean", err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if sum, name, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			sums[name] = sum
		}
	}
	return sums, nil
}

// goBuild builds one of the project's commands as one static file that is the
// same each time. Go's own cache makes it quick.
func goBuild(ctx context.Context, s settings, out, pkg, ldflags string) error {
	_, err := output(ctx, nil, nil, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64"},
		"go", "build", "-C", s.root, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w "+ldflags, "-o", out, pkg)
	return err
}
