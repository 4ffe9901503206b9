package main

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// bindError says why a port could not be had, and what to type.
func bindError(network, address, flag string, err error) error {
	port := ""
	if a, err := netip.ParseAddrPort(address); err == nil {
		port = fmt.Sprintf(":%d", a.Port())
	}
	hint := "give another with " + flag
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		look := map[string]string{"UDP": "ss -lunp", "TCP": "ss -ltnp"}[network]
		hint = fmt.Sprintf("another process has it (%s), or give another with %s", look, flag)
	case errors.Is(err, syscall.EACCES):
		hint = "ports below 1024 are root's: use sudo, or CAP_NET_BIND_SERVICE as examples/systemd has it, or " + hint
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = fmt.Sprintf("this machine has no such address (ip -br addr): give it one, or write %s %s for all that it has", flag, port)
	}
	return fmt.Errorf("listen on %s %s: %w; %s", network, address, err, hint)
}
