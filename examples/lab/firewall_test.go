//go:build lab

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// stranger is an address of the lab's network that the firewall of the manifests
	// lets reach SSH, and nothing else.
	stranger = "10.99.0.200"

	// unnamed is a port in no rule of the firewall; listener listens there.
	unnamed  = "9000"
	listener = "systemd-run --quiet --unit=lab-listener systemd-socket-activate --accept --inetd -l " + unnamed + " cat /etc/hostname"

	// toEtcd prints the machine's connections to etcd, by their ends there.
	toEtcd = "; ss -tnH state established '( dport = :2379 )' | awk '{print $3}'"

	takeDown = "nft delete table inet pilotlight"
	putUp    = "systemctl reload pilotlight-firewall.service"
)

// doors are who may reach what of a machine; all is reached where there is no firewall.
var doors = []struct {
	what, from, port string
	open             bool
}{
	{"the server to SSH", serverAddress, "22", true},
	{"the server to the site", serverAddress, "8080", true},
	{"the server to a port without a rule", serverAddress, unnamed, false},
	{"a stranger to SSH", stranger, "22", true},
	{"a stranger to the site", stranger, "8080", false},
	{"a stranger to a port without a rule", stranger, unnamed, false},
}

// admit adds the stranger's address to the lab's network.
func (l *labTest) admit(t *testing.T) {
	t.Helper()
	if err := l.network.all(l.ctx, []string{"ip", "address", "replace", stranger + "/32", "dev", bridge}); err != nil {
		t.Fatal(err)
	}
}

// knock tries all doors of a machine at once. What is dropped answers nothing: a
// refusal is a mistake, as is a door that opens.
func (l *labTest) knock(t *testing.T, m *machine, when string, firewall bool) {
	t.Helper()
	l.say("%s: who reaches what %s", m.name, when)
	errs := make([]error, len(doors))
	var all sync.WaitGroup
	for i, d := range doors {
		all.Go(func() {
			conn, err := l.network.dialFrom(l.ctx, d.from, "tcp", net.JoinHostPort(m.address, d.port))
			if err == nil {
				err = conn.Close()
			}
			errs[i] = err
		})
	}
	all.Wait()
	for i, d := range doors {
		var timed net.Error
		switch err := errs[i]; {
		case d.open || !firewall:
			if err != nil {
				t.Errorf("%s: %s: %v", when, d.what, err)
			}
		case err == nil:
			t.Errorf("%s: %s: it is reached", when, d.what)
		case !errors.As(err, &timed) || !timed.Timeout():
			t.Errorf("%s: %s: it is not dropped: %v", when, d.what, err)
		}
	}
}

// firewall looks who reaches what of a machine with a firewall, and with Docker's own
// rules behind it; without it, so that the rest proves something; and when Docker has
// made its rules anew.
func (l *labTest) firewall(t *testing.T) {
	m := l.machines[0]
	l.admit(t)
	before := strings.Fields(l.on(t, m, listener+toEtcd))
	if len(before) == 0 {
		t.Error("its agent has no connection to etcd")
	}
	l.knock(t, m, "as it booted", true)
	l.on(t, m, takeDown)
	l.knock(t, m, "without the firewall", false)
	l.on(t, m, putUp)
	l.knock(t, m, "with the firewall again", true)

	// Taken away, so that those that are there afterwards are new.
	l.on(t, m, "iptables -t nat -F DOCKER; systemctl restart docker.service")
	l.eventually(t, 2*time.Minute, func() error {
		if rules := l.on(t, m, "iptables -t nat -S DOCKER"); !strings.Contains(rules, "--dport 8080 ") {
			return fmt.Errorf("Docker has made no rule for the site: %s", rules)
		}
		_, err := l.page(l.ctx, m, "/healthz")
		return err
	})
	l.knock(t, m, "after Docker's restart", true)
	l.reachesOut(t, m)
	after := strings.Fields(l.on(t, m, "systemctl stop lab-listener.service"+toEtcd))
	if !slices.ContainsFunc(before, func(port string) bool { return slices.Contains(after, port) }) {
		t.Errorf("its agent's connections to etcd were %v, and are %v", before, after)
	}
	l.allReady(t)
}

// reachesOut has the site's container ask for a page of the server's network: the
// request comes from the machine's address.
func (l *labTest) reachesOut(t *testing.T, m *machine) {
	t.Helper()
	var near net.Listener
	err := l.network.within(func() (err error) {
		near, err = net.Listen("tcp", net.JoinHostPort(serverAddress, "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 10)
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.RemoteAddr
		fmt.Fprintln(w, "ok")
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(near) })
	defer func() { _ = s.Close(); serving.Wait() }()
	l.on(t, m, "docker exec "+l.container(t, m)+" /site -ask http://"+near.Addr().String()+"/")
	select {
	case from := <-asked:
		if host, _, _ := net.SplitHostPort(from); host != m.address {
			t.Errorf("the container's request came from %s, not from its machine %s", from, m.address)
		}
	case <-l.ctx.Done():
		t.Error(context.Cause(l.ctx))
	}
}
