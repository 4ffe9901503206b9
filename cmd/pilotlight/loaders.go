package main

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"

	"github.com/pilotlight/pilotlight/boot"
)

// packagedLoaders are where Debian's packages shim-signed, grub-efi-*-signed,
// grub-efi-*-bin, pxelinux and syslinux-common keep loaders, by the names under
// which one fetches the other.
var packagedLoaders = map[string]string{
	"shimx64.efi":  "/usr/lib/shim/shimx64.efi.signed",
	"mmx64.efi":    "/usr/lib/shim/mmx64.efi.signed",
	"grubx64.efi":  "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
	"shimaa64.efi": "/usr/lib/shim/shimaa64.efi.signed",
	"mmaa64.efi":   "/usr/lib/shim/mmaa64.efi.signed",
	"grubaa64.efi": "/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed",

	"grubnetia32.efi": "/usr/lib/grub/i386-efi/monolithic/grubnetia32.efi",
	"grubnetaa64.efi": "/usr/lib/grub/arm64-efi/monolithic/grubnetaa64.efi",
	"pxelinux.0":      "/usr/lib/PXELINUX/pxelinux.0",
	"ldlinux.c32":     "/usr/lib/syslinux/modules/bios/ldlinux.c32",
}

// loaderFiles are the boot loaders: those of a directory, and beside them
// those of Debian's packages.
type loaderFiles struct{ dir fs.FS }

// Open implements fs.FS.
func (l loaderFiles) Open(name string) (fs.File, error) {
	f, err := l.dir.Open(name)
	if path, ok := packagedLoaders[name]; ok && errors.Is(err, fs.ErrNotExist) {
		return os.Open(path)
	}
	return f, err
}

// bootFile opens what TFTP has beside the loaders, as a client's network finds
// this server.
func (b *bootServices) bootFile(ctx context.Context, client netip.Addr, name string) (fs.File, error) {
	var at boot.Server
	if n, ok := b.s.Snapshot().NetworkOf(client); ok {
		at = b.at(n)
	}
	return b.http.File(ctx, client, at, name)
}
