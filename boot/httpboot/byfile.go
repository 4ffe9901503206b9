package httpboot

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// File is for loaders that fetch files by name and say nothing of themselves, as
// GRUB does by TFTP: its config, made for the machine that has the address, and
// the files of images. Any other name is fs.ErrNotExist.
func (h *Handler) File(ctx context.Context, from netip.Addr, at boot.Server, name string) (fs.File, error) {
	h.setUp.Do(h.init)
	switch {
	case name == boot.GRUBEntryPath:
		return text(name, boot.GRUBEntry()), nil
	case name == boot.GRUBScriptPath:
		body, err := h.grub(ctx, from, at)
		if err != nil {
			h.warnFile(from, name, err)
			return nil, err
		}
		return text(name, body), nil
	}
	if rest, ok := strings.CutPrefix(name, boot.GRUBImagePath); ok {
		return h.imageFile(ctx, from, rest)
	}
	return nil, fs.ErrNotExist
}

func (h *Handler) grub(ctx context.Context, from netip.Addr, at boot.Server) ([]byte, error) {
	lent, ok := h.Owner(from)
	if !ok {
		return nil, notReady("%s is lent to nobody: boot the machine by DHCP", from)
	}
	m, err := h.find(lent, from, at)
	if err != nil {
		return nil, err
	}
	mode, err := h.course(ctx, &m)
	if err != nil {
		return nil, err
	}
	body, err := boot.GRUBScript(mode, m.Target, boot.Visit{Identity: m.Identity, Address: from, Server: at, Platform: "efi"})
	if err != nil {
		return nil, notReady("%w", err)
	}
	h.note(from, cluster.StepScript, fmt.Sprintf("profile %s, %s, by GRUB", m.Target.Profile.Name, mode))
	return body, nil
}

// imageFile opens a file of an image: NAME/kernel or NAME/initrd/N.
func (h *Handler) imageFile(ctx context.Context, from netip.Addr, path string) (fs.File, error) {
	name, what, _ := strings.Cut(path, "/")
	d, ok := h.Snapshot().Get(cluster.Ref{Kind: cluster.KindImage, Name: name})
	if !ok {
		return nil, fs.ErrNotExist
	}
	i := d.(*cluster.Image)
	file, step, detail := i.Kernel, cluster.StepKernel, i.Name
	if digits, ok := strings.CutPrefix(what, "initrd/"); ok {
		n, err := strconv.Atoi(digits)
		if err != nil || n < 0 || n >= len(i.Initrd) {
			return nil, fs.ErrNotExist
		}
		file, step, detail = i.Initrd[n], cluster.StepInitrd, i.Name+" "+digits
	} else if what != "kernel" {
		return nil, fs.ErrNotExist
	}
	f, err := h.Files.Open(ctx, file)
	if err != nil {
		h.warnFile(from, path, err)
		return nil, err
	}
	h.note(from, step, detail)
	return f, nil
}

func (h *Handler) warnFile(from netip.Addr, name string, err error) {
	if h.warning.Allow() {
		h.logger().Warn("a file cannot be served", "client", from, "file", printable(name), "error", err)
	}
}

// text is a file in memory.
func text(name string, body []byte) fs.File { return &textFile{bytes.NewReader(body), name} }

type textFile struct {
	*bytes.Reader
	name string
}

// Close implements fs.File.
func (f *textFile) Close() error { return nil }

// Stat implements fs.File.
func (f *textFile) Stat() (fs.FileInfo, error) { return textInfo{f}, nil }

type textInfo struct{ f *textFile }

func (i textInfo) Name() string       { return i.f.name }
func (i textInfo) Size() int64        { return i.f.Reader.Size() }
func (i textInfo) Mode() fs.FileMode  { return 0o444 }
func (i textInfo) ModTime() time.Time { return time.Time{} }
func (i textInfo) IsDir() bool        { return false }
func (i textInfo) Sys() any           { return nil }
