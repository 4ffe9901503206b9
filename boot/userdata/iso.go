package userdata

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

// Label is by what cloud-init finds a seed among a machine's disks.
const Label = "cidata"

// iso makes a CD of a NoCloud seed. Rock Ridge gives its files their names, which
// ISO 9660 alone would shorten and turn to capitals.
func (s Seed) iso() (image []byte, err error) {
	dir, err := os.MkdirTemp("", "pilotlight-seed-") // nobody else may look into it
	if err != nil {
		return nil, fmt.Errorf("make a seed: %w", err)
	}
	defer os.RemoveAll(dir)
	path, workspace := filepath.Join(dir, "iso"), filepath.Join(dir, "files")
	files := map[string][]byte{"meta-data": s.metaData(), "user-data": s.Pointer, "network-config": s.NetworkConfig}
	if err := os.Mkdir(workspace, 0o700); err != nil {
		return nil, fmt.Errorf("make a seed: %w", err)
	}
	for name, content := range files {
		if content == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(workspace, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("make a seed: %w", err)
		}
	}
	if err := burn(path, workspace); err != nil {
		return nil, fmt.Errorf("make a seed of host %s: %w", s.Host, err)
	}
	if image, err = os.ReadFile(path); err != nil {
		return nil, fmt.Errorf("make a seed: %w", err)
	}
	return image, nil
}

func burn(path, workspace string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	cd, err := iso9660.Create(file.New(f, false), 0, 0, 2048, workspace)
	if err != nil {
		return err
	}
	return cd.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: Label})
}
