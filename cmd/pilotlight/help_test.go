package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every verb that can be run has help with an example that begins with the verb.
func TestEveryVerbHasAnExample(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		if !cmd.Runnable() || cmd.HasSubCommands() {
			return
		}
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s has no example of itself", cmd.CommandPath())
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: its one line of help is %q", cmd.CommandPath(), cmd.Short)
		}
	}
	for _, cmd := range newRoot(&cli{}).Commands() {
		visit(cmd)
	}
}

func TestHelpIsNoFailure(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}, {"secret", "put", "--help"}, {"host"}} {
		var out, errOut bytes.Buffer
		if code := run(context.Background(), args, nil, strings.NewReader(""), &out, &errOut); code != exitOK {
			t.Errorf("pilotlight %v: exit code %d: %s", args, code, &errOut)
		}
		if !strings.Contains(out.String(), "Usage:") {
			t.Errorf("pilotlight %v does not say how it is used:\n%s", args, &out)
		}
	}
}
