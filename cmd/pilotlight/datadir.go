package main

import (
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pilotlight/pilotlight/cluster/etcd"
	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

// dataDir is the server's data directory, locked for one process:
//
//	ca/        the authority
//	server/    the server's certificates, the key that secrets are sealed to, its DUID, its place among servers
//	operator/  what an operator needs elsewhere: certificate, key, ca, address
//	etcd/      the embedded member
//	images/    verified files of OS images
//	registry/  blobs of the embedded registry
type dataDir struct {
	path     string
	lock     *os.File
	ca       *join.CA
	identity *secret.Identity
}

func (d *dataDir) join(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// lockDataDir makes the directory, if it is not there, and takes it for this
// process. What is missing in it, fill makes.
func lockDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w; give another with --data", err)
	}
	lock, err := lockFile(filepath.Join(path, "lock"))
	if err != nil {
		return nil, err
	}
	return &dataDir{path: path, lock: lock}, nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("%s is in use by another `pilotlight serve`: stop that one, or give another --data", filepath.Dir(path))
	}
	return f, nil
}

// guard refuses a directory in which something is missing that nothing can make
// anew, or into which others may put it. A restore that left out what is to be
// kept apart (docs/trust.md) would else end in a new authority that no host
// trusts, and a key that opens no secret.
func (d *dataDir) guard() error {
	info, err := os.Stat(d.path)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others than its owner may write to %s, and so to the keys in it: chmod go-w %s", d.path, d.path)
	}
	if _, err := os.Stat(d.join("etcd", "member")); errors.Is(err, fs.ErrNotExist) {
		return nil // a first start, or one that came no further
	}
	var errs []error
	for _, name := range []string{"ca/ca.crt", "ca/ca.key", "server/secrets.key"} {
		if _, err := os.Stat(d.join(name)); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%s is missing: restore it from your backup", d.join(name)))
		}
	}
	if errs != nil {
		return fmt.Errorf("%s holds what was applied, but not all that goes with it\n%w\nto begin anew, with every secret put and every host booted again, move %s away",
			d.join("etcd"), errors.Join(errs...), d.join("etcd"))
	}
	for _, name := range []string{"ca/ca.key", "server/secrets.key"} {
		if info, err := os.Stat(d.join(name)); err == nil && info.Mode().Perm()&0o077 != 0 {
			errs = append(errs, fmt.Errorf("others than its owner may read %s: chmod 600 %s, and ask who did", d.join(name), d.join(name)))
		}
	}
	return errors.Join(errs...)
}

// fill makes what is missing in the directory: the authority, and certificates that
// hold for names and addresses.
func (d *dataDir) fill(names []string, addresses []netip.Addr, server string) (err error) {
	if err := d.guard(); err != nil {
		return err
	}
	if d.ca, err = join.OpenCA(d.join("ca")); err != nil {
		return err
	}
	if err := d.ensureServer(names, addresses); err != nil {
		return err
	}
	for base, s := range map[string]join.Subject{
		d.join("server", "etcd"):       {CommonName: etcd.RootUser},
		d.join("operator", "operator"): {CommonName: "admin", Organization: join.OperatorOrg},
	} {
		if err := d.ca.Ensure(base, s); err != nil {
			return err
		}
	}
	for name, text := range map[string][]byte{"ca.crt": d.ca.PEM(), "server": []byte(server + "\n")} {
		if err := os.WriteFile(d.join("operator", name), text, 0o644); err != nil {
			return fmt.Errorf("keep what operators need: %w", err)
		}
	}
	d.identity, err = openIdentity(d.join("server", "secrets.key"))
	return err
}

// ensureServer keeps the certificates true for names and addresses with which the
// server answers, on HTTPS and for etcd's clients, and speaks to etcd's members.
func (d *dataDir) ensureServer(names []string, addresses []netip.Addr) error {
	for base, name := range map[string]string{"server": "server:" + names[0], "peer": etcd.PeerUser} {
		if err := d.ca.Ensure(d.join("server", base), join.Subject{CommonName: name, Names: names, Addresses: addresses, Server: true}); err != nil {
			return err
		}
	}
	return nil
}

// openIdentity loads the key that secrets are sealed to at rest, or makes it.
func openIdentity(path string) (*secret.Identity, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		id, err := secret.ParseIdentity(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w: restore it from a backup; no secret can be read without it", path, err)
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the key of secrets: %w", err)
	}
	id, err := secret.NewIdentity()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep the key of secrets: %w", err)
	}
	_, err = f.WriteString(id.Export() + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("keep the key of secrets: %w", err)
	}
	return id, nil
}

// duid returns the identifier by which DHCPv6 clients know the server, and makes
// it once: a client that renews names the server that it had its address from.
func (d *dataDir) duid(fresh func() []byte) ([]byte, error) {
	path := d.join("server", "duid")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(hex.EncodeToString(fresh()) + "\n")
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("keep the server's DUID: %w", err)
	}
	duid, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(duid) < 3 || len(duid) > 130 {
		return nil, fmt.Errorf("%s holds no DUID: remove it, and it is made anew", path)
	}
	return duid, nil
}

// member is how the server's part of etcd is started.
func (d *dataDir) member(p place, client netip.AddrPort) etcd.MemberConfig {
	files := func(base string) etcd.Files {
		return etcd.Files{Cert: d.join("server", base+".crt"), Key: d.join("server", base+".key"), CA: d.join("ca", "ca.crt")}
	}
	return etcd.MemberConfig{
		Name: string(p.Name), Dir: d.join("etcd"), Client: client, Peer: p.Peer, TLS: files("server"), PeerTLS: files("peer"),
		Several: p.Several, Join: p.Members,
	}
}

// etcdClient is how the server reaches etcd: as its root user.
func (d *dataDir) etcdClient() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(d.join("server", "etcd.crt"), d.join("server", "etcd.key"))
	if err != nil {
		return nil, fmt.Errorf("load the server's certificate for etcd: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: d.ca.Pool()}, nil
}

// close lets the directory go.
func (d *dataDir) close() error { return d.lock.Close() }
