package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
)

// The labels of what pilotlight makes.
const (
	LabelHost    = "io.pilotlight.host"
	LabelSite    = "io.pilotlight.site"
	LabelService = "io.pilotlight.service"
	LabelHash    = "io.pilotlight.hash"
	LabelImage   = "io.pilotlight.image"
	labelPrefix  = "io.pilotlight."
)

// Engine is a Docker Engine as one host's agent sees it.
type Engine struct {
	host cluster.HostName
	api  *client.Client
	auth Auth

	making sync.Mutex // a network: Docker makes two of one name
}

var _ agent.Runtime = (*Engine)(nil)

// New returns the engine at address, such as unix:///run/docker.sock; nothing
// takes Docker's default. Nothing is asked of it yet. Only what was made for
// host is seen.
func New(host cluster.HostName, address string, auth Auth) (*Engine, error) {
	options := []client.Opt{client.WithAPIVersionNegotiation()}
	if address != "" {
		options = append(options, client.WithHost(address))
	}
	api, err := client.NewClientWithOpts(options...)
	if err != nil {
		return nil, fmt.Errorf("container engine %q: %w; set --docker unix:///run/docker.sock", address, err)
	}
	return &Engine{host: host, api: api, auth: auth}, nil
}

// Close closes the connections to the engine.
func (e *Engine) Close() error { return e.api.Close() }

// Version implements agent.Engine.
func (e *Engine) Version(ctx context.Context) (string, error) {
	v, err := e.api.ServerVersion(ctx)
	if err != nil {
		return "", fmt.Errorf("ask for the engine's version: %w", err)
	}
	return v.Version, nil
}

func (e *Engine) ours() filters.Args {
	return filters.NewArgs(filters.Arg("label", LabelHost+"="+string(e.host)))
}

// List implements agent.Containers.
func (e *Engine) List(ctx context.Context) ([]agent.Found, error) {
	list, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: e.ours()})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	out := make([]agent.Found, 0, len(list))
	for _, c := range list {
		full, err := e.api.ContainerInspect(ctx, c.ID)
		if errdefs.IsNotFound(err) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("inspect container %.12s: %w", c.ID, err)
		}
		if f, ok := found(full); ok {
			out = append(out, f)
		}
	}
	return out, nil
}

// Remove implements agent.Containers.
func (e *Engine) Remove(ctx context.Context, id string) error {
	err := e.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // conflict: is being removed
		return fmt.Errorf("remove container %.12s: %w", id, err)
	}
	return nil
}

// Start implements agent.Processes.
func (e *Engine) Start(ctx context.Context, id string) error {
	if err := e.api.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return fmt.Errorf("start container %.12s: %w", id, err)
	}
	return nil
}

// Stop implements agent.Processes.
func (e *Engine) Stop(ctx context.Context, id string) error {
	err := e.api.ContainerStop(ctx, id, container.StopOptions{}) // its own signal and grace
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("stop container %.12s: %w", id, err)
	}
	return nil
}

// maxLog is the most of a log that is read: a line may be of any length.
const maxLog = 64 << 10

// Logs implements agent.Processes.
func (e *Engine) Logs(ctx context.Context, id string, lines int) ([]byte, error) {
	r, err := e.api.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: fmt.Sprint(lines)})
	if err != nil {
		return nil, fmt.Errorf("read the log of container %.12s: %w", id, err)
	}
	defer r.Close()
	var out bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &out, io.LimitReader(r, maxLog))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read the log of container %.12s: %w", id, err)
	}
	return out.Bytes(), nil
}

// What may happen to a container that the agent has to know. Not among it are
// the exec events, of which each run of a health check makes three.
var watched = []events.Action{
	events.ActionCreate, events.ActionStart, events.ActionDie, events.ActionStop, events.ActionKill,
	events.ActionDestroy, events.ActionOOM, events.ActionPause, events.ActionUnPause, events.ActionHealthStatus,
}

// quiet is how long events are gathered before the agent is told: one stop
// makes four of them.
const quiet = 50 * time.Millisecond

// Watch implements agent.Engine.
func (e *Engine) Watch(ctx context.Context, changed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args := e.ours()
	args.Add("type", string(events.ContainerEventType))
	for _, a := range watched {
		args.Add("event", string(a))
	}
	messages, failed := e.api.Events(ctx, events.ListOptions{Filters: args})
	changed() // what happened before the first event
	timer := time.NewTimer(quiet)
	timer.Stop()
	defer timer.Stop()
	for waiting := false; ; {
		select {
		case err := <-failed:
			return fmt.Errorf("events: %w", err)
		case <-timer.C:
			waiting = false
			changed()
		case <-messages:
			if !waiting {
				waiting = true
				timer.Reset(quiet)
			}
		}
	}
}
