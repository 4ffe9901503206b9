package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// VaultForTest returns a vault in memory that needs no root and no mount.
func VaultForTest(t *testing.T) *Vault {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pilotlight-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// A directory that is in use is not mounted over.
	if err := os.Mkdir(filepath.Join(dir, "in-use"), 0o700); err != nil {
		t.Fatal(err)
	}
	v := &Vault{Dir: dir}
	if os.Getuid() != 0 {
		v.chown = func(string, int, int) error { return nil }
	}
	return v
}
