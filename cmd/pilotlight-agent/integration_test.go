//go:build integration

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

const theSecret = "hunter2-correct-horse-battery-staple"

func (r *rig) service(name string, port uint16, args ...string) cluster.Container {
	c := cluster.Container{Site: cluster.SiteName("it-" + string(r.host)), Service: cluster.Service{
		Name: cluster.ServiceName(name), Image: r.image, Command: args, ReadOnly: true, User: "1000:1000",
		StopGrace: cluster.Duration(2 * time.Second),
		Health:    &cluster.Healthcheck{Test: []string{"CMD", "/app", "check"}, Interval: cluster.Duration(500 * time.Millisecond), Timeout: cluster.Duration(2 * time.Second), Retries: 3},
	}}
	if port != 0 {
		c.Service.Ports = []cluster.Port{{Host: port, Container: 8080, Protocol: "tcp"}}
	}
	return c
}

func withSecret(c cluster.Container, version int) cluster.Container {
	c.Service.Secrets = []cluster.SecretMount{{Name: "db-password", Target: "password"}}
	c.Secrets = []cluster.Version{{Name: "db-password", Version: version}}
	return c
}

func TestIntegrationHost(t *testing.T) {
	r := newRig(t, "host")
	r.mint()
	r.startAgent()
	r.eventually("it joins and is alive", func() error {
		if n := r.node(); n.Alive == nil || n.Status == nil {
			return fmt.Errorf("%+v", n)
		}
		return nil
	})
	if _, err := os.Stat(r.path("token")); !os.IsNotExist(err) {
		t.Errorf("the token is still there: %v", err)
	}
	port := freePort(t)
	one, two := cluster.Version{Name: "db-password", Version: 1}, cluster.Version{Name: "db-password", Version: 2}
	r.assign(map[cluster.Version]string{one: theSecret}, withSecret(r.service("web", port, "v1"), 1))
	r.status("web", cluster.HealthHealthy, true)
	first := r.container("web")

	r.looksRight(port, first)
	r.comesBack(first)
	r.isAdopted(first)
	r.survivesEtcd(first)

	t.Log("--- a changed version takes the port over")
	r.assign(map[cluster.Version]string{two: theSecret + "-2"}, withSecret(r.service("web", port, "v2"), 2))
	r.status("web", cluster.HealthHealthy, true)
	second := r.only("web")
	if got := r.get(port, "/"); got != "v2" || second == first {
		t.Errorf("serves %q from %s", got, second)
	}
	if got := r.get(port, "/file?p=/run/secrets/password"); got != "-r-------- 1000:1000 "+theSecret+"-2" {
		t.Errorf("the second version of the secret: %q", got)
	}

	for _, bad := range []string{"sick", "crash"} {
		t.Logf("--- a version that is %s is taken back", bad)
		r.assign(nil, withSecret(r.service("web", port, "v3", bad), 2))
		var st cluster.ContainerStatus
		r.eventually("the version before serves again", func() error {
			if st = r.says("web"); st.Health != cluster.HealthFailed || st.Image == "" || r.get(port, "/") != "v2" {
				return fmt.Errorf("%+v", st)
			}
			return nil
		})
		if got := r.get(port, "/"); got != "v2" || r.only("web") != second {
			t.Errorf("serves %q from %s, was %s", got, r.container("web"), second)
		}
		t.Logf("the host says: %s", st.Message)
		if bad == "crash" && !strings.Contains(st.Message, "cannot log in with [secret]: giving up") {
			t.Errorf("the last words are not told: %s", st.Message)
		}
		if st.Image != r.image || !strings.Contains(st.Message, "the version before runs") {
			t.Errorf("%+v", st)
		}
	}

	t.Log("--- back to what runs: nothing is restarted")
	r.assign(nil, withSecret(r.service("web", port, "v2"), 2))
	r.status("web", cluster.HealthHealthy, true)
	if r.container("web") != second {
		t.Error("it was restarted")
	}

	r.nothingLeaks()
	r.isRemoved()
	r.nothingLeaks()

	r.stopAgent(syscall.SIGTERM)
	r.eventually("its liveness is given back at once", func() error {
		if n := r.node(); n.Alive != nil {
			return fmt.Errorf("alive since %s", n.Alive.Since)
		}
		return nil
	})
}

func (r *rig) looksRight(port uint16, id string) {
	t := r.t
	if got := r.get(port, "/file?p=/run/secrets/password"); got != "-r-------- 1000:1000 "+theSecret {
		t.Errorf("the secret's file: %q", got)
	}
	if got := r.get(port, "/write?p=/run/secrets/x"); !strings.Contains(got, "read-only file system") {
		t.Errorf("writing beside the secret: %q", got)
	}
	for line := range strings.Lines(r.get(port, "/mounts")) {
		if strings.Contains(line, " /run/secrets ") && (!strings.Contains(line, " - tmpfs ") || !strings.Contains(line, "/run/secrets ro,")) {
			t.Errorf("mounted as %s", line)
		}
	}
	if !strings.Contains(r.get(port, "/mounts"), " /run/secrets ") {
		t.Error("no mount at /run/secrets")
	}
	if caps := r.get(port, "/caps"); !strings.Contains(caps, "CapBnd:\t0000000000000000") || !strings.Contains(caps, "NoNewPrivs:\t1") {
		t.Errorf("not hardened:\n%s", caps)
	}
	limits := r.docker("inspect", "-f", "{{.HostConfig.PidsLimit}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.LogConfig.Config}}", id)
	if limits != "512 true map[max-file:3 max-size:10m]" {
		t.Errorf("limits: %s", limits)
	}
}

func (r *rig) comesBack(id string) {
	r.t.Log("--- killed by hand, it comes back")
	r.docker("kill", id)
	r.eventually("it runs again", func() error {
		if up := r.docker("inspect", "-f", "{{.State.Running}}", id); up != "true" {
			return fmt.Errorf("running: %s", up)
		}
		return nil
	})
	r.status("web", cluster.HealthHealthy, true)
	// Removed by hand it comes back under another id; the one that the test
	// goes on with is therefore another service's.
}

func (r *rig) isAdopted(id string) {
	r.t.Log("--- the agent is killed: what runs is adopted")
	started := r.docker("inspect", "-f", "{{.State.StartedAt}}", id)
	before := strings.Count(r.log.String(), `"msg":"last known state"`)
	r.stopAgent(syscall.SIGKILL)
	r.startAgent()
	r.eventually("the agent is back", func() error {
		if strings.Count(r.log.String(), `"msg":"told what to run"`) < 2 || strings.Count(r.log.String(), `"msg":"last known state"`) == before {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	r.status("web", cluster.HealthHealthy, true)
	if now := r.docker("inspect", "-f", "{{.State.StartedAt}}", id); r.container("web") != id || now != started {
		r.t.Errorf("it was restarted: %s at %s, was %s at %s", r.container("web"), now, id, started)
	}
}

func (r *rig) survivesEtcd(id string) {
	r.t.Log("--- etcd is lost, and the agent is started without it")
	r.member.Close()
	r.docker("kill", id)
	r.eventually("it comes back without etcd", func() error {
		if up := r.docker("inspect", "-f", "{{.State.Running}}", id); up != "true" {
			return fmt.Errorf("running: %s", up)
		}
		return nil
	})
	r.stopAgent(syscall.SIGKILL)
	r.docker("rm", "-f", id)
	r.startAgent()
	r.eventually("it comes back from the last known state", func() error {
		if again := r.container("web"); again == "" || r.docker("inspect", "-f", "{{.State.Running}}", again) != "true" {
			return fmt.Errorf("container %q", again)
		}
		return nil
	})
	r.startEtcd()
	r.eventually("it is alive again", func() error {
		if n := r.node(); n.Alive == nil {
			return fmt.Errorf("%+v", n)
		}
		return nil
	})
	r.status("web", cluster.HealthHealthy, true)
}

// nothingLeaks looks for the secret everywhere but in memory.
func (r *rig) nothingLeaks() {
	t := r.t
	for _, id := range strings.Fields(r.docker("ps", "-aq", "--filter", "label=io.pilotlight.host="+string(r.host))) {
		if strings.Contains(r.docker("inspect", id), theSecret) {
			t.Error("docker inspect shows the secret")
		}
	}
	if strings.Contains(r.log.String(), theSecret) {
		t.Error("the log shows the secret")
	}
	if n := r.node(); strings.Contains(fmt.Sprintf("%+v", n.Status), theSecret) {
		t.Error("the status shows the secret")
	}
	err := filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == r.path("secrets") {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), theSecret) && !strings.HasSuffix(path, ".test") {
				t.Errorf("%s shows the secret", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	mode := must(os.Stat(r.path("state/state.json")))(t).Mode().Perm()
	if mode != 0o600 {
		t.Errorf("state.json has mode %o", mode)
	}
}

func (r *rig) isRemoved() {
	t := r.t
	t.Log("--- an empty desire removes everything")
	r.assign(nil)
	r.eventually("container, network and secrets are gone", func() error {
		filter := "label=io.pilotlight.host=" + string(r.host)
		left := r.docker("ps", "-aq", "--filter", filter) + r.docker("network", "ls", "-q", "--filter", filter)
		files, _ := filepath.Glob(r.path("secrets/[^.]*"))
		for _, f := range files {
			left += f
		}
		if left != "" {
			return fmt.Errorf("left: %s", left)
		}
		return nil
	})
}
