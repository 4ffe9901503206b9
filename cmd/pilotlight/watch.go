package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

func newBootWatch(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch [HOST]",
		Short: "Show boots as they go on, until Ctrl-C, and where one hangs",
		Long: `Show boots as they go on, until Ctrl-C: each step when it is seen, with the time
since the first step of that boot. Where nothing follows a step for longer than
that takes, the likely reason is said.`,
		Example: "  pilotlight boot watch\n  pilotlight boot watch web1 -o json",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			host := ""
			if len(a) > 0 {
				host = a[0]
			}
			w := newBootWatcher(c.out, c.output == "json")
			if c.output != "table" && c.output != "json" {
				return usageError{fmt.Errorf("-o %s is neither table nor json", c.output)}
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			var ticking sync.WaitGroup
			ticking.Go(func() { w.tick(ctx) })
			err = client.WatchBoots(ctx, host, w.see)
			cancel()
			ticking.Wait()
			if errors.Is(err, context.Canceled) {
				return nil // Ctrl-C is how it ends
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&c.output, "output", "o", "table", "table, or json: an object a line for each step")
	return cmd
}

// bootWatcher prints what is new of boots that it is shown again and again.
type bootWatcher struct {
	out  io.Writer
	json bool

	mu    sync.Mutex
	boots map[cluster.MAC]*watchedBoot
}

type watchedBoot struct {
	boot  cluster.Boot
	shown int  // events
	stuck bool // it was said that it hangs, since the last event
}

func newBootWatcher(out io.Writer, asJSON bool) *bootWatcher {
	return &bootWatcher{out: out, json: asJSON, boots: map[cluster.MAC]*watchedBoot{}}
}

// see prints the events of a boot that are new.
func (w *bootWatcher) see(b cluster.Boot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.boots[b.MAC]
	switch {
	case now == nil || now.boot.ID < b.ID:
		now = &watchedBoot{}
		w.boots[b.MAC] = now
	case now.boot.ID > b.ID:
		return // an older one, of which a server has saved the rest
	}
	now.boot = b
	for ; now.shown < len(b.Events); now.shown++ {
		now.stuck = false
		w.event(b, b.Events[now.shown])
	}
}

// watchedEvent is a line of JSON.
type watchedEvent struct {
	Host cluster.HostName `json:"host,omitempty"`
	MAC  cluster.MAC      `json:"mac"`
	Boot string           `json:"boot"`
	cluster.Event
	Stuck string `json:"stuck,omitempty"` // nothing followed the step; why, most likely
}

func (w *bootWatcher) event(b cluster.Boot, e cluster.Event) {
	if w.json {
		w.line(watchedEvent{Host: b.Host, MAC: b.MAC, Boot: b.ID, Event: e})
		return
	}
	fmt.Fprintf(w.out, "%s  %-16s %8.2fs  %-9s %s\n", e.At.Local().Format(time.TimeOnly), whose(b), e.At.Sub(b.Events[0].At).Seconds(), e.Step, e.Detail)
}

// tick looks for boots that hang, until ctx ends.
func (w *bootWatcher) tick(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			w.hanging(now)
		}
	}
}

func (w *bootWatcher) hanging(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.boots {
		why, stuck := boot.Stuck(b.boot, now)
		if !stuck || b.stuck {
			continue
		}
		b.stuck = true
		last := b.boot.Events[len(b.boot.Events)-1]
		if w.json {
			w.line(watchedEvent{Host: b.boot.Host, MAC: b.boot.MAC, Boot: b.boot.ID, Event: last, Stuck: why})
			continue
		}
		fmt.Fprintf(w.out, "%s  %-16s nothing for %s after %s: %s\n", now.Local().Format(time.TimeOnly), whose(b.boot),
			now.Sub(last.At).Round(time.Second), last.Step, why)
	}
}

func (w *bootWatcher) line(e watchedEvent) { _ = json.NewEncoder(w.out).Encode(e) } // of words that can all be encoded

func whose(b cluster.Boot) string {
	if b.Host == "" {
		return b.MAC.Hyphens()
	}
	return string(b.Host)
}
