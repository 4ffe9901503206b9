package dhcp

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// strangersLimit bounds what a network full of strangers, or one that makes up
// addresses, can take of our memory.
const strangersLimit = 1000

// Stranger is a machine that asked and that no document names.
type Stranger struct {
	MAC     cluster.MAC         `json:"mac"`
	UUID    cluster.UUID        `json:"uuid,omitempty"`
	Arch    string              `json:"arch,omitempty"` // of its firmware: UEFI x64
	Vendor  string              `json:"vendor_class,omitempty"`
	Name    string              `json:"hostname,omitempty"` // as it calls itself
	Network cluster.NetworkName `json:"network"`
	Relay   netip.Addr          `json:"relay,omitzero"`
	Port    cluster.SwitchPort  `json:"switch_port,omitzero"`
	First   time.Time           `json:"first_seen"`
	Last    time.Time           `json:"last_seen"`
}

// strangers keeps the last seen of them.
type strangers struct {
	mu     sync.Mutex
	byMAC  map[cluster.MAC]*list.Element // of *Stranger
	recent list.List
}

// see notes that a stranger asked. It reports whether that is news.
func (l *strangers) see(m *message, n *cluster.Network, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, known := l.byMAC[m.mac]
	if !known {
		if l.byMAC == nil {
			l.byMAC = make(map[cluster.MAC]*list.Element)
		}
		if l.recent.Len() >= strangersLimit {
			delete(l.byMAC, l.recent.Remove(l.recent.Back()).(*Stranger).MAC)
		}
		e = l.recent.PushFront(&Stranger{MAC: m.mac, First: now})
		l.byMAC[m.mac] = e
	}
	l.recent.MoveToFront(e)
	s := e.Value.(*Stranger)
	s.Network, s.Relay, s.Last = cluster.NetworkName(n.Name), m.relay, now
	if !m.relayed.port.IsZero() {
		s.Port = m.relayed.port
	}
	// Firmware says more of a machine than the system that it boots.
	if m.request.IsFirmware() || s.Vendor == "" {
		s.Vendor = m.request.Vendor
	}
	if m.request.IsFirmware() {
		s.Arch = m.request.Arch().String()
	}
	if m.request.UUID != "" {
		s.UUID = m.request.UUID
	}
	if name := printable(m.packet.Options.Get(hostNameOption)); name != "" {
		s.Name = name
	}
	return !known
}

// forget drops one that a document names by now.
func (l *strangers) forget(mac cluster.MAC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byMAC[mac]; ok {
		l.recent.Remove(e)
		delete(l.byMAC, mac)
	}
}

func (l *strangers) list() []Stranger {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Stranger, 0, l.recent.Len())
	for e := l.recent.Front(); e != nil; e = e.Next() {
		out = append(out, *e.Value.(*Stranger))
	}
	return out
}
