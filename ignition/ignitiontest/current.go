// Package ignitiontest builds the current Ignition, for tests that have it read what
// pilotlight serves. Debian's is older.
package ignitiontest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Current builds Ignition of the version in go.mod, which reads the newest spec that
// is served, and returns the program's path.
var Current = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-json", "github.com/coreos/ignition/v2").Output()
	if err != nil {
		return "", fmt.Errorf("find Ignition's source: %w", err)
	}
	var module struct{ Dir, Version string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", err
	}
	dir := filepath.Join(os.TempDir(), "pilotlight-ignition-"+module.Version)
	binary := filepath.Join(dir, "ignition")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	// Two tests may build it at once: the source is each one's own, and the program is
	// put in its place whole.
	const script = `
set -e
source=$(mktemp -d) && trap 'chmod -R u+w "$source" && rm -rf "$source"' EXIT
cp -r "$SOURCE/." "$source" && chmod -R u+w "$source" && cd "$source"
GOFLAGS=-mod=mod go build -buildvcs=false -ldflags "-X github.com/coreos/ignition/v2/internal/version.Raw=$VERSION -X github.com/coreos/ignition/v2/internal/distro.selinuxRelabel=false" -o ignition.new ./internal
mkdir -p "$DIR" && new=$(mktemp "$DIR/new.XXXXXX") && cp ignition.new "$new" && chmod 755 "$new" && mv "$new" "$DIR/ignition"`
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), "DIR="+dir, "SOURCE="+module.Dir, "VERSION="+module.Version)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build Ignition %s: %w: type: apt-get install -y gcc libblkid-dev\n%s", module.Version, err, out)
	}
	return binary, nil
})
