package httpboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

const scriptType = "text/plain; charset=utf-8"

// entry serves the script with which every machine starts.
func (h *Handler) entry(w http.ResponseWriter, r *http.Request) error {
	return send(w, r, Body{Data: boot.Entry(h.server(r)), ContentType: scriptType})
}

// script serves a machine its own script. It holds no secret, but it ends in a
// boot, so that the same is asked of the machine as for its config.
func (h *Handler) script(w http.ResponseWriter, r *http.Request) error {
	m, err := h.machine(r, r.FormValue("mac"))
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		return send(w, r, Body{ContentType: scriptType})
	}
	mode, err := h.course(r.Context(), &m)
	if err != nil {
		return err
	}
	body, err := boot.Script(mode, m.Target, boot.Visit{
		Identity: m.Identity, Address: m.Address, Platform: r.FormValue("platform"), Server: m.Server,
	})
	if err != nil {
		return notReady("%w", err)
	}
	h.booting.begin(m.Address, m.Target.Image, time.Now())
	h.record(r, cluster.StepScript, fmt.Sprintf("profile %s, %s", m.Target.Profile.Name, mode))
	return send(w, r, Body{Data: body, ContentType: scriptType})
}

// course says what this boot of a machine comes to. That it is to run the
// installer is written down before the machine is told: should it never be heard
// of again, there is one try less.
func (h *Handler) course(ctx context.Context, m *Machine) (cluster.BootMode, error) {
	mode, _ := boot.CourseOf(m.Target)
	if m.Target.Profile.Boot != cluster.BootInstall {
		return mode, nil
	}
	switch m.Target.Install.Phase {
	case "":
		return mode, notReady("host %s: %s", m.Host.Name, m.Target.Install.Why())
	case cluster.InstallDone, cluster.InstallFailed:
		return mode, nil
	}
	now := time.Now()
	i, err := h.Installs.Change(ctx, m.Host.HostName(), func(i cluster.Install) cluster.Install { return i.Begin(m.Boot, now) })
	if err != nil {
		return mode, notReady("host %s is to be installed, but that it begins could not be written down: %w", m.Host.Name, err)
	}
	m.Target.Install = i
	if i.Phase == cluster.InstallBegun {
		return cluster.BootInstall, nil
	}
	return cluster.BootLocal, nil
}

func (h *Handler) ignition(w http.ResponseWriter, r *http.Request) error {
	return h.config(w, r, r.FormValue("mac"), r.FormValue(boot.InstallerKey) != "", func(m Machine) (Body, error) {
		return h.Configs.Ignition(r.Context(), m, r.Header.Get("Accept"))
	})
}

func (h *Handler) cloudConfig(w http.ResponseWriter, r *http.Request) error {
	return h.config(w, r, r.FormValue("mac"), r.FormValue(boot.InstallerKey) != "", func(m Machine) (Body, error) {
		return h.Configs.CloudConfig(r.Context(), m)
	})
}

// plainText serves what the installer of another system reads, to that machine
// only.
func (h *Handler) plainText(w http.ResponseWriter, r *http.Request) error {
	return h.config(w, r, r.FormValue("mac"), r.FormValue(boot.InstallerKey) != "", func(m Machine) (Body, error) {
		return h.Configs.Text(r.Context(), m)
	})
}

// setup serves the program that makes a system pilotlight's.
func (h *Handler) setup(w http.ResponseWriter, r *http.Request) error {
	return h.config(w, r, r.FormValue("mac"), r.FormValue(boot.InstallerKey) != "", func(m Machine) (Body, error) {
		return h.Configs.Setup(r.Context(), m)
	})
}

// config serves a machine what it is told. Only a GET has it made.
func (h *Handler) config(w http.ResponseWriter, r *http.Request, mac string, installer bool, make func(Machine) (Body, error)) error {
	m, err := h.machine(r, mac)
	if err != nil {
		return err
	}
	if m.Installer = installer; installer && m.Target.Install.Phase != cluster.InstallBegun {
		return notReady("host %s asks as an installer, which it is not to run: %s", m.Host.Name, m.Target.Install.Why())
	}
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	body, err := make(m)
	if err != nil {
		return err
	}
	detail := r.URL.Path
	if installer {
		detail += " of the installer"
	}
	step := cluster.StepConfig
	if body.Pointer {
		step = cluster.StepPointer
	}
	h.record(r, step, detail)
	return send(w, r, body)
}

func send(w http.ResponseWriter, r *http.Request, b Body) error {
	w.Header().Set("Content-Type", b.ContentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(b.Data)))
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if _, err := w.Write(b.Data); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func (h *Handler) kernel(w http.ResponseWriter, r *http.Request) error {
	i, err := h.image(r)
	if err != nil {
		return err
	}
	return h.file(w, r, i.Kernel, cluster.StepKernel, i.Name)
}

func (h *Handler) initrd(w http.ResponseWriter, r *http.Request) error {
	i, err := h.image(r)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n >= len(i.Initrd) {
		return status(http.StatusNotFound, "image %s has %d initial RAM disks, numbered from 0", i.Name, len(i.Initrd))
	}
	return h.file(w, r, i.Initrd[n], cluster.StepInitrd, i.Name+" "+strconv.Itoa(n))
}

func (h *Handler) rootfs(w http.ResponseWriter, r *http.Request) error {
	i, err := h.image(r)
	if err != nil {
		return err
	}
	if i.Rootfs == nil {
		return status(http.StatusNotFound, "image %s has no root file system: set rootfs: in image %s", i.Name, i.Name)
	}
	return h.file(w, r, *i.Rootfs, cluster.StepRootfs, i.Name)
}

func (h *Handler) image(r *http.Request) (*cluster.Image, error) {
	name := r.PathValue("image")
	i, ok := h.imageFor(client(r), name)
	if !ok {
		return nil, status(http.StatusNotFound, "there is no image %q: apply a document with kind: image", printable(name))
	}
	return i, nil
}

// disk serves what flatcar-install asks for below its -b: VERSION/NAME, and
// VERSION/NAME.sig.
func (h *Handler) disk(w http.ResponseWriter, r *http.Request) error {
	i, err := h.image(r)
	if err != nil {
		return err
	}
	if i.Disk == nil || i.DiskSignature == nil || r.PathValue("release") != i.Release {
		return status(http.StatusNotFound, "image %s has no image of a disk of release %q: pin it with pilotlight image resolve", i.Name, printable(r.PathValue("release")))
	}
	f := *i.Disk
	if strings.HasSuffix(r.PathValue("file"), ".sig") {
		f = *i.DiskSignature
	}
	if path.Base(f.URL) != r.PathValue("file") {
		return status(http.StatusNotFound, "image %s has %s, not %q", i.Name, path.Base(f.URL), printable(r.PathValue("file")))
	}
	return h.file(w, r, f, cluster.StepRootfs, i.Name+" "+path.Base(f.URL))
}

func (h *Handler) agent(w http.ResponseWriter, r *http.Request) error {
	if h.Agent.SHA256 == "" || r.PathValue("sha256") != h.Agent.SHA256 {
		return status(http.StatusNotFound, "this server has another agent: fetch the host's config again")
	}
	return h.file(w, r, h.Agent, cluster.StepAgent, "pilotlight-agent")
}

func (h *Handler) ca(w http.ResponseWriter, r *http.Request) error {
	if h.CA == nil {
		return notReady("the server has no authority yet")
	}
	return send(w, r, Body{Data: h.CA(), ContentType: "application/x-pem-file"})
}

// loader serves what TFTP serves, for UEFI HTTP Boot.
func (h *Handler) loader(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("file")
	if h.Loaders == nil || !fs.ValidPath(name) {
		return status(http.StatusNotFound, "there is no loader %q", printable(name))
	}
	if why, left := boot.LeftToDisk(client(r), h.Owner, h.Snapshot(), h.Installs); left {
		http.Error(w, "pilotlight: "+why, http.StatusNotFound) // no error: it was told to ask (boot.LeaveFile)
		return nil
	}
	if path.Base(name) == boot.AutoexecFile {
		h.record(r, cluster.StepLoader, "http "+name)
		return send(w, r, Body{Data: boot.Autoexec(h.server(r)), ContentType: scriptType})
	}
	f, err := h.Loaders.Open(name)
	if err != nil {
		return status(http.StatusNotFound, "there is no loader %q", printable(name))
	}
	defer f.Close()
	info, err := f.Stat()
	content, seeks := f.(io.ReadSeeker)
	if err != nil || !info.Mode().IsRegular() || !seeks {
		return status(http.StatusNotFound, "there is no loader %q", printable(name))
	}
	h.record(r, cluster.StepLoader, "http "+name)
	w.Header().Set("Content-Type", "application/efi") // EDK2 boots by the name's end or by this (HttpBootSupport.c)
	http.ServeContent(w, r, "", info.ModTime(), content)
	return nil
}

// minimumRate is the slowest at which a machine may download, in bytes a
// second: one that stops reading does not keep its place for ever.
const (
	minimumRate = 32 << 10
	patience    = 2 * time.Minute
)

// file serves a verified file. Its name for caches, and for a download that is
// taken up again, is its digest.
func (h *Handler) file(w http.ResponseWriter, r *http.Request, f cluster.File, step cluster.Step, detail string) error {
	file, err := h.Files.Open(r.Context(), f)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return notReady("%s of %s cannot be read: %w", step, detail, err)
		}
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return notReady("%s of %s cannot be read: %w", step, detail, err)
	}
	h.record(r, step, detail)
	deadline := time.Now().Add(patience + time.Duration(info.Size()/minimumRate)*time.Second)
	if err := http.NewResponseController(w).SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("set a deadline: %w", err)
	}
	if f.SHA256 != "" {
		w.Header().Set("Etag", `"`+f.SHA256+`"`)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", info.ModTime(), file)
	return nil
}
