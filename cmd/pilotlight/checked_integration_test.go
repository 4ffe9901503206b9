//go:build integration

package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestIntegrationNewVersionServesAtOnce starts a server on manifests that an earlier
// version found right: it serves, verifies them meanwhile, and notes that.
func TestIntegrationNewVersionServesAtOnce(t *testing.T) {
	l := newLab(t)
	l.write("all.yaml", labManifest+hostManifest("n1", mac1))
	l.write("vmlinuz", "a kernel")
	first := l.serve()
	l.eventually("the manifests are noted", func() bool { return readChecked(l.data()).program != "" })
	first.stop(syscall.SIGTERM)
	own := readChecked(l.data())
	if err := os.WriteFile(checkedFile(l.data()), []byte(own.docs+" "+strings.Repeat("0", 64)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.serve()
	l.eventually("this version has noted them", func() bool { return readChecked(l.data()) == own })
}
