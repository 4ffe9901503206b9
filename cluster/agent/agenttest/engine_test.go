package agenttest

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/pilotlight/pilotlight/cluster/agent"
)

// byCommand gives the image of the suite what its commands ask for.
type byCommand struct{ *Engine }

func (e byCommand) Create(ctx context.Context, s agent.Spec) (string, error) {
	id, err := e.Engine.Create(ctx, s)
	if err == nil && len(s.Service.Command) > 0 && s.Service.Command[0] == "fail" {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.boxes[id].program = Program{Exits: true, Code: 3, Log: "one\nI give up\n"}
	}
	return id, err
}

func TestEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &Engine{}
		const image = "registry/app@sha256:1"
		e.Publish(image, Program{})
		TestRuntime(t, Subject{Runtime: byCommand{e}, Image: image, Serve: []string{"serve"}, Fail: []string{"fail"}, Check: []string{"CMD", "true"}, Port: 8080})
	})
}
