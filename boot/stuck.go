package boot

import (
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// after is what follows a step of a boot, within which time, and the likely
// reason when it does not.
type after struct {
	within time.Duration
	reason string
}

var afterStep = map[cluster.Step]after{
	cluster.StepDHCP: {30 * time.Second, "it asks for no loader or script: its firmware took another server's answer, or cannot reach this one by TFTP (UDP 69 and above) or HTTP; " +
		"a machine that goes on to its disk looks the same"},
	cluster.StepLoader:  {30 * time.Second, "the loader did not ask DHCP again: it does not know this network card (try ipxe.efi or undionly.kpxe instead, in --loaders), or Secure Boot refuses it"},
	cluster.StepScript:  {30 * time.Second, "it fetches no kernel: see the machine's console for what iPXE says of it"},
	cluster.StepKernel:  {3 * time.Minute, "it fetches no initial RAM disk or does not start: too little memory, or a kernel for another firmware (Secure Boot, architecture)"},
	cluster.StepInitrd:  {3 * time.Minute, "it does not come back for its root file system or config: the initial RAM disk has no driver for the network card, or the kernel stopped (see the console)"},
	cluster.StepRootfs:  {5 * time.Minute, "it does not ask for its config: too little memory for the root file system, or the kernel arguments have no ConfigURL"},
	cluster.StepPointer: {2 * time.Minute, "it does not fetch its config: the host cannot reach HTTPS (8443) on the server, its clock is before 2015, or its Ignition gave up (see the console)"},
	cluster.StepConfig:  {5 * time.Minute, "it does not fetch the agent, or say that it is installed: Ignition or cloud-init failed (see the console), or the installer is still at it"},
	cluster.StepAgent:   {5 * time.Minute, "the agent does not join: the host cannot reach HTTPS (8443) on the server, or its clock is wrong; on the host: journalctl -u pilotlight-agent"},
	cluster.StepJoin:    {10 * time.Minute, "it joined and is not ready: `pilotlight site status` says what its containers wait for"},
}

// Stuck says why a boot hangs, if nothing has followed its last step for longer
// than that takes. A boot that came to its end does not hang.
func Stuck(b cluster.Boot, now time.Time) (why string, stuck bool) {
	if len(b.Events) == 0 {
		return "", false
	}
	last := b.Events[len(b.Events)-1]
	if last.Local {
		return "", false // what its disk does is not seen
	}
	if last.Step == cluster.StepDHCP { // a system asks again, whatever came before
		for _, e := range b.Events {
			if e.Step != cluster.StepDHCP && e.Step != cluster.StepLoader {
				last.Step = e.Step
			}
		}
	}
	next, ok := afterStep[last.Step]
	if !ok || now.Sub(last.At) < next.within {
		return "", false
	}
	return next.reason, true
}
