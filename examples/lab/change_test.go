//go:build lab

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// killedContainer kills it as the kernel's out-of-memory killer would.
func (l *labTest) killedContainer(t *testing.T) {
	m := l.machines[0]
	before := l.on(t, m, `docker inspect --format '{{.State.Pid}}' `+l.container(t, m))
	l.on(t, m, `docker kill `+l.container(t, m))
	l.eventually(t, 2*time.Minute, func() error {
		_, err := l.page(l.ctx, m, "/healthz")
		return err
	})
	if after := l.on(t, m, `docker inspect --format '{{.State.Pid}}' `+l.container(t, m)); after == before {
		t.Errorf("process %s was not killed", before)
	}
	l.allReady(t)
}

// killedAgent looks whether the site answers all the time while its agent is
// dead and comes back.
func (l *labTest) killedAgent(t *testing.T) {
	m := l.machines[1]
	const process = `systemctl show -p MainPID --value pilotlight-agent.service`
	container, agent := l.container(t, m), l.on(t, m, process)
	l.on(t, m, `systemctl kill -s KILL pilotlight-agent.service`)
	if _, err := l.page(l.ctx, m, "/healthz"); err != nil {
		t.Errorf("the site does not answer while the agent is dead: %v", err)
	}
	l.eventually(t, 2*time.Minute, func() error {
		if now := l.on(t, m, process); now == agent || now == "0" {
			return fmt.Errorf("the agent was process %s and is %s", agent, now)
		}
		return nil
	})
	// Long enough for it to look at what runs, and to act on it.
	time.Sleep(15 * time.Second)
	if now := l.container(t, m); now != container {
		t.Errorf("the container %.12s was not adopted: %.12s runs", container, now)
	}
	l.allReady(t)
}

func (l *labTest) rollover(t *testing.T) {
	f, err := l.facts(l.sites[1])
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.work, "www-v2.yaml")
	if err := writeSite(l.settings, file, f); err != nil {
		t.Fatal(err)
	}
	if out, err := l.server.run(l.ctx, nil, "apply", "-f", file); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, m := range l.machines {
		l.eventually(t, 3*time.Minute, func() error {
			page, err := l.page(l.ctx, m, "/")
			if err == nil && !strings.Contains(page, `id="version">v2<`) {
				err = fmt.Errorf("%s still shows version 1", m.name)
			}
			return err
		})
	}
	l.allReady(t)
	for _, m := range l.machines {
		l.container(t, m) // one, not the old one beside the new one
	}
}

// removal removes the site and its secret, which would have nobody to read it.
func (l *labTest) removal(t *testing.T) {
	if out, err := l.server.run(l.ctx, nil, "delete", "-f", filepath.Join(l.manifests(), "www.yaml")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, m := range l.machines {
		l.eventually(t, 2*time.Minute, func() error {
			if ids := l.on(t, m, `docker ps -aq --filter name=pilotlight-www-web`); ids != "" {
				return fmt.Errorf("%s still has %s", m.name, ids)
			}
			return nil
		})
		if _, err := l.page(l.ctx, m, "/"); err == nil {
			t.Errorf("the site still answers on %s", m.name)
		}
		if left := l.on(t, m, `find /run/pilotlight -type f -name 'page-token*'`); left != "" {
			t.Errorf("%s still has the secret in %s", m.name, left)
		}
	}
	l.allReady(t)
}

func (l *labTest) allReady(t *testing.T) {
	t.Helper()
	for _, m := range l.machines {
		l.eventually(t, 2*time.Minute, func() error {
			h, err := l.server.host(l.ctx, m.name)
			if err == nil && h.State != "ready" {
				err = fmt.Errorf("%s is %s: %s", m.name, h.State, h.Message)
			}
			return err
		})
	}
}
