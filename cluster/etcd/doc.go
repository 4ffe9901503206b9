// Package etcd is the servers' side of etcd: the embedded member, and Store,
// which keeps everything that pilotlight knows.
//
// It knows keys, transactions and etcd's users. It does not know what a
// document means (cluster.Check does), who may join (package join), or what
// runs where (package control). The hosts' side is package link.
package etcd
