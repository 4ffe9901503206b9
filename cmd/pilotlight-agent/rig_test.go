//go:build integration

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/etcd"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

// rig is everything around an agent: the servers' etcd and introduction, a
// registry, and the machine's own Docker Engine. Nothing of it is a fake.
type rig struct {
	t      *testing.T
	dir    string
	host   cluster.HostName
	mac    cluster.MAC
	ca     *join.CA
	store  *etcd.Store
	intro  *join.Introducer
	server *http.Server
	url    string
	etcd   string
	member *etcd.Member
	config etcd.MemberConfig
	id     *secret.Identity // the servers'

	servers  []string
	certsD   string
	hardened bool // the agent runs with the capabilities of its unit
	registry string
	image    string
	binary   string
	agent    *exec.Cmd
	log      *logFile
}

func need(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test needs root: it mounts, and talks to Docker; sudo make integration")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v; apt-get install docker.io docker-registry", err)
		}
	}
}

func newRig(t *testing.T, host string) *rig {
	t.Helper()
	need(t, "docker", "docker-registry")
	r := &rig{t: t, dir: t.TempDir(), host: cluster.HostName(fmt.Sprintf("%s-%d", host, os.Getpid()))}
	r.mac, _ = cluster.ParseMAC("52:54:00:12:34:56")
	r.log, r.certsD = &logFile{}, r.path("certs.d")
	r.startServers()
	r.startRegistry()
	r.image = r.push("app", r.build("testdata/app"), v1.Config{})
	r.binary = filepath.Join(r.dir, "pilotlight-agent")
	r.command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", r.binary, ".")
	r.writeConfig()
	t.Cleanup(r.cleanUp)
	return r
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func (r *rig) command(name string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *rig) startServers() {
	t := r.t
	loopback := netip.MustParseAddr("127.0.0.1")
	r.ca = must(join.OpenCA(filepath.Join(r.dir, "server")))(t)
	base := filepath.Join(r.dir, "server", "server")
	if err := r.ca.Ensure(base, join.Subject{CommonName: etcd.RootUser, Addresses: []netip.Addr{loopback}, Names: []string{"localhost"}, Server: true}); err != nil {
		t.Fatal(err)
	}
	r.config = etcd.MemberConfig{
		Name: "one", Dir: filepath.Join(r.dir, "etcd"),
		Client: netip.AddrPortFrom(loopback, freePort(t)), Peer: netip.AddrPortFrom(loopback, freePort(t)),
		TLS: etcd.Files{Cert: base + ".crt", Key: base + ".key", CA: filepath.Join(r.dir, "server", "ca.crt")},
	}
	r.config.PeerTLS = r.config.TLS // it has no peers
	r.etcd = r.config.Client.String()
	r.startEtcd()
	pair := must(tls.LoadX509KeyPair(base+".crt", base+".key"))(t)
	r.store = must(etcd.Open(etcd.ClientConfig{
		Endpoints: []string{"https://" + r.etcd},
		TLS:       &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: r.ca.Pool()},
	}))(t)
	if err := r.store.EnsureAuth(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.id = must(secret.NewIdentity())(t)
	r.intro = &join.Introducer{CA: r.ca, Records: r.store, Nodes: r.store, Auditor: r.store}
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	r.url = "https://" + listener.Addr().String()
	r.servers = []string{"https://127.0.0.1:1", r.url} // the first is away
	r.server = &http.Server{Handler: r.intro.Handler(), TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: r.ca.Pool(),
		ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS13,
	}}
	go func() { _ = r.server.ServeTLS(listener, "", "") }()
}

func (r *rig) startEtcd() { r.member = must(etcd.StartMember(r.t.Context(), r.config))(r.t) }

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) writeConfig() {
	b := must(json.Marshal(cluster.AgentConfig{
		Host: r.host, Servers: r.servers, Etcd: []string{r.etcd}, CA: string(r.ca.PEM()), MAC: r.mac,
	}))(r.t)
	if err := os.WriteFile(r.path("agent.json"), b, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) mint() {
	r.t.Helper()
	if err := r.tryMint(); err != nil {
		r.t.Fatal(err)
	}
}

// tryMint leaves a token for the host where its first config does.
func (r *rig) tryMint() error {
	token, err := r.intro.Mint(r.t.Context(), join.Bearer{Host: r.host, MAC: r.mac, Address: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		return err
	}
	return os.WriteFile(r.path("token"), []byte(token+"\n"), 0o600)
}

func (r *rig) startAgent() {
	r.t.Helper()
	args := []string{
		"--config", r.path("agent.json"), "--token-file", r.path("token"),
		"--state", r.path("state"), "--secrets", r.path("secrets"), "--certs.d", r.certsD,
		"--listen", fmt.Sprintf("127.0.0.1:%d", freePort(r.t)),
	}
	r.agent = exec.Command(r.binary, args...)
	if r.hardened { // as the unit in examples/systemd does it
		r.command(r.binary, "--mount-secrets", "--secrets", r.path("secrets"))
		r.agent = exec.Command("setpriv", append([]string{"--bounding-set", "-all,+chown", "--inh-caps", "-all", "--no-new-privs", r.binary}, args...)...)
	}
	r.agent.Stderr = r.log
	if err := r.agent.Start(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) listenAddress() string { return r.agent.Args[len(r.agent.Args)-1] }

func (r *rig) stopAgent(signal syscall.Signal) {
	if r.agent == nil {
		return
	}
	_ = r.agent.Process.Signal(signal)
	_ = r.agent.Wait()
	r.agent = nil
}

func (r *rig) cleanUp() {
	t := r.t
	if t.Failed() {
		t.Logf("the agent's log:\n%s", r.log.String())
	}
	r.stopAgent(syscall.SIGKILL)
	filter := "label=io.pilotlight.host=" + string(r.host)
	for _, id := range strings.Fields(r.docker("ps", "-aq", "--filter", filter)) {
		r.docker("rm", "-f", "-v", id)
	}
	for _, id := range strings.Fields(r.docker("network", "ls", "-q", "--filter", filter)) {
		r.docker("network", "rm", id)
	}
	for _, id := range strings.Fields(r.docker("images", "-q", r.registry+"/*")) {
		r.docker("rmi", "-f", id)
	}
	for _, s := range r.servers {
		_ = os.RemoveAll(filepath.Join(r.certsD, strings.TrimPrefix(s, "https://")))
	}
	_ = os.Remove(r.certsD) // if nothing else is in it
	for syscall.Unmount(r.path("secrets"), syscall.MNT_DETACH) == nil {
	}
	_ = r.server.Close()
	_ = r.store.Close()
	r.member.Close()
}

func (r *rig) docker(args ...string) string {
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		r.t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// eventually waits for what the agent is to bring about.
func (r *rig) eventually(what string, ok func() error) {
	r.t.Helper()
	began := time.Now()
	for {
		err := ok()
		if err == nil {
			r.t.Logf("%s after %s", what, time.Since(began).Round(10*time.Millisecond))
			return
		}
		if time.Since(began) > 60*time.Second {
			r.t.Fatalf("%s: not within a minute: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// assign tells the host what to run, as the leader does.
func (r *rig) assign(values map[cluster.Version]string, containers ...cluster.Container) {
	r.t.Helper()
	n := r.node()
	if n.Introduction == nil {
		r.t.Fatalf("host %s is not introduced", r.host)
	}
	put := map[cluster.Version]json.RawMessage{}
	for v, value := range values {
		sealed := must(secret.Seal(secret.NewValue([]byte(value)), v, r.id.Recipient()))(r.t)
		sealed = must(sealed.For(r.id, n.Introduction.Recipient))(r.t)
		put[v] = must(json.Marshal(sealed))(r.t)
	}
	if err := r.store.Assign(r.t.Context(), n, cluster.Desired{Containers: containers}, put, nil); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) node() cluster.Node {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	nodes, err := r.store.Nodes(ctx)
	if err != nil {
		return cluster.Node{}
	}
	for _, n := range nodes {
		if n.Host == r.host {
			return n
		}
	}
	return cluster.Node{}
}

// status waits until the host says that a service is so.
func (r *rig) status(service string, health cluster.Health, current bool) cluster.ContainerStatus {
	r.t.Helper()
	var got cluster.ContainerStatus
	r.eventually(fmt.Sprintf("%s is %s, current %t", service, health, current), func() error {
		n := r.node()
		if n.Status == nil {
			return fmt.Errorf("no status")
		}
		for _, c := range n.Status.Containers {
			if string(c.Service) == service {
				if got = c; c.Health == health && c.Current == current && n.Status.Revision == n.DesiredAt {
					return nil
				}
			}
		}
		return fmt.Errorf("%+v, desired at %d", n.Status, n.DesiredAt)
	})
	return got
}

// only waits until one container of a service is left, and returns it.
func (r *rig) only(service string) (id string) {
	r.t.Helper()
	r.eventually("one container of "+service, func() error {
		if id = r.container(service); id == "" || strings.Contains(id, "\n") {
			return fmt.Errorf("containers %q", id)
		}
		return nil
	})
	return id
}

// says returns what the host says of a service at this moment.
func (r *rig) says(service string) cluster.ContainerStatus {
	if n := r.node(); n.Status != nil && n.Status.Revision == n.DesiredAt {
		for _, c := range n.Status.Containers {
			if string(c.Service) == service {
				return c
			}
		}
	}
	return cluster.ContainerStatus{}
}

func (r *rig) get(port uint16, path string) string {
	return r.getURL(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
}

func (r *rig) getURL(url string) string {
	client := http.Client{Timeout: 2 * time.Second}
	res, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// container returns the only container of a service.
func (r *rig) container(service string) string {
	return r.docker("ps", "-aq", "--no-trunc", "--filter", "label=io.pilotlight.host="+string(r.host), "--filter", "label=io.pilotlight.service="+service)
}

// memory returns the agent's resident memory in kB, now and at its most.
func (r *rig) memory() (now, most int) {
	b := must(os.ReadFile(fmt.Sprintf("/proc/%d/status", r.agent.Process.Pid)))(r.t)
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d", &now)
		_, _ = fmt.Sscanf(line, "VmHWM: %d", &most)
	}
	return now, most
}

// logFile gathers what the agent logs.
type logFile struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
