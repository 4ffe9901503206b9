package main

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster/agent"
)

// notifySystemd says READY=1 to the service manager, and keeps its watchdog
// quiet for as long as the loop does not hang. Without a service manager it
// does nothing.
func notifySystemd(ctx context.Context, env []string, a *agent.Agent, log *slog.Logger) {
	var socket string
	var watchdog time.Duration
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "NOTIFY_SOCKET="); ok {
			socket = v
		}
		if v, ok := strings.CutPrefix(e, "WATCHDOG_USEC="); ok {
			if us, err := strconv.ParseInt(v, 10, 64); err == nil {
				watchdog = time.Duration(us) * time.Microsecond
			}
		}
	}
	if socket == "" {
		return
	}
	say := func(text string) {
		if err := notify(ctx, socket, text); err != nil {
			log.Warn("the service manager is not told", "err", err)
		}
	}
	say("READY=1")
	if watchdog > 0 {
		for agent.Sleep(ctx, watchdog/3) {
			if err := a.Alive(); err != nil {
				log.Error("the service manager is to restart the agent", "err", err)
				continue
			}
			say("WATCHDOG=1")
		}
	}
	<-ctx.Done()
	ctx = context.WithoutCancel(ctx)
	say("STOPPING=1")
}

func notify(ctx context.Context, socket, text string) error {
	if name, abstract := strings.CutPrefix(socket, "@"); abstract {
		socket = "\x00" + name
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unixgram", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(text))
	return err
}
