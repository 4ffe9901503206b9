//go:build storm || integration

package storm

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is one pilotlight serve.
type server struct {
	world     *world
	name      string
	namespace string
	address   string
	data      string
	args      []string
	log       *os.File
	cmd       *exec.Cmd
	lives     []usage // of the processes that ended
}

// usage is what one process of a server took.
type usage struct {
	peak int           // resident, kB
	cpu  time.Duration // user and system
}

// restartAfter is what examples/systemd/pilotlight.service says.
const restartAfter = 2 * time.Second

// readyLimit is generous: a busy test machine may take a minute to look at a
// thousand documents.
const readyLimit = 3 * time.Minute

// addServer makes a namespace for one more server, joins it to the first one if
// there is one, and starts it.
func (w *world) addServer() *server {
	t := w.t
	t.Helper()
	n := len(w.servers) + 1
	s := &server{
		world: w, name: fmt.Sprintf("s%d", n), namespace: fmt.Sprintf("storm%d-s%d", os.Getpid(), n),
		address: fmt.Sprintf("10.98.0.%d", n), data: filepath.Join(w.dir, fmt.Sprintf("data%d", n)),
	}
	w.must("ip", "netns", "add", s.namespace)
	t.Cleanup(func() { w.must("ip", "netns", "del", s.namespace) })
	w.must("ip", "link", "add", s.name, "type", "veth", "peer", "name", "eth0", "netns", s.namespace)
	w.must("ip", "link", "set", s.name, "master", bridge, "up")
	w.must("ip", "-n", s.namespace, "link", "set", "lo", "up")
	w.must("ip", "-n", s.namespace, "addr", "add", s.address+"/16", "dev", "eth0")
	w.must("ip", "-n", s.namespace, "link", "set", "eth0", "up")
	var err error
	if s.log, err = os.Create(filepath.Join(w.dir, s.name+".log")); err != nil {
		t.Fatal(err)
	}
	s.args = []string{"serve", filepath.Join(w.dir, "site"), "--name", s.name, "--data", s.data, "--agent", w.agent, "--loaders", loaderDir}
	if w.config.servers > 1 {
		s.args = append(s.args, "--etcd-peer", s.address+":2380")
	}
	if n > 1 {
		first := w.servers[0]
		token := first.pilotlight("", "server", "invite")
		s.pilotlight(token, "server", "join", "--etcd-peer", s.address+":2380", "--name", s.name)
	}
	w.servers = append(w.servers, s)
	t.Cleanup(func() {
		s.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", s.name, s.tail(100))
		}
	})
	s.start()
	s.ready()
	return s
}

// pilotlight runs the operator's command line on the server.
func (s *server) pilotlight(stdin string, args ...string) string {
	s.world.t.Helper()
	c := exec.Command("ip", append([]string{"netns", "exec", s.namespace, s.world.bin, "--data", s.data}, args...)...)
	var out, errOut bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := c.Run(); err != nil {
		s.world.t.Fatalf("pilotlight %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errOut)
	}
	return out.String()
}

func (s *server) start() {
	s.world.t.Helper()
	s.cmd = exec.Command("ip", append([]string{"netns", "exec", s.namespace, s.world.bin}, s.args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // should this test be killed
	if err := s.cmd.Start(); err != nil {                                // ip execs the program: its process is the program's
		s.world.t.Fatal(err)
	}
}

// ready waits until the server says that it is.
func (s *server) ready() {
	s.world.t.Helper()
	c := http.Client{Timeout: time.Second}
	defer c.CloseIdleConnections()
	for end := time.Now().Add(readyLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		res, err := c.Get("http://" + s.address + ":8080/readyz")
		if err != nil {
			continue
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return
		}
	}
	s.world.t.Fatalf("%s is not ready after %s:\n%s", s.name, readyLimit, s.tail(20))
}

// end ends the process, if there is one, and notes what it took.
func (s *server) end(signal syscall.Signal) {
	if s.cmd == nil {
		return
	}
	u := usage{peak: s.peak()}
	_ = s.cmd.Process.Signal(signal) // it may have ended by itself
	_ = s.cmd.Wait()
	u.cpu = s.cmd.ProcessState.UserTime() + s.cmd.ProcessState.SystemTime()
	s.lives = append(s.lives, u)
	s.cmd = nil
}

// peak is the most memory that the process has had resident, in kB.
func (s *server) peak() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb
		}
	}
	return 0
}

func (s *server) tail(lines int) string {
	text, err := os.ReadFile(s.log.Name())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(string(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
