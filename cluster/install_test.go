package cluster

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestInstallLife(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	i := Install{Host: "db1", Phase: InstallWanted}
	step := func(what string, next Install, phase InstallPhase, booted int, pending bool, why string) {
		t.Helper()
		if i = next; i.Phase != phase || i.Booted != booted || i.Pending() != pending || !strings.Contains(i.Why(), why) {
			t.Errorf("%s: %+v, pending %t: %s", what, i, i.Pending(), i.Why())
		}
	}
	step("nothing is known", Install{}, "", 0, false, "not known")
	step("what is not known does not begin", i.Begin("b", now), "", 0, false, "")
	step("wanted", Install{Host: "db1", Phase: InstallWanted}, InstallWanted, 0, true, "is to be installed")
	step("the first boot", i.Begin("b1", now), InstallBegun, 1, true, "booted 1 of 3 times")
	step("the same boot again", i.Begin("b1", now), InstallBegun, 1, true, "")
	step("a second one", i.Begin("b2", now), InstallBegun, 2, true, "booted 2 of 3")
	step("a boot that nobody has seen begin", i.Begin("", now), InstallBegun, 3, false, "pilotlight host reinstall db1")
	step("and another such", i.Begin("", now), InstallFailed, 3, false, "never said that it was done")
	step("a late word", i.Done("10.0.0.9", now), InstallDone, 3, false, "since 2026-01-02T03:04:05Z")
	step("installed", i.Begin("b9", now), InstallDone, 3, false, "")
	step("said again", i.Done("10.0.0.9", now.Add(time.Hour)), InstallDone, 3, false, "03:04:05Z")
	step("wanted again, and a late word of the last one", Install{Host: "db1", Phase: InstallWanted}.Done("10.0.0.9", now), InstallWanted, 0, true, "")
}

// However machines boot and installers fail, one order boots the installer
// MaxInstalls times at most, and not at all once it is done.
func TestNoInstallLoop(t *testing.T) {
	now := time.Now()
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		i := Install{Phase: InstallWanted}
		begun, done := map[string]bool{}, false
		for boot := range 30 {
			id := fmt.Sprint(boot)
			if r.IntN(4) == 0 {
				id = "" // this server has not seen the boot begin
			}
			for range 1 + r.IntN(3) { // asked for again when the network fails
				before := i
				i = i.Begin(id, now)
				if i.Phase == InstallBegun && i != before {
					begun[fmt.Sprint(boot, i.Booted)] = true
					if done {
						t.Fatalf("seed %d: boot %d installs what is installed", seed, boot)
					}
				}
			}
			if i.Phase == InstallBegun && r.IntN(8) == 0 {
				i, done = i.Done("host", now), true
			}
		}
		if len(begun) > MaxInstalls {
			t.Fatalf("seed %d: the installer was booted %d times", seed, len(begun))
		}
	}
}
