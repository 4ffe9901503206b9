package httpboot

import (
	"fmt"
	"net/http"

	"github.com/pilotlight/pilotlight/cluster"
)

// noVendorData is a vendor-data that says nothing, and that cloud-init knows for
// what it is.
const noVendorData = "#cloud-config\n{}\n"

// seed serves cloud-init's NoCloud data source: a directory with meta-data and
// user-data, which it requires, and vendor-data and network-config, which may
// be missing.
func (h *Handler) seed(w http.ResponseWriter, r *http.Request) error { return h.seedOf(w, r, false) }

// installerSeed is the seed of an installer.
func (h *Handler) installerSeed(w http.ResponseWriter, r *http.Request) error {
	return h.seedOf(w, r, true)
}

func (h *Handler) seedOf(w http.ResponseWriter, r *http.Request, installer bool) error {
	mac := r.PathValue("mac")
	switch r.PathValue("file") {
	case "user-data":
		return h.config(w, r, mac, installer, func(m Machine) (Body, error) { return h.Configs.CloudConfig(r.Context(), m) })
	case "meta-data":
		m, err := h.machine(r, mac)
		if err != nil {
			return err
		}
		m.Installer = installer
		return send(w, r, Body{ContentType: "text/yaml", Data: fmt.Appendf(nil, "instance-id: %q\nlocal-hostname: %q\n", m.instance(), m.Host.Name)})
	case "vendor-data":
		return send(w, r, Body{ContentType: "text/cloud-config", Data: []byte(noVendorData)})
	case "network-config":
		m, err := h.machine(r, mac)
		if err != nil {
			return err
		}
		m.Installer = installer
		body, err := h.Configs.NetworkConfig(r.Context(), m)
		if err != nil {
			return err
		}
		if len(body.Data) == 0 {
			return status(http.StatusNotFound, "the profile of host %s says nothing of its network", m.Host.Name)
		}
		return send(w, r, body)
	}
	return status(http.StatusNotFound, "a seed has meta-data, user-data, vendor-data and network-config")
}

// instance is what cloud-init knows an instance by. A new one is a new first
// boot, new SSH host keys and all: what runs from memory, an installer too, has
// one at each boot, and a system on a disk has one for as long as it is on this
// machine.
func (m *Machine) instance() string {
	id := m.Host.InstanceID()
	if (m.Installer || m.Target.Profile.Boot == cluster.BootLive || m.Target.Profile.Boot == "") && m.Boot != "" {
		id += "-" + m.Boot
	}
	return id
}
