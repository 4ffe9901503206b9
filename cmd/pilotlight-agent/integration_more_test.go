//go:build integration

package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
)

func TestIntegrationRollsOverWithoutAGap(t *testing.T) {
	r := newRig(t, "gapless")
	r.mint()
	r.startAgent()
	r.eventually("it joins", func() error {
		if n := r.node(); n.Status == nil {
			return fmt.Errorf("%+v", n)
		}
		return nil
	})
	// Docker chooses the ports of web, so that two versions can run beside each
	// other; api must wait for it.
	web := func(version string) cluster.Container {
		c := r.service("web", 0, version)
		c.Service.Ports = []cluster.Port{{Container: 8080, Protocol: "tcp"}}
		return c
	}
	api := r.service("api", 0, "a1")
	api.Service.DependsOn = []cluster.ServiceName{"web"}
	r.assign(nil, api, web("v1"))
	r.status("api", cluster.HealthHealthy, true)
	r.status("web", cluster.HealthHealthy, true)
	first, other := r.container("web"), r.container("api")
	startedAt := func(id string) string { return r.docker("inspect", "-f", "{{.State.StartedAt}}", id) }
	if a, w := startedAt(other), startedAt(first); a <= w {
		t.Errorf("api started at %s, web at %s", a, w)
	}

	r.assign(nil, api, web("v2"))
	most := 0
	r.eventually("the second version alone serves", func() error {
		ids := strings.Fields(r.container("web"))
		up := 0
		for _, id := range ids {
			// One that is gone by now does not run.
			if out, err := exec.Command("docker", "inspect", "-f", "{{.State.Running}}", id).Output(); err == nil && strings.HasPrefix(string(out), "true") {
				up++
			}
		}
		most = max(most, up)
		if len(ids) != 1 || ids[0] == first {
			return fmt.Errorf("containers %v", ids)
		}
		if up == 0 {
			t.Error("nothing of web runs")
		}
		return nil
	})
	if most != 2 {
		t.Errorf("at most %d versions ran at a time", most)
	}
	r.status("web", cluster.HealthHealthy, true)
	if r.container("api") != other || startedAt(other) == "" {
		t.Error("a service that did not change was touched")
	}

	t.Log("--- removed by hand, it is made again")
	r.docker("rm", "-f", other)
	r.eventually("there is another", func() error {
		if id := r.container("api"); id == "" || id == other {
			return fmt.Errorf("container %q", id)
		}
		return nil
	})
	r.status("api", cluster.HealthHealthy, true)
}

// TestIntegrationPrivateRegistry pulls from a registry that asks for the
// host's certificate. It listens on Docker's own bridge: Docker looks for no
// certificates when a registry is on loopback.
func TestIntegrationPrivateRegistry(t *testing.T) {
	r := newRig(t, "private")
	private := r.privateRegistry(bridgeAddress(t))
	plain := r.registry
	r.registry = private
	r.image = r.push("app", r.path("app"), v1.Config{User: "1000:1000"})
	r.registry = plain
	r.certsD = "/etc/docker/certs.d"
	t.Cleanup(func() {
		r.docker("rmi", "-f", r.image)
	})
	r.servers = append(r.servers, "https://"+private)
	r.writeConfig()
	r.mint()
	r.startAgent()
	r.eventually("it joins", func() error {
		if n := r.node(); n.Status == nil {
			return fmt.Errorf("%+v", n)
		}
		return nil
	})
	if st, err := os.Stat(filepath.Join(r.certsD, private, "client.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("client.key: %v %v", st, err)
	}
	port := freePort(t)
	c := withSecret(r.service("web", port, "v1"), 1)
	c.Service.User = "" // the image says 1000:1000
	r.assign(map[cluster.Version]string{{Name: "db-password", Version: 1}: theSecret}, c)
	r.status("web", cluster.HealthHealthy, true)
	if got := r.get(port, "/file?p=/run/secrets/password"); got != "-r-------- 1000:1000 "+theSecret {
		t.Errorf("the secret's file: %q", got)
	}
}

func bridgeAddress(t *testing.T) string {
	t.Helper()
	bridge := must(net.InterfaceByName("docker0"))(t)
	for _, a := range must(bridge.Addrs())(t) {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Addr().String()
		}
	}
	t.Fatal("docker0 has no address; see ip addr show docker0")
	return ""
}

// TestIntegrationRebootsAsNew is a live node's reboot: all it had was in RAM,
// and its first config brings a new token.
func TestIntegrationRebootsAsNew(t *testing.T) {
	r := newRig(t, "reboot")
	r.mint()
	r.startAgent()
	introduced := func() cluster.Introduction {
		in, _, err := r.store.Introduction(t.Context(), r.host)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	joined := func() error {
		if n := r.node(); n.Alive == nil || n.Status == nil || n.Introduction == nil {
			return fmt.Errorf("%+v", n)
		}
		return nil
	}
	r.eventually("it joins", joined)
	port := freePort(t)
	web := withSecret(r.service("web", port, "v1"), 1)
	values := map[cluster.Version]string{{Name: "db-password", Version: 1}: theSecret}
	r.assign(values, web)
	r.status("web", cluster.HealthHealthy, true)

	t.Log("--- its certificate can be renewed")
	pair := must(tls.LoadX509KeyPair(r.path("state/node.crt"), r.path("state/node.key")))(t)
	der := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, pair.PrivateKey))(t)
	client := &join.Client{Servers: func() []string { return r.servers }, CA: r.ca.PEM}
	renewed := must(client.Renew(t.Context(), pair, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))))(t)
	if renewed.Host != r.host || renewed.Certificate == "" {
		t.Errorf("%+v", renewed)
	}

	before := introduced()
	r.stopAgent(syscall.SIGKILL)
	r.docker("rm", "-f", r.container("web"))
	for syscall.Unmount(r.path("secrets"), syscall.MNT_DETACH) == nil {
	}
	for _, dir := range []string{"state", "secrets"} {
		if err := os.RemoveAll(r.path(dir)); err != nil {
			t.Fatal(err)
		}
	}
	r.eventually("its liveness runs out, and it may be introduced again", r.tryMint)
	r.startAgent()
	r.eventually("it is introduced again", func() error {
		if in := introduced(); in.KeyHash == before.KeyHash || in.Recipient == before.Recipient {
			return fmt.Errorf("%+v", in)
		}
		return nil
	})
	r.eventually("it is alive", joined)
	r.assign(values, web) // the leader seals to the new key
	r.status("web", cluster.HealthHealthy, true)
	if got := r.get(port, "/file?p=/run/secrets/password"); !strings.HasSuffix(got, theSecret) {
		t.Errorf("the secret's file: %q", got)
	}
}

// TestIntegrationFootprint measures the agent with five containers.
func TestIntegrationFootprint(t *testing.T) {
	r := newRig(t, "footprint")
	r.hardened = true
	r.mint()
	r.startAgent()
	r.eventually("it joins", func() error {
		if n := r.node(); n.Status == nil {
			return fmt.Errorf("%+v", n)
		}
		return nil
	})
	var all []cluster.Container
	for n := range 5 {
		all = append(all, withSecret(r.service(fmt.Sprintf("s%d", n), 0, "v1"), 1))
	}
	r.assign(map[cluster.Version]string{{Name: "db-password", Version: 1}: theSecret}, all...)
	for n := range 5 {
		r.status(fmt.Sprintf("s%d", n), cluster.HealthHealthy, true)
	}
	time.Sleep(20 * time.Second) // a resync, and health checks
	rss, peak := r.memory()
	size := must(os.Stat(r.binary))(t).Size()
	t.Logf("binary %.1f MB, resident %.1f MB, at most %.1f MB", float64(size)/1e6, float64(rss)/1e3, float64(peak)/1e3)
	if size > 25e6 || peak > 40e3 {
		t.Error("over budget: 25 MB of binary, 40 MB resident")
	}
	if ready := r.getURL("http://" + r.listenAddress() + "/readyz"); ready != "ok\n" {
		t.Errorf("readyz: %q", ready)
	}
	if metrics := r.getURL("http://" + r.listenAddress() + "/metrics"); strings.Count(metrics, "pilotlight_agent_container_healthy{") != 5 {
		t.Errorf("metrics:\n%s", metrics)
	}
}
