// Package userdata puts a pointer to a host's config into the form in which a cloud,
// or a plain virtual machine, takes it. It decides nothing about the pointer, and
// talks to no cloud.
package userdata

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Place is who hands userdata to a machine.
type Place string

// The places.
const (
	EC2        Place = "ec2"
	GCE        Place = "gce"
	VSphere    Place = "vsphere"
	NoCloudISO Place = "nocloud-iso" // a CD, for any hypervisor
	QEMU       Place = "qemu"        // QEMU's firmware configuration device
	Raw        Place = "raw"         // as it is
)

// Places are all of them.
var Places = []Place{EC2, GCE, VSphere, NoCloudISO, QEMU, Raw}

// ParsePlace reads the name of a place.
func ParsePlace(s string) (Place, error) {
	if p := Place(s); slices.Contains(Places, p) {
		return p, nil
	}
	return "", fmt.Errorf("%q is no place that is known; it is one of %s", s, places())
}

func places() string {
	var names []string
	for _, p := range Places {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

// Language is who reads userdata on the machine.
type Language string

// The languages, by the names that package ignition gives them.
const (
	Ignition  Language = "Ignition"
	CloudInit Language = "cloud-init"
	CoreOS    Language = "coreos-cloudinit"
)

// Most is how long userdata may be: EC2's limit, which is the lowest, before base64.
const Most = 16384

// mostGCE is the limit of Google's, of a value of an instance's metadata.
const mostGCE = 256 << 10

// most is how long userdata may be in a place, and whether it may be packed there: by
// gzip, which cloud-init unpacks. Pointers are far shorter.
func (p Place) most(l Language) (bytes int, packs bool) {
	if l == CloudInit {
		switch p {
		case GCE:
			return mostGCE, false // which takes text only
		case NoCloudISO, Raw:
			return math.MaxInt, false
		}
	}
	return Most, l == CloudInit
}

func pack(text []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Seed is what a machine is given.
type Seed struct {
	Host       string
	InstanceID string
	Language   Language
	Pointer    []byte

	// NetworkConfig is cloud-init's, for machines whose network is not set up by
	// DHCP; nil is none.
	NetworkConfig []byte
}

// Check says whether a machine finds userdata of a language in a place, and what to
// do where it does not.
func (p Place) Check(l Language) error {
	switch {
	case !slices.Contains([]Language{Ignition, CloudInit, CoreOS}, l):
		return fmt.Errorf("%s reads no userdata", l)
	case p == NoCloudISO && l == Ignition:
		return fmt.Errorf("%s does not read a NoCloud seed: take --for qemu, and give QEMU the file with -fw_cfg name=opt/com.coreos/config,file=FILE, or --for raw for any other way", l)
	case p == QEMU && l == CloudInit:
		return fmt.Errorf("%s does not read QEMU's -fw_cfg: take --for nocloud-iso, and give QEMU the file with -drive file=FILE,format=raw,if=virtio,readonly=on", l)
	case l == CoreOS && (p == QEMU || p == NoCloudISO):
		return fmt.Errorf("%s reads neither a NoCloud seed nor QEMU's -fw_cfg: take --for raw, and give the machine a configuration drive with the file as openstack/latest/user_data", l)
	}
	return nil
}

// Encode returns userdata as the place takes it.
func (p Place) Encode(s Seed) ([]byte, error) {
	if err := p.Check(s.Language); err != nil {
		return nil, err
	}
	most, packs := p.most(s.Language)
	packed := len(s.Pointer) > most && packs
	if packed {
		var err error
		if s.Pointer, err = pack(s.Pointer); err != nil {
			return nil, fmt.Errorf("pack the userdata of host %s: %w", s.Host, err)
		}
	}
	if len(s.Pointer) > most {
		return nil, fmt.Errorf("userdata of host %s has %d bytes, and %d is the most that %s takes: take --for nocloud-iso, or have the machine fetch what is long", s.Host, len(s.Pointer), most, p)
	}
	switch p {
	case EC2, GCE, QEMU, Raw:
		return s.Pointer, nil
	case VSphere:
		return s.guestinfo(packed)
	case NoCloudISO:
		return s.iso()
	}
	return nil, fmt.Errorf("%q is no place that is known; it is one of %s", p, places())
}

// metaData is that of a NoCloud seed.
func (s Seed) metaData() []byte {
	return fmt.Appendf(nil, "instance-id: %q\nlocal-hostname: %q\n", s.InstanceID, s.Host)
}

// guestinfo are lines of a .vmx file, the keys of which the machine reads through
// VMware's tools.
func (s Seed) guestinfo(packed bool) ([]byte, error) {
	var b strings.Builder
	put := func(key string, value []byte) {
		fmt.Fprintf(&b, "%s = %q\n%s.encoding = \"base64\"\n", key, base64.StdEncoding.EncodeToString(value), key)
	}
	switch s.Language {
	case Ignition:
		put("guestinfo.ignition.config.data", s.Pointer)
	case CoreOS:
		put("guestinfo.coreos.config.data", s.Pointer)
	default:
		meta := map[string]string{"instance-id": s.InstanceID, "local-hostname": s.Host}
		if s.NetworkConfig != nil {
			meta["network"] = base64.StdEncoding.EncodeToString(s.NetworkConfig)
			meta["network.encoding"] = "base64"
		}
		text, err := json.Marshal(meta)
		if err != nil {
			return nil, fmt.Errorf("encode the metadata of host %s: %w", s.Host, err)
		}
		put("guestinfo.metadata", text)
		put("guestinfo.userdata", s.Pointer)
		if packed {
			return []byte(strings.Replace(b.String(), "userdata.encoding = \"base64\"", "userdata.encoding = \"gzip+base64\"", 1)), nil
		}
	}
	return []byte(b.String()), nil
}
