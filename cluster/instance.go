package cluster

import (
	"crypto/sha256"
	"fmt"
)

// InstanceID names the machine that is the host, for cloud-init. It changes when
// the machine does, and not with its config: a changed config on a machine that is
// in use is no first boot.
func (h *Host) InstanceID() string {
	id := sha256.New()
	fmt.Fprintln(id, h.Name, h.UUID, h.Serial, h.MACs)
	return fmt.Sprintf("%s-%x", h.Name, id.Sum(nil)[:6])
}
