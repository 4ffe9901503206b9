package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/join"
)

// place is where the server stands among those that share the etcd. It is kept in
// the data directory, so that a start which is told nothing of it changes nothing.
type place struct {
	Name    cluster.ServerName `json:"name"`
	Peer    netip.AddrPort     `json:"peer"`              // where the other members of etcd reach it
	Several bool               `json:"several,omitempty"` // others have joined, or it has
	Members string             `json:"members,omitempty"` // NAME=URL,NAME=URL as it joined, for etcd's first start
}

// alonePeer is where the etcd of a server listens for others that was told nothing.
var alonePeer = netip.MustParseAddrPort("127.0.0.1:2380")

func (d *dataDir) placeFile() string { return d.join("server", "place.json") }

// place reads where the server stands; nothing is known before its first start.
func (d *dataDir) place() (p place, err error) {
	text, err := os.ReadFile(d.placeFile())
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read where this server stands among the others: %w", err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("%s: %w; restore it from your backup", d.placeFile(), err)
	}
	return p, nil
}

func (d *dataDir) putPlace(p place) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("encode where this server stands: %w", err)
	}
	if err := join.WriteFile(d.placeFile(), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep where this server stands among the others: %w", err)
	}
	return nil
}

// settlePlace is where a server stands that is started with a name and an address
// for others, or without.
func settlePlace(known place, name cluster.ServerName, peer netip.AddrPort) place {
	p := known
	switch {
	case name != "":
		p.Name = name
	case p.Name == "":
		p.Name = ownName()
	}
	switch {
	case peer.IsValid():
		p.Peer = peer
	case !p.Peer.IsValid():
		p.Peer = alonePeer
	}
	p.Several = p.Several || p.Members != "" || !p.Peer.Addr().IsLoopback()
	return p
}

// ownName is this machine's name, as others know the server by.
func ownName() cluster.ServerName {
	name := cluster.ServerName(strings.ToLower(serverNames()[0]))
	if !join.ValidServerName(name) {
		return "pilotlight"
	}
	return name
}

// checkPeer says what is wrong with an address for other servers.
func checkPeer(a netip.AddrPort) error {
	switch {
	case !a.IsValid():
		return nil
	case a.Addr().IsUnspecified():
		return fmt.Errorf("%s is no address: give the one at which the other servers reach this one, as 10.0.0.2:%d", a, a.Port())
	case a.Port() == 0:
		return fmt.Errorf("%s has no port", a)
	}
	return nil
}
