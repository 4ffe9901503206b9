package httpboot

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// What matchbox serves at URLs that are not ours already, for machines that have
// these in their flash or in another's DHCP options. The same is asked of a machine
// as everywhere: what it says of itself has to be so by its address.

const assetsPath = "/assets/"

// grub serves a GRUB that came by HTTP its config.
func (h *Handler) grub(w http.ResponseWriter, r *http.Request) error {
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
	body, err := boot.GRUBScriptHTTP(mode, m.Target, boot.Visit{Identity: m.Identity, Address: m.Address, Platform: "efi", Server: m.Server})
	if err != nil {
		return notReady("%w", err)
	}
	h.record(r, cluster.StepScript, fmt.Sprintf("profile %s, %s, by GRUB", m.Target.Profile.Name, mode))
	return send(w, r, Body{Data: body, ContentType: scriptType})
}

// generic serves the text that a profile has beside its config.
func (h *Handler) generic(w http.ResponseWriter, r *http.Request) error {
	m, err := h.machine(r, r.FormValue("mac"))
	if err != nil {
		return err
	}
	if m.Target.Profile.Generic == "" {
		return status(http.StatusNotFound, "profile %s has no generic:", m.Target.Profile.Name)
	}
	w.Header().Set("Cache-Control", "no-store")
	body, err := h.Configs.Generic(r.Context(), m)
	if err != nil {
		return err
	}
	return send(w, r, body)
}

// metadata serves a host's variables, and what it says itself, as lines NAME=value.
func (h *Handler) metadata(w http.ResponseWriter, r *http.Request) error {
	m, err := h.machine(r, r.FormValue("mac"))
	if err != nil {
		return err
	}
	query := map[string]any{}
	for k, v := range r.URL.Query() {
		query[k] = v[0]
		if mac, err := cluster.ParseMAC(v[0]); err == nil && strings.EqualFold(k, "mac") {
			query[k] = mac.String()
		}
	}
	all := maps.Clone(m.Target.Variables)
	if all == nil {
		all = map[string]any{}
	}
	all["request"] = map[string]any{"query": query, "raw_query": r.URL.RawQuery}
	var b bytes.Buffer
	environment(&b, "", all)
	w.Header().Set("Cache-Control", "no-store")
	return send(w, r, Body{Data: b.Bytes(), ContentType: scriptType})
}

// environment writes texts, numbers and truth values; the name of one in a mapping
// has the mapping's before it. Lists, which have no form there, are left out.
func environment(w io.Writer, prefix string, values map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name := oneLine(prefix + key)
		switch v := values[key].(type) {
		case map[string]any:
			environment(w, prefix+key+"_", v)
		case float64:
			if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
				fmt.Fprintf(w, "%s=%d\n", strings.ToUpper(name), int64(v)) // not 1e+07
				continue
			}
			fmt.Fprintf(w, "%s=%v\n", strings.ToUpper(name), v)
		case string:
			fmt.Fprintf(w, "%s=%s\n", strings.ToUpper(name), oneLine(v))
		case bool, int, int64, uint64:
			fmt.Fprintf(w, "%s=%v\n", strings.ToUpper(name), v)
		}
	}
}

// oneLine keeps a value from being a line of its own.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == 0 {
			return ' '
		}
		return r
	}, s)
}

// asset serves a file below matchbox's /assets/, when an image has it: it is the
// image's file that is served, whole and pinned, and no other.
func (h *Handler) asset(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("file")
	all := h.Snapshot().Documents(cluster.KindImage)
	if lent, ok := h.Owner(client(r)); ok { // several images may have a file of that name: the machine's own counts
		if m, err := h.machine(r, lent.MAC.String()); err == nil && m.Target.Image != nil {
			all = append([]cluster.Document{m.Target.Image}, all...)
		}
	}
	for _, d := range all {
		i := d.(*cluster.Image)
		for _, f := range filesOf(i) {
			if f.SHA256 != "" && name != "" && strings.HasSuffix(f.URL, assetsPath+name) {
				return h.file(w, r, f.File, f.step, i.Name+" "+r.URL.Path)
			}
		}
	}
	return status(http.StatusNotFound, "no image has a file %q with its sha256: apply one whose kernel, initrd or rootfs it is", printable(r.URL.Path))
}

type imageFile struct {
	cluster.File
	step cluster.Step
}

func filesOf(i *cluster.Image) []imageFile {
	out := []imageFile{{i.Kernel, cluster.StepKernel}}
	for _, f := range i.Initrd {
		out = append(out, imageFile{f, cluster.StepInitrd})
	}
	if i.Rootfs != nil {
		out = append(out, imageFile{*i.Rootfs, cluster.StepRootfs})
	}
	return out
}
