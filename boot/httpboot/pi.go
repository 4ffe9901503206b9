package httpboot

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// piConfig makes a Pi's config.txt. One that is left to its disk gets none, and
// goes on to what it boots next.
func (h *Handler) piConfig(mode cluster.BootMode, t cluster.Target, _ boot.Visit) ([]byte, error) {
	if mode == cluster.BootLocal {
		_, why := boot.CourseOf(t)
		return nil, fmt.Errorf("host %s: %s", t.Host.Name, why)
	}
	var operators []byte
	if h.Loaders != nil {
		operators, _ = fs.ReadFile(h.Loaders, boot.PiFolder+boot.PiConfigFile) // there need be none
	}
	return boot.PiConfig(t, operators)
}

// piFile opens what a Pi's config.txt names. That it boots has been counted when it
// fetched that.
func (h *Handler) piFile(ctx context.Context, from netip.Addr, at boot.Server, name string) (fs.File, error) {
	m, err := h.byAddress(from, at)
	if err != nil {
		h.warnFile(from, name, err)
		return nil, err
	}
	switch t := m.Target; {
	case t.Image == nil:
		return nil, fs.ErrNotExist
	case name == boot.PiKernel:
		return h.imageFile(ctx, from, t.Image.Name+"/kernel")
	case name == boot.PiInitrd:
		return h.imageFile(ctx, from, t.Image.Name+"/"+boot.AllInitrds)
	case name == boot.PiFDT:
		return h.imageFile(ctx, from, t.Image.Name+"/"+boot.FDTFile)
	}
	mode, _ := boot.CourseOf(m.Target)
	if mode == cluster.BootLocal && m.Target.Install.Phase == cluster.InstallBegun {
		mode = cluster.BootInstall // its last try
	}
	body, err := boot.PiArgs(mode, m.Target, boot.Visit{Identity: m.Identity, Address: from, Server: at})
	if err != nil {
		h.warnFile(from, name, err)
		return nil, notReady("%w", err)
	}
	return text(name, body), nil
}

// isPis reports whether a file that is not in a Pi's own folder is one of its
// firmware's: a Pi that has no such folder, or does not look there, asks so.
func (h *Handler) isPis(name string) bool {
	if h.Loaders == nil || !fs.ValidPath(name) {
		return false
	}
	if _, err := fs.Stat(h.Loaders, name); err == nil {
		return false
	}
	info, err := fs.Stat(h.Loaders, boot.PiFolder+name)
	return err == nil && info.Mode().IsRegular()
}

func (h *Handler) piFirmware(name string) (fs.File, error) {
	if h.Loaders == nil || !fs.ValidPath(name) {
		return nil, fs.ErrNotExist
	}
	return h.Loaders.Open(boot.PiFolder + name)
}
