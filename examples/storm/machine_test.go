//go:build storm || integration

package storm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/agent"
)

const (
	watchdog   = 3 * time.Minute // a boot that takes longer is begun anew
	powerCycle = 5 * time.Second // until firmware asks again
	maxBoots   = 20              // of one machine: no more is a machine that boots
)

// machine is one simulated machine.
type machine struct {
	world *world
	n     int
	mac   cluster.MAC
	uuid  [16]byte
	bios  bool
	card  <-chan *dhcpv4.DHCPv4
	tell  *log

	addr netip.Addr // it has at the moment
	step step
	boot string // directory of the system that runs: in memory, and gone with it

	loader bound  // what firmware got
	entry  bound  // what iPXE got
	script string // its own
	config cluster.AgentConfig
	system *system // its agent; nil before it joined
}

func newMachine(w *world, n int) *machine {
	m := &machine{world: w, n: n, bios: n%2 == 0, tell: newLog()}
	m.mac = cluster.MAC{0x52, 0x54, 0x01, byte(n >> 16), byte(n >> 8), byte(n)}
	sum := sha256.Sum256(m.mac[:])
	copy(m.uuid[:], sum[:])
	m.card = w.wire.plug(m.mac)
	return m
}

func (m *machine) host() cluster.HostName { return hostName(m.n) }

func hostName(n int) cluster.HostName { return cluster.HostName(fmt.Sprintf("h%04d", n)) }

// step is one step of a boot.
type step string

// The steps, in their order.
const (
	stepFirmware step = "dhcp, firmware"
	stepLoader   step = "tftp loader"
	stepIPXE     step = "dhcp, iPXE"
	stepScript   step = "http script"
	stepKernel   step = "http kernel"
	stepInitrd   step = "http initrd"
	stepSystem   step = "dhcp, system"
	stepConfig   step = "http config"
	stepJoin     step = "join"
	stepLink     step = "etcd, told"
	stepStatus   step = "etcd, status"
)

var steps = []struct {
	step step
	do   func(*machine, context.Context) error
}{
	{stepFirmware, func(m *machine, ctx context.Context) (err error) {
		m.loader, err = m.dhcp(ctx, asFirmware)
		return err
	}},
	{stepLoader, (*machine).fetchLoader},
	{stepIPXE, func(m *machine, ctx context.Context) (err error) { m.entry, err = m.dhcp(ctx, asIPXE); return err }},
	{stepScript, (*machine).fetchScript},
	{stepKernel, func(m *machine, ctx context.Context) error { return m.fetchImage(ctx, "kernel", m.world.kernel) }},
	{stepInitrd, func(m *machine, ctx context.Context) error { return m.fetchImage(ctx, "initrd", m.world.initrd) }},
	{stepSystem, func(m *machine, ctx context.Context) error { _, err := m.dhcp(ctx, asSystem); return err }},
	{stepConfig, (*machine).fetchConfig},
	{stepJoin, (*machine).join},
	{stepLink, (*machine).listen},
	{stepStatus, (*machine).report},
}

// run boots the machine until it is a host of the cluster, however often that
// takes; its agent goes on until ctx ends.
func (m *machine) run(ctx context.Context) error {
	for n := range maxBoots {
		if n > 0 && !agent.Sleep(ctx, m.world.paced(powerCycle)) {
			return ctx.Err()
		}
		err := m.bootOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		m.tell.failed(m.step, err)
		if err := m.off(); err != nil {
			return err
		}
	}
	return fmt.Errorf("host %s: %d boots, and none came to its end; the last failed in step %q", m.host(), maxBoots, m.step)
}

func (m *machine) bootOnce(ctx context.Context) error {
	var err error
	if m.boot, err = os.MkdirTemp(m.world.memory, string(m.host())+"-"); err != nil {
		return err
	}
	began := time.Now()
	// The agent lives longer than the watchdog, and ends with the machine.
	running, stop := context.WithCancelCause(ctx)
	m.system = &system{ctx: running, stop: stop}
	limited, cancel := context.WithTimeout(running, m.world.paced(watchdog))
	defer cancel()
	for _, s := range steps {
		m.step = s.step
		start := time.Now()
		if err := s.do(m, limited); err != nil {
			return err
		}
		m.tell.took(s.step, time.Since(start))
	}
	m.tell.booted(time.Since(began))
	return nil
}

// off is a power cut: nothing is left but what the servers know.
func (m *machine) off() error {
	m.system.end()
	return errors.Join(m.drop(), os.RemoveAll(m.boot))
}

func (m *machine) file(name string) string { return filepath.Join(m.boot, name) }

// dial connects from the machine's own address.
func (m *machine) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if m.addr.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: m.addr.AsSlice()}
	}
	return d.DialContext(ctx, network, address)
}

// browser is an HTTP client as firmware has: no cookies, no proxy, one connection.
func (m *machine) browser() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: m.dial, DisableCompression: true, MaxConnsPerHost: 1, ResponseHeaderTimeout: 10 * time.Second,
	}}
}
