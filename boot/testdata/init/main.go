// Command init is all that the firmware tests boot: it says on the console that the
// kernel has come so far, and with which arguments, and turns the machine off.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func main() {
	_ = os.MkdirAll("/proc", 0o755)
	_ = syscall.Mount("proc", "/proc", "proc", 0, "")
	line, err := os.ReadFile("/proc/cmdline")
	_, second := os.Stat("/second") // of the second initial RAM disk
	var name syscall.Utsname
	_ = syscall.Uname(&name)
	var machine []byte
	for _, c := range name.Machine {
		if c != 0 {
			machine = append(machine, byte(c))
		}
	}
	fmt.Printf("\npilotlight-test: booted on %s, second=%t, error=%v, args: %s\n", machine, second == nil, err, strings.TrimSpace(string(line)))
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}
