//go:build integration

package boot_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// otherAddr is somebody else's DHCP server on the servers' network, beside which
// ours has dhcp: proxy.
const otherAddr = "10.77.0.3"

// beside is a network with two DHCP servers: a bridge in a namespace of its own,
// and behind it the servers of pilotlight, another DHCP server, the clients, and
// a tap for an emulated machine.
type beside struct {
	t                          *testing.T
	dir                        string
	lan, server, other, client string // namespaces
	log                        string // the servers' log
	rival                      string // the other server's
}

// otherServer is one of those that people have.
type otherServer struct {
	name  string
	start func(b *beside, boot string) []string // its command; boot is a file that it tells machines to boot
	ready string                                // what it says when it answers
}

var otherServers = []otherServer{
	{"dnsmasq", func(b *beside, boot string) []string {
		args := []string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=o0", "--bind-interfaces", "--user=root",
			"--pid-file=", "--log-facility=-", "--log-dhcp", "--dhcp-range=10.77.2.10,10.77.2.200,12h", "--dhcp-leasefile=" + filepath.Join(b.dir, "dnsmasq.leases")}
		if boot != "" {
			args = append(args, "--dhcp-boot="+boot)
		}
		return args
	}, "DHCP, IP range"},
	{"kea", func(b *beside, boot string) []string {
		const config = `{"Dhcp4": {"interfaces-config": {"interfaces": ["o0"]}, "valid-lifetime": 43200,
  "lease-database": {"type": "memfile", "persist": false}, "boot-file-name": %q,
  "subnet4": [{"subnet": "10.77.0.0/16", "pools": [{"pool": "10.77.2.10 - 10.77.2.200"}]},
    {"subnet": "10.78.0.0/16", "pools": [{"pool": "10.78.2.10 - 10.78.2.200"}], "option-data": [{"name": "routers", "data": "10.78.0.1"}]}],
  "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}]}}`
		file := filepath.Join(b.dir, "kea.json")
		if err := os.WriteFile(file, fmt.Appendf(nil, config, boot), 0o600); err != nil {
			b.t.Fatal(err)
		}
		return []string{"env", "KEA_LOCKFILE_DIR=" + b.dir, "KEA_PIDFILE_DIR=" + b.dir, "kea-dhcp4", "-c", file}
	}, "DHCP4_STARTED"},
}

// nobody is where there is no other server.
var nobody = otherServer{"nobody", func(*beside, string) []string { return []string{"sh", "-c", "echo here; exec sleep 10000"} }, "here"}

// newBeside makes the network, and starts both servers on it.
func newBeside(t *testing.T, other otherServer, boot, mode string) *beside {
	t.Helper()
	b := newLAN(t)
	b.start(other, boot, mode)
	return b
}

// newLAN makes the network.
func newLAN(t *testing.T) *beside {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	for _, tool := range []string{"ip", "udhcpc", "dhclient", "curl", "dnsmasq", "kea-dhcp4"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install iproute2 udhcpc isc-dhcp-client curl dnsmasq-base kea-dhcp4-server ipxe", tool)
		}
	}
	id := strconv.Itoa(os.Getpid())
	b := &beside{t: t, dir: t.TempDir(), lan: "plprox-l" + id, server: "plprox-s" + id, other: "plprox-o" + id, client: "plprox-c" + id}
	for _, name := range []string{"kernel", "initrd", "rootfs"} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte("no kernel"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := []string{b.lan, b.server, b.other, b.client}
	t.Cleanup(func() {
		for _, ns := range all {
			exec.Command("ip", "netns", "del", ns).Run()
		}
	})
	for _, ns := range all {
		b.ip("netns add " + ns)
		b.ip("-n " + ns + " link set lo up")
	}
	b.ip("-n " + b.lan + " link add br0 type bridge forward_delay 0 stp_state 0")
	b.ip("-n " + b.lan + " link set br0 up")
	b.ip("-n " + b.lan + " tuntap add dev tap0 mode tap")
	b.ip("-n " + b.lan + " link set tap0 master br0 up")
	for ns, name := range map[string]string{b.server: "s0", b.other: "o0", b.client: "c0"} {
		b.ip("-n " + b.lan + " link add p" + name + " type veth peer name " + name + " netns " + ns)
		b.ip("-n " + b.lan + " link set p" + name + " master br0 up")
	}
	b.ip("-n " + b.server + " addr add " + serverAddr + "/16 dev s0")
	b.ip("-n " + b.server + " link set s0 up")
	b.ip("-n " + b.other + " addr add " + otherAddr + "/16 dev o0")
	b.ip("-n " + b.other + " link set o0 up")
	b.ip("-n " + b.client + " link set c0 address " + hostMAC + " up")
	return b
}

// start starts both servers.
func (b *beside) start(other otherServer, boot, mode string) {
	b.t.Helper()
	t := b.t
	b.rival = filepath.Join(b.dir, other.name+".log")
	b.daemon(b.other, b.rival, nil, other.start(b, boot)...)
	await(t, b.rival, other.ready, time.Minute)
	b.log = filepath.Join(b.dir, "servers.log")
	b.daemon(b.server, b.log, append(os.Environ(), serverEnv+"="+b.dir, dhcpEnv+"="+mode, "DEBUG=1"), os.Args[0])
	await(t, b.log, "ready", time.Minute)
	t.Cleanup(func() {
		if t.Failed() || testing.Verbose() {
			t.Logf("the servers' log:\n%s\n%s's log:\n%s", read(b.log), other.name, read(b.rival))
		}
	})
}

func (b *beside) ip(args string) {
	b.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		b.t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
}

// daemon runs a command in a namespace until the test ends. What it says goes
// into a file.
func (b *beside) daemon(ns, log string, env []string, args ...string) *exec.Cmd {
	b.t.Helper()
	out, err := os.Create(log)
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = b.dir, env, out, out
	if env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
		out.Close()
	})
	return cmd
}

// run runs a command in the clients' namespace.
func (b *beside) run(name string, args ...string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", b.client, name}, args...)...)
	cmd.Dir, cmd.Env = b.dir, []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func read(file string) string {
	text, _ := os.ReadFile(file)
	return string(text)
}

// await waits until a file has a line that matches, as long as a busy machine may
// take, and returns it.
func await(t *testing.T, file, pattern string, patience time.Duration) string {
	t.Helper()
	want := regexp.MustCompile("(?m)^.*" + pattern + ".*$")
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if line := want.FindString(read(file)); line != "" {
			return line
		}
		if time.Now().After(deadline) {
			t.Fatalf("no line of %s matched %q:\n%s", file, pattern, read(file))
		}
	}
}

// mac returns the hardware address of an interface.
func (b *beside) mac(ns, name string) string {
	b.t.Helper()
	out, err := exec.Command("ip", "netns", "exec", ns, "cat", "/sys/class/net/"+name+"/address").Output()
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
