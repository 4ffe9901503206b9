// Package cluster holds the words that every part of pilotlight speaks: what an
// operator applies (Network, Image, Profile, Group, Host, Site, Secret, Policy),
// what the servers and the hosts tell each other (Desired, Status, Introduction,
// Lease, Boot), where each lives in etcd, and Snapshot, the immutable view from
// which every request is answered.
//
// It decides nothing about wires, files or daemons, does no I/O and imports the
// standard library only. Parsing YAML is package manifest's, talking to etcd is
// package etcd's and package link's.
package cluster
