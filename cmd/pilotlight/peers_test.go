//go:build integration && peers

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The peers tests run the real server and other projects' in turn, on an empty
// disk each time, in one network namespace, with their clients in another, and
// print what they do as ratios: medians of those of runs that followed each
// other. They assert only that the answers were right, since what is fast depends
// on the machine. See bench-peers in the Makefile, and docs/performance.md.

const (
	peersServer = "10.99.0.1"
	peersClient = "10.99.0.2"
	peersMAC    = "52:54:00:99:00:02"
)

// rounds is how often each server is run; ROUNDS sets another number.
func rounds(t *testing.T) int {
	text := os.Getenv("ROUNDS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("ROUNDS=%s is no number of rounds", text)
	}
	return n
}

// stage is where servers are compared.
type stage struct {
	*lab
	client string // the clients' namespace
	runs   int
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{lab: newLab(t)}
	must(t, "ip", "-n", s.server, "addr", "add", peersServer+"/16", "dev", "br0")
	s.client = s.machine(peersMAC)
	must(t, "ip", "-n", s.client, "addr", "add", peersClient+"/16", "dev", "eth0")
	return s
}

// contestant is a server: how it is started, on a directory of its own, and how
// it is known to answer.
type contestant struct {
	name  string
	start func(s *stage, dir string) *process
	ready func(s *stage) bool
}

// run starts a server, has it warmed up and then something done to it, and stops
// it. It returns the CPU time that the server took for the latter.
func (s *stage) run(c contestant, warm, do func()) time.Duration {
	s.t.Helper()
	s.runs++
	dir := filepath.Join(s.dir, fmt.Sprint("run", s.runs))
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p := c.start(s, dir)
	defer p.stop(syscall.SIGTERM)
	s.eventually(c.name+" answers", func() bool { return c.ready(s) })
	warm()
	before := cpuOf(s.t, p.cmd.Process.Pid)
	do()
	return cpuOf(s.t, p.cmd.Process.Pid) - before
}

// pilotlight is the server as operators run it, of a site of these documents.
func pilotlight(site string) contestant {
	return contestant{
		name: "pilotlight",
		start: func(s *stage, dir string) *process {
			if err := os.WriteFile(filepath.Join(dir, "site.yaml"), []byte(site), 0o644); err != nil {
				s.t.Fatal(err)
			}
			return s.lab.start(s.server, s.bin, "serve", dir, "--data", filepath.Join(dir, "data"), "--agent", s.agent)
		},
		ready: func(s *stage) bool {
			_, err := s.in(s.server, "curl", "-sf", "http://"+peersServer+":8080/readyz")
			return err == nil
		},
	}
}

// cpuOf is the CPU time of a process and of its children.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	var ticks int
	for _, id := range append(strings.Fields(string(children)), strconv.Itoa(pid)) {
		text, err := os.ReadFile("/proc/" + id + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), ") ") // behind the name
		fields := strings.Fields(rest)
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		ticks += user + system
	}
	return time.Duration(ticks) * (time.Second / 100) // USER_HZ
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return (of[(len(of)-1)/2] + of[len(of)/2]) / 2
}

// results are a server's figures of one kind, a run each.
type results map[string][]float64

func (r results) add(name string, figure float64) { r[name] = append(r[name], figure) }

// against is the median of the ratios of two servers' runs in turn.
func (r results) against(ours, theirs string) float64 {
	var ratios []float64
	for i, v := range r[ours] {
		ratios = append(ratios, v/r[theirs][i])
	}
	return median(ratios)
}

// goal is what a ratio is meant to be: at least, or at most; zero is no goal.
type goal struct{ least, most float64 }

// print adds what was measured to the table: each server's median, and ours
// against each other's.
func (s *stage) print(what, unit string, r results, goals map[string]goal) {
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range r {
			if n != "pilotlight" && !yield(n) {
				return
			}
		}
	}) {
		ratio, verdict := r.against("pilotlight", name), "-"
		switch g := goals[name]; {
		case g.least > 0 && ratio >= g.least, g.most > 0 && ratio <= g.most:
			verdict = "met"
		case g != (goal{}):
			verdict = "missed"
		}
		text := "none"
		if g := goals[name]; g.least > 0 {
			text = fmt.Sprintf("at least %.4g", g.least)
		} else if g.most > 0 {
			text = fmt.Sprintf("at most %.4g", g.most)
		}
		line := fmt.Sprintf("%s|%.4g|%.4g %s|%s|%.2f|%s|%s", what, median(r["pilotlight"]), median(r[name]), unit, name, ratio, text, verdict)
		s.t.Log(line)
		tabulate(s.t, line)
	}
}

// tabulate appends to the table that bench-peers prints at its end.
func tabulate(t *testing.T, line string) {
	name := os.Getenv("PILOTLIGHT_PEERS_TABLE")
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}
