//go:build integration

package boot_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/boot/dhcp"
	"github.com/pilotlight/pilotlight/boot/httpboot"
	"github.com/pilotlight/pilotlight/boot/tftp"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/clustertest"
)

// These tests run real clients against the real servers, in two network
// namespaces that they make and remove: the servers in one, the clients in the
// other, a veth pair between them. The servers are this test binary, started
// again in the namespace. They need root and Debian's udhcpc, isc-dhcp-client,
// kea-admin (perfdhcp), tftp-hpa, atftp, curl, iproute2 and ipxe.

const (
	serverAddr = "10.77.0.1"
	relayAddr  = "10.77.0.2"
	hostMAC    = "52:54:00:77:00:01"
	hostAddr   = "10.77.0.50"
	serverEnv  = "PILOTLIGHT_BOOT_TEST_SERVER"  // the directory that the servers keep their state in
	dhcpEnv    = "PILOTLIGHT_BOOT_TEST_DHCP"    // the network's dhcp:, when it is not authoritative
	loadersEnv = "PILOTLIGHT_BOOT_TEST_LOADERS" // the directory of loaders, when it is not Debian's ipxe
	solicitEnv = "PILOTLIGHT_BOOT_TEST_SOLICIT" // the interface on which a router is to be asked for
)

// uBootMAC is what Debian's U-Boot for QEMU's arm64 board says, whatever its card has.
var uBootMAC = cluster.MAC{0x52, 0x52, 0x52, 0x52, 0x52, 0x52}

// piMAC is piAddress.
var piMAC = cluster.MAC{0xdc, 0xa6, 0x32, 0x01, 0x36, 0xc2}

func TestMain(m *testing.M) {
	run := serve
	switch {
	case os.Getenv(solicitEnv) != "":
		run = solicit
	case os.Getenv(dhcpEnv) == six:
		run = serve6
	}
	if dir := os.Getenv(serverEnv) + os.Getenv(solicitEnv); dir != "" {
		if err := run(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve runs the three servers until it is interrupted.
func serve(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	snap := cluster.NewSnapshot(1, documents(dir, cluster.DHCPMode(os.Getenv(dhcpEnv))))
	snapshot := func() *cluster.Snapshot { return snap }
	level := slog.LevelInfo
	if os.Getenv("DEBUG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	leases, err := openJournal(filepath.Join(dir, "leases"))
	if err != nil {
		return err
	}
	defer leases.file.Close()
	recorder := &boot.Recorder{Boots: boots{filepath.Join(dir, "boots")}, Logger: log}
	loaders := os.DirFS(cmp.Or(os.Getenv(loadersEnv), "/usr/lib/ipxe"))
	installs := &boot.Installs{Store: new(clustertest.Memory)}
	d := &dhcp.Server{Snapshot: snapshot, Leases: leases, Loaders: boot.FindLoaders(loaders), Installs: installs, HTTPPort: 8080, Recorder: recorder, Logger: log}
	h := &httpboot.Handler{Snapshot: snapshot, Owner: d.LentTo, Neighbour: d.Neighbour, Files: files{}, Configs: configs{}, Loaders: loaders, Installs: installs, HTTPPort: 8080, Recorder: recorder, Logger: log}
	f := &tftp.Server{Root: loaders, Left: h.Left, Snapshot: snapshot, Owner: d.LentTo, Recorder: recorder, Logger: log,
		Files: func(ctx context.Context, client netip.Addr, name string) (fs.File, error) {
			return h.File(ctx, client, boot.ServerAt(netip.MustParseAddr(serverAddr), 8080, 0), name)
		}}

	udp67, err := net.ListenPacket("udp4", ":67")
	if err != nil {
		return err
	}
	udp4011, err := net.ListenPacket("udp4", ":4011")
	if err != nil {
		return err
	}
	udp69, err := net.ListenPacket("udp4", ":69")
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp4", ":8080")
	if err != nil {
		return err
	}
	icmp6, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: h}
	if name := os.Getenv("CPUPROFILE"); name != "" {
		out, err := os.Create(name)
		if err != nil {
			return err
		}
		defer out.Close()
		if err := pprof.StartCPUProfile(out); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var running sync.WaitGroup
	running.Go(func() { recorder.Run(ctx) })
	running.Go(func() { installs.Run(ctx) })
	running.Go(func() { complain(d.Serve(ctx, udp67)) })
	running.Go(func() { complain(d.ServePXE(ctx, udp4011)) })
	running.Go(func() { d.Watch(ctx) })
	running.Go(func() {
		complain((&dhcp.Advertiser{Snapshot: snapshot, Boots: d.BootsBeside, Logger: log}).Serve(ctx, icmp6))
	})
	running.Go(func() { complain(f.Serve(ctx, udp69)) })
	running.Go(func() { web.Serve(tcp) })
	fmt.Println("ready")
	<-ctx.Done()
	web.Close()
	running.Wait()
	return nil
}

// documents are one network, and one host on it. Where another server lends, the
// host has the address that it gets.
func documents(dir string, mode cluster.DHCPMode) []cluster.Document {
	mac, _ := cluster.ParseMAC(hostMAC)
	pool, _ := cluster.ParseRange("10.77.1.0-10.77.255.254")
	network := &cluster.Network{Meta: cluster.Meta{Name: "lan"}, CIDR: netip.MustParsePrefix("10.77.0.0/16"), DHCP: mode}
	host := &cluster.Host{Meta: cluster.Meta{Name: "web1"}, MACs: []cluster.MAC{mac, uBootMAC, piMAC}, Profile: "web"}
	if mode == "" {
		network.DHCP, network.Pools = cluster.DHCPAuthoritative, []cluster.Range{pool}
		network.Gateway, network.Domain = netip.MustParseAddr("10.77.0.254"), "lab.test"
		network.DNS = []netip.Addr{netip.MustParseAddr("10.77.0.53")}
		host.Address = netip.MustParseAddr(hostAddr)
	}
	far := &cluster.Network{Meta: cluster.Meta{Name: "far"}, CIDR: netip.MustParsePrefix("10.78.0.0/16"), DHCP: network.DHCP} // behind a relay
	docs := []cluster.Document{network, far, host}
	if mode == "" {
		docs = append(docs, behindRelay(network, far)...)
	}
	image := &cluster.Image{
		Meta: cluster.Meta{Name: "node"}, Kernel: cluster.File{URL: filepath.Join(dir, "kernel"), SHA256: "k"},
		Initrd: []cluster.File{{URL: filepath.Join(dir, "initrd"), SHA256: "i"}},
		Rootfs: &cluster.File{URL: filepath.Join(dir, "rootfs"), SHA256: "r"},
	}
	profile := &cluster.Profile{Meta: cluster.Meta{Name: "web"}, Image: "node", Args: []string{"console=ttyS0", "test.config.url={{.ConfigURL}}"}}
	for name, doc := range map[string]any{"image.json": image, "profile.json": profile} { // what a test wants otherwise
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = json.Unmarshal(text, doc)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			complain(err)
		}
	}
	return append(docs, image, profile)
}

func complain(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "ended:", err)
	}
}

type boots struct{ dir string }

func (b boots) DropBoot(context.Context, cluster.Boot) error { return nil }

func (b boots) SaveBoot(_ context.Context, t cluster.Boot) error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	body, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, t.ID), body, 0o600)
}

type files struct{}

func (files) Open(_ context.Context, f cluster.File) (*os.File, error) { return os.Open(f.URL) }

type configs struct{}

func (configs) Ignition(_ context.Context, m httpboot.Machine, accept string) (httpboot.Body, error) {
	return httpboot.Body{Data: fmt.Appendf(nil, "%s %s", m.Host.Name, accept), ContentType: "application/json"}, nil
}

func (configs) NetworkConfig(context.Context, httpboot.Machine) (httpboot.Body, error) {
	return httpboot.Body{}, nil
}

func (configs) CloudConfig(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	return httpboot.Body{Data: []byte("#cloud-config\nhostname: " + m.Host.Name + "\n"), ContentType: "text/cloud-config"}, nil
}

func (c configs) UserData(ctx context.Context, m httpboot.Machine, _ string) (httpboot.Body, error) {
	return c.CloudConfig(ctx, m)
}

func (configs) Text(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	return httpboot.Body{Data: []byte("d-i for " + m.Host.Name + "\n"), ContentType: "text/plain"}, nil
}

func (configs) Setup(_ context.Context, m httpboot.Machine) (httpboot.Body, error) {
	return httpboot.Body{Data: []byte("#!/bin/sh\n# " + m.Host.Name + "\n"), ContentType: "text/plain"}, nil
}

func (configs) Generic(context.Context, httpboot.Machine) (httpboot.Body, error) {
	return httpboot.Body{}, nil
}

// lab is the two namespaces, with the servers running in one.
type lab struct {
	t              *testing.T
	dir            string
	server, client string // namespaces
	log            bytes.Buffer
	process        *exec.Cmd
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	for _, tool := range []string{"ip", "udhcpc", "dhclient", "perfdhcp", "tftp", "atftp", "curl", "tcpdump"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install iproute2 udhcpc isc-dhcp-client kea-admin tftp-hpa atftp curl tcpdump ipxe", tool)
		}
	}
	id := strconv.Itoa(os.Getpid())
	l := &lab{t: t, dir: t.TempDir(), server: "plboot-s" + id, client: "plboot-c" + id}
	for name, size := range map[string]int{"kernel": 1 << 20, "rootfs": 32 << 20} {
		if err := os.WriteFile(filepath.Join(l.dir, name), bytes.Repeat([]byte("pilotlight "), size/11), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		exec.Command("ip", "netns", "del", l.client).Run()
		exec.Command("ip", "netns", "del", l.server).Run()
	})
	for _, args := range []string{
		"netns add " + l.server, "netns add " + l.client,
		"-n " + l.server + " link add s0 type veth peer name c0 netns " + l.client,
		"-n " + l.server + " addr add " + serverAddr + "/16 dev s0",
		"-n " + l.server + " link set lo up", "-n " + l.server + " link set s0 up",
		"-n " + l.client + " link set lo up", "-n " + l.client + " link set c0 address " + hostMAC + " up",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", args, err, out)
		}
	}
	l.start()
	return l
}

// start runs the servers, and stop ends them in order.
func (l *lab) start() {
	l.t.Helper()
	l.process = exec.Command("ip", "netns", "exec", l.server, os.Args[0])
	l.process.Env = append(os.Environ(), serverEnv+"="+l.dir)
	l.process.Stderr = &l.log
	out, err := l.process.StdoutPipe()
	if err == nil {
		err = l.process.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(l.stop)
	var ready [6]byte
	if _, err := out.Read(ready[:]); err != nil {
		l.t.Fatalf("the servers did not start: %v\n%s", err, l.log.String())
	}
}

func (l *lab) stop() {
	if l.process == nil {
		return
	}
	l.process.Process.Signal(os.Interrupt)
	if err := l.process.Wait(); err != nil {
		l.t.Errorf("the servers ended with %v\n%s", err, l.log.String())
	}
	l.process = nil
	if l.t.Failed() || testing.Verbose() {
		l.t.Logf("the servers' log:\n%s", l.log.String())
	}
}

// run runs a command in the clients' namespace.
func (l *lab) run(name string, args ...string) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	out, err := l.command(ctx, name, args...).CombinedOutput()
	if err != nil && name != "perfdhcp" { // whose status says that some exchange was dropped
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// command is a command in the clients' namespace. Of this process's environment
// it has the path to programs only: a client says all that it has.
func (l *lab) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", l.client, name}, args...)...)
	cmd.Dir, cmd.Env = l.dir, []string{"PATH=" + os.Getenv("PATH")}
	return cmd
}

// client is a command that runs on while the test does.
type client struct {
	*exec.Cmd
	t   *testing.T
	out string // the file that it writes to
}

// begin starts a command in the clients' namespace, and ends it with the test.
func (l *lab) begin(name string, args ...string) *client {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{l.command(ctx, name, args...), l.t, filepath.Join(l.dir, name+".out")}
	out, err := os.Create(c.out)
	if err != nil {
		l.t.Fatal(err)
	}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		cancel()
		c.Wait() // said so already, unless the test failed
		out.Close()
	})
	return c
}

// said is what the client has written until now.
func (c *client) said() string {
	b, _ := os.ReadFile(c.out)
	return string(b)
}

// awaits waits for words of the client, as long as a busy machine may take.
func (c *client) awaits(words string) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(c.said(), words); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%q did not come; it said:\n%s", words, c.said())
		}
	}
}

// script writes a script for udhcpc and dhclient that says what they are given,
// and gives the interface the address.
func (l *lab) script() string {
	l.t.Helper()
	name := filepath.Join(l.dir, "script")
	const text = `#!/bin/sh
echo "event $reason$1"
env | sort
case "$reason$1" in
bound|renew) ip addr replace "$ip/$mask" dev "$interface" ;;
BOUND|RENEW|REBIND|REBOOT) ip addr replace "$new_ip_address/16" dev "$interface" ;;
RELEASE) ip addr flush dev "$interface" ;;
esac
`
	if _, err := os.Stat(name); err == nil {
		return name // a client that ends may run it still, and it cannot be written then
	}
	if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
		l.t.Fatal(err)
	}
	return name
}

// ip runs ip(8) on the clients' side.
func (l *lab) ip(args string) { l.t.Helper(); l.run("ip", strings.Fields(args)...) }

// lease returns what the journal says of an address now.
func (l *lab) lease(addr string) (found cluster.Lease) {
	l.t.Helper()
	j, err := openJournal(filepath.Join(l.dir, "leases"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer j.file.Close()
	return j.leases[cluster.LeaseKey("lan", netip.MustParseAddr(addr))]
}

func contains(t *testing.T, out string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("%q is not in:\n%s", w, out)
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 100 {
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("it never came to pass that %s", what)
}

// timeline returns the machine's timelines as they were saved.
func (l *lab) timeline() string {
	out, _ := exec.Command("sh", "-c", "cat "+l.dir+"/boots/*").Output()
	return string(out)
}
