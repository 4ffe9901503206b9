package docker

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// DefaultCertificates is where Docker looks for the certificates of registries.
const DefaultCertificates = "/etc/docker/certs.d"

// PlaceCertificates puts under dir what Docker needs to pull from a registry
// (HOST:PORT) with mutual TLS: whom to trust, and who this host is. Docker
// reads them at each pull. Files that are right already are left alone.
func PlaceCertificates(dir, registry string, ca, certificate, key []byte) error {
	dir = filepath.Join(dir, registry)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("certificates for registry %s: %w; set --certs.d DIR", registry, err)
	}
	for _, f := range []struct {
		name  string
		bytes []byte
	}{{"ca.crt", ca}, {"client.cert", certificate}, {"client.key", key}} {
		if err := place(filepath.Join(dir, f.name), f.bytes); err != nil {
			return fmt.Errorf("certificates for registry %s: %w", registry, err)
		}
	}
	return nil
}

func place(path string, b []byte) error {
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, b) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
