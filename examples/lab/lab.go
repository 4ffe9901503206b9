package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// lab is a running lab.
type lab struct {
	settings
	say       sayer
	program   string // pilotlight's
	logs      string // survives the lab, for whoever asks why
	work      string // does not
	network   *namespace
	key       sshKey
	node      string
	sites     []siteImage // v1, v2
	server    *server
	machines  []*machine
	loader    string
	secret    string
	web       *http.Client
	closers   []func() error
	forwarded map[string]string // "n1:8080" -> port of 127.0.0.1
}

func newLab(s settings) *lab {
	return &lab{
		settings: s, say: newSayer(s.out), logs: filepath.Join(s.dir, "log"), work: filepath.Join(s.dir, "run"),
		network: namespaceOf(s.dir), machines: machines(), loader: "ipxe", forwarded: map[string]string{},
	}
}

// start brings up one part after the other, and takes all down again when one
// fails.
func start(ctx context.Context, s settings) (_ *lab, err error) {
	l := newLab(s)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	for _, step := range []func(context.Context) error{
		l.own, l.buildAll, l.connectAll, l.serve, l.fillIn, l.turnOn,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *lab) onClose(f func() error) { l.closers = append(l.closers, f) }

// close takes down what start brought up, the last first. Each part is waited
// for.
func (l *lab) close() error {
	var err error
	for _, f := range slices.Backward(l.closers) {
		err = errors.Join(err, f())
	}
	l.closers = nil
	return err
}

// own makes the lab's directory this run's alone, and clears what a killed run
// may have left in it.
func (l *lab) own(ctx context.Context) error {
	held, err := lock(l.dir)
	if err != nil {
		return err
	}
	l.onClose(held.Close)
	if err := os.MkdirAll(l.logs, 0o755); err != nil {
		return err
	}
	if err := prepare(ctx, l.settings, l.say); err != nil {
		return err
	}
	if err := l.network.remove(); err != nil {
		return err
	}
	if err := os.RemoveAll(l.work); err != nil {
		return err
	}
	l.onClose(func() error { return os.RemoveAll(l.work) })
	return os.MkdirAll(l.work, 0o700)
}

// buildAll makes what is to be served.
func (l *lab) buildAll(ctx context.Context) (err error) {
	if l.node, err = nodeImage(ctx, l.settings, l.say); err != nil {
		return err
	}
	if err := l.buildPrograms(ctx); err != nil {
		return err
	}
	f, err := l.facts(l.sites[0])
	if err != nil {
		return err
	}
	return writeManifests(l.settings, "manifests", l.manifests(), f)
}

// buildPrograms makes what is the same whatever boots: the site, pilotlight, and the
// key that may log in.
func (l *lab) buildPrograms(ctx context.Context) (err error) {
	l.say("building the site, from scratch, and pilotlight")
	for _, v := range []string{"v1", "v2"} {
		img, err := buildSite(ctx, l.settings, v)
		if err != nil {
			return err
		}
		l.sites = append(l.sites, img)
	}
	if l.program, err = buildServer(ctx, l.settings); err != nil {
		return err
	}
	l.key, err = openSSHKey(l.dir)
	return err
}

func (l *lab) manifests() string { return filepath.Join(l.dir, "manifests") }

// facts is what the manifests say with one version of the site.
func (l *lab) facts(site siteImage) (facts, error) {
	sums, err := checksums(l.node)
	return facts{
		Node: filepath.Join("..", filepath.Base(l.node)), Sums: sums,
		Key: l.key.public, Digest: site.digest, User: siteUser, Loader: l.loader,
	}, err
}

// connectAll makes the network.
func (l *lab) connectAll(ctx context.Context) error {
	l.onClose(l.network.remove)
	var taps []string
	for _, m := range l.machines {
		taps = append(taps, m.tap)
	}
	if err := l.network.create(ctx, taps...); err != nil {
		return err
	}
	l.web = &http.Client{
		Transport: &http.Transport{DialContext: l.network.dial, DisableKeepAlives: true},
		Timeout:   10 * time.Second,
	}
	return nil
}

// serve starts pilotlight.
func (l *lab) serve(ctx context.Context) (err error) {
	l.say("starting: pilotlight serve %s", l.manifests())
	l.server, err = startServer(ctx, l.program, l.manifests(), filepath.Join(l.work, "data"), l.logs, l.network)
	if err != nil {
		return err
	}
	l.onClose(func() error { l.server.stop(); return nil })
	return nil
}

// fillIn gives the server what is in no manifest: the site's images and the
// secret's value.
func (l *lab) fillIn(ctx context.Context) error {
	for _, site := range l.sites {
		if _, err := l.server.run(ctx, nil, "site", "push", site.layout, "www:"+site.version); err != nil {
			return err
		}
	}
	l.secret = rand.Text()
	_, err := l.server.run(ctx, strings.NewReader(l.secret), "secret", "put", "page-token")
	return err
}

// fingerprint is how the site shows the secret.
func (l *lab) fingerprint() string {
	sum := sha256.Sum256([]byte(l.secret))
	return hex.EncodeToString(sum[:4])
}

// turnOn powers the machines on.
func (l *lab) turnOn(context.Context) error {
	for _, m := range l.machines {
		disk := "no disk"
		if m.disk != "" {
			disk = "a disk"
		}
		l.say("power on: %s (%s, %s)", m.name, m.firmware, disk)
		if err := m.turnOn(l.network, l.memory, l.logs, l.work); err != nil {
			return err
		}
		l.onClose(func() error { m.process.stop(time.Second); return nil })
		for _, port := range []string{"8080", "22"} {
			if err := l.forward(m, port); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lab) forward(m *machine, port string) error {
	near := map[string]string{"8080": "1808", "22": "1802"}[port] + m.name[1:]
	f, err := startForward(l.network, near, net.JoinHostPort(m.address, port))
	if err != nil {
		return err
	}
	l.forwarded[m.name+":"+port] = f.port()
	l.onClose(f.close)
	return nil
}

// page fetches a page of a machine's site.
func (l *lab) page(ctx context.Context, m *machine, path string) (string, error) {
	return l.pageAt(ctx, m.address, path)
}

func (l *lab) pageAt(ctx context.Context, address, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(address, "8080")+path, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := l.web.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s: %.200s", req.URL, resp.Status, body)
	}
	return string(body), nil
}
