package main

import (
	"errors"
	"io/fs"
	"os"
)

// signedLoaders are where Debian's packages shim-signed and grub-efi-*-signed
// keep what firmware with Secure Boot on starts, by the names under which one
// fetches the other.
var signedLoaders = map[string]string{
	"shimx64.efi":  "/usr/lib/shim/shimx64.efi.signed",
	"mmx64.efi":    "/usr/lib/shim/mmx64.efi.signed",
	"grubx64.efi":  "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
	"shimaa64.efi": "/usr/lib/shim/shimaa64.efi.signed",
	"mmaa64.efi":   "/usr/lib/shim/mmaa64.efi.signed",
	"grubaa64.efi": "/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed",
}

// loaderFiles are the boot loaders: those of a directory, and beside them the
// signed ones of Debian's packages.
type loaderFiles struct{ dir fs.FS }

// Open implements fs.FS.
func (l loaderFiles) Open(name string) (fs.File, error) {
	f, err := l.dir.Open(name)
	if path, ok := signedLoaders[name]; ok && errors.Is(err, fs.ErrNotExist) {
		return os.Open(path)
	}
	return f, err
}
