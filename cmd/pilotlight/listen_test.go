package main

import (
	"net"
	"strings"
	"syscall"
	"testing"
)

func TestBindError(t *testing.T) {
	taken, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		taken.LocalAddr().String(): "another process has it (ss -lunp), or give another with --dhcp",
		"192.0.2.77:67":            "this machine has no such address (ip -br addr): give it one, or write --dhcp :67 for all that it has",
	} {
		if _, err := listenUDP(t.Context(), "udp4", address, "--dhcp"); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	// Whoever runs the tests may be root, who may have any port.
	if err := bindError("UDP", "0.0.0.0:67", "--dhcp", syscall.EACCES); !strings.Contains(err.Error(), "permission denied; ports below 1024 are root's: use sudo") {
		t.Error(err)
	}
}
