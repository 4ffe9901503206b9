package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// waitReady returns when the site answers on every machine and the server says
// that all are ready.
func (l *lab) waitReady(ctx context.Context) error {
	done := make(chan error, len(l.machines))
	for _, m := range l.machines {
		go func() { done <- l.waitFor(ctx, m) }()
	}
	var err error
	for range l.machines {
		err = errors.Join(err, <-done)
	}
	return err
}

func (l *lab) waitFor(ctx context.Context, m *machine) error {
	told := 0
	err := m.await(ctx, "its site did not answer", func(ctx context.Context) error {
		for _, k := range m.timeline()[told:] {
			l.say("%s: %s", m.name, k.what)
			told++
		}
		select {
		case <-l.server.process.done:
			return l.server.process.ended()
		default:
		}
		_, err := l.page(ctx, m, "/healthz")
		return err
	})
	if err != nil {
		return l.withStatus(ctx, m, err)
	}
	l.say("%s: its site answers", m.name)
	return m.await(ctx, "it was not ready", func(ctx context.Context) error {
		h, err := l.server.host(ctx, m.name)
		if err != nil {
			return err
		}
		if h.State != "ready" || h.LastStep != "ready" {
			return fmt.Errorf("the server says %s (last step %s): %s", h.State, h.LastStep, h.Message)
		}
		return nil
	})
}

// withStatus adds what the server knows of a machine that did not come up.
func (l *lab) withStatus(ctx context.Context, m *machine, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	h, e := l.server.host(ctx, m.name)
	if e != nil {
		return err
	}
	return fmt.Errorf("%w\nthe server says: %s, last step %q at %s; %s\nits output: %s",
		err, h.State, h.LastStep, h.LastAt.Format(time.TimeOnly), h.Message, l.server.process.log)
}

// timeline is a machine's boot as both sides saw it, since power-on.
func (l *lab) timeline(ctx context.Context, m *machine) (string, error) {
	b, err := l.server.lastBoot(ctx, m.name)
	if err != nil {
		return "", err
	}
	type row struct {
		at        time.Duration
		who, what string
	}
	var rows []row
	for _, e := range b.Events {
		what, _, _ := strings.Cut(e.Detail, "\n")
		rows = append(rows, row{e.At.Sub(m.powerOn), "server", strings.TrimSpace(fmt.Sprintf("%-7s %s", e.Step, what))})
	}
	for _, k := range m.timeline() {
		rows = append(rows, row{k.after, "console", k.what})
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.at, b.at) })
	var out strings.Builder
	fmt.Fprintf(&out, "%s (%s), since power-on:\n", m.name, m.firmware)
	for _, r := range rows {
		fmt.Fprintf(&out, "  %7.2fs  %-8s %.110s\n", r.at.Seconds(), r.who, r.what)
	}
	return out.String(), nil
}

// describe prints what there is to see.
func (l *lab) describe(ctx context.Context) error {
	for _, m := range l.machines {
		text, err := l.timeline(ctx, m)
		if err != nil {
			return err
		}
		fmt.Fprintf(l.out, "\n%s", text)
	}
	fmt.Fprintln(l.out)
	for _, m := range l.machines {
		fmt.Fprintf(l.out, "%s   http://127.0.0.1:%s/   ssh -i %s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p %s %s@127.0.0.1\n",
			m.name, l.forwarded[m.name+":8080"], l.key.file, l.forwarded[m.name+":22"], sshUser)
	}
	fmt.Fprintf(l.out, `
The operator's command line, as root in another terminal:

  alias pl='ip netns exec %s env PILOTLIGHT_DATA=%s %s'
  pl host list;  pl site status;  pl explain n1;  pl boot list n2;  pl audit

Inside the lab's network:  ip netns exec %s curl http://%s:8080/
Logs and consoles:         %s
Everything runs until Ctrl-C.
`, l.network.name, l.server.data, l.server.program, l.network.name, l.machines[0].address, l.logs)
	return nil
}

// parseResident reads VmRSS of /proc/PID/status.
func parseResident(status string) (int, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
		}
	}
	return 0, errors.New("no VmRSS in its status")
}
