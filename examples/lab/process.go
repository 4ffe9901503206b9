package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child of the lab, with the goroutine that owns it.
type process struct {
	name string
	log  string // its output, as a file
	pid  int
	done chan struct{} // closed when it has ended
	err  error         // how; to be read when done is closed
}

// command is a process to start.
type command struct {
	name   string
	args   []string
	env    []string // beside the lab's own
	in     *namespace
	log    string            // file for its output
	onLine func(line string) // sees every line of the output; may be nil
}

// startProcess starts c. The child dies with the lab, even when that is killed:
// the kernel sends it SIGKILL when the thread that started it ends, so that
// thread stays with it to its end.
func startProcess(c command) (*process, error) {
	p := &process{name: c.name, log: c.log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(p.done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		p.err = p.run(c, started)
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return p, nil
}

func (p *process) run(c command, started chan<- error) error {
	log, err := os.Create(c.log)
	if err != nil {
		started <- err
		return err
	}
	defer log.Close()
	cmd := exec.Command(c.args[0], c.args[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C is the lab's to pass on
	lines := &lineWriter{to: log, onLine: c.onLine, start: time.Now()}
	cmd.Stdout, cmd.Stderr = lines, lines
	if err := c.in.enter(); err != nil {
		started <- err
		return err
	}
	if err := cmd.Start(); err != nil {
		started <- err
		return err
	}
	p.pid = cmd.Process.Pid
	started <- nil
	return errors.Join(cmd.Wait(), lines.flush())
}

// stop asks the process to end, and after the grace makes it. It returns when
// the process is gone. How a process ends that was told to is no error.
func (p *process) stop(grace time.Duration) {
	if p == nil {
		return
	}
	_ = syscall.Kill(p.pid, syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.done:
		return
	case <-time.After(grace):
	}
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	<-p.done
}

// ended says that the process ended before it was told to, and what it said
// last.
func (p *process) ended() error {
	reason := "it ended by itself"
	if p.err != nil {
		reason = p.err.Error()
	}
	return fmt.Errorf("%s: %s; the end of its output:\n%s\nall of it: %s", p.name, reason, lastLines(p.log, 15), p.log)
}

func lastLines(file string, n int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(b), "?")), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-n):], "\n  ")
}

// lineWriter writes lines with the time since the start.
type lineWriter struct {
	to     io.Writer
	onLine func(string)
	start  time.Time
	mu     sync.Mutex
	rest   []byte
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, b...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		line := strings.TrimRight(string(w.rest[:i]), "\r")
		w.rest = w.rest[i+1:]
		if err := w.line(line); err != nil {
			return 0, err
		}
	}
}

func (w *lineWriter) line(line string) error {
	if w.onLine != nil {
		w.onLine(line)
	}
	_, err := fmt.Fprintf(w.to, "%8.2f %s\n", time.Since(w.start).Seconds(), line)
	return err
}

func (w *lineWriter) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) == 0 {
		return nil
	}
	line := string(w.rest)
	w.rest = nil
	return w.line(line)
}

// output runs a short command to its end and returns what it wrote to standard
// output. It is ended with ctx.
func output(ctx context.Context, in *namespace, stdin io.Reader, env []string, args ...string) ([]byte, error) {
	var out, said bytes.Buffer
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: see startProcess
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &said
		cmd.WaitDelay = 5 * time.Second
		if err := in.enter(); err != nil {
			done <- err
			return
		}
		done <- cmd.Run()
	}()
	if err := <-done; err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return out.Bytes(), fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out.Bytes(), nil
}

// progress runs a long command and shows its lines as they come.
func progress(ctx context.Context, say func(string, ...any), log string, env []string, args ...string) error {
	p, err := startProcess(command{
		name: args[0], args: args, env: env, log: log,
		onLine: func(line string) {
			if line = strings.TrimSpace(line); line != "" {
				say("  %.150s", line)
			}
		},
	})
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.stop(10 * time.Second)
		return ctx.Err()
	}
	if p.err != nil {
		return p.ended()
	}
	return nil
}
