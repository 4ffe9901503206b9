package httpboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// File is for loaders that fetch files by name and say nothing of themselves, as
// GRUB, PXELINUX, U-Boot and a Raspberry Pi do by TFTP: their configs, made for the
// machine that has the address, and the files of images. Any other name is
// fs.ErrNotExist.
func (h *Handler) File(ctx context.Context, from netip.Addr, at boot.Server, name string) (fs.File, error) {
	h.setUp.Do(h.init)
	own, pis := boot.PiFile(name)
	switch {
	case name == boot.GRUBEntryPath:
		return text(name, boot.GRUBEntry()), nil
	case name == boot.UBootScriptFile:
		return text(name, boot.UBootScript()), nil
	case path.Base(name) == boot.AutoexecFile:
		return text(name, boot.Autoexec(at)), nil
	case name == boot.GRUBScriptPath:
		return h.made(ctx, from, at, name, "GRUB", boot.GRUBScript)
	case boot.IsPXELINUXConfig(name):
		return h.made(ctx, from, at, name, "pxelinux.cfg", boot.PXELINUXScript)
	case own == boot.PiConfigFile:
		return h.made(ctx, from, at, name, "Raspberry Pi", h.piConfig)
	case own == boot.PiCommandLine, own == boot.PiKernel, own == boot.PiInitrd, own == boot.PiFDT:
		return h.piFile(ctx, from, at, own)
	case pis || h.isPis(own):
		return h.piFirmware(own)
	}
	if _, rest, ok := strings.Cut("/"+name, "/"+boot.GRUBImagePath); ok {
		return h.imageFile(ctx, from, rest)
	}
	return nil, fs.ErrNotExist
}

// Left says why the machine at an address is not to load a file: it boots from
// its disk. A config that sends it there is not held back.
func (h *Handler) Left(from netip.Addr, name string) (why string, left bool) {
	if boot.IsPXELINUXConfig(name) {
		return "", false
	}
	return boot.LeftToDisk(from, h.Owner, h.Snapshot(), h.Installs)
}

// byAddress finds the machine that has an address.
func (h *Handler) byAddress(from netip.Addr, at boot.Server) (Machine, error) {
	lent, ok := h.Owner(from)
	if !ok {
		return Machine{}, notReady("%s is lent to nobody: boot the machine by DHCP", from)
	}
	return h.find(lent, from, at)
}

// made makes a machine's config, by which it boots: if that is the installer's
// boot it is counted.
func (h *Handler) made(ctx context.Context, from netip.Addr, at boot.Server, name, by string,
	make func(cluster.BootMode, cluster.Target, boot.Visit) ([]byte, error)) (fs.File, error) {
	body, m, mode, err := h.makeFor(ctx, from, at, make)
	if err != nil {
		h.warnFile(from, name, err)
		return nil, err
	}
	h.note(from, cluster.StepScript, fmt.Sprintf("profile %s, %s, by %s", m.Target.Profile.Name, mode, by))
	return text(name, body), nil
}

func (h *Handler) makeFor(ctx context.Context, from netip.Addr, at boot.Server,
	make func(cluster.BootMode, cluster.Target, boot.Visit) ([]byte, error)) ([]byte, Machine, cluster.BootMode, error) {
	m, err := h.byAddress(from, at)
	if err != nil {
		return nil, m, "", err
	}
	mode, err := h.course(ctx, &m)
	if err != nil {
		return nil, m, mode, err
	}
	body, err := make(mode, m.Target, boot.Visit{Identity: m.Identity, Address: from, Server: at, Platform: "efi"})
	if err != nil {
		return nil, m, mode, notReady("%w", err)
	}
	h.booting.begin(from, m.Target.Image, time.Now())
	return body, m, mode, nil
}

// imageFile opens a file of an image: NAME/kernel, NAME/initrd/N, NAME/fdt, or all
// of its initial RAM disks as NAME/initrd.
func (h *Handler) imageFile(ctx context.Context, from netip.Addr, file string) (fs.File, error) {
	name, what, _ := strings.Cut(file, "/")
	i, ok := h.imageFor(from, name)
	if !ok {
		return nil, fs.ErrNotExist
	}
	files, step, detail := []cluster.File{i.Kernel}, cluster.StepKernel, i.Name
	digits, one := strings.CutPrefix(what, "initrd/")
	switch {
	case one:
		n, err := strconv.Atoi(digits)
		if err != nil || n < 0 || n >= len(i.Initrd) {
			return nil, fs.ErrNotExist
		}
		files, step, detail = i.Initrd[n:n+1], cluster.StepInitrd, i.Name+" "+digits
	case what == boot.AllInitrds && len(i.Initrd) > 0:
		files, step = i.Initrd, cluster.StepInitrd
	case what == boot.FDTFile && i.FDT != nil:
		files, step, detail = []cluster.File{*i.FDT}, cluster.StepKernel, i.Name+" fdt"
	case what != "kernel":
		return nil, fs.ErrNotExist
	}
	f, err := h.openAll(ctx, files)
	if err != nil {
		h.warnFile(from, file, err)
		return nil, err
	}
	h.note(from, step, detail)
	return f, nil
}

// openAll opens files to be read one behind the other.
func (h *Handler) openAll(ctx context.Context, files []cluster.File) (fs.File, error) {
	if len(files) == 1 {
		return h.Files.Open(ctx, files[0])
	}
	var j joined
	for _, f := range files {
		part, err := h.Files.Open(ctx, f)
		if err == nil {
			err = j.add(part)
		}
		if err != nil {
			return nil, errors.Join(err, j.Close())
		}
	}
	return &j, nil
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
