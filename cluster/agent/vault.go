package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

const (
	defaultMode = 0o400
	newFolder   = ".new" // where files are before they are whole
)

// Vault is a directory in memory that holds opened secrets as files,
// SITE/SERVICE/HASH/TARGET, each HASH for one container to mount. Only root
// gets past the directory itself; in a container a file is its owner's.
type Vault struct {
	Dir   string
	chown func(path string, uid, gid int) error // os.Chown, but for tests that are not root
}

// Open makes the directory, and makes sure that it is in memory and never on a
// disk.
func (v *Vault) Open() error {
	if err := ensureMemory(v.Dir); err != nil {
		return fmt.Errorf("directory for secrets: %w", err)
	}
	if err := os.Chmod(v.Dir, 0o700); err != nil {
		return fmt.Errorf("directory for secrets: %w", err)
	}
	return os.RemoveAll(filepath.Join(v.Dir, newFolder)) // what a killed agent left half written
}

// Path returns the directory of one container.
func (v *Vault) Path(s Slot) string {
	return filepath.Join(v.Dir, string(s.Site), string(s.Service), s.Hash)
}

// Write puts the secrets of a service in place, for a container that runs as
// user. Written again, they are replaced one by one, each in one go.
func (v *Vault) Write(slot Slot, service cluster.Service, user string, values map[cluster.SecretName]secret.Value) error {
	for _, part := range []string{string(slot.Site), string(slot.Service), slot.Hash} {
		if !isFileName(part) {
			return fmt.Errorf("%q cannot be the name of a directory; rename it to a to z, 0 to 9 and -", part)
		}
	}
	dir := v.Path(slot)
	for _, d := range []string{filepath.Join(v.Dir, newFolder), dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("directory for secrets of %s: %w", slot.Key, err)
		}
	}
	for _, m := range service.Secrets {
		if err := v.write(dir, m, user, values[m.Name]); err != nil {
			return fmt.Errorf("secret %s of %s: %w", m.Name, slot.Key, err)
		}
	}
	return os.Chmod(dir, 0o755) // seen as /run/secrets by whatever user the container has
}

func (v *Vault) write(dir string, m cluster.SecretMount, user string, value secret.Value) error {
	target := m.Target
	if target == "" {
		target = string(m.Name)
	}
	if !isFileName(target) {
		return fmt.Errorf("target %q is not the name of a file under /run/secrets; set target: %s", m.Target, m.Name)
	}
	mode := fs.FileMode(m.Mode & 0o777)
	if mode == 0 {
		mode = defaultMode
	}
	uid, gid := m.UID, m.GID
	if uid == 0 && gid == 0 {
		var err error
		if uid, gid, err = owner(user); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Join(v.Dir, newFolder), "")
	if err != nil {
		return err
	}
	plain := value.Reveal()
	_, err = f.Write(plain)
	clear(plain)
	if err == nil {
		err = f.Chmod(mode)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = v.give(f.Name(), uid, gid)
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, target))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (v *Vault) give(path string, uid, gid int) error {
	if v.chown != nil {
		return v.chown(path, uid, gid)
	}
	return os.Chown(path, uid, gid)
}

// owner reads uid[:gid]. No user is root.
func owner(user string) (uid, gid int, err error) {
	if user == "" {
		return 0, 0, nil
	}
	u, g, both := strings.Cut(user, ":")
	uid, err = strconv.Atoi(u)
	if err == nil && both {
		gid, err = strconv.Atoi(g)
	}
	if err != nil || uid < 0 || gid < 0 {
		return 0, 0, fmt.Errorf("the container runs as %q, and whose number that is only its image knows; set user: UID[:GID] in the service, or uid: where it mounts the secret", user)
	}
	return uid, gid, nil
}

func isFileName(s string) bool {
	return s != "" && s != "." && s != ".." && s != newFolder && !strings.ContainsAny(s, "/\x00")
}

// Remove removes the secrets of one container.
func (v *Vault) Remove(s Slot) error {
	if err := os.RemoveAll(v.Path(s)); err != nil {
		return fmt.Errorf("remove the secrets of %s: %w", s.Key, err)
	}
	service := filepath.Dir(v.Path(s))
	if os.Remove(service) == nil { // not when another version's are there
		_ = os.Remove(filepath.Dir(service))
	}
	return nil
}

// Slots returns whose secrets are there.
func (v *Vault) Slots() ([]Slot, error) {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(v.Dir), "*", "*", "*"))
	if err != nil {
		return nil, fmt.Errorf("list the secrets in place: %w", err)
	}
	var out []Slot
	for _, p := range paths {
		rel, err := filepath.Rel(v.Dir, p)
		if err != nil {
			return nil, fmt.Errorf("list the secrets in place: %w", err)
		}
		var s Slot
		if s.UnmarshalText([]byte(rel)) == nil && s.Site != newFolder {
			out = append(out, s)
		}
	}
	return out, nil
}

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

func escapeGlob(s string) string { return globEscaper.Replace(s) }
