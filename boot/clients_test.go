//go:build integration

package boot_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv6"
)

func TestIntegrationUdhcpc(t *testing.T) {
	l := newLab(t)
	script := l.script()
	bios := []string{"-i", "c0", "-n", "-q", "-f", "-s", script, "-O", "tftp", "-O", "bootfile", "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000"}
	contains(t, l.run("udhcpc", bios...), "event bound", "ip="+hostAddr, "mask=16", "router=10.77.0.254", "dns=10.77.0.53", "hostname=web1",
		"siaddr="+serverAddr, "boot_file=undionly.kpxe", "bootfile=undionly.kpxe", "tftp="+serverAddr, "serverid="+serverAddr)

	t.Run("renews and releases", func(t *testing.T) {
		l.ip("addr flush dev c0")
		client := l.begin("udhcpc", "-i", "c0", "-f", "-R", "-s", script)
		client.awaits("event bound")
		client.Process.Signal(syscall.SIGUSR1)
		client.awaits("event renew")
		client.Process.Signal(syscall.SIGTERM)
		client.Wait()
		contains(t, client.said(), "event renew", "ip="+hostAddr, "entering released state")
		eventually(t, "the released lease has lapsed", func() bool { return !l.lease(hostAddr).Expires.After(time.Now()) })
	})
	t.Run("has its pool address again after a restart", func(t *testing.T) {
		l.ip("link set c0 address 52:54:00:77:00:99")
		args := []string{"-i", "c0", "-n", "-q", "-f", "-s", script}
		addr := regexp.MustCompile(`(?m)^ip=(10\.77\..*)$`)
		first := addr.FindStringSubmatch(l.run("udhcpc", args...))
		l.stop()
		l.start()
		second := addr.FindStringSubmatch(l.run("udhcpc", args...))
		if len(first) == 0 || len(second) == 0 || first[1] != second[1] {
			t.Errorf("at first %v, then %v", first, second)
		}
	})
}

func TestIntegrationDhclient(t *testing.T) {
	l := newLab(t)
	common := []string{"-4", "-v", "-sf", l.script(), "-lf", filepath.Join(l.dir, "dhclient.leases"), "-pf", filepath.Join(l.dir, "dhclient.pid"), "c0"}
	contains(t, l.run("dhclient", append([]string{"-1"}, common...)...), "DHCPACK of "+hostAddr+" from "+serverAddr, "bound to "+hostAddr)
	l.run("dhclient", append([]string{"-x"}, common...)...) // leaves without releasing
	t.Run("init-reboot", func(t *testing.T) {
		l.ip("addr flush dev c0")
		out := l.run("dhclient", append([]string{"-1"}, common...)...)
		contains(t, out, "DHCPREQUEST for "+hostAddr, "DHCPACK of "+hostAddr)
		if strings.Contains(out, "DHCPDISCOVER") {
			t.Errorf("the client had to begin again:\n%s", out)
		}
	})
	t.Run("release", func(t *testing.T) {
		contains(t, l.run("dhclient", append([]string{"-r"}, common...)...), "DHCPRELEASE of "+hostAddr)
		eventually(t, "the released lease has lapsed", func() bool { return !l.lease(hostAddr).Expires.After(time.Now()) })
	})
	t.Run("an address of another network is refused", func(t *testing.T) {
		l.ip("addr flush dev c0")
		lease := "lease { interface \"c0\"; fixed-address 192.168.9.9; option dhcp-lease-time 86400; option dhcp-server-identifier 192.168.9.1;\n" +
			" renew 5 2036/01/01 00:00:00; rebind 5 2036/01/01 00:00:00; expire 5 2036/01/01 00:00:00; }\n"
		if err := os.WriteFile(filepath.Join(l.dir, "dhclient.leases"), []byte(lease), 0o600); err != nil {
			t.Fatal(err)
		}
		contains(t, l.run("dhclient", append([]string{"-1"}, common...)...), "DHCPREQUEST for 192.168.9.9", "DHCPNAK from "+serverAddr, "bound to "+hostAddr)
		l.run("dhclient", append([]string{"-x"}, common...)...)
	})
}

// Machines that are new each, through a relay, every lease synced to disk. RATE
// sets another rate than the one that any machine can bear.
func TestIntegrationPerfdhcp(t *testing.T) {
	l := newLab(t)
	l.ip("addr add " + relayAddr + "/16 dev c0")
	rate, most := "200", 5.0
	if r := os.Getenv("RATE"); r != "" {
		rate, most = r, 1
	}
	out := l.run("perfdhcp", "-4", "-l", relayAddr, "-r", rate, "-R", "60000", "-p", "4", "-W", "500000", "-x", "t", serverAddr)
	drops := regexp.MustCompile(`drops ratio: ([0-9.]+) %`).FindAllStringSubmatch(out, -1)
	if len(drops) != 2 {
		t.Fatalf("perfdhcp says:\n%s", out)
	}
	for _, d := range drops {
		if ratio, err := strconv.ParseFloat(d[1], 64); err != nil || ratio > most {
			t.Errorf("%s %% were dropped", d[1])
		}
	}
	_, acks, _ := strings.Cut(out, "Timestamps for packets: REQUEST-ACK")
	var took []float64
	for _, m := range regexp.MustCompile(`sent / received: ([0-9.]+) / ([0-9.]+)`).FindAllStringSubmatch(acks, -1) {
		sent, _ := strconv.ParseFloat(m[1], 64)
		received, _ := strconv.ParseFloat(m[2], 64)
		took = append(took, 1000*(received-sent))
	}
	slices.Sort(took)
	if len(took) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	server := l.process
	l.stop()
	used := server.ProcessState.UserTime() + server.ProcessState.SystemTime()
	t.Logf("%s exchanges/s: %d acknowledged, ACK p50 %.2f ms, p99 %.2f ms, %s of CPU each",
		rate, len(took), took[len(took)/2], took[len(took)*99/100], used/time.Duration(len(took)))
}

func TestIntegrationTFTP(t *testing.T) {
	l := newLab(t)
	l.ip("addr add " + hostAddr + "/16 dev c0")
	want, err := os.ReadFile("/usr/lib/ipxe/undionly.kpxe")
	if err != nil {
		t.Fatal(err)
	}
	same := func(t *testing.T, name string) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(l.dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came, %d were sent: %v", len(got), len(want), err)
		}
	}
	t.Run("tftp-hpa", func(t *testing.T) {
		l.run("tftp", "-m", "binary", serverAddr, "-c", "get", "undionly.kpxe", "hpa")
		same(t, "hpa")
	})
	t.Run("atftp", func(t *testing.T) {
		out := l.run("atftp", "--trace", "--option", "blksize 1428", "--option", "tsize 0", "--get", "--remote-file", "/undionly.kpxe", "--local-file", "a", serverAddr)
		contains(t, out, "blksize: 1428", "tsize: "+strconv.Itoa(len(want)))
		same(t, "a")
	})
	t.Run("nothing but the directory", func(t *testing.T) {
		out := l.run("tftp", "-m", "binary", serverAddr, "-c", "get", "../../../etc/passwd", "stolen")
		contains(t, out, "file not found")
	})
	t.Run("the timeline knows", func(t *testing.T) {
		eventually(t, "a loader is in the timeline", func() bool { return strings.Contains(l.timeline(), `"loader"`) })
	})
}

func TestIntegrationCurl(t *testing.T) {
	l := newLab(t)
	url := "http://" + serverAddr + ":8080"
	t.Run("without a lease", func(t *testing.T) {
		l.ip("addr add 10.77.0.9/16 dev c0")
		contains(t, l.run("curl", "-si", url+"/ignition?mac="+hostMAC), "503 Service Unavailable", "Retry-After:", "is lent to nobody")
		l.ip("addr flush dev c0")
	})
	l.run("udhcpc", "-i", "c0", "-n", "-q", "-f", "-s", l.script(), "-V", "PXEClient:Arch:00007:UNDI:003016", "-x", "0x5d:0007")
	contains(t, l.run("curl", "-sS", url+"/boot.ipxe"), "#!ipxe", "chain --autofree ${script}", url+"/ipxe?mac=")
	contains(t, l.run("curl", "-sS", url+"/ipxe?mac="+hostMAC), "kernel "+url+"/images/node/kernel initrd=initrd0 console=ttyS0 test.config.url="+url+"/ignition?mac=52-54-00-77-00-01")
	contains(t, l.run("curl", "-sSH", "Accept: x/y", url+"/ignition?mac="+hostMAC), "web1 x/y")
	contains(t, l.run("curl", "-sS", url+"/cloud/52-54-00-77-00-01/meta-data"), "instance-id: \"web1-", "local-hostname: \"web1\"")
	contains(t, l.run("curl", "-sSi", "-r", "11-20", url+"/images/node/rootfs"), "206 Partial Content", `Etag: "r"`, "\r\n\r\npilotlight")
	contains(t, l.run("curl", "-sSi", url+"/ignition?mac=52:54:00:00:00:09"), "503 Service Unavailable", "apply one with kind: host")
	l.run("curl", "-sSo", "rootfs.got", url+"/images/node/rootfs")
	l.run("cmp", "rootfs", "rootfs.got")
	eventually(t, "every step is in the timeline", func() bool {
		for _, step := range []string{"dhcp", "script", "config", "rootfs"} {
			if !strings.Contains(l.timeline(), `"step":"`+step+`"`) {
				return false
			}
		}
		return true
	})
}

// solicit does what iPXE does: it asks for a router, and waits for an
// advertisement.
func solicit(name string) error {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return err
	}
	defer conn.Close()
	p := ipv6.NewPacketConn(conn)
	if err := p.SetControlMessage(ipv6.FlagHopLimit, true); err != nil {
		return err
	}
	for range 20 { // until the interface has its link-local address
		ask := &ipv6.ControlMessage{IfIndex: ifi.Index, HopLimit: 255}
		if _, err = p.WriteTo([]byte{133, 0, 0, 0, 0, 0, 0, 0}, ask, &net.IPAddr{IP: net.ParseIP("ff02::2"), Zone: name}); err != nil {
			time.Sleep(250 * time.Millisecond)
			continue
		}
		b := make([]byte, 1500)
		p.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		for err == nil {
			var n int
			var cm *ipv6.ControlMessage
			if n, cm, _, err = p.ReadFrom(b); err == nil && b[0] == 134 {
				fmt.Printf("advertised: hops %d, flags %d, lifetime %d, options %d\n", cm.HopLimit, b[5], int(b[6])<<8|int(b[7]), n-16)
				return nil
			}
		}
	}
	return err
}

// iPXE waits 16 s for a router unless it is told that there is none.
func TestIntegrationSolicitation(t *testing.T) {
	l := newLab(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	contains(t, l.run("env", solicitEnv+"=c0", self), "advertised: hops 255, flags 0, lifetime 0, options 0")
}

// A client without an address is answered at its hardware address: nothing
// that is broadcast to clients comes by.
func TestIntegrationUnicast(t *testing.T) {
	l := newLab(t)
	heard := exec.Command("ip", "netns", "exec", l.client, "timeout", "5", "tcpdump", "-l", "-n", "-e", "-i", "c0", "udp dst port 68")
	var out bytes.Buffer
	heard.Stdout = &out
	listening, err := heard.StderrPipe()
	if err == nil {
		err = heard.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	listening.Read(make([]byte, 1)) // it says that it listens
	time.Sleep(200 * time.Millisecond)
	l.run("udhcpc", "-i", "c0", "-n", "-q", "-f", "-s", l.script())
	heard.Wait()
	contains(t, out.String(), "> "+hostMAC, serverAddr+".67 > "+hostAddr+".68")
	if strings.Contains(out.String(), "> ff:ff:ff:ff:ff:ff") {
		t.Errorf("it was broadcast:\n%s", out.String())
	}
}
