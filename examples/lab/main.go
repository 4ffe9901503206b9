// Command lab boots two machines over the network, one by BIOS and one by UEFI,
// with pilotlight alone and everything real: QEMU's firmware, a node image of
// Debian's packages, Ignition, Docker, a site built from scratch, its secret.
//
//	make lab        boots both, says where the site is, and waits for Ctrl-C
//	make lab-test   does the same, asserts all of it, and cleans up
//	make lab-clean  removes what the two have cached under build/lab
//	make lab-prepare  makes the images and programs, for the Vagrantfile
//
// The machines are emulated and live in a network namespace of the lab's own,
// with no way out; this program forwards a few ports of 127.0.0.1 into it. It
// needs root, and Debian or a relative of it, whose packages it installs as far
// as they are missing. Whatever it starts or makes it ends and removes, also
// when it is interrupted; what a killed run left is found by the next.
//
// In this directory: node/ is how the node image is made, site/ the site,
// manifests/ what the server is told.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root, err := projectRoot()
	if err != nil {
		fmt.Fprintln(stderr, "lab:", err)
		return 1
	}
	flags := flag.NewFlagSet("lab", flag.ContinueOnError)
	flags.SetOutput(stderr)
	s := settings{root: root, out: stdout}
	flags.StringVar(&s.dir, "dir", filepath.Join(root, "build", "lab"), "where images, logs and data are")
	flags.IntVar(&s.memory, "memory", defaultMemory, "MiB of memory of each machine")
	prepareOnly := flags.Bool("prepare", false, "make the images, the manifests and the programs, and exit")
	clean := flags.Bool("clean", false, "remove everything that the lab has made or left, and exit")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	switch {
	case *clean:
		err = removeAll(s)
	case *prepareOnly:
		err = prepareImages(ctx, s)
	default:
		err = show(ctx, s)
	}
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "lab: interrupted; everything is cleaned up")
		return 1
	case err != nil:
		fmt.Fprintln(stderr, "lab:", err)
		return 1
	}
	return 0
}

// show boots the lab, tells what there is to see, and waits for the end of ctx.
func show(ctx context.Context, s settings) (err error) {
	l, err := start(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	ready, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	if err := l.waitReady(ready); err != nil {
		return err
	}
	if err := l.describe(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		l.say("stopping")
		return nil
	case <-l.server.process.done:
		return l.server.process.ended()
	}
}

// prepareImages makes all that a server needs, and boots nothing.
func prepareImages(ctx context.Context, s settings) (err error) {
	l := newLab(s)
	defer func() { err = errors.Join(err, l.close()) }()
	for _, step := range []func(context.Context) error{l.own, l.buildAll} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	l.say("made: %s, manifests, site and bin in %s", filepath.Base(l.node), l.dir)
	return nil
}

// bootTimeout is for both machines together on a slow and busy computer; two
// minutes are usual.
const bootTimeout = 15 * time.Minute

// projectRoot is the directory of go.mod, at or above the current one.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the project: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no go.mod at or above %s: run this inside the project, best by: make lab", dir)
		}
	}
}
