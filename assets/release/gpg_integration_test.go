//go:build integration

package release

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestIntegrationGPG: signatures that GnuPG makes, as the publishers' are: of a subkey, in
// binary and in armor, and of a key that was revoked.
func TestIntegrationGPG(t *testing.T) {
	home := t.TempDir()
	gpg := func(stdin string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %v: %v: %s (apt-get install gnupg)", args, err, &stderr)
		}
		return out
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	gpg("%no-protection\nKey-Type: RSA\nKey-Length: 2048\nKey-Usage: cert\nSubkey-Type: RSA\nSubkey-Length: 2048\nSubkey-Usage: sign\nName-Real: GnuPG\nName-Email: gpg@example.org\n%commit\n", "--gen-key")
	file := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(file, content("kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys("gpg", gpg("", "--export", "--armor"))
	if err != nil {
		t.Fatal(err)
	}
	binary := gpg("", "--output", "-", "--detach-sign", file)
	armored := gpg("", "--armor", "--output", "-", "--detach-sign", file)
	later := time.Now().Add(time.Second)
	for _, sig := range [][]byte{binary, armored} {
		if who, err := keys.Verify(bytes.NewReader(content("kernel")), sig, later); err != nil || !strings.HasPrefix(who, "GnuPG <gpg@example.org> ") {
			t.Errorf("%s, %v", who, err)
		}
		if _, err := keys.Verify(bytes.NewReader(content("other")), sig, later); !errors.Is(err, ErrSignature) {
			t.Error(err)
		}
	}
	text := gpg("", "--armor", "--output", "-", "--textmode", "--detach-sign", file)
	if _, err := keys.Verify(bytes.NewReader(content("kernel")), text, later); !errors.Is(err, ErrSignature) {
		t.Errorf("a signature of a text: %v", err)
	}

	gpg("", "--import", revocation(t, home))
	keys, err = ReadKeys("gpg", gpg("", "--export", "--armor"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Verify(bytes.NewReader(content("kernel")), binary, later.Add(time.Hour)); !errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), "was revoked by its owner") {
		t.Errorf("revoked: %v", err)
	}
}

// revocation returns the revocation that GnuPG made with the key, ready to be
// imported.
func revocation(t *testing.T, home string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(home, "openpgp-revocs.d", "*.rev"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	_, b, _ = bytes.Cut(b, []byte("\n:-----BEGIN")) // the colon guards against an accident
	path := filepath.Join(t.TempDir(), "revocation.asc")
	if err := os.WriteFile(path, append([]byte("-----BEGIN"), b...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
