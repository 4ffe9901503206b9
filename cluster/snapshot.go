package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Snapshot is everything that was applied, as of one revision, indexed by what
// a machine can say of itself. It is immutable: any number of requests read
// one at the same time, and none of them scans.
type Snapshot struct {
	revision  Revision
	docs      map[Ref]Document
	kinds     map[Kind][]Document // by name
	networks  []*Network          // longest prefix first
	groups    []*Group            // most specific first
	policies  []*Policy
	byMAC     map[MAC]*Host
	byUUID    map[UUID]*Host
	bySerial  map[string]*Host
	byAddress map[netip.Addr]*Host
	byPort    map[SwitchPort]*Host
	contested bool // two hosts claim one thing
}

// NewSnapshot indexes docs. Where two documents claim the same thing, which
// Check refuses, the one with the smaller name has it.
func NewSnapshot(revision Revision, docs []Document) *Snapshot {
	s := &Snapshot{
		revision: revision,
		docs:     make(map[Ref]Document, len(docs)), kinds: map[Kind][]Document{},
		byMAC: make(map[MAC]*Host, len(docs)), byUUID: map[UUID]*Host{},
		bySerial: map[string]*Host{}, byAddress: map[netip.Addr]*Host{}, byPort: map[SwitchPort]*Host{},
	}
	for _, d := range docs {
		s.docs[d.Ref()] = d
	}
	for r, d := range s.docs {
		s.kinds[r.Kind] = append(s.kinds[r.Kind], d)
	}
	for _, of := range s.kinds {
		slices.SortFunc(of, func(a, b Document) int { return cmp.Compare(a.Ref().Name, b.Ref().Name) })
	}
	s.sortKind(KindNetwork)
	s.sortKind(KindGroup)
	s.sortKind(KindPolicy)
	for _, d := range s.kinds[KindHost] {
		s.indexHost(d.(*Host))
	}
	return s
}

// With returns what s becomes when documents are put and others removed. It looks at
// those only, and copies the rest.
func (s *Snapshot) With(revision Revision, put []Document, remove []Ref) *Snapshot {
	next := *s
	next.revision, next.docs, next.kinds = revision, maps.Clone(s.docs), maps.Clone(s.kinds)
	changed := map[Ref]bool{}
	for _, r := range remove {
		changed[r] = true
		delete(next.docs, r)
	}
	for _, d := range put {
		changed[d.Ref()] = true
		next.docs[d.Ref()] = d
	}
	names := map[Kind][]string{}
	for r := range changed {
		names[r.Kind] = append(names[r.Kind], r.Name)
	}
	for kind, of := range names {
		slices.Sort(of)
		next.mergeKind(kind, of)
		next.sortKind(kind)
	}
	if hosts := names[KindHost]; len(hosts) > 0 && !next.moveHosts(s, hosts) {
		return NewSnapshot(revision, slices.Collect(maps.Values(next.docs)))
	}
	return &next
}

// mergeKind makes the list of a kind anew, of which the documents of these names
// changed.
func (s *Snapshot) mergeKind(kind Kind, names []string) {
	old := s.kinds[kind]
	list := make([]Document, 0, len(old)+len(names))
	for _, name := range names {
		n, there := slices.BinarySearchFunc(old, name, func(d Document, name string) int { return cmp.Compare(d.Ref().Name, name) })
		list = append(list, old[:n]...)
		old = old[n:]
		if there {
			old = old[1:]
		}
		if d, ok := s.docs[Ref{kind, name}]; ok {
			list = append(list, d)
		}
	}
	if list = append(list, old...); len(list) == 0 {
		delete(s.kinds, kind)
		return
	}
	s.kinds[kind] = list
}

// sortKind makes the list of a kind that is looked through in an order of its own.
func (s *Snapshot) sortKind(kind Kind) {
	switch kind {
	case KindNetwork:
		s.networks = ofKind[*Network](s, kind)
		slices.SortFunc(s.networks, func(a, b *Network) int {
			return cmp.Or(b.CIDR.Bits()-a.CIDR.Bits(), a.CIDR.Addr().Compare(b.CIDR.Addr()), cmp.Compare(a.Name, b.Name))
		})
	case KindGroup:
		s.groups = ofKind[*Group](s, kind)
		slices.SortFunc(s.groups, moreSpecific)
	case KindPolicy:
		s.policies = ofKind[*Policy](s, kind)
	}
}

func ofKind[D Document](s *Snapshot, kind Kind) (out []D) {
	for _, d := range s.kinds[kind] {
		out = append(out, d.(D))
	}
	return out
}

// moveHosts takes what the hosts of these names claimed before from the indexes, and
// puts in what they claim now. It reports whether nothing is claimed twice, for then
// it is not known who comes after whom.
func (s *Snapshot) moveHosts(old *Snapshot, names []string) bool {
	if old.contested {
		return false
	}
	s.byMAC, s.byUUID, s.bySerial = maps.Clone(s.byMAC), maps.Clone(s.byUUID), maps.Clone(s.bySerial)
	s.byAddress, s.byPort = maps.Clone(s.byAddress), maps.Clone(s.byPort)
	for _, name := range names {
		if h, ok := old.Host(HostName(name)); ok {
			for _, m := range h.MACs {
				delete(s.byMAC, m)
			}
			delete(s.byUUID, h.UUID)
			delete(s.bySerial, h.Serial)
			delete(s.byPort, h.SwitchPort)
			delete(s.byAddress, h.Address)
		}
	}
	for _, name := range names {
		if h, ok := s.Host(HostName(name)); ok {
			s.indexHost(h)
		}
	}
	return !s.contested
}

func (s *Snapshot) indexHost(h *Host) {
	for _, m := range h.MACs {
		claim(s, s.byMAC, m, h)
	}
	if h.UUID != "" {
		claim(s, s.byUUID, h.UUID, h)
	}
	if h.Serial != "" {
		claim(s, s.bySerial, h.Serial, h)
	}
	if !h.SwitchPort.IsZero() {
		claim(s, s.byPort, h.SwitchPort, h)
	}
	if h.Address.IsValid() {
		claim(s, s.byAddress, h.Address, h)
	}
}

func claim[K comparable](s *Snapshot, index map[K]*Host, key K, h *Host) {
	other, taken := index[key]
	if taken && other != h {
		s.contested = true
	}
	if !taken || h.Name < other.Name {
		index[key] = h
	}
}

// Revision returns the revision of the store that the snapshot shows.
func (s *Snapshot) Revision() Revision { return s.revision }

// At returns s as of another revision, at which it was the same.
func (s *Snapshot) At(revision Revision) *Snapshot {
	if revision == s.revision {
		return s
	}
	next := *s
	next.revision = revision
	return &next
}

// Get returns one document.
func (s *Snapshot) Get(r Ref) (Document, bool) {
	d, ok := s.docs[r]
	return d, ok
}

// Documents returns every document, or those of the given kinds, in the order
// of Kinds and then of names.
func (s *Snapshot) Documents(kinds ...Kind) []Document {
	var out []Document
	for _, k := range Kinds {
		if len(kinds) == 0 || slices.Contains(kinds, k) {
			out = append(out, s.kinds[k]...)
		}
	}
	return out
}

// Count returns how many documents of a kind there are.
func (s *Snapshot) Count(k Kind) int { return len(s.kinds[k]) }

func compareRefs(a, b Ref) int {
	if c := cmp.Compare(slices.Index(Kinds, a.Kind), slices.Index(Kinds, b.Kind)); c != 0 {
		return c
	}
	return cmp.Compare(a.Name, b.Name)
}

// Networks returns the networks, longest prefix first.
func (s *Snapshot) Networks() []*Network { return s.networks }

// NetworkOf returns the network that an address belongs to.
func (s *Snapshot) NetworkOf(a netip.Addr) (*Network, bool) {
	for _, n := range s.networks {
		if n.CIDR.Contains(a) {
			return n, true
		}
	}
	return nil, false
}

// Host returns the host of that name.
func (s *Snapshot) Host(name HostName) (*Host, bool) {
	h, ok := s.docs[Ref{KindHost, string(name)}].(*Host)
	return h, ok
}

// HostByAddress returns the host for which an address is reserved.
func (s *Snapshot) HostByAddress(a netip.Addr) (*Host, bool) {
	h, ok := s.byAddress[a]
	return h, ok
}

// Site returns the site of that name.
func (s *Snapshot) Site(name SiteName) (*Site, bool) {
	d, ok := s.docs[Ref{KindSite, string(name)}].(*Site)
	return d, ok
}

// Identity is what a machine says of itself. A zero field was not said.
type Identity struct {
	MAC    MAC    `json:"mac,omitzero"`
	UUID   UUID   `json:"uuid,omitempty"`
	Serial string `json:"serial,omitempty"`
	// Port is not the machine's word but its switch's, or its relay's.
	Port SwitchPort `json:"switch_port,omitzero"`
}

// Identify returns the host that an identity belongs to. The machine at the
// switch port of a host without macs: is that host, whatever it says. Else a MAC
// that a host claims decides; then the UUID, then the serial number, which
// vendors have been seen to leave at a common default. A host with a switch port
// is nowhere else.
func (s *Snapshot) Identify(id Identity) (*Host, bool) {
	if h := s.atPort(id.Port); h != nil && len(h.MACs) == 0 {
		return h, true
	}
	h := s.claimed(id)
	if h == nil || !h.SwitchPort.IsZero() && !h.SwitchPort.takes(id.Port) {
		return nil, false
	}
	return h, true
}

// claimed returns the host that a machine says it is, or nil.
func (s *Snapshot) claimed(id Identity) *Host {
	if h, ok := s.byMAC[id.MAC]; ok {
		return h
	}
	if h, ok := s.byUUID[id.UUID]; ok && id.UUID != "" {
		return h
	}
	if id.Serial != "" {
		return s.bySerial[id.Serial]
	}
	return nil
}

// GroupOf returns the most specific group that takes a host on a network, which
// may be nil.
func (s *Snapshot) GroupOf(h *Host, n *Network) (*Group, bool) {
	for _, g := range s.groups {
		if g.Match.takes(h, n) {
			return g, true
		}
	}
	return nil, false
}

// GroupsOf returns all groups that take a host on a network, the most specific, which
// is the one that counts, first.
func (s *Snapshot) GroupsOf(h *Host, n *Network) (out []*Group) {
	for _, g := range s.groups {
		if g.Match.takes(h, n) {
			out = append(out, g)
		}
	}
	return out
}

// Target is everything that was applied for one host, brought together.
type Target struct {
	Host      *Host
	Group     *Group // nil when no group takes the host
	Profile   *Profile
	Image     *Image         // nil when the profile names none
	Network   *Network       // where the host is, when that is known
	Variables map[string]any // the profile's, overruled by the group's, overruled by the host's
	SSHKeys   []string       // of all three, each once
	Install   Install        `json:"-"` // where its installation stands; not applied, so whoever asks for a Target adds it
}

// Target brings together what was applied for h. The network is where h boots;
// nil takes the one that h's reserved address is in. A host that gets no
// profile, or one that is missing, has an error that says what to apply.
func (s *Snapshot) Target(h *Host, network *Network) (Target, error) {
	t, err := s.Parts(h, network)
	if err != nil {
		return t, err
	}
	p := t.Profile
	t.Variables = maps.Clone(p.Variables)
	if t.Variables == nil {
		t.Variables = map[string]any{}
	}
	t.SSHKeys = slices.Clone(p.SSHKeys)
	if t.Group != nil {
		maps.Copy(t.Variables, t.Group.Variables)
		t.SSHKeys = append(t.SSHKeys, t.Group.SSHKeys...)
	}
	maps.Copy(t.Variables, h.Variables)
	t.SSHKeys = unique(append(t.SSHKeys, h.SSHKeys...))
	return t, nil
}

// Parts is Target without the variables and the keys: the documents that it is made
// of.
func (s *Snapshot) Parts(h *Host, network *Network) (Target, error) {
	t := Target{Host: h, Network: network}
	if t.Network == nil {
		t.Network, _ = s.NetworkOf(h.Address)
	}
	if g, ok := s.GroupOf(h, t.Network); ok {
		t.Group = g
	}
	name := h.Profile
	if name == "" && t.Group != nil {
		name = t.Group.Profile
	}
	if name == "" {
		return t, &NoProfileError{Host: h.HostName()}
	}
	p, ok := s.docs[Ref{KindProfile, string(name)}].(*Profile)
	if !ok {
		return t, &MissingError{Ref: Ref{KindProfile, string(name)}, NeededBy: h.Ref()}
	}
	t.Profile = p
	if p.Image != "" {
		if t.Image, ok = s.docs[Ref{KindImage, string(p.Image)}].(*Image); !ok {
			return t, &MissingError{Ref: Ref{KindImage, string(p.Image)}, NeededBy: p.Ref()}
		}
	}
	return t, nil
}

func unique(in []string) []string {
	seen := make(map[string]bool, len(in))
	return slices.DeleteFunc(in, func(s string) bool {
		was := seen[s]
		seen[s] = true
		return was
	})
}
