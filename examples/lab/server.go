package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// server is pilotlight as an operator runs it: the program, and its command
// line. Nothing here imports it.
type server struct {
	program string // build/lab/bin/pilotlight
	data    string
	in      *namespace
	process *process
}

// buildServer builds pilotlight and its agent.
func buildServer(ctx context.Context, s settings) (string, error) {
	bin := filepath.Join(s.dir, "bin")
	for _, name := range []string{"pilotlight-agent", "pilotlight"} {
		if err := goBuild(ctx, s, filepath.Join(bin, name), "./cmd/"+name, ""); err != nil {
			return "", err
		}
	}
	return filepath.Join(bin, "pilotlight"), nil
}

// startServer starts `pilotlight serve` in the lab's network and waits until its
// API listens.
func startServer(ctx context.Context, program, manifests, data, logs string, in *namespace) (*server, error) {
	s := &server{program: program, data: data, in: in}
	var err error
	s.process, err = startProcess(command{
		name: "pilotlight serve", in: in, log: filepath.Join(logs, "server.log"),
		args: []string{program, "serve", manifests, "--data", data, "--http", ":8080", "--https", ":8443", "--etcd", ":2379"},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := in.dial(ctx, "tcp", net.JoinHostPort(serverAddress, "8443"))
		if err == nil {
			return s, conn.Close()
		}
		select {
		case <-s.process.done:
			return nil, s.process.ended()
		case <-ctx.Done():
			s.stop()
			return nil, fmt.Errorf("pilotlight serve does not listen: %w; its output: %s", err, s.process.log)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *server) stop() { s.process.stop(20 * time.Second) }

// run runs one of the operator's commands.
func (s *server) run(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return output(ctx, s.in, stdin, []string{"PILOTLIGHT_DATA=" + s.data}, append([]string{s.program}, args...)...)
}

// ask runs a command with -o json and decodes what it prints.
func (s *server) ask(ctx context.Context, to any, args ...string) error {
	out, err := s.run(ctx, nil, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, to); err != nil {
		return fmt.Errorf("%v printed no such JSON: %w", args, err)
	}
	return nil
}

// hostStatus is what the lab reads of `pilotlight host list`.
type hostStatus struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	LastStep string    `json:"last_step"`
	LastAt   time.Time `json:"last_step_at"`
	Message  string    `json:"message"`
	Install  struct {
		Phase string `json:"phase"`
	} `json:"install"`
}

func (s *server) host(ctx context.Context, name string) (hostStatus, error) {
	var all []hostStatus
	if err := s.ask(ctx, &all, "host", "list"); err != nil {
		return hostStatus{}, err
	}
	for _, h := range all {
		if h.Name == name {
			return h, nil
		}
	}
	return hostStatus{}, fmt.Errorf("pilotlight host list does not show %s", name)
}

// boot is one boot as `pilotlight boot list` shows it.
type boot struct {
	Events []struct {
		Step   string    `json:"step"`
		At     time.Time `json:"at"`
		Detail string    `json:"detail"`
	} `json:"events"`
}

// lastBoot returns a host's newest boot.
func (s *server) lastBoot(ctx context.Context, host string) (boot, error) {
	var all []boot
	if err := s.ask(ctx, &all, "boot", "list", host); err != nil {
		return boot{}, err
	}
	if len(all) == 0 {
		return boot{}, errors.New("the server knows of no boot of " + host)
	}
	return all[len(all)-1], nil
}

// residentKiB is how much memory a process of this computer has.
func residentKiB(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseResident(string(text))
}
