package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pilotlight": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}})
}

// TestScripts runs the command line as its users do: each of
// testdata/script/*.txtar is a session.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for _, server := range []string{"", "2", "3"} {
				for _, name := range []string{"HTTP", "HTTPS", "ETCD", "PEER"} {
					e.Setenv(name+server, ports.next())
				}
			}
			agent := filepath.Join(e.WorkDir, "agent")
			if err := os.WriteFile(agent, []byte("stands for the agent\n"), 0o755); err != nil {
				return err
			}
			examples, err := filepath.Abs("../../examples")
			if err != nil {
				return err
			}
			e.Setenv("EXAMPLES", examples)
			e.Setenv("PILOTLIGHT_DATA", filepath.Join(e.WorkDir, "data"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": ready,
			"until": until,
			"exits": exits,

			"served": served, "same": same, "pointed": pointed, "joins": joins, "mode": mode, "size": size, "hides": hides,

			"publish": publish(), "container": container, "blob": blob, "http": httpGet, "installed": installed,
		},
	})
}

// ports are for servers that start in a while, and again: below those that the kernel
// takes for outgoing connections (net.ipv4.ip_local_port_range), of which any other
// process may have one by then.
var ports = portsFrom(10000 + os.Getpid()%20000)

type portList struct{ last atomic.Int32 }

func portsFrom(n int) *portList {
	p := new(portList)
	p.last.Store(int32(n))
	return p
}

func (p *portList) next() string {
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+p.last.Add(1)%20000)
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
}

// plain unpacks what a config packs.
func plain(s string) string {
	return packed.ReplaceAllStringFunc(s, func(s string) string {
		raw, err := base64.StdEncoding.DecodeString(packed.FindStringSubmatch(s)[1])
		if err != nil {
			return s
		}
		return string(raw)
	})
}

var packed = regexp.MustCompile(`data:;base64,([A-Za-z0-9+/=]+)`)

// until is "until REGEXP command...": the command is run until it prints that.
func until(ts *testscript.TestScript, _ bool, a []string) {
	want := regexp.MustCompile(a[0])
	var last string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err := ts.Exec(a[1], a[2:]...); err == nil {
			if last = plain(ts.ReadFile("stdout")); want.MatchString(last) {
				return
			}
		}
	}
	ts.Logf("what %q printed last:\n%s", a[1:], last)
	ts.Fatalf("never printed %s", a[0])
}

// ready waits until the server that was started in the background can answer: the
// first, or that of a number.
func ready(ts *testscript.TestScript, _ bool, a []string) {
	name := "HTTP"
	if len(a) > 0 {
		name += a[0]
	}
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		res, err := http.Get("http://" + ts.Getenv(name) + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("pilotlight serve was not ready in time")
}

// exits is "exits CODE command...": the command ends with that very code.
func exits(ts *testscript.TestScript, _ bool, a []string) {
	err := ts.Exec(a[1], a[2:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != a[0] {
		ts.Fatalf("exit code %d, want %s", code, a[0])
	}
}
