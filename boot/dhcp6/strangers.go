package dhcp6

import (
	"container/list"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// strangersLimit bounds what a network full of strangers, or one that makes up
// addresses, can take of our memory.
const strangersLimit = 1000

// strangers keeps the machines that asked and that no document names: the last
// seen of them.
type strangers struct {
	mu     sync.Mutex
	byMAC  map[cluster.MAC]*list.Element // of *cluster.Discovered
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
			delete(l.byMAC, l.recent.Remove(l.recent.Back()).(*cluster.Discovered).MAC)
		}
		e = l.recent.PushFront(&cluster.Discovered{Identity: cluster.Identity{MAC: m.mac}, FirstSeen: now})
		l.byMAC[m.mac] = e
	}
	l.recent.MoveToFront(e)
	d := e.Value.(*cluster.Discovered)
	d.Network, d.LastSeen = cluster.NetworkName(n.Name), now
	// Firmware says more of a machine than the system that it boots.
	if m.IsFirmware() {
		d.VendorClass, d.Arch = m.Vendor, m.Arch().String()
	}
	if m.UUID != "" && (m.IsFirmware() || d.UUID == "") {
		d.UUID = m.UUID
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

func (l *strangers) list() []cluster.Discovered {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]cluster.Discovered, 0, l.recent.Len())
	for e := l.recent.Front(); e != nil; e = e.Next() {
		out = append(out, *e.Value.(*cluster.Discovered))
	}
	return out
}
