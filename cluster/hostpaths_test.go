package cluster

import "testing"

func TestCheckHostPath(t *testing.T) {
	more := []string{"/var/log/app", "/home/app/"}
	for _, ok := range []string{"/srv", "/srv/www", "/srv/www/", "/data/x", "/mnt/a/../b", "/media/usb", "/var/log/app", "/var/log/app/today", "/home/app/x"} {
		if err := CheckHostPath(ok, more); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []string{
		"/", "/run", "/run/docker.sock", "/run/", "/run/../run/docker.sock", "/var/run/docker.sock", "/etc", "/etc/shadow", "/proc", "/sys", "/dev/sda", "/root",
		"/boot", "/usr/bin", "/var", "/var/lib", "/var/lib/docker", "/var/lib/pilotlight-agent/state", "/run/pilotlight/secrets", "/opt", "/opt/pilotlight/bin",
		"/srv/../etc", "/srvx", "/home", "/home/other", "/tmp", "/var/log", "srv/www", "", "//", "/srv/../..",
	} {
		if err := CheckHostPath(bad, more); err == nil {
			t.Errorf("%q may be mounted", bad)
		}
	}
	if err := CheckHostPath("/etc/x", []string{"/etc/x", "/"}); err == nil {
		t.Error("a policy may give the system away")
	}
}
