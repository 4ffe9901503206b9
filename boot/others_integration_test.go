//go:build integration

package boot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// piAddress is the Raspberry Pi's of its documentation.
const piAddress = "dc:a6:32:01:36:c2"

// A Raspberry Pi 4's exchange, as its documentation has it, by clients that we did
// not write: no emulator has its boot ROM and EEPROM.
func TestIntegrationRaspberryPi(t *testing.T) {
	for _, row := range []struct {
		what, profile string
		boots         bool
	}{
		{"it boots", `{"args": ["console=serial0,115200", "config={{.ConfigURL}}"]}`, true},
		{"it is left to its disk", `{"boot": "local"}`, false},
	} {
		t.Run(row.what, func(t *testing.T) {
			b := newLAN(t)
			for name, text := range map[string]string{
				"rpi/start4.elf": "the firmware", "rpi/config.txt": "gpu_mem=16\n", "kernel": "the kernel", "one": "first", "two": "second",
				"profile.json": row.profile,
				"image.json":   `{"arch": "aarch64", "initrd": [{"url": "` + filepath.Join(b.dir, "one") + `"}, {"url": "` + filepath.Join(b.dir, "two") + `"}]}`,
			} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(b.dir, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv(loadersEnv, b.dir)
			b.start(nobody, "", "")
			b.ip("-n " + b.client + " link set c0 address " + piAddress)
			said := b.run("udhcpc", "-i", "c0", "-n", "-q", "-f", "-s", b.script(), "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000", "-O", "43", "-O", "66", "-O", "67")
			menu := "opt43=0601030a0400505845091400001152617370626572727920506920426f6f74ff"
			if !strings.Contains(said, "ip="+hostAddr) || strings.Contains(said, menu) != row.boots || strings.Contains(said, "siaddr="+serverAddr) != row.boots {
				t.Errorf("it was told:\n%s", said)
			}
			for name, want := range map[string]string{
				"9ffefdef/start4.elf": "the firmware", "start4.elf": "the firmware", "9ffefdef/config.txt": "gpu_mem=16\n[all]\n# host web1 boots image node\narm_64bit=1\nkernel=pilotlight/kernel\ninitramfs pilotlight/initrd followkernel\n",
				"9ffefdef/cmdline.txt":       "console=serial0,115200 config=http://10.77.0.1:8080/ignition?mac=dc-a6-32-01-36-c2\n",
				"9ffefdef/pilotlight/kernel": "the kernel", "dc-a6-32-01-36-c2/pilotlight/initrd": "first\x00\x00\x00second", "9ffefdef/recovery.elf": "",
			} {
				for client, got := range map[string]string{"tftp-hpa": b.hpa(name), "atftp": b.atftp(name)} {
					if !row.boots {
						want = ""
					}
					if got != want {
						t.Errorf("%s got %s as %q, want %q", client, name, got, want)
					}
				}
			}
		})
	}
}

// An iPXE without HTTP is given another one, once: what it is given asks again, and
// if that is no better it is told so, not given itself for ever.
func TestIntegrationOldIPXE(t *testing.T) {
	b := newBeside(t, nobody, "", "")
	asks := func(features string) string {
		return b.run("udhcpc", "-i", "c0", "-n", "-q", "-f", "-s", b.script(), "-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000", "-x", "0x4d:69505845", "-x", "0xaf:"+features)
	}
	const old, current = "180101210101", "180101130101210101"
	for i, row := range []struct{ features, file string }{
		{old, "tftp://10.77.0.1/undionly.kpxe"}, {current, "http://10.77.0.1:8080/boot.ipxe"},
		{old, "tftp://10.77.0.1/undionly.kpxe"}, {old, ""},
	} {
		said := asks(row.features)
		if has := strings.Contains(said, "boot_file="); has != (row.file != "") || !strings.Contains(said, "boot_file="+row.file+"\n") && has {
			t.Errorf("%d: %s", i, said)
		}
	}
	if log := read(b.log); !strings.Contains(log, "asks as an iPXE without HTTP again, after it was given undionly.kpxe") {
		t.Error("the log does not say so")
	}
}

func (b *beside) script() string { return (&lab{t: b.t, dir: b.dir}).script() }

// hpa and atftp return a file, or nothing when they are refused.
func (b *beside) hpa(name string) string {
	local := filepath.Join(b.t.TempDir(), "file")
	b.run("tftp", "-m", "binary", serverAddr, "-c", "get", name, local)
	return read(local)
}

func (b *beside) atftp(name string) string {
	local := filepath.Join(b.t.TempDir(), "file")
	b.run("sh", "-c", "atftp --get --remote-file "+name+" --local-file "+local+" --option 'blksize 1468' --option 'tsize 0' "+serverAddr+" || true")
	return read(local)
}
